"""The cost estimate of trials: device-hours of training, predicted before they are spent.

A trial that is like none before it is estimated by the roofline (trainer.perf.roofline), corrected
by what past runs in the results folder took beside theirs. An estimate is of training and
validation, as run.parquet's `seconds` is: a worker's start-up, compilation and the evaluation at a
trial's end come on top. All epochs that are left count, so that where trials may stop early the
estimate is an upper bound. Where nothing has run on the device yet, the roofline alone gives the
least that it could take. Imports no torch where past runs alone can tell.
"""

from __future__ import annotations

import contextlib
import functools
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_machine.devices import device_here, visible_gpus
from local_machine.errors import InputError
from sweeps.cost.device_runs import DeviceRuns, Source
from sweeps.cost.past_runs import PastRun, as_fast, data_of, past_runs
from sweeps.spec.backend_name import BackendName
from sweeps.state.progress import Progress
from sweeps.state.trial_store import State
from trainer.config import DataConfig
from trainer.data.known import KNOWN

# The forward pass alone, of forward and backward, which are two more products each as large.
VALIDATION = 1 / 3


@dataclass(frozen=True)
class CostEstimate:
    """What is left of some trials costs, in hours of one device; a cost of 0 has no source."""

    device: str | None
    """What they are to run on; None where that is not known."""
    hours: list[float | None]
    """Of each trial; None where it is not known."""
    sources: list[Source | None]

    @property
    def total(self) -> float | None:
        """None where a part is not known."""
        known = [hours for hours in self.hours if hours is not None]
        return sum(known) if len(known) == len(self.hours) else None

    @property
    def unit(self) -> str:
        on_cpu = self.device is not None and self.device.endswith(" threads")
        return "device-hours" if on_cpu else "GPU-hours"

    def line(self) -> str:
        """In a few words."""
        if self.total is None:
            unknown = f"cost of {self.hours.count(None)} of {len(self.hours)} trials not known"
            if self.device is None:
                return f"{unknown}: nothing has run here on Slurm yet"
            return f"{unknown}: nothing like them has run yet on {self.device}"
        sources = list(dict.fromkeys(source for source in self.sources if source))
        by = f" by {' and '.join(sources)}" if sources else ""
        return f"about {self.total:.3g} {self.unit} on {self.device or 'any device'}{by}"

    def check_budget(self, sweep: str, budget: float) -> None:
        """Raises InputError where the cost is above the budget, in hours, or not known."""
        if self.total is None:
            raise InputError(
                f"{sweep}: {self.line()}, and --budget-gpu-hours is {budget:g}",
                "run one of its trials first (a config.json is a sweep of one trial: python -m "
                "sweeps.launch CONFIG.json), or, to run on this machine, measure it: "
                "python benchmarks/roofline.py",
            )
        if self.total > budget:
            raise InputError(
                f"{sweep} takes {self.line()}, more than --budget-gpu-hours {budget:g}",
                f"allow it: --budget-gpu-hours {math.ceil(self.total)}, or ask for less: fewer "
                "--seeds, --set epochs=N, --scale smoke; --dry-run shows every trial's part",
            )


def estimate_cost(
    results: Path,
    progress: Sequence[Progress],
    where: BackendName,
    workers: int | None = None,
    world: int = 1,
) -> CostEstimate:
    """What is left of the trials costs where they are to run, `world` devices a trial.

    On Slurm the device is that of the newest run which Slurm had in the results folder. Reads only
    some of many past runs, and none where nothing is left to do.
    """
    epochs = [_epochs_left(one) for one in progress]
    if not any(epochs):
        return CostEstimate(None, [0.0] * len(epochs), [None] * len(epochs))
    runs = past_runs(results)
    device = _device(runs, where, workers, sum(count > 0 for count in epochs))
    known = DeviceRuns([run for run in runs if run.device == device], device, where)
    images = {run.data: run.images for run in reversed(runs)}
    for one in progress:
        data = one.trial.config.data
        if data_of(data) not in images:
            images[data_of(data)] = _images(data)
    hours: list[float | None] = []
    sources: list[Source | None] = []
    for one, left in zip(progress, epochs, strict=True):
        found = known.seconds_per_image(one.trial.config, world) if left else None
        train, val = images[data_of(one.trial.config.data)]
        if found is None:
            hours.append(None if left else 0.0)
        else:
            hours.append(left * (train + VALIDATION * val) * found[0] / 3600)
        sources.append(found[1] if found else None)
    return CostEstimate(device, hours, sources)


def _device(runs: list[PastRun], where: BackendName, workers: int | None, left: int) -> str | None:
    """What so many trials are to run on; None where that is not known."""
    if where is BackendName.SLURM:
        return next((run.device for run in runs if run.on_slurm), None)
    at_once = min(workers or len(visible_gpus()) or 1, left)
    return device_here(1 if where is BackendName.DEBUG else at_once)


def seconds_alike(
    results: Path, progress: Sequence[Progress], where: BackendName, workers: int | None
) -> dict[str, float]:
    """What is left of the trials takes so many seconds, by name, of those that past runs alike on
    the device tell of. Imports no torch."""
    runs = past_runs(results)
    if not runs:
        return {}
    device = _device(runs, where, workers, sum(_epochs_left(one) > 0 for one in progress))
    paces: dict[Any, list[float]] = {}
    for run in runs:
        if run.device == device:
            asked = (run.asked_precision, *run.arithmetic[1:])
            paces.setdefault((run.model, run.batch, asked), []).append(run.seconds_per_image)
    found = {}
    images_of = functools.cache(_images)
    for one in progress:
        if one.trial.problem is not None:
            continue
        config = one.trial.config
        asked = (config.precision, config.compile, config.deterministic)
        pace = paces.get((as_fast(config.model), config.batch_size, asked))
        if pace is not None and (left := _epochs_left(one)):
            train, val = images_of(config.data)
            images = left * (train + VALIDATION * val)
            found[one.trial.name] = statistics.median(pace) * images
    return found


def _epochs_left(progress: Progress) -> int:
    """A launch goes on with failed trials and pruned ones, too."""
    done = progress.state is State.DONE
    return 0 if done else max(0, (progress.trial.epochs or 0) - progress.epochs_done)


def _images(config: DataConfig) -> tuple[int, int]:
    """How many images are trained on and how many validated on, without looking at them."""
    if config.root is not None:
        from trainer.data.datasets import check

        # Where they are not here, or bad, that is for others to say: this is an estimate.
        with contextlib.suppress(InputError, OSError):
            return check(config)[:2]
    images = min(KNOWN[config.name].train_images, config.train_limit or sys.maxsize)
    val = round(images * config.val_fraction)
    return images - val, val
