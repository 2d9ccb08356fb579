"""The loop of every command that sees something through: look, wait, look again."""

from __future__ import annotations

from collections.abc import Callable

from local_machine import clock

# How long a stop may wait to be noticed.
SLICE_SECONDS = 0.2


def never() -> bool:
    return False


def watch(look: Callable[[], float | None], stop: Callable[[], bool] = never) -> bool:
    """Call `look` until it returns None; else it returns the seconds until the next look.

    False where `stop` said so first.
    """
    while (seconds := look()) is not None:
        until = clock.monotonic() + seconds
        while (left := until - clock.monotonic()) > 0:
            if stop():
                return False
            clock.sleep(min(left, SLICE_SECONDS))
    return True
