"""Data set: which images a run is of, by its record.

This is the one place that decides it. A run says by a hash what its whole data set was. Runs of
version 0.1, which recorded none, are told by what they did: data.name, the class names and the
numbers of images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from analysis.data.class_names import parse
from analysis.data.task import KnownData

OTHER_DATA = "OTHER_DATA"
"""The flag of a run on other images than its launch's."""
# Begins the identity of what is told by its class names alone.
_RECORDED = "recorded: "
_COLUMNS = [
    "status", "data_sha256", "classes", "num_classes", "train_images", "val_images", "test_images",
    "data.name", "data.train_limit", "data.test_limit",
]  # fmt: skip


class DataSet(NamedTuple):
    identity: str
    """Equal for runs of the same images, before limits and split; `""` where there is no result."""
    title: str
    """What a reader is told."""


_NONE = DataSet("", "")


def of(run: Mapping[str, Any], known: Sequence[KnownData]) -> DataSet:
    """The data set of a row of Plan.runs, by the ones that are known."""
    if not isinstance(run.get("status"), str):
        return _NONE
    sha256, classes = run.get("data_sha256"), run.get("classes")
    count = class_count(classes, run.get("num_classes"))
    if isinstance(sha256, str) and sha256:
        names = (one.name for one in known if one.sha256 == sha256)
        own = run.get("data.name")
        # A name that a person gave; that of a known one is a default, and says nothing.
        is_own = isinstance(own, str) and all(one.name != own for one in known)
        title = f"{f'{own}, ' * is_own}{count} classes, content {sha256[:8]}"
        return DataSet(sha256, next(names, title))
    for one in known:
        if one.name == str(run.get("data.name")) and _is_recorded_as(one, run):
            return DataSet(one.sha256, one.name)
    return DataSet(f"{_RECORDED}{classes}", f"{count} classes, content not recorded")


def columns(runs: pd.DataFrame, known: Sequence[KnownData]) -> pd.DataFrame:
    """`of` of each run: `data` is the identity and `data_set` the title; `same_data` is False where
    the run is on other images than the most of these runs, of equals the first."""
    keys = runs.reindex(columns=_COLUMNS)
    # Few runs differ in any of it: a look at each row would take as long as reading it.
    numbers = keys.groupby(_COLUMNS, sort=False, dropna=False).ngroup().to_numpy()
    first = keys.loc[~pd.Series(numbers, index=keys.index).duplicated()]
    found = [
        of({str(key): value for key, value in row.items()}, known) for _, row in first.iterrows()
    ]
    rows = [found[number] for number in numbers]
    table = pd.DataFrame(rows, columns=["data", "data_set"], index=runs.index)
    told = table["data"][table["data"] != ""]
    most = told.value_counts(sort=False).idxmax() if len(told) else ""
    return table.assign(same_data=table["data"].isin(["", most]))


def class_count(classes: object, count: object = None) -> int:
    """How many classes a run had, by its record; 0 where it does not say."""
    if isinstance(count, int | float) and count > 0:
        return int(count)
    return len(parse(classes))


def same(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    """Whether the runs of two launches are of the same images, as far as they have results."""
    first, second = ({*runs["data"][runs["same_data"]]} - {""} for runs in (a, b))
    return first == second or not first or not second


def may_be(identity: str, sha256: str) -> bool:
    """Whether a run's data set may have this content; a run that recorded no hash may, as far as
    its record tells."""
    return identity in ("", sha256) or identity.startswith(_RECORDED)


def titles(runs: pd.DataFrame) -> str:
    """The data sets of the runs that have a result, else those that are configured."""
    known = [title for title in runs["data_set"].drop_duplicates() if title]
    return "; ".join(known or map(str, runs["data.name"].drop_duplicates()))


def notes(runs: pd.DataFrame) -> list[str]:
    """Of all runs of a report: for how many the data set is not told by a hash."""
    old = runs[runs["status"].notna() & runs["data_sha256"].isna()]
    if old.empty:
        return []
    return [
        f"{len(old)} of {int(runs['status'].notna().sum())} results are of a version that recorded "
        "no hash of the images: which data set they are of follows from the recorded data.name, "
        "class names and numbers of images."
    ]


def _is_recorded_as(known: KnownData, run: Mapping[str, Any]) -> bool:
    classes = run.get("classes")
    if parse(classes) != known.classes:
        return False
    expected = [known.train_images, known.test_images]
    for place, limit in enumerate((run.get("data.train_limit"), run.get("data.test_limit"))):
        if limit is not None and not pd.isna(limit):
            expected[place] = min(expected[place], int(limit))
    counted = [
        _number(run, "train_images") + _number(run, "val_images"),
        _number(run, "test_images"),
    ]
    return counted == expected


def _number(run: Mapping[str, Any], column: str) -> int:
    value = run.get(column)
    return 0 if value is None or pd.isna(value) else int(value)
