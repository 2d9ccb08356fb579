"""Records: the Parquet files of many trials, stacked into one frame of runs and one of epochs.

They are read from the trials' folders and from compact files alike. What cannot be read is left in
place and told.
"""

from __future__ import annotations

import functools
import gc
import multiprocessing
import os
from collections.abc import Container, Iterable
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from analysis.data.files_read import once
from local_machine.errors import InputError
from local_machine.files import read_file
from trial_records import archive, rows
from trial_records import tables as trial_tables
from trial_records.metrics import OBJECTIVE, STEPS
from trial_records.tables import DIGESTS, EPOCHS_SCHEMA, Checked
from trial_records.tables import run_schema as full_run_schema
from trial_records.trial_files import EPOCHS, RUN

# Trials whose files one process reads at a time: enough of them that sending the answer back is
# nothing beside reading, and under twice as many a second process would cost more than it saves.
_BATCH = 500

_SHOWN = {
    "fingerprint", "status", "objective", *OBJECTIVE, "best_epoch", "epochs_run", "stopped_early",
    "train_accuracy", "train_accuracy_clean", "val_accuracy", "val_accuracy_last", "val_loss",
    "test_accuracy", "top_1", "top_3", "top_5",
    "train_images", "val_images", "test_images", "split_sha256",
    "classes", "num_classes", "data_sha256", "data_mean", "data_std",
    "parameters", "seconds", "flops_per_image", "flops_per_second", "peak_flops_per_second",
    "precision_used", "step_used", "device", "world_size", "evaluated_on", "evaluated_precision",
    "device_share", "command", "git_commit", "git_dirty", "code_sha256", "torch_version",
    "python_version", "attempts", "finished_at", "shared_from", "row_sha256",
    *DIGESTS.values(),
}  # fmt: skip


_LOGGED = ["trial", "at", "by", "metric", "value"]


@dataclass(frozen=True)
class Records:
    """Of some trials: `runs` has a row a trial that has a run.parquet, `epochs` a row an epoch of
    any that began, both with the column `trial`, in the trials' order; `unread` names those whose
    run.parquet is damaged, `undigested` those that have a file with no digest of its values.

    Of a trial of another task than the trainer there are no `epochs` but `logged`: a row for each
    number in a row that it logged, with `trial`, `at` (the row's step, epoch or place from 0),
    `by` (which of the three `at` is), `metric` and `value`. Of one of the trainer they are of the
    metrics of a person's own."""

    runs: pd.DataFrame
    epochs: pd.DataFrame
    logged: pd.DataFrame
    unread: set[str]
    undigested: set[str]


def read(
    folder: Path,
    trials: list[str],
    parts: list[Path],
    problems: list[InputError],
    others: Container[str] = frozenset(),
    judged: Container[str] = frozenset(),
) -> Records:
    """The records of the trials of a sweep's folder, `parts` being its compact files, `others`
    the trials of other tasks than the trainer and `judged` those of the trainer that log metrics of
    a person's own, too. What is damaged of a trial's own files is added to
    the problems.

    Raises InputError where a compact file is damaged, FileNotFoundError where one is gone.
    """
    packed = _read_compact(parts, set(trials))
    loose = [name for name in trials if name not in packed.names]
    runs = _read_all(folder, loose, RUN, run_schema(), {}, problems)
    said: dict[Any, str] = runs.frame.set_index("trial")[DIGESTS[EPOCHS]].dropna().to_dict()
    ours = [name for name in loose if name not in others]
    epochs = _read_all(folder, ours, EPOCHS, EPOCHS_SCHEMA, said, problems)
    logged = [
        one
        for name in trials
        if name in others or name in judged
        for one in _logged(folder / name, said.get(name), problems)
        if name in others or one.metric not in EPOCHS_SCHEMA.names
    ]
    return Records(
        _stack(runs.frame.drop(columns=DIGESTS[EPOCHS]), packed.runs, trials),
        _stack(epochs.frame, packed.epochs, trials),
        _stacked(logged),
        runs.unread,
        runs.undigested | epochs.undigested | packed.undigested,
    )


@functools.cache
def run_schema() -> pa.Schema:
    """The outcome columns of run.parquet that a report shows. The configuration's come from the
    plan, which has them for trials that never ran too: half the columns are half the time to read
    10,000 files. The digest of the epochs is for reading them.
    """
    return pa.schema([field for field in full_run_schema() if field.name in _SHOWN])


@dataclass(frozen=True)
class _Metric:
    """The numbers under one name that a trial logged, in `value`; the rest as in
    `Records.logged`."""

    trial: str
    by: str
    metric: str
    at: NDArray[np.float64]
    value: NDArray[np.float64]


def _logged(folder: Path, digest: str | None, problems: list[InputError]) -> list[_Metric]:
    """What one trial logged."""
    try:
        if digest is None:
            return _metrics(folder, _unfinished(folder) or trial_tables.read_epochs(folder))
        return once(
            (folder, digest),
            [folder / EPOCHS],
            lambda: _metrics(folder, trial_tables.read_epochs(folder, digest)),
        )
    except FileNotFoundError:
        return []
    except InputError as problem:
        problems.append(problem)
        return []


def _metrics(folder: Path, table: pa.Table) -> list[_Metric]:
    by = next((one for one in reversed(STEPS) if _is_number(table, one)), "row")
    places = table[by].to_numpy() if by in table.column_names else np.arange(table.num_rows)
    at = np.asarray(places, float)
    found = []
    for name in table.column_names:
        if name in STEPS or not _is_number(table, name):
            continue
        given = table[name].is_valid().to_numpy()
        value = np.asarray(table[name].to_numpy(), float)
        found.append(_Metric(folder.name, by, name, at[given], value[given]))
    return found


def _stacked(found: list[_Metric]) -> pd.DataFrame:
    """As `Records.logged`. In one piece: a frame for each metric of each trial takes longer than
    reading them."""
    rows = [len(one.at) for one in found]
    words = {
        name: _repeated([getattr(one, name) for one in found], rows)
        for name in ("trial", "by", "metric")
    }
    numbers = {
        name: np.concatenate([np.empty(0), *(getattr(one, name) for one in found)])
        for name in ("at", "value")
    }
    return pd.DataFrame(words | numbers, columns=_LOGGED)


def _repeated(words: list[str], times: list[int]) -> pd.Series[Any]:
    return pd.Series(np.repeat(np.array(words, object), times), dtype=object)


def _is_number(table: pa.Table, name: str) -> bool:
    if name not in table.column_names:
        return False
    kind = table.schema.field(name).type
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _read_one(path: Path, schema: pa.Schema, digest: str | None) -> Checked | InputError | None:
    """The file's columns that `schema` has; None where there is no file."""
    try:
        if path.name == EPOCHS and digest is None:
            table = _unfinished(path.parent)
            if table is not None:
                return Checked(trial_tables.conform(path, table, schema), True)
            return _checked(path, schema, None)
        if digest is not None and not path.exists():
            # Its run has it: NFS may not know yet that it was put back from a compact file.
            archive.look_anew(path.parent.parent, path.parent)
        return once((path, digest), [path], lambda: _checked(path, schema, digest))
    except FileNotFoundError:
        return None
    except InputError as problem:
        return problem


def _checked(path: Path, schema: pa.Schema, digest: str | None) -> Checked:
    found = trial_tables.checked(path, read_file(path), schema.names, digest)
    if path.name == RUN:
        trial_tables.check_is_one_row(path, found.table)
    return replace(found, table=trial_tables.conform(path, found.table, schema))


def _unfinished(folder: Path) -> pa.Table | None:
    """The rows of the log of a trial that is not done; None for no log."""
    if not rows.attempt_files(folder) or (folder / RUN).exists():
        return None
    found = [row.values for row in rows.read(folder)]
    return trial_tables.rows_table(found) if found else None


@dataclass(frozen=True)
class _Batch:
    """One file of some trials: all rows in one piece, how many are each trial's (None where it has
    no such file), those without a digest, and what could not be read."""

    table: pa.Table
    rows: list[int | None]
    undigested: list[int]
    problems: dict[int, InputError]


def _read_batch(paths: list[str], digests: list[str | None], schema: pa.Schema) -> _Batch:
    pairs = zip(paths, digests, strict=True)
    answers = [_read_one(Path(path), schema, digest) for path, digest in pairs]
    read = {i: answer for i, answer in enumerate(answers) if isinstance(answer, Checked)}
    return _Batch(
        pa.concat_tables(
            [schema.empty_table(), *(one.table for one in read.values())]
        ).combine_chunks(),
        [read[i].table.num_rows if i in read else None for i in range(len(paths))],
        [i for i, one in read.items() if not one.by_digest],
        {i: answer for i, answer in enumerate(answers) if isinstance(answer, InputError)},
    )


def _readers(trials: int) -> Executor | None:
    """Processes to read so many trials; None where this one does as well alone.

    Processes and not threads: opening and decoding 20,000 small files is allocating and freeing,
    for which threads wait for one another. They are forked, since importing pandas again would
    take as long as reading 1,000 trials; what they were born with is not theirs to collect.
    """
    workers = min(len(os.sched_getaffinity(0)), trials // _BATCH)
    if workers < 2:
        return None
    return ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), initializer=gc.disable)


@dataclass(frozen=True)
class _Compact:
    """What compact files hold of some trials: who they are, and frames as `_read_all` makes."""

    names: set[str]
    runs: pd.DataFrame
    epochs: pd.DataFrame
    undigested: set[str]


def _read_compact(parts: list[Path], trials: Container[str]) -> _Compact:
    """Each trial once. Raises as `archive.read` does."""
    names: list[str] = []
    runs, epochs, counts = [run_schema().empty_table()], [EPOCHS_SCHEMA.empty_table()], []
    columns = ["trial", *(f"run.{name}" for name in run_schema().names)]
    columns += [f"epochs.list.element.{name}" for name in EPOCHS_SCHEMA.names]
    seen: set[str] = set()
    undigested: set[str] = set()
    for part in parts:
        table = archive.read(part, columns)
        owners = table["trial"].to_pylist()
        kept = [row for row, name in enumerate(owners) if name in trials and name not in seen]
        if len(kept) < len(owners):
            table = table.take(pa.array(kept, pa.int64()))
            owners = [owners[row] for row in kept]
        names += owners
        seen.update(owners)
        if not archive.has_digests(table):
            undigested.update(owners)
        lists = table["epochs"].combine_chunks()
        counts.append(lists.value_lengths())
        runs.append(pa.Table.from_struct_array(table["run"].combine_chunks()))
        epochs.append(pa.Table.from_struct_array(lists.flatten()))
    rows = pa.chunked_array(counts, pa.int32())
    has_epochs = rows.is_valid().to_numpy()
    with_epochs = [name for name, has in zip(names, has_epochs, strict=True) if has]
    stacked = _joined(runs).drop_columns([DIGESTS[EPOCHS]])
    return _Compact(
        seen,
        _owned(stacked, names, np.ones(len(names), int)),
        _owned(_joined(epochs), with_epochs, rows.drop_null().to_numpy()),
        undigested,
    )


def _joined(tables: list[pa.Table]) -> pa.Table:
    """The tables of one schema, the first one's, or less of it."""
    return pa.concat_tables(tables, promote_options="default").select(tables[0].column_names)


def _owned(table: pa.Table, owners: list[str], rows: NDArray[Any]) -> pd.DataFrame:
    """The table with the column `trial`: each owner's, in turn, are so many rows."""
    frame: pd.DataFrame = table.to_pandas()
    codes = np.repeat(np.arange(len(owners)), rows)
    trial = pd.Categorical.from_codes(codes, pd.Index(owners, dtype=object))
    frame.insert(0, "trial", pd.Series(trial))
    return frame


def _stack(loose: pd.DataFrame, packed: pd.DataFrame, trials: Iterable[str]) -> pd.DataFrame:
    """Both, in the order of the trials, as if all had been read from folders."""
    if not len(packed["trial"].cat.categories):
        return loose
    owners = {*loose["trial"].cat.categories, *packed["trial"].cat.categories}
    order = pd.Index([name for name in trials if name in owners], dtype=object)
    # Not astype: for pandas two orders of the same categories are one type.
    both = [
        frame.assign(trial=frame["trial"].cat.set_categories(order)) for frame in (loose, packed)
    ]
    filled = [frame for frame in both if len(frame)]
    frame: pd.DataFrame = (filled or both)[0]
    if len(filled) > 1:
        frame = pd.concat(filled, ignore_index=True)
    codes = frame["trial"].cat.codes.to_numpy()
    if (codes[1:] < codes[:-1]).any():
        frame = frame.iloc[np.argsort(codes, kind="stable")].reset_index(drop=True)
    return frame


@dataclass(frozen=True)
class _Stacked:
    """One file of many trials, with the column `trial`; and the trials whose file could not be
    read, or has no digest."""

    frame: pd.DataFrame
    unread: set[str]
    undigested: set[str]


def _read_all(
    folder: Path,
    names: list[str],
    file: str,
    schema: pa.Schema,
    digests: dict[Any, str],
    problems: list[InputError],
) -> _Stacked:
    """One file of every trial, stacked; `digests` are those that its values must have.

    One ParquetFile a trial, not one pyarrow.dataset over them: measured on 1,000
    one-row files that takes half the processor time and a fraction of the memory (the dataset
    keeps every footer), and tells at once which file is damaged.
    """
    paths = [f"{folder}/{name}/{file}" for name in names]
    wanted = [digests.get(name) for name in names]
    starts = range(0, len(paths), _BATCH)
    slices = [paths[i : i + _BATCH] for i in starts], [wanted[i : i + _BATCH] for i in starts]
    readers = _readers(len(names))
    if readers is None:
        batches = list(map(_read_batch, *slices, [schema] * len(starts)))
    else:
        with readers:
            batches = list(readers.map(_read_batch, *slices, [schema] * len(starts)))
    counts = [count for batch in batches for count in batch.rows]
    owners = [name for name, count in zip(names, counts, strict=True) if count is not None]
    unread, undigested = set(), set()
    for start, batch in zip(starts, batches, strict=True):
        undigested |= {names[start + i] for i in batch.undigested}
        unread |= {names[start + i] for i in batch.problems}
        problems += batch.problems.values()
    table = pa.concat_tables([schema.empty_table(), *(b.table for b in batches)])
    rows = np.array([count for count in counts if count is not None], int)
    return _Stacked(_owned(table, owners, rows), unread, undigested)
