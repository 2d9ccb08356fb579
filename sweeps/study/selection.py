"""The choice: which point of a stage the later stages take, by validation accuracy and by rule.

The rule: the highest mean validation accuracy over seeds. Of the points within one standard error
of it, the one that costs least to train; of those, the highest mean; of those, the first name.

- The standard error is the best point's: the larger of its seeds' (standard deviation over the root
  of their number) and of the validation images' (binomial), which all points share.
- Cost is FLOPs of one training: epochs x training images x FLOPs an image, all as configured, so
  that neither the machine, what else ran there, nor an early stop decides.

Of a run.parquet only the columns in COLUMNS are read, none of them of the test images.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from local_machine.errors import EXIT_FLAGGED, InputError
from sweeps.spec.grid import Point
from sweeps.state.trial_store import Standing, State, TrialStore
from trial_records import tables
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
class Candidate:
    """A point all of whose trials have finished."""

    point: Point
    trials: tuple[str, ...]
    accuracies: tuple[float, ...]
    """On the validation images, one a trial."""
    val_images: int
    cost: float
    """FLOPs of one training; without FLOPs, images seen. The same for all of a choice."""

    @property
    def name(self) -> str:
        return json.dumps(dict(self.point), sort_keys=True)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.accuracies)

    @property
    def standard_error(self) -> tuple[float, str]:
        """Of the mean, and what it is of: `seeds` or `validation images`."""
        mean = min(1.0, max(0.0, self.mean))
        images = math.sqrt(mean * (1 - mean) / self.val_images)
        seeds = 0.0
        if len(self.accuracies) > 1:
            seeds = statistics.stdev(self.accuracies) / math.sqrt(len(self.accuracies))
        return (seeds, "seeds") if seeds > images else (images, "validation images")


@dataclass(frozen=True)
class LeftOut:
    """A trial without an accuracy, whose point is therefore no candidate."""

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

    @property
    def following(self) -> Candidate | None:
        """The next after the best by its mean."""
        others = [one for one in self.candidates if one is not self.best]
        return min(others, key=lambda one: (-_comparable(one.mean), one.name), default=None)

    @property
    def told_apart(self) -> bool | None:
        """Whether seeds tell the best from the next; None where there are too few.

        By Student's paired t over the seeds, whose deviation is never taken to be under that of
        counting whole images, times the number of pairs, any of which might have come first.
        """
        other = self.following
        if other is None or not MIN_SEEDS <= len(self.best.accuracies) == len(other.accuracies):
            return None
        from scipy import stats

        gaps = [a - b for a, b in zip(self.best.accuracies, other.accuracies, strict=True)]
        variance = statistics.variance(gaps) + self.best.val_images**-2 / 6
        t = statistics.fmean(gaps) / math.sqrt(variance / len(gaps))
        p = 2 * float(stats.t.sf(abs(t), len(gaps) - 1))
        return p * math.comb(len(self.candidates), 2) <= ALPHA

    def to_json(self, left_out: Iterable[LeftOut]) -> dict[str, Any]:
        error, of = self.best.standard_error
        return {
            "point": dict(self.chosen.point),
            "mean_val_accuracy": self.chosen.mean,
            "best": dict(self.best.point),
            "best_mean_val_accuracy": self.best.mean,
            "standard_error": error,
            "standard_error_of": of,
            "told_apart_from_next_by_seeds": self.told_apart,
            "candidates": [
                {
                    "point": dict(one.point),
                    "trials": list(one.trials),
                    "val_accuracies": list(one.accuracies),
                    "mean_val_accuracy": one.mean,
                    "val_images": one.val_images,
                    "cost": one.cost,
                    "within_one_standard_error": one in self.near,
                }
                for one in sorted(self.candidates, key=lambda one: (-one.mean, one.name))
            ],
            "left_out": [
                {"point": dict(one.point), "trial": one.trial, "why": one.why} for one in left_out
            ],
        }


def choose(candidates: Sequence[Candidate]) -> Selection:
    """By the rule, whatever the order of the candidates, of which there is at least one."""
    best = min(candidates, key=lambda one: (-_comparable(one.mean), one.cost, one.name))
    bar = best.mean - best.standard_error[0]
    near = tuple(
        one for one in candidates if one is best or _comparable(one.mean) >= _comparable(bar)
    )
    chosen = min(near, key=lambda one: (one.cost, -_comparable(one.mean), one.name))
    return Selection(chosen, best, near, tuple(candidates))


def _comparable(accuracy: float) -> float:
    """As many right answers can have means that differ in their last bit: equal without it."""
    return round(accuracy, 12)


def candidates(
    store: TrialStore, standings: Iterable[Standing], column: str = "val_accuracy"
) -> tuple[list[Candidate], list[LeftOut]]:
    """The points whose trials have all finished, and the trials that have not, or whose run.parquet
    cannot be used. Raises InputError where they are not of the same images.
    """
    groups: dict[str, list[Standing]] = {}
    for one in standings:
        groups.setdefault(json.dumps(_point(one), sort_keys=True), []).append(one)
    found: list[tuple[list[Standing], list[dict[str, Any]]]] = []
    left_out: list[LeftOut] = []
    for group in groups.values():
        read = [_run(store, one, column) for one in group]
        runs = [one for one in read if not isinstance(one, LeftOut)]
        left_out += [one for one in read if isinstance(one, LeftOut)]
        if len(runs) == len(group):
            found.append((group, runs))
    _check_same_images(store, [run for _, runs in found for run in runs])
    counted = all(run["flops_per_image"] for _, runs in found for run in runs)
    return [
        Candidate(
            point=_point(group[0]),
            trials=tuple(one.trial.name for one in group),
            accuracies=tuple(float(run[column]) for run in runs),
            val_images=runs[0]["val_images"],
            cost=float(
                (group[0].trial.epochs or 1)
                * runs[0]["train_images"]
                * (runs[0]["flops_per_image"] if counted else 1)
            ),
        )
        for group, runs in found
    ], left_out


def _check_same_images(store: TrialStore, runs: Iterable[dict[str, Any]]) -> None:
    """Raises InputError where runs are of different data sets; older ones do not say."""
    known = {run.get("data_sha256") for run in runs} - {None}
    if len(known) > 1:
        told = ", ".join(sorted(str(one)[:8] for one in known))
        raise InputError(
            f"{store.sweep}: its trials are of different images, by data_sha256 in run.parquet "
            f"({told}): no choice can be made between them",
            "move away the folders of those that are not of the images under data.root, then the "
            "same command trains them anew",
            exit_code=EXIT_FLAGGED,
        )


def _point(standing: Standing) -> dict[str, Any]:
    return {key: value for key, value in standing.trial.point.items() if key != "seed"}


def _run(store: TrialStore, standing: Standing, column: str) -> dict[str, Any] | LeftOut:
    """What a choice reads of the trial's run.parquet; or why it has none to read."""
    if standing.state is not State.DONE:
        return _left_out(standing)
    trial = standing.trial
    folder = store.folder_of(trial)
    try:
        run = tables.read_run(folder, trial.fingerprint, COLUMNS)
        tables.check_measured(folder / RUN, run, (column, "val_images", "train_images"))
    except InputError as error:
        return _left_out(replace(standing, problem=error.what))
    return run


def _left_out(standing: Standing) -> LeftOut:
    failure = standing.failure
    why = standing.problem or str(standing.state)
    if failure is not None:
        why = f"{failure.cause}: {failure.exception}".partition("\n")[0]
    diverged = failure is not None and failure.cause == "NONFINITE"
    return LeftOut(_point(standing), standing.trial.name, why, diverged)
