"""The cost of any task: what its past runs took, those alike in all values but the seed first."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sweeps.task import CostModel, Task, Values, without


@dataclass(frozen=True)
class Run:
    device: str
    on_slurm: bool
    alike: str
    """The same for runs whose values differ in seed and budget alone."""
    seconds: float
    """Of a device, for a unit of the budget."""


class PlainCosts(CostModel):
    columns = ("device", "slurm_job_id", "world_size", "device_share", "seconds", "epochs_run")

    def __init__(self, task: Task) -> None:
        self.task = task

    def read(self, row: Values, values: Callable[[], Values]) -> Run | None:
        seconds, content = row["seconds"], values()
        if not row["device"] or not seconds or not math.isfinite(seconds) or seconds < 0:
            return None
        if content.get("task") != self.task.name:
            return None
        stored = content["values"]
        budget = row.get("epochs_run") or Task.stored(stored, self.task.budget)
        devices = (row["world_size"] or 1) * (row["device_share"] or 1.0)
        return Run(
            row["device"], row["slurm_job_id"] is not None, alike(self.task, stored),
            devices * seconds / (budget if self.task.budget and budget else 1),
        )  # fmt: skip

    def on(self, device: str | None, runs: Sequence[Run], *, on_slurm: bool) -> PlainDeviceCosts:
        return PlainDeviceCosts(self.task, [run for run in runs if run.device == device])


@dataclass
class PlainDeviceCosts:
    task: Task
    runs: list[Run]

    def alike(self, config: object) -> float | None:
        wanted = alike(self.task, self.task.values(config))
        found = [run.seconds for run in self.runs if run.alike == wanted]
        return statistics.median(found) if found else None

    def seconds(self, config: object, ranks: int) -> tuple[float, str] | None:
        if (found := self.alike(config)) is not None:
            return found, "runs alike"
        if not self.runs:
            return None
        return statistics.median(run.seconds for run in self.runs), "runs of the task"


def alike(task: Task, values: Values) -> str:
    """The same for values that differ in seed and budget alone."""
    return json.dumps(without(values, {task.seed, task.budget}), sort_keys=True)
