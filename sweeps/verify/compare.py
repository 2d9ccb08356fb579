"""Compares the records of two runs of one trial: each row that was logged, the final metrics, the
predictions.

Values are equal where their bits are. Where another device or library made them, or a GPU, whose
sums come in any order, real numbers may differ by a tolerance: a part of the largest value that
their column has in the record. Then whole numbers, such as the best epoch, and single predictions
follow from that noise, and are not asked.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from trial_records import tables
from trial_records.columns import TASK_RUN_SCHEMA
from trial_records.metrics import NAMED
from trial_records.trial_files import EPOCHS, PREDICTIONS, RUN
from trial_records.verified import Difference, Outcome

# Of the columns that every run has, those that say how it ended.
_METRICS = {"status", "objective", "objective_metric", "objective_direction", "objective_reduction"}
# The others say whose it is, where it comes from, and what its files' digests are.
_PROVENANCE = frozenset(TASK_RUN_SCHEMA.names) - _METRICS - {"seed"}
# What the columns of any task that come from a metric begin with.
_OF_METRIC = ("best.", "last.", "final.")


# Of a value that is shown, in characters.
LONGEST = 200


@dataclass(frozen=True)
class Records:
    """What a finished trial left, by file: its tables without the columns that say whose they
    are."""

    files: Mapping[str, pa.Table]

    @classmethod
    def read(cls, folder: Path) -> Records:
        """Raises InputError where a file is damaged, FileNotFoundError where one is gone."""
        run = tables.read_table(folder / RUN)
        files = {}
        for name, column in tables.DIGESTS.items():
            digest = run[column][0].as_py() if column in run.column_names else None
            try:
                files[name] = tables.read_table(folder / name, digest=digest)
            except FileNotFoundError:
                if name == EPOCHS or digest is not None:
                    raise
        # Rows first: they say where two runs part.
        files = {EPOCHS: files.pop(EPOCHS), RUN: run, **files}
        return cls(
            {name: table.drop_columns(_there(table, NAMED)) for name, table in files.items()}
        )

    @property
    def run(self) -> dict[str, Any]:
        row: dict[str, Any] = self.files[RUN].to_pylist()[0]
        return row


def _there(table: pa.Table, names: Collection[str]) -> list[str]:
    return [name for name in table.column_names if name in names]


@dataclass(frozen=True)
class Compared:
    outcome: Outcome
    difference: Difference | None
    """The first one: of those beyond the tolerance, where there is one."""
    largest: float
    """The largest difference of two real numbers, as a part of the largest value of their column;
    infinite where one of the two is not finite."""
    columns: int
    left_out: list[str]


def compare(
    recorded: Records,
    rerun: Records,
    timings: Collection[str],
    tolerance: float | None,
    *,
    is_same_code: bool,
) -> Compared:
    """`timings` are the task's own; without a tolerance, bits decide."""
    every: list[Difference] = []
    beyond: list[Difference] = []
    columns, left_out = 0, []
    largest = 0.0
    for file, table in recorded.files.items():
        other = rerun.files.get(file)
        if other is None:
            every.append(Difference(file, 0, "", "a file", "none", None))
            beyond.append(every[-1])
            continue
        names = []
        for name in table.column_names:
            if _is_timing(file, name, timings):
                left_out.append(f"{file}: {name}")
            elif file != RUN or name not in _PROVENANCE:
                names.append(name)
        columns += len(names)
        found = sorted(
            _of_table(file, table, other, names), key=lambda one: (one.row, names.index(one.column))
        )
        if is_same_code and (more := _more(file, table, other, timings)):
            found.append(Difference(file, 0, more[0], "no column", "a column", None))
        every += found
        beyond += [one for one in found if not _is_noise(one, table, other, tolerance)]
        largest = max([largest, *(one.share for one in found if one.share is not None)])
    outcome: Outcome = "equal" if not every else "close" if tolerance and not beyond else "differs"
    first = next(iter(beyond if tolerance else every), None) or next(iter(every), None)
    return Compared(outcome, first, largest, columns, left_out)


def _is_timing(file: str, name: str, timings: Collection[str]) -> bool:
    if file == RUN:
        name = next((name.removeprefix(one) for one in _OF_METRIC if name.startswith(one)), name)
    return name in timings


def _more(file: str, table: pa.Table, other: pa.Table, timings: Collection[str]) -> list[str]:
    """The columns that only the rerun has."""
    known = {*table.column_names, *(_PROVENANCE if file == RUN else ())}
    return [
        name
        for name in other.column_names
        if name not in known and not _is_timing(file, name, timings)
    ]


def _of_table(
    file: str, table: pa.Table, other: pa.Table, names: list[str]
) -> Iterator[Difference]:
    """What differs of these columns, and that rows are missing or too many."""
    if table.num_rows != other.num_rows and names:
        row = min(table.num_rows, other.num_rows)
        counts = f"{table.num_rows} rows", f"{other.num_rows} rows"
        yield Difference(file, row, names[0], *counts, None)
    for name in names:
        if name not in other.column_names:
            yield Difference(file, 0, name, "a column", "no column", None)
            continue
        values = table[name].to_pylist()
        scale = max((abs(one) for one in _numbers(values) if math.isfinite(one)), default=0.0)
        # Row by row, as far as both go.
        for row, (one, two) in enumerate(zip(values, other[name].to_pylist(), strict=False)):
            if not _is_same(one, two):
                share = _distance(one, two)
                if share is not None:
                    share = share / scale if scale else math.inf
                yield Difference(file, row, name, *_texts(one, two), share)


def _is_noise(one: Difference, table: pa.Table, other: pa.Table, tolerance: float | None) -> bool:
    if tolerance is None or one.share is None:
        return False
    kinds = (some.schema.field(one.column).type for some in (table, other))
    is_whole = all(pa.types.is_integer(kind) for kind in kinds)
    return one.file == PREDICTIONS or is_whole or one.share <= tolerance


def _is_same(one: Any, two: Any) -> bool:
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(_is_same, one, two))
    if isinstance(one, float) and isinstance(two, float):
        both_nan = math.isnan(one) and math.isnan(two)
        return both_nan or struct.pack("<d", one) == struct.pack("<d", two)
    return type(one) is type(two) and bool(one == two)


def _numbers(values: Any) -> Iterator[float]:
    """Also those in lists."""
    for one in values:
        if isinstance(one, list):
            yield from _numbers(one)
        elif _is_number(one):
            yield one


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _distance(one: Any, two: Any) -> float | None:
    """Between two numbers, or the largest between two lists of such; infinite where one is not
    finite; None for other values."""
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        found = [_distance(a, b) for a, b in zip(one, two, strict=True) if not _is_same(a, b)]
        return None if None in found else max((x for x in found if x is not None), default=None)
    if not _is_number(one) or not _is_number(two):
        return None
    distance = abs(float(one) - float(two))
    return distance if math.isfinite(distance) else math.inf


def _texts(one: Any, two: Any) -> tuple[str, str]:
    """Both as Python writes them, which tells each float from every other; of lists the first
    values that differ."""
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        place = next(n for n, (a, b) in enumerate(zip(one, two, strict=True)) if not _is_same(a, b))
        return f"{one[place]!r} (value {place})", f"{two[place]!r} (value {place})"
    return _text(one), _text(two)


def _text(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
