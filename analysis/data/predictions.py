"""Predictions: what a finished trial's tested weights said of every test image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.special import softmax

from analysis.data.class_names import parse
from analysis.data.files_read import once
from analysis.data.study import Plan, Study
from analysis.text.numbers import percent
from local_machine.errors import InputError
from trial_records import tables
from trial_records.trial_files import PREDICTIONS, RUN, unusable


class Classified(Protocol):
    """What was predicted to be of which class: `labels` and `predicted` are places among the
    `classes`, (n,), and `right` says where both are the same."""

    @property
    def trial(self) -> str: ...
    @property
    def labels(self) -> NDArray[np.int64]: ...
    @property
    def predicted(self) -> NDArray[np.int64]: ...
    @property
    def right(self) -> NDArray[np.bool_]: ...
    @property
    def classes(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, eq=False)
class Predictions:
    """A row a test image, by `index`, its place in the data set's test set."""

    trial: str
    index: NDArray[np.int32]  # (n,), ascending
    labels: NDArray[np.int64]  # (n,)
    logits: NDArray[np.float32]  # (n, classes), finite
    classes: tuple[str, ...]
    data: str = ""
    """The identity of the data set that the images are of, as in dataset.of."""

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """(n, classes): the softmax of the logits."""
        found: NDArray[np.float64] = softmax(self.logits.astype(np.float64), axis=1)
        return found

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """(n,): the class of the highest logit, the lower of equals, as in training."""
        found: NDArray[np.int64] = self.logits.argmax(axis=1)
        return found

    @cached_property
    def confidence(self) -> NDArray[np.float64]:
        """(n,): the predicted class' probability."""
        found: NDArray[np.float64] = self.probabilities.max(axis=1)
        return found

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """(n,)"""
        found: NDArray[np.bool_] = self.predicted == self.labels
        return found


def same_images(a: Predictions, b: Predictions) -> bool:
    """Whether row i of both is the same test image."""
    return (
        a.data == b.data and np.array_equal(a.index, b.index) and np.array_equal(a.labels, b.labels)
    )


def of(study: Study, plan: Plan, run: Mapping[str, Any]) -> Predictions | None:
    """`read` for a row of `plan.runs`; a file that cannot be used becomes one of the study's
    problems, and None.
    """
    found: Predictions | None = read_once(study, plan, run, read)
    return found


def read_once(
    study: Study,
    plan: Plan,
    run: Mapping[str, Any],
    read: Callable[[Path, Mapping[str, Any]], Any],
) -> Any:
    """What `read` gives for a row of `plan.runs`, which the study keeps; a file that cannot be used
    becomes one of its problems, and None."""
    known = study.predictions
    folder = study.folder(plan, str(run["trial"]))
    if folder not in known:
        # All else that it asks the run for stands in RUN.
        key = folder, read.__module__, str(run.get("data"))
        files = [folder / RUN, folder / PREDICTIONS]
        try:
            known[folder] = once(key, files, lambda: read(folder, run))
        except InputError as problem:
            study.problems.append(problem)
            known[folder] = None
    return known[folder]


def read(folder: Path, run: Mapping[str, Any]) -> Predictions | None:
    """A trial's predictions.parquet, whatever the order of its rows; None where there is none, and
    for a trial that has not finished.

    `run` is a row of Plan.runs. Raises InputError where the file is damaged, of another version or
    with other columns than the trainer writes, and where it is not of this run's test images,
    classes and test accuracy. The file is left in place.
    """
    path = folder / PREDICTIONS
    if pd.isna(run["status"]) or not path.exists():  # that is asked before RUN is read
        return None
    try:
        table = tables.read_predictions(folder)
    except FileNotFoundError:
        return None
    classes = parse(run["classes"])
    index, labels = table["index"].to_numpy(), table["label"].to_numpy().astype(np.int64)
    if len(index) != run["test_images"]:
        raise unusable(
            path, f"has {len(index):,} rows, and {RUN} says {run['test_images']:,.0f} test images"
        )
    if len(np.unique(index)) < len(index) or (index < 0).any():
        raise unusable(path, "has an index that is negative or is there twice")
    logits = logits_of(table["logits"].combine_chunks(), len(classes))
    if logits is None:
        raise unusable(path, f"does not have the logits of {len(classes)} classes in every row")
    if not np.isfinite(logits).all():
        raise unusable(path, "has logits that are missing or not finite")
    if ((labels < 0) | (labels >= len(classes))).any():
        raise unusable(path, f"has labels that are none of the {len(classes)} classes")
    order = np.argsort(index)
    found = Predictions(
        str(run["trial"]), index[order], labels[order], logits[order], classes,
        str(run["data"]),
    )  # fmt: skip
    # Both are counts over the same images: less than half an image is rounding.
    correct = int(found.right.sum())
    if not abs(correct - run["test_accuracy"] * len(index)) < 0.5:
        raise unusable(
            path,
            f"is of another run: {correct:,} of {len(index):,} images are right, and {RUN} says "
            f"{percent(run['test_accuracy'])} %",
        )
    return found


def logits_of(column: pa.Array | pa.ChunkedArray, classes: int) -> NDArray[np.float32] | None:
    """A column of lists as (n, classes); None where a row has another number of them."""
    if not classes or not pc.all(pc.equal(pc.list_value_length(column), classes)).as_py():
        return None
    flat: NDArray[np.float32] = pc.list_flatten(column).to_numpy(zero_copy_only=False)
    return flat.reshape(-1, classes)
