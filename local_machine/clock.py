"""The clock: the one way to tell the time and to wait, which a simulation can replace."""

from __future__ import annotations

import time


def now() -> float:
    """Seconds since 1970, by this machine's clock, which may be wrong."""
    return time.time()


def monotonic() -> float:
    """Seconds since some moment, which nobody sets back: for how long something takes."""
    return time.monotonic()


def perf_counter() -> float:
    """As `monotonic`, as finely as the machine can: for how fast something is."""
    return time.perf_counter()


def sleep(seconds: float) -> None:
    time.sleep(seconds)
