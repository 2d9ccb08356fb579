"""When the last trial of a launch ends, as its trials have gone so far."""

from __future__ import annotations

from sweeps.state.progress import Progress


def eta_seconds(progress: list[Progress]) -> float | None:
    """Until the last trial ends, with as many at once as run now; None while that is not known."""
    running = [one for one in progress if one.state == "running"]
    timed = [one.seconds_per_epoch for one in progress if one.seconds_per_epoch is not None]
    if not running or not timed:
        return None
    mean = sum(timed) / len(timed)
    left = sum(
        one.epochs_left * (one.seconds_per_epoch or mean)
        for one in progress
        if not one.state.is_over
    )
    return left / len(running)
