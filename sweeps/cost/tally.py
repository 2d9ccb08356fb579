"""The tally of trials under way: device-hours that they have had, and those that are left."""

from __future__ import annotations

import json
import statistics
from collections.abc import Hashable, Iterable

from sweeps.state.progress import Progress


def tally(progress: Iterable[Progress]) -> tuple[float, float | None]:
    """Hours of a device that the trials have had, and those that are left by their own pace.

    A trial without an epoch yet is taken to go as those of its model and batch size do; None where
    there is none. One that has no result does not say how many devices it has, or what part of one:
    it is taken to have as many as those that do, on average. Reads nothing.
    """
    progress = list(progress)
    told = [one.devices for one in progress if one.devices]
    usual = statistics.mean(told) if told else 1.0
    paces: dict[Hashable, list[float]] = {}
    for one in progress:
        if one.seconds_per_epoch is not None:
            device_seconds = one.seconds_per_epoch * (one.devices or usual)
            paces.setdefault(_pace(one), []).append(device_seconds)
    spent, left = 0.0, 0.0
    known = True
    for one in progress:
        seconds = one.seconds_per_epoch
        if seconds is not None:
            seconds *= usual if one.devices is None else one.devices
        spent += one.epochs_done * (seconds or 0.0)
        if one.epochs_left:
            if seconds is None and (alike := paces.get(_pace(one))):
                seconds = statistics.mean(alike)
            known = known and seconds is not None
            left += one.epochs_left * (seconds or 0.0)
    return spent / 3600, left / 3600 if known else None


def _pace(one: Progress) -> Hashable:
    """The same for trials of one model and batch size, as they are stored."""
    return json.dumps([one.trial.stored("model"), one.trial.stored("batch_size")])
