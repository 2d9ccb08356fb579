"""A study as it stands, before anything runs: each stage's trials, choice and cost."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sweeps.cli import table
from sweeps.cost.estimate import CostEstimate
from sweeps.spec.grid import Point
from sweeps.state.plan import Plan
from sweeps.state.progress import Progress
from sweeps.state.trial_store import State
from sweeps.study.runner import CHOICES, StudyRunner
from sweeps.study.stages import Stage

COLUMNS = ("stage", "kind", "trials", "done", "shared", "chooses")


@dataclass(frozen=True)
class StageForecast:
    """What a stage has, what it has yet to train, and what that costs."""

    stage: Stage
    kind: str
    count: int
    shared: int
    """Trials that another stage before it trains."""
    chosen: Point | None
    progress: Sequence[Progress]
    cost: CostEstimate

    @property
    def done(self) -> int:
        return sum(one.state is State.DONE for one in self.progress)

    @property
    def left(self) -> int:
        """Trials that it has yet to train."""
        return max(0, self.count - self.shared - sum(one.state.is_over for one in self.progress))

    def hours(self, on_cpu: bool) -> float | None:
        """Of a core, or of the device; None where that is not known."""
        return self.cost.core_hours if on_cpu and self.cost.total else self.cost.total

    def row(self, on_cpu: bool) -> tuple[str, ...]:
        values = self.chosen or self.stage.reported
        what = ", ".join(f"{key}={value}" for key, value in values.items()) or "-"
        return (
            self.stage.name,
            self.kind,
            str(self.count),
            str(self.done),
            str(self.shared or "-"),
            what if self.chosen or not values else f"{what} (assumed)",
            "-" if (hours := self.hours(on_cpu)) is None else f"{hours:.3g}",
        )

    def to_json(self) -> dict[str, Any]:
        assumed = self.stage.reported and not self.chosen
        return {
            "stage": self.stage.name,
            "kind": self.kind,
            "count": self.count,
            "done": self.done,
            "shared": self.shared,
            "chosen": dict(self.chosen) if self.chosen else None,
            "assumed": dict(self.stage.reported) if assumed else None,
            "trials": [one.to_json() for one in self.progress],
            "predicted_gpu_hours": self.cost.total,
            "predicted_core_hours": self.hours(True) if self.cost.on_cpu else None,
        }


@dataclass(frozen=True)
class Forecast:
    """Of some stages of a study."""

    stages: Sequence[StageForecast]

    @property
    def on_cpu(self) -> bool:
        """Whether what is left runs on a CPU, whose cores some stages share among more trials than
        others: so hours of a core are what can be summed."""
        costs = [one.cost for one in self.stages if one.cost.device is not None]
        return bool(costs) and all(cost.on_cpu for cost in costs)

    @property
    def total(self) -> float | None:
        """Hours of a core on a CPU, else of the device; None where a stage's are not known."""
        hours = [one.hours(self.on_cpu) for one in self.stages]
        known = [one for one in hours if one is not None]
        return sum(known) if len(known) == len(hours) else None

    @property
    def unit(self) -> str:
        return "core-hours" if self.on_cpu else "device-hours"

    def cost_line(self) -> str:
        """In a few words."""
        if self.total is None:
            measure = ": measure it with python benchmarks/roofline.py" if self.on_cpu else ""
            return f"cost not known{measure}"
        devices = sorted({one.cost.device for one in self.stages if one.cost.device})
        if self.on_cpu:
            devices = sorted({one.rpartition(", ")[0] for one in devices})
        where = " and ".join(devices) or "any device"
        return f"at most about {self.total:.3g} {self.unit} on {where}"


def forecasts(runner: StudyRunner, begin: int, end: int) -> Iterator[StageForecast]:
    """Of the stages of these numbers, both included. Raises InputError for any stage of the study
    that cannot be made."""
    runner.look_back()
    runs = runner.assumed()
    # What one stage has trained, or will, no other trains again.
    trained = {
        one.trial.fingerprint
        for run in runs for one in run.progress() if one.state is State.DONE
    }  # fmt: skip
    for run in runs[begin : end + 1]:
        cost, progress = runner.price(run, trained), run.progress()
        shared = sum(
            one.state is not State.DONE and one.trial.fingerprint in trained for one in progress
        )
        trained |= {one.trial.fingerprint for one in progress}
        is_sweep = isinstance(run.asked, Plan)
        yield StageForecast(
            run.stage,
            kind="sweep" if is_sweep else "search",
            count=len(progress) if isinstance(run.asked, Plan) else run.asked.trials,
            shared=shared,
            chosen=runner.chosen.get(run.stage.name),
            progress=progress,
            cost=cost,
        )


def show(runner: StudyRunner, begin: int, end: int, as_json: bool) -> None:
    """Print it: a table and a line of totals for a person, or one JSON object."""
    found = Forecast(list(forecasts(runner, begin, end)))
    if as_json:
        hours = [one.cost.total for one in found.stages]
        known = [one for one in hours if one is not None]
        value = {
            "schema_version": 1,
            "study": runner.name,
            "scale": str(runner.scale),
            "choices": str(runner.folder / CHOICES),
            "stages": [one.to_json() for one in found.stages],
            "predicted_gpu_hours": sum(known) if len(known) == len(hours) else None,
            "predicted_core_hours": found.total if found.on_cpu else None,
            "predicted_on": sorted({one.cost.device for one in found.stages if one.cost.device}),
        }
        print(json.dumps(value))
        return
    heading = "core-hours" if found.on_cpu else "hours"
    table.show((*COLUMNS, heading), [one.row(found.on_cpu) for one in found.stages])
    trials = sum(one.count for one in found.stages)
    print(
        f"{runner.name} ({runner.scale}): {len(found.stages)} stages, {trials} trials; "
        f"{found.cost_line()}; nothing was run or written",
        file=sys.stderr,
    )
