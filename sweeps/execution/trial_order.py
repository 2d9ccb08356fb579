"""Order: which trial a worker takes next.

Two wishes: the longest trials first, so that none is begun last and waited for alone; and like
after like, since a process keeps the data and the compiled code of the shape that it ran last.
Lengths decide between bands, in each of which no trial is more than twice as long as another: a
longer band comes first. Within a band a worker stays with its shape until that has no trial left,
the shape of the longest first. Workers that start at once begin at different shapes, and at
different trials of one, so that few ask for the same. Imports no torch.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path

from local_machine.errors import InputError
from local_machine.json_files import read_json, write_sealed_json
from sweeps.spec.sweep import Trial
from sweeps.spec.task_loader import load
from sweeps.state.plan import LOGS
from sweeps.state.trial_store import TrialStore


def shape_of(trial: Trial) -> Hashable:
    """The same for trials of which the second finds data, images and code as the first needs
    them. By what is stored, so that of ten thousand only those are checked that are run."""
    try:
        return load(trial.task).affinity(trial.values)
    except InputError:  # as its own problem says
        return trial.name


class Order:
    """The trials that a worker has yet to look at, each given out once."""

    def __init__(
        self, trials: Iterable[Trial], seconds: Mapping[str, float], slot: int = 0
    ) -> None:
        """`seconds` is how long trials are predicted to take, by name. Another is taken to go at
        the pace of those, by its epochs alone where there is none. `slot` counts the workers that
        start together."""
        trials = list(trials)
        epochs = {one.name: one.epochs or 1 for one in trials}
        paces = [seconds[name] / epochs[name] for name in epochs if name in seconds]
        pace = statistics.median(paces) if paces else 1.0
        cost = {name: seconds.get(name, pace * epochs[name]) for name in epochs}
        bands: dict[int, dict[Hashable, deque[Trial]]] = {}
        for trial in sorted(trials, key=lambda one: -cost[one.name]):
            band = bands.setdefault(math.frexp(cost[trial.name])[1], {})
            band.setdefault(shape_of(trial), deque()).append(trial)
        for number, band in bands.items():
            shapes = list(band)
            first = slot % len(shapes)
            bands[number] = {shape: band[shape] for shape in shapes[first:] + shapes[:first]}
            for queue in band.values():
                queue.rotate(-(slot // len(shapes)))
        self._bands = deque(bands.values())
        self._shape: Hashable = None

    def next(self) -> Trial | None:
        """The trial to look at now, of the shape of the last one where there is one; None: all were
        given out."""
        while self._bands and not self._bands[0]:
            self._bands.popleft()
        if not self._bands:
            return None
        band = self._bands[0]
        if self._shape not in band:
            self._shape = next(iter(band))
        queue = band[self._shape]
        trial = queue.popleft()
        if not queue:
            del band[self._shape]
        return trial


def write_seconds(store: TrialStore, plan: str, seconds: Mapping[str, float]) -> None:
    """What the trials of a plan are predicted to take, for its workers. Raises OSError."""
    path = _path(store, plan)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_sealed_json(path, {"schema_version": 1, "seconds": dict(seconds)})


def read_seconds(store: TrialStore, plans: Iterable[str]) -> dict[str, float]:
    """Seconds by trial, as the last launch predicted them; where it left no word, nothing."""
    found: dict[str, float] = {}
    for plan in plans:
        try:
            values = read_json(_path(store, plan))["seconds"]
            found |= {name: float(value) for name, value in values.items() if value > 0}
        except (OSError, InputError, LookupError, ValueError, AttributeError, TypeError):
            continue  # a guess, which nobody has to have
    return found


def _path(store: TrialStore, plan: str) -> Path:
    return store.folder / LOGS / f".seconds-{plan}.json"
