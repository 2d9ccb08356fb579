"""The choice: which point of a stage the later stages take, by its task's objective and by rule.

The rule: the best mean of the objective over seeds. Of the points within one standard error of it,
the one that costs least to train; of those, the best mean; of those, the first name.

- Of the project's trainer the objective is validation accuracy. The standard error is the best
  point's: the larger of its seeds' (standard deviation over the root of their number) and of the
  validation images' (binomial), which all points share. Cost is FLOPs of one training: epochs x
  training images x FLOPs an image, all as configured, so that neither the machine, what else ran
  there, nor an early stop decides.
- Of any other task the standard error is its seeds', and no cost is known that does not depend on
  the machine: the best mean is chosen.

Of a run.parquet of the trainer only the columns in COLUMNS are read, none of them of the test
images.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from local_machine.errors import EXIT_FLAGGED, InputError
from sweeps.search.outcome import NotFiniteError, value_of
from sweeps.spec.grid import Point
from sweeps.state.trial_store import Standing, State, TrialStore
from sweeps.task import Objective
from trial_records import tables
from trial_records.plan import FIRST_TASK, PlannedTask
from trial_records.trial_files import RUN

RULE = (
    "highest mean validation accuracy; within one standard error of it, the least FLOPs of "
    "training (epochs x training images x FLOPs an image); of those the highest mean, then by name"
)
# As analysis/stats/intervals.py has them.
ALPHA, MIN_SEEDS = 0.05, 3
COLUMNS = (
    "fingerprint", "val_accuracy", "val_accuracy_last", "val_images", "train_images",
    "flops_per_image", "data_sha256",
)  # fmt: skip


@dataclass(frozen=True)
class Measure:
    """By what a stage's points are compared: the objective of the task that trains them."""

    task: str
    goal: Objective

    @classmethod
    def of(cls, task: PlannedTask, goal: Objective | None = None) -> Measure:
        """A search may have another goal than its task."""
        return cls(task.name, goal or Objective(task.metric or "", task.direction, task.reduction))

    @property
    def is_trainers(self) -> bool:
        """Whether values are accuracies on validation images, and FLOPs are known."""
        return (self.task, self.goal.metric) == (FIRST_TASK.name, FIRST_TASK.metric)

    @property
    def column(self) -> str:
        """Of the trainer's run.parquet."""
        return "val_accuracy_last" if self.goal.reduction == "last" else "val_accuracy"

    @property
    def sign(self) -> int:
        """By which a better value is the greater one."""
        return 1 if self.goal.direction == "maximize" else -1

    @property
    def what(self) -> str:
        return "validation" if self.is_trainers else self.goal.metric

    @property
    def rule(self) -> str:
        if self.is_trainers:
            return RULE
        end = "highest" if self.sign == 1 else "lowest"
        return f"{end} mean {self.goal.metric} ({self.goal.reduction}), then by name"

    def words(self, value: float, unit: str = " %") -> str:
        return f"{100 * value:.2f}{unit}" if self.is_trainers else f"{value:.6g}"

    def level(self, value: float) -> float:
        """The greater, the better. As many right answers can have means that differ in their last
        bit: equal without it."""
        return self.sign * (round(value, 12) if self.is_trainers else float(f"{value:.12g}"))


OF_TRAINER = Measure.of(FIRST_TASK)


@dataclass(frozen=True)
class Candidate:
    """A point all of whose trials have finished."""

    point: Point
    trials: tuple[str, ...]
    values: tuple[float, ...]
    """By the measure, one a trial; of the trainer accuracies on the validation images."""
    val_images: int | None = None
    cost: float | None = None
    """FLOPs of one training; without FLOPs, images seen. The same for all of a choice. None for
    another task than the trainer."""

    @property
    def name(self) -> str:
        return json.dumps(dict(self.point), sort_keys=True)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def standard_error(self) -> tuple[float, str]:
        """Of the mean, and what it is of: `seeds` or `validation images`; or 0 and an empty text
        where one seed tells nothing of it."""
        seeds = 0.0
        if len(self.values) > 1:
            seeds = statistics.stdev(self.values) / math.sqrt(len(self.values))
        if self.val_images is None:
            return seeds, "seeds" if len(self.values) > 1 else ""
        mean = min(1.0, max(0.0, self.mean))
        images = math.sqrt(mean * (1 - mean) / self.val_images)
        return (seeds, "seeds") if seeds > images else (images, "validation images")


@dataclass(frozen=True)
class LeftOut:
    """A trial without a value, whose point is therefore not a candidate."""

    point: Point
    trial: str
    why: str
    diverged: bool
    """Its loss was not finite: that says something about the point, where other ends do not."""


@dataclass(frozen=True)
class Selection:
    """The point chosen, and from what."""

    chosen: Candidate
    best: Candidate
    near: tuple[Candidate, ...]
    """Those within one standard error of the best, it included."""
    candidates: tuple[Candidate, ...]
    measure: Measure = OF_TRAINER

    @property
    def following(self) -> Candidate | None:
        """The next after the best by its mean."""
        others = [one for one in self.candidates if one is not self.best]
        return min(others, key=lambda one: (-self.measure.level(one.mean), one.name), default=None)

    @property
    def told_apart(self) -> bool | None:
        """Whether seeds tell the best from the next; None where there are too few, or where they
        change nothing.

        By Student's paired t over the seeds, whose deviation is never taken to be under that of
        counting whole images, times the number of pairs, any of which might have come first.
        """
        other = self.following
        if other is None or not MIN_SEEDS <= len(self.best.values) == len(other.values):
            return None
        images = self.best.val_images
        if images is None and all(len(set(one.values)) == 1 for one in (self.best, other)):
            return None
        from scipy import stats

        gaps = [a - b for a, b in zip(self.best.values, other.values, strict=True)]
        error = math.sqrt(statistics.variance(gaps) + (0 if images is None else images**-2 / 6))
        mean = statistics.fmean(gaps) * math.sqrt(len(gaps))
        t = mean / error if error else math.copysign(math.inf, mean) if mean else 0.0
        p = 2 * float(stats.t.sf(abs(t), len(gaps) - 1))
        return p * math.comb(len(self.candidates), 2) <= ALPHA

    def to_json(self, left_out: Iterable[LeftOut]) -> dict[str, Any]:
        error, of = self.best.standard_error
        ours, goal = self.measure.is_trainers, self.measure.goal
        mean, values = ("mean_val_accuracy", "val_accuracies") if ours else ("mean", "values")
        whose = {
            "task": self.measure.task, "metric": goal.metric, "direction": goal.direction,
            "reduction": goal.reduction,
        }  # fmt: skip
        order = sorted(self.candidates, key=lambda one: (-self.measure.level(one.mean), one.name))
        return {
            **({} if ours else whose),
            "point": dict(self.chosen.point),
            mean: self.chosen.mean,
            "best": dict(self.best.point),
            f"best_{mean}": self.best.mean,
            "standard_error": error if of else None,
            "standard_error_of": of,
            "told_apart_from_next_by_seeds": self.told_apart,
            "candidates": [
                {
                    "point": dict(one.point),
                    "trials": list(one.trials),
                    values: list(one.values),
                    mean: one.mean,
                    **({"val_images": one.val_images, "cost": one.cost} if ours else {}),
                    "within_one_standard_error": one in self.near,
                }
                for one in order
            ],
            "left_out": [
                {"point": dict(one.point), "trial": one.trial, "why": one.why} for one in left_out
            ],
        }


def choose(candidates: Sequence[Candidate], measure: Measure = OF_TRAINER) -> Selection:
    """By the rule, whatever the order of the candidates, of which there is at least one."""
    level = measure.level
    best = min(candidates, key=lambda one: (-level(one.mean), one.cost or 0.0, one.name))
    bar = level(best.mean - measure.sign * best.standard_error[0])
    near = tuple(one for one in candidates if one is best or level(one.mean) >= bar)
    chosen = min(near, key=lambda one: (one.cost or 0.0, -level(one.mean), one.name))
    return Selection(chosen, best, near, tuple(candidates), measure)


def candidates(
    store: TrialStore, standings: Iterable[Standing], measure: Measure = OF_TRAINER
) -> tuple[list[Candidate], list[LeftOut]]:
    """The points whose trials have all finished, and the trials that have not, or whose records
    cannot be used, or have no value. Raises InputError where they are not of the same images.
    """
    groups: dict[str, list[Standing]] = {}
    for one in standings:
        groups.setdefault(json.dumps(_point(one), sort_keys=True), []).append(one)
    found: list[tuple[list[Standing], list[dict[str, Any]]]] = []
    left_out: list[LeftOut] = []
    for group in groups.values():
        read = [_run(store, one, measure) for one in group]
        runs = [one for one in read if not isinstance(one, LeftOut)]
        left_out += [one for one in read if isinstance(one, LeftOut)]
        if len(runs) == len(group):
            found.append((group, runs))
    _check_same_images(store, [run for _, runs in found for run in runs])
    costs = _costs(found) if measure.is_trainers else [None] * len(found)
    return [
        Candidate(
            point=_point(group[0]),
            trials=tuple(one.trial.name for one in group),
            values=tuple(float(run[_VALUE]) for run in runs),
            val_images=runs[0]["val_images"] if measure.is_trainers else None,
            cost=cost,
        )
        for (group, runs), cost in zip(found, costs, strict=True)
    ], left_out


def _costs(found: Sequence[tuple[list[Standing], list[dict[str, Any]]]]) -> list[float | None]:
    counted = all(run["flops_per_image"] for _, runs in found for run in runs)
    return [
        float(
            (group[0].trial.epochs or 1)
            * runs[0]["train_images"]
            * (runs[0]["flops_per_image"] if counted else 1)
        )
        for group, runs in found
    ]


def _check_same_images(store: TrialStore, runs: Iterable[dict[str, Any]]) -> None:
    """Raises InputError where runs are of different data sets; older ones do not say."""
    known = {run.get("data_sha256") for run in runs} - {None}
    if len(known) > 1:
        told = ", ".join(sorted(str(one)[:8] for one in known))
        raise InputError(
            f"{store.sweep}: its trials are of different images, by data_sha256 in run.parquet "
            f"({told}): no choice can be made between them",
            "move away the folders of those that are not of the images under data.root, then the "
            "same command trains them again",
            exit_code=EXIT_FLAGGED,
        )


def _point(standing: Standing) -> dict[str, Any]:
    return {key: value for key, value in standing.trial.point.items() if key != "seed"}


# Beside the columns of a run: what it has by the measure.
_VALUE = "value"


def _run(store: TrialStore, standing: Standing, measure: Measure) -> dict[str, Any] | LeftOut:
    """What a choice reads of the trial's records; or why it has none to read."""
    if standing.state is not State.DONE:
        return _left_out(standing)
    trial = standing.trial
    folder = store.folder_of(trial)
    try:
        if not measure.is_trainers:
            run = tables.read_run(folder, trial.fingerprint)
            return {**run, _VALUE: value_of(run, folder, measure.goal)}
        run = tables.read_run(folder, trial.fingerprint, COLUMNS)
        tables.check_measured(folder / RUN, run, (measure.column, "val_images", "train_images"))
    except NotFiniteError as error:
        return LeftOut(_point(standing), trial.name, error.what, diverged=True)
    except InputError as error:
        return _left_out(replace(standing, problem=error.what))
    return {**run, _VALUE: run[measure.column]}


def _left_out(standing: Standing) -> LeftOut:
    failure = standing.failure
    why = standing.problem or str(standing.state)
    if failure is not None:
        why = f"{failure.cause}: {failure.exception}".partition("\n")[0]
    diverged = failure is not None and failure.cause == "NONFINITE"
    return LeftOut(_point(standing), standing.trial.name, why, diverged)
