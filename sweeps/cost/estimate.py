"""The cost estimate of trials: device-hours of training, predicted before they are spent.

What tells it is the task's cost model (`sweeps.task.CostModel`), by the past runs in the results
folder. An estimate is of training and validation, as run.parquet's `seconds` is: a worker's
start-up, compilation and the evaluation at a trial's end come on top. All epochs that are left
count, so that where trials may stop early the estimate is an upper bound. Imports no torch where
past runs alone can tell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from local_machine.devices import device_here, threads_of, visible_gpus
from local_machine.errors import InputError
from sweeps.cost.past_runs import past_runs
from sweeps.cost.plain_costs import PlainCosts
from sweeps.spec.backend_name import BackendName
from sweeps.spec.task_loader import load
from sweeps.state.progress import Progress
from sweeps.state.trial_store import State
from sweeps.task import DeviceCosts, PastRun


@dataclass(frozen=True)
class CostEstimate:
    """What is left of some trials costs, in hours of one device; a cost of 0 has no source."""

    device: str | None
    """What they are to run on; None where that is not known."""
    hours: list[float | None]
    """Of each trial; None where it is not known."""
    sources: list[str | None]

    @property
    def total(self) -> float | None:
        """None where a part is not known."""
        known = [hours for hours in self.hours if hours is not None]
        return sum(known) if len(known) == len(self.hours) else None

    @property
    def core_hours(self) -> float | None:
        """The total in hours of one core; None on a GPU, too."""
        cores = threads_of(self.device)
        return None if self.total is None or cores is None else cores * self.total

    @property
    def on_cpu(self) -> bool:
        return threads_of(self.device) is not None

    @property
    def unit(self) -> str:
        return "device-hours" if self.on_cpu else "GPU-hours"

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
                "run one of its trials first: a config.json is a sweep of one trial (python -m "
                "sweeps.launch CONFIG.json), and so is --set with one value for each axis",
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
    *,
    measure: bool = False,
) -> CostEstimate:
    """What is left of the trials costs where they are to run, `world` devices a trial. `measure`:
    this machine, too, where no run tells of it.

    On Slurm the device is that of the newest run which Slurm had in the results folder. Reads only
    some of many past runs, and none where nothing is left to do.
    """
    left = [_left(one) for one in progress]
    if not any(left):
        return CostEstimate(None, [0.0] * len(left), [None] * len(left))
    device, costs = _costs(results, progress, left, where, workers, measure=measure)
    hours: list[float | None] = []
    sources: list[str | None] = []
    for one, units in zip(progress, left, strict=True):
        found = None
        if units and one.trial.problem is None:
            found = costs[one.trial.task.name].seconds(one.trial.config, world)
        hours.append((None if units else 0.0) if found is None else units * found[0] / 3600)
        sources.append(found[1] if found else None)
    return CostEstimate(device, hours, sources)


def _costs(
    results: Path,
    progress: Sequence[Progress],
    left: Sequence[float],
    where: BackendName,
    workers: int | None,
    *,
    measure: bool = False,
) -> tuple[str | None, dict[str, DeviceCosts]]:
    """What the trials are to run on, and what is known of costs there, by task."""
    planned = {one.trial.task.name: one.trial for one in progress if one.trial.problem is None}
    models = {}
    for name, trial in planned.items():
        task = load(trial.task)
        models[name] = task.cost or PlainCosts(task)
    runs = {name: past_runs(results, model) for name, model in models.items()}
    device = _device([run for some in runs.values() for run in some], where, workers, left)
    on_slurm = where is BackendName.SLURM
    if measure and device is not None and not on_slurm:
        for name, model in models.items():
            if all(run.device != device for run in runs[name]):
                model.measure(device)
    return device, {
        name: model.on(device, runs[name], on_slurm=on_slurm) for name, model in models.items()
    }


def _device(
    runs: Sequence[PastRun], where: BackendName, workers: int | None, left: Sequence[float]
) -> str | None:
    """What trials with so much left are to run on; None where that is not known."""
    if where is BackendName.SLURM:
        return next((run.device for run in runs if run.on_slurm), None)
    at_once = min(workers or len(visible_gpus()) or 1, sum(units > 0 for units in left))
    return device_here(1 if where is BackendName.DEBUG else at_once)


def seconds_alike(
    results: Path, progress: Sequence[Progress], where: BackendName, workers: int | None
) -> dict[str, float]:
    """What is left of the trials takes so many seconds, by name, of those that past runs alike on
    the device tell of. Imports no torch."""
    left = [_left(one) for one in progress]
    if not any(left):
        return {}
    _, costs = _costs(results, progress, left, where, workers)
    found = {}
    for one, units in zip(progress, left, strict=True):
        if units and one.trial.problem is None:
            seconds = costs[one.trial.task.name].alike(one.trial.config)
            if seconds is not None:
                found[one.trial.name] = seconds * units
    return found


def _left(progress: Progress) -> int:
    """In units of the budget. A launch goes on with failed trials and pruned ones, too."""
    if progress.state is State.DONE:
        return 0
    if progress.trial.task.budget is None:
        return 1
    return max(0, (progress.trial.epochs or 0) - progress.epochs_done)
