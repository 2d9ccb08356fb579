"""Which runs are left out: of another configuration, or with values that none can have."""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.stats import outliers
from local_machine.errors import EXIT_IO, InputError, move_away
from trial_records.plan import PlannedTrial
from trial_records.trial_files import RUN


def of_plan(
    folder: Path, runs: pd.DataFrame, trials: dict[str, PlannedTrial], problems: list[InputError]
) -> pd.DataFrame:
    """The runs that are of the configuration planned under their name, one a trial."""
    planned = runs["trial"].astype(object).map({n: t.fingerprint for n, t in trials.items()})
    good = (runs["fingerprint"] == planned) & ~runs["trial"].duplicated()
    for name in runs["trial"][~good].unique():
        path = folder / name
        problems.append(
            InputError(
                f"{path / RUN} is of another configuration than the plan has under that name",
                f"it was left in place; move it away and launch again: {move_away(path, 'other')}",
                exit_code=EXIT_IO,
            )
        )
    return runs[good]


_ACCURACIES = (
    "train_accuracy", "train_accuracy_clean", "val_accuracy", "val_accuracy_last",
    "test_accuracy", "top_1", "top_3", "top_5",
)  # fmt: skip


Broken = Iterator[tuple[str, "pd.Series[bool]", str]]


def _broken(runs: pd.DataFrame, others: Container[str]) -> Broken:
    """A column, the runs in which it has no possible value, and what it must be. A NaN is read as
    a value that was not measured."""
    seconds = runs["seconds"]
    yield "seconds", seconds.notna() & ~((seconds >= 0) & (seconds < np.inf)), "finite, at least 0"
    yield "world_size", runs["world_size"] < 1, "at least 1"
    yield "attempts", ~runs["attempts"].map(_is_told), "a list of objects in JSON"
    ours = ~runs["trial"].map(lambda name: name in others).astype(bool)
    for name, broken, rule in _broken_of_trainer(runs):
        yield name, broken & ours, rule


def _broken_of_trainer(runs: pd.DataFrame) -> Broken:
    for name in _ACCURACIES:
        yield name, runs[name].notna() & ~runs[name].between(0, 1), "a fraction"
    # A run that does not say how many validation images it had has no error of them, and no more.
    yield "val_images", runs["val_images"] < 1, "at least 1"
    images, measured = runs["test_images"], runs["test_accuracy"].notna()
    few = (images < 0) | (measured & ~(images >= 1))
    yield "test_images", few, "at least 1 where there is an accuracy"
    share = runs["device_share"]
    yield "device_share", share.notna() & ~share.between(0, 1, "right"), "above 0 and at most 1"
    yield "epochs_run", ~(runs["epochs_run"] >= 1), "at least 1"
    best = runs["best_epoch"]
    yield "best_epoch", ~((best >= 0) & (best < runs["epochs_run"])), "from 0 and below epochs_run"


def _is_told(text: object) -> bool:
    try:
        outliers.attempts(text)
    except (ValueError, RecursionError):
        return False
    return True


def _given(value: Any) -> str:
    return repr(value[:40]) if isinstance(value, str) else f"{value:.15g}"


def impossible(
    folder: Path,
    runs: pd.DataFrame,
    problems: list[InputError],
    others: Container[str] = frozenset(),
) -> set[str]:
    """The done trials whose run has a value that none can have: each a problem, by the first. Of
    `others`, trials of other tasks than the trainer, only what every task's run has can be so."""
    done = runs[runs["status"] == "done"]
    found: dict[str, InputError] = {}
    for column, broken, rule in _broken(done, others):
        for name, value in zip(done["trial"][broken], done[column][broken], strict=True):
            path = folder / name
            given = "null" if pd.isna(value) else _given(value)
            problem = InputError(
                f"{path / RUN} is damaged: {column} is {given}, which must be {rule}",
                f"it was left in place; move it away and launch again: {move_away(path)}",
                exit_code=EXIT_IO,
            )
            found.setdefault(name, problem)
    problems.extend(found[name] for name in done["trial"] if name in found)
    return set(found)
