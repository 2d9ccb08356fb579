"""Signals to this process: the one way to handle them. Only the main thread can."""

from __future__ import annotations

import signal
from collections.abc import Callable
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
