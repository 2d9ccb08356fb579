"""Flat tables: the runs and epochs of compacted trials, for programs of other people to read.

results/<sweep>/compact/<16 hex digits>/run.parquet and epochs.parquet

They stand beside the compact file from which they are made, and have the columns of the trials' own
files, so that one pattern, `results/**/run.parquet`, finds every trial. No command of the project
reads them. Where some are missing, the next `compact` makes them again.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from local_machine.files import write_atomic
from trial_records import tables
from trial_records.columns import NAMED_SCHEMA
from trial_records.metrics import NAMED
from trial_records.trial_files import EPOCHS, RUN

_FILES = (EPOCHS, RUN)


def folder_of(part: Path) -> Path:
    """Where the flat tables of a compact file lie."""
    return part.with_suffix("")


def are_there(part: Path) -> bool:
    return all((folder_of(part) / name).exists() for name in _FILES)


def write(part: Path, trials: Iterable[tuple[str, Mapping[str, pa.Table]]]) -> None:
    """Of the trials of a compact file, by their names, with their tables by file. Raises
    OSError."""
    found: dict[str, list[pa.Table]] = {name: [] for name in _FILES}
    for trial, stored in trials:
        run = stored[RUN].select([one for one in NAMED if one in stored[RUN].column_names])
        whose = {"sweep": part.parents[1].name, "trial": trial, **run.to_pylist()[0]}
        for name in found.keys() & stored.keys():
            found[name].append(_of({one: whose.get(one) for one in NAMED}, stored[name]))
    remove(part)
    folder = folder_of(part)
    folder.mkdir()
    for name, some in found.items():
        table = joined(some) if some else NAMED_SCHEMA.empty_table()
        content = tables.encoded(table, {}, "zstd")
        write_atomic(folder / name, lambda file, content=content: file.write(content))  # type: ignore[misc]


def decoded(
    part: Path, trials: Iterable[tuple[str, Mapping[str, bytes]]]
) -> Iterator[tuple[str, dict[str, pa.Table]]]:
    """What `write` needs, of trials with the content of their files. Raises InputError where one is
    damaged."""
    for trial, contents in trials:
        folder = part.parents[1] / trial
        given = [name for name in _FILES if name in contents]
        yield trial, {name: tables.checked(folder / name, contents[name]).table for name in given}


def remove(part: Path) -> None:
    """With what a writer left that was killed. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder_of(part))


def _of(whose: Mapping[str, str | None], table: pa.Table) -> pa.Table:
    """The table, which begins with the columns that say whose it is; files from before there were
    any lack them."""
    if table.column_names[: len(whose)] == [*whose]:
        return table
    rest = table.drop_columns([name for name in whose if name in table.column_names])
    named = [pa.repeat(pa.scalar(one, pa.string()), table.num_rows) for one in whose.values()]
    return pa.table([*named, *rest.columns], names=[*whose, *rest.column_names])


def joined(some: Sequence[pa.Table]) -> pa.Table:
    """All rows, with the columns of all; one that is a number here and a text there is a text."""
    kinds: dict[str, set[pa.DataType]] = {}
    for field in (field for table in some for field in table.schema):
        kinds.setdefault(field.name, set()).add(field.type)
    texts = {name for name, types in kinds.items() if not _go_together(types)}
    return pa.concat_tables([_as_texts(one, texts) for one in some], promote_options="permissive")


def _go_together(types: set[pa.DataType]) -> bool:
    try:
        empty = [pa.table([pa.array([], one)], names=["a"]) for one in types]
        pa.concat_tables(empty, promote_options="permissive")
    except pa.ArrowException:
        return False
    return True


def _as_texts(table: pa.Table, names: set[str]) -> pa.Table:
    for place, name in enumerate(table.column_names):
        if name in names:
            table = table.set_column(place, name, pc.cast(table[name], pa.string()))
    return table
