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

COLUMNS = ("stage", "kind", "trials", "done", "shared", "chooses", "hours")


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

    def row(self) -> tuple[str, ...]:
        values = self.chosen or self.stage.reported
        what = ", ".join(f"{key}={value}" for key, value in values.items()) or "-"
        return (
            self.stage.name,
            self.kind,
            str(self.count),
            str(self.done),
            str(self.shared or "-"),
            what if self.chosen or not values else f"{what} (assumed)",
            "-" if self.cost.total is None else f"{self.cost.total:.3g}",
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
        }


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
    stages = list(forecasts(runner, begin, end))
    hours = [one.cost.total for one in stages]
    known = [one for one in hours if one is not None]
    total = sum(known) if len(known) == len(hours) else None
    devices = sorted({one.cost.device for one in stages if one.cost.device})
    if as_json:
        value = {
            "schema_version": 1,
            "study": runner.name,
            "scale": str(runner.scale),
            "choices": str(runner.folder / CHOICES),
            "stages": [one.to_json() for one in stages],
            "predicted_gpu_hours": total,
            "predicted_on": devices,
        }
        print(json.dumps(value))
        return
    table.show(COLUMNS, [one.row() for one in stages])
    trials = sum(one.count for one in stages)
    cost = "cost not known" if total is None else f"at most about {total:.3g} device-hours"
    print(
        f"{runner.name} ({runner.scale}): {len(stages)} stages, {trials} trials; {cost} on "
        f"{' and '.join(devices) or 'any device'}; nothing was run or written",
        file=sys.stderr,
    )
