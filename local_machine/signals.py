"""Signals to this process: the one way to handle them. Only the main thread can."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None


def handle(number: int, handler: Handler) -> None:
    """Have the signal call the handler from now on. Raises ValueError outside the main thread."""
    signal.signal(number, handler)


def handler_of(number: int) -> Handler:
    return signal.getsignal(number)


def alarm(seconds: float, again: float = 0.0) -> None:
    """Send this process SIGALRM after so many seconds, and again after each `again` if it is not 0;
    0 seconds for never."""
    signal.setitimer(signal.ITIMER_REAL, seconds, again)


@contextlib.contextmanager
def kept(*numbers: int) -> Iterator[None]:
    """Have these signals handled as before once the block has ended, and no alarm on its way."""
    before = {number: handler_of(number) for number in numbers}
    try:
        yield
    finally:
        alarm(0)
        for number, handler in before.items():
            handle(number, handler)
