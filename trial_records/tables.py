"""A trial's Parquet files: how they are written, and carefully read.

Their columns are in columns.py; their names, and where each stands in a trial's life, in
trial_files.py. Imports no torch.

Parquet has checksums of pages, and none of page headers or of the footer. So each file has a seal,
which verifies all of its bytes, and a digest of its values (values.py), which another program's
rewrite of them keeps: run.parquet has the digests of all three files as columns, and the
other two have their own in their metadata. Whoever reads a file gets what one of them verifies, or
an InputError. Files from before there were digests are read by their pages' checksums alone.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from local_machine import seal
from local_machine.errors import EXIT_IO, InputError, printable
from local_machine.files import write_atomic
from trial_records import values
from trial_records.columns import EPOCHS_SCHEMA as EPOCHS_SCHEMA
from trial_records.columns import NAMED_SCHEMA, VERSION, by_value, predictions_schema
from trial_records.columns import PREDICTIONS_SCHEMA as PREDICTIONS_SCHEMA
from trial_records.columns import TASK_RUN_SCHEMA as TASK_RUN_SCHEMA
from trial_records.columns import run_schema as run_schema
from trial_records.config import TRAINER
from trial_records.metrics import NAMED, STEPS
from trial_records.trial_files import EPOCHS, PREDICTIONS, RUN, SCHEMA_VERSION, content, unusable

# Names in a file's metadata. Behind the last one, Parquet has two bytes: text, of 64 characters.
_VALUES = b"values_sha256"
_SEAL = b"file_sha256"
_MARKER = _SEAL + b"\x18\x40"

# The column of run.parquet with the digest of each file's values.
OF_ROW = "row_sha256"
DIGESTS = {EPOCHS: "epochs_sha256", PREDICTIONS: "predictions_sha256"}


def write_table(
    path: Path,
    rows: Iterable[Mapping[str, Any]] | pa.Table,
    schema: pa.Schema,
    whose: Mapping[str, str] | None = None,
) -> str:
    """Write rows atomically as one Parquet file, whose first columns say whose they are
    (`metrics.whose`); the digest of its values, which is the same whosever they are: by it a report
    finds two trials of one result. Raises OSError; for a bad row, ValueError."""
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows), schema=schema)
    return _write_values(path, table.cast(schema), whose, schema.names)


def write_rows(
    path: Path, rows: Sequence[Mapping[str, Any]], whose: Mapping[str, str] | None = None
) -> str:
    """Write what any task logged: its steps, then its metrics, typed by their values. Else as
    `write_table`, also in what it raises."""
    return _write_values(path, rows_table(rows), whose)


def write_copy(path: Path, table: pa.Table, whose: Mapping[str, str]) -> str:
    """Write what the same file of an equal trial holds, as this trial's own. Else as
    `write_table`."""
    rest = table.drop_columns([name for name in NAMED if name in table.column_names])
    is_predictions = path.name == PREDICTIONS
    if is_of_trainer(table):
        # Another tool may have written it again, with other types.
        rest = conform(path, rest, PREDICTIONS_SCHEMA) if is_predictions else _epochs(path, rest)
    return _write_values(path, rest, whose, rest.column_names if is_predictions else None)


def rows_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """What a task logged, as a table: of EPOCHS_SCHEMA where its columns are just those."""
    names = dict.fromkeys(name for row in rows for name in row)
    if names.keys() == {*EPOCHS_SCHEMA.names} and all(len(row) == len(names) for row in rows):
        return pa.Table.from_pylist(list(rows), schema=EPOCHS_SCHEMA)
    ordered = [*(one for one in STEPS if one in names), *(one for one in names if one not in STEPS)]
    return pa.table(by_value(rows, ordered), names=ordered, metadata=VERSION)


def _write_values(
    path: Path,
    table: pa.Table,
    whose: Mapping[str, str] | None,
    covered: Sequence[str] | None = None,
) -> str:
    """The digest is of the columns covered, by default of all."""
    if whose is not None:
        named = [pa.array([whose[one.name]] * table.num_rows, one.type) for one in NAMED_SCHEMA]
        names = [*NAMED_SCHEMA.names, *table.column_names]
        metadata = table.schema.metadata
        table = pa.table([*named, *table.columns], names=names, metadata=metadata)
    digest = values.digest(table, covered or table.column_names)
    _write_sealed(path, table, {_VALUES: digest})
    return digest


def write_run(folder: Path, run: Mapping[str, Any]) -> dict[str, Any]:
    """Write a trial's run.parquet; its row, which now has its own digest. One that names no task is
    the trainer's. Raises as `write_table` does."""
    row = {"task": TRAINER, **run, OF_ROW: None}
    schema = run_schema() if row["task"] == TRAINER else TASK_RUN_SCHEMA
    more = [name for name in row if name not in schema.names]
    table = pa.Table.from_pylist([row], schema=schema)
    for name, column in zip(more, by_value([row], more), strict=True):
        table = table.append_column(name, column)
    digest = values.digest(table, [name for name in table.column_names if name != OF_ROW])
    place = table.schema.get_field_index(OF_ROW)
    table = table.set_column(place, table.schema.field(place), pa.array([digest]))
    _write_sealed(folder / RUN, table, {})
    written: dict[str, Any] = table.to_pylist()[0]
    return written


def _write_sealed(path: Path, table: pa.Table, metadata: Mapping[bytes, str]) -> None:
    # Of a few short columns compression saves nothing.
    more = {**(table.schema.metadata or {}), **metadata, _SEAL: seal.BLANK}
    file_content = seal.sealed(encoded(table, more, "none").to_pybytes(), _MARKER)
    write_atomic(path, lambda file: file.write(file_content))


def encoded(
    table: pa.Table, metadata: Mapping[Any, Any], compression: Literal["none", "zstd"]
) -> pa.Buffer:
    """The table as a Parquet file's content."""
    buffer = pa.BufferOutputStream()
    with pq.ParquetWriter(
        buffer,
        table.schema,
        compression=compression,
        # Arrow's own copy of the schema is half of a run.parquet: a report on 10,000 trials reads
        # it 10,000 times.
        store_schema=False,
        write_page_checksum=True,
        # They help files of many rows; here they would be most of the bytes, but where all rows
        # say the same.
        use_dictionary=[*NAMED] if table.num_rows > 1 and NAMED[0] in table.column_names else False,
        write_statistics=False,
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(metadata)
    return buffer.getvalue()


@dataclass(frozen=True)
class Checked:
    """What a file holds. `by_digest`: each value is what was written, by seal or digest; else the
    file is from before there were any, and only its pages' checksums speak for it."""

    table: pa.Table
    by_digest: bool


def read_table(
    path: Path, columns: Sequence[str] | None = None, digest: str | None = None
) -> pa.Table:
    """A Parquet file, or those of some columns that it has; `digest` is of the values that it must
    have, where the trial's run knows it. Raises InputError where the file is damaged or cannot be
    read, FileNotFoundError where there is none.

    The file is left in place.
    """
    return checked(path, content(path), columns, digest).table


def checked(
    path: Path, content: bytes, columns: Sequence[str] | None = None, digest: str | None = None
) -> Checked:
    """The table of a file's content, as `read_table` gives it, and what speaks for it. Raises
    InputError, which names the path, where it is damaged."""
    is_sealed = seal.holds(content, _MARKER)
    try:
        source = pa.BufferReader(content)
        # Threads and read-ahead cost more than a small file that is in memory already.
        with pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=False) as file:
            metadata = file.metadata.metadata or {}
            own = metadata.get(_VALUES, b"").decode() or None
            wanted = None if columns is None else list(columns)
            if is_sealed and digest in (None, own):
                return _checked(file.read(wanted, use_threads=False), metadata, True)
            names = file.schema_arrow.names
            if len(set(names)) < len(names):
                raise ValueError("it has two columns of one name")
            if is_sealed is None and digest is own is None and OF_ROW not in names:
                return _checked(file.read(wanted, use_threads=False), metadata, False)
            # The values have to tell: all of them.
            table = file.read(use_threads=False)
            if OF_ROW in names and table.num_rows == 1:
                own = table[OF_ROW][0].as_py()
            by_digest = _is_known(table, is_sealed, digest or own)
            shown = {*names} if columns is None else {*columns}
            if by_digest:
                shown &= {*values.covered(digest or own or ""), OF_ROW}
            table = table.select([one for one in names if one in shown])
            return _checked(table, metadata, by_digest)
    # Damaged content makes pyarrow raise anything: MemoryError, KeyError, OverflowError, ...
    except Exception as error:
        raise _damaged(path, error) from None


def _checked(table: pa.Table, metadata: Mapping[bytes, bytes], by_digest: bool) -> Checked:
    """What another program says of its table in the metadata is not ours to obey."""
    version = {key: text for key, text in metadata.items() if key in VERSION}
    return Checked(table.replace_schema_metadata(version or None), by_digest)


def _is_known(table: pa.Table, is_sealed: bool | None, digest: str | None) -> bool:
    """Whether the digest verifies the values of a file that is not as it was written, or that is
    not the one that its run speaks of. Raises ValueError where it says that they are others."""
    if digest is not None and not values.match(table, digest):
        raise ValueError("its values are not those that were written")
    if digest is None and is_sealed is False:
        raise ValueError("its bytes are not those that were written")
    return digest is not None


def _damaged(path: Path, error: Exception) -> InputError:
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return unusable(path, f"is damaged: {printable(first)}")


def read_epochs(folder: Path, digest: str | None = None) -> pa.Table:
    """A trial's epochs.parquet; `digest` is its run's, where it has one. Of the trainer's, the
    columns of EPOCHS_SCHEMA and its user's metrics; of another task's, what it logged. Raises as
    `read_table` does, also where the trainer's lacks accuracies or seconds, or has other types."""
    path = folder / EPOCHS
    table = read_table(path, digest=digest)
    if is_of_trainer(table):
        return _epochs(path, table, required=("val_accuracy", "seconds"))
    _check_version(path, table)
    return table.drop_columns([name for name in NAMED if name in table.column_names])


def _epochs(path: Path, table: pa.Table, required: Collection[str] = ()) -> pa.Table:
    """As `conform` to EPOCHS_SCHEMA, with the metrics of a person's own, which are floats."""
    more = [one for one in table.schema if pa.types.is_floating(one.type)]
    ours = [*EPOCHS_SCHEMA, *(one for one in more if one.name not in EPOCHS_SCHEMA.names)]
    return conform(path, table, pa.schema(ours, VERSION), required)


def is_of_trainer(table: pa.Table) -> bool:
    """Whether a trial's file says that it is of the project's trainer, or is from before files said
    that."""
    if "task" not in table.column_names:
        return True
    return table.num_rows > 0 and table["task"][0].as_py() in (None, TRAINER)


def read_predictions(folder: Path) -> pa.Table:
    """A trial's predictions.parquet, of the values that its run.parquet says, where it has one.
    Raises as `read_table` does, also where either has other columns than a trial writes."""
    path = folder / PREDICTIONS
    try:
        rows = read_table(folder / RUN, [DIGESTS[PREDICTIONS]]).to_pylist()
    except FileNotFoundError:
        rows = []
    digest = rows[0].get(DIGESTS[PREDICTIONS]) if rows else None
    table = read_table(path, digest=digest)
    ours = PREDICTIONS_SCHEMA if is_of_trainer(table) else predictions_schema(table.column_names)
    return conform(path, table, ours)


def read_run(
    folder: Path, fingerprint: str, columns: Sequence[str] | None = None
) -> dict[str, Any]:
    """The one row of a finished trial's run.parquet, or some of its columns, None where it does not
    have one; `fingerprint` must be among them.

    Raises as `read_table` does, also where it is of another version or of another configuration
    than the fingerprint's.
    """
    path = folder / RUN
    table = read_table(path, columns and [*{*columns, "task"}])
    check_run(path, table, fingerprint)
    schema = run_schema() if is_of_trainer(table) else TASK_RUN_SCHEMA
    ours = schema if columns is None else pa.schema([one for one in schema if one.name in columns])
    (row,), (stored,) = conform(path, table, ours).to_pylist(), table.to_pylist()
    found = {**dict.fromkeys(columns or ()), **stored, **row}
    return found if columns is None else {name: found[name] for name in columns}


def check_measured(path: Path, row: Mapping[str, Any], columns: Iterable[str]) -> None:
    """Raises InputError where the row of a run.parquet lacks a number that its reader needs."""
    for name in columns:
        if row[name] is None or not math.isfinite(row[name]):
            raise unusable(path, f"has no {name}")


def check_run(path: Path, table: pa.Table, fingerprint: str) -> None:
    """Raises InputError where a run.parquet is of another version or configuration, or not one
    row."""
    _check_version(path, table)
    check_is_one_row(path, table)
    known = "fingerprint" in table.column_names
    if not known or table["fingerprint"][0].as_py() != fingerprint:
        raise unusable(path, "is of another configuration than its folder's")


def check_is_one_row(path: Path, table: pa.Table) -> None:
    """Raises InputError where a run.parquet is not one row."""
    if table.num_rows != 1:
        raise unusable(path, f"is damaged: it has {table.num_rows} rows, not one")


def _check_version(path: Path, table: pa.Table) -> None:
    """Raises InputError where the table's metadata name another version than ours. Where they name
    none, as after a rewrite by pandas, its columns tell."""
    version = (table.schema.metadata or {}).get(b"schema_version")
    if version is not None and version != str(SCHEMA_VERSION).encode():
        said = printable(version.decode(errors="backslashreplace"))
        raise InputError(
            f"{path} has schema version {said}, this program reads {SCHEMA_VERSION}",
            "use the program's version that wrote it",
            exit_code=EXIT_IO,
        )


def conform(
    path: Path, table: pa.Table, schema: pa.Schema, required: Collection[str] = ()
) -> pa.Table:
    """The table as one of the schema: in its order and types, without other columns; one that came
    later is empty.

    Raises InputError where it is of another version, where a column that must have values has not,
    and where one has values that are not of the schema's type.
    """
    _check_version(path, table)
    if table.schema.equals(schema):
        return table
    columns = []
    given = dict(zip(table.column_names, table.columns, strict=True))
    for field in schema:
        if field.name in given:
            column = _as_type(path, field.name, given[field.name], field.type)
            lacks = not field.nullable and column.null_count
        else:
            column = pa.nulls(table.num_rows, field.type)
            lacks = not field.nullable or field.name in required
        if lacks:
            raise _other_columns(path, f"{field.name} is missing")
        columns.append(column)
    return pa.table(columns, schema=schema)


def _as_type(path: Path, name: str, column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """The column with values of the type, which a rewrite may have widened, or made a category of.
    Raises InputError where they are of another kind, or do not fit."""
    found = column.type
    if found == kind:
        return column
    try:
        if pa.types.is_dictionary(found):
            found = found.value_type
            column = column.cast(found)
        if pa.types.is_floating(found) and pa.types.is_integer(kind):
            column = pc.if_else(pc.is_nan(column), None, column)  # pandas' null
        if _sort(found) in (_sort(kind), "null"):
            return column.cast(kind)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise _other_columns(path, f"{name}: {str(error).partition(chr(10))[0]}") from None
    raise _other_columns(path, f"{name} is {found}, not {kind}")


def _sort(kind: pa.DataType) -> str:
    """What sort of values a type is of, whatever their width."""
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "number"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return f"list of {_sort(kind.value_type)}"
    return str(kind)


def _other_columns(path: Path, what: str) -> InputError:
    return unusable(
        path, f"does not hold the columns of version {SCHEMA_VERSION}: {printable(what)}"
    )
