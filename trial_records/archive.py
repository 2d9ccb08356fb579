"""Compact files: finished trials of a sweep, many in one Parquet file.

results/<sweep>/compact/<16 hex digits>.parquet

A row is a trial: `trial`, its folder's name; `run`, the row of its run.parquet; `epochs`, the rows
of its epochs.parquet; and `files`, every small file as it was, byte for byte. The first three are
for whoever reads thousands; `files` is what one trial is read from, and what undoing writes back.

A file is never changed, and is named by the SHA-256 of its own footer, which says where all else
lies and has no checksum of its own; it holds the SHA-256 of each column's bytes, so that what a
reader of some columns reads is verified, and no more. Files from before that have checksums of
their pages alone. A trial's files are here, in its folder, or,
while a command moves them, in both with the same content, and at no moment in neither. So whoever
looks for one looks in the folder, here, and then in the folder again.

`sweeps.compact` writes these. Imports no torch, and pyarrow only to read one.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from local_machine.errors import EXIT_IO, InputError, move_away, printable
from local_machine.files import open_regular
from trial_records.names import is_file_name, is_name

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1
FOLDER = "compact"
_MAGIC = b"PAR1"
# In the footer's metadata: 64 digits for each column of each row group, in their order.
DIGESTS = b"columns_sha256"
# What is large, and what few readers want of many trials: not kept in memory.
_LARGE = "predictions.parquet"


def name_of(file: BinaryIO) -> str:
    """The name that a compact file's content asks for. Raises ValueError where it has no footer."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 8))
    tail = file.read(8)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != _MAGIC or length + 12 > size:
        raise ValueError("it is cut short, or no Parquet file")
    file.seek(size - 8 - length)
    return f"{hashlib.sha256(file.read(length)).hexdigest()[:16]}.parquet"


def parts(sweep: Path) -> list[Path]:
    """The compact files of a sweep's folder, in no order that means anything."""
    try:
        with os.scandir(sweep / FOLDER) as entries:
            names = [
                entry.name
                for entry in entries
                if entry.name.endswith(".parquet") and entry.name[0] != "."
            ]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        _refuse(sweep / FOLDER, f"cannot be read: {error.strerror}")
    return [sweep / FOLDER / name for name in sorted(names)]


def digested(content: bytes, blank: bytes) -> bytes:
    """The content of a compact file, with the digests of its columns in the place of as many zeros,
    `blank`, in its footer."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(io.BytesIO(content)) as parquet:
        ranges = [slice(start, start + length) for _, start, length in _chunks(parquet.metadata)]
    digests = [hashlib.sha256(memoryview(content)[one]).hexdigest() for one in ranges]
    before, _, after = content.rpartition(blank)
    return before + "".join(digests).encode() + after


def has_digests(table: pa.Table) -> bool:
    """Whether what was read of a compact file was verified by digests."""
    return DIGESTS in (table.schema.metadata or {})


def _chunks(metadata: Any) -> Iterator[tuple[str, int, int]]:
    """Name, place and length of each column of each row group."""
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            yield chunk.path_in_schema, chunk.data_page_offset, chunk.total_compressed_size


def _verify(file: BinaryIO, metadata: Any, columns: Sequence[str] | None) -> None:
    """Raises ValueError where a column that is to be read is not what was written."""
    digests = (metadata.metadata or {}).get(DIGESTS)
    if digests is None:
        return
    for place, (name, start, length) in enumerate(_chunks(metadata)):
        if columns is None or any(f"{name}.".startswith(f"{one}.") for one in columns):
            file.seek(start)
            found = hashlib.sha256(file.read(length)).hexdigest()
            if found.encode() != digests[64 * place : 64 * place + 64]:
                raise ValueError(f"its column {name} is not what was written")


def _check_names(table: pa.Table) -> None:
    """Raises ValueError where a trial or a file has a name that leads out of the sweep's folder."""
    if "trial" in table.column_names:
        names = table["trial"].to_pylist()
        for name in names:
            if not isinstance(name, str) or not is_name(name):
                raise ValueError(f"{name!r} is not a valid name of a trial")
        if len(set(names)) < len(names):
            raise ValueError("it has a trial twice")
    if "files" in table.column_names:
        for field in table.schema.field("files").type:
            if not is_file_name(field.name):
                raise ValueError(f"{field.name!r} is not a valid name of a file")


def read(part: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Columns of a compact file, a row a trial; a nested one by its dotted name: `run.seed`.

    Those that it does not have are left out. Raises InputError where it is damaged or of another
    version, FileNotFoundError where it is gone: its trials are in their folders then.
    """
    # Where nothing is compacted, nobody waits for it.
    import pyarrow.parquet as pq

    try:
        with io.BufferedReader(open_regular(part)) as file:
            if name_of(file) != part.name:
                raise ValueError("its footer is not the one that it was written with")
            file.seek(0)
            with pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=False) as parquet:
                metadata = parquet.metadata.metadata or {}
                version = metadata.get(b"compact_version", b"none").decode()
                if version != str(SCHEMA_VERSION):
                    raise InputError(
                        f"{part} has version {printable(version)}, this program reads "
                        f"{SCHEMA_VERSION}",
                        "use the program's version that wrote it",
                        exit_code=EXIT_IO,
                    )
                _verify(file, parquet.metadata, columns)
                # A thread of pyarrow's that drops our file while Python ends aborts the process.
                table = parquet.read(
                    columns=None if columns is None else list(columns), use_threads=False
                )
                # The one thing that a reader of some columns would not notice.
                if table.num_rows != parquet.metadata.num_rows:
                    raise ValueError("rows are missing")
                _check_names(table)
                return table
    except (FileNotFoundError, InputError):
        raise
    # Damaged content makes pyarrow raise anything: MemoryError, KeyError, OverflowError, ...
    except Exception as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        said = text.partition("\n")[0] or type(error).__name__
        _refuse(part, f"is damaged: {printable(said)}")


def _refuse(path: Path, what: str) -> NoReturn:
    raise InputError(
        f"{path} {what}",
        "it may be all that there is of its trials: put it back from a backup or a snapshot; where "
        f"there is none, move it away, and a launch runs them again: {move_away(path)}",
        exit_code=EXIT_IO,
    )


# A part is never changed, so that what was read once stays true.
@functools.cache
def _rows(part: Path) -> dict[str, int]:
    """The row of each trial."""
    names = read(part, ["trial"])["trial"].to_pylist()
    return {name: row for row, name in enumerate(names)}


@functools.lru_cache(maxsize=64)
def _kept_column(part: Path, name: str) -> pa.Array | None:
    return _column(part, name)


def _column(part: Path, name: str) -> pa.Array | None:
    """The bytes of one file of every trial; None where no trial of the part has such a file."""
    # All of them where there is no such column would be the whole part.
    table = read(part, [f"files.{name}.bytes"])
    if not table.num_columns:
        return None
    files = table["files"].combine_chunks()
    return files.field(name).field("bytes")


def trials(sweep: Path) -> dict[str, Path]:
    """The compact file of each trial that is in one. Raises InputError where one is damaged."""
    while True:
        try:
            return {name: part for part in parts(sweep) for name in _rows(part)}
        except FileNotFoundError:
            continue  # undone meanwhile


def look_anew(sweep: Path, *trials: Path) -> None:
    """Have this machine ask the file server which compact files there are, and which files in the
    folders of these trials. For up to a minute NFS answers from what it knew before, unless it has
    just changed the folder itself."""
    for folder in (sweep, sweep / FOLDER, *trials):
        with contextlib.suppress(OSError):
            os.utime(folder)


def find(folder: Path) -> Path | None:
    """The compact file that holds the trial of this folder. Raises InputError where one is damaged
    and no other holds it: then nobody can tell."""
    while True:
        problem = None
        for part in parts(folder.parent):
            try:
                if folder.name in _rows(part):
                    return part
            except FileNotFoundError:
                break  # undone meanwhile: look again
            except InputError as error:
                problem = error
        else:
            if problem is not None:
                raise problem
            return None


def content(path: Path) -> bytes | None:
    """A file of a trial's folder, out of the sweep's compact files; None where they have none.

    Raises InputError as `find` does.
    """
    while True:
        part = find(path.parent)
        if part is None:
            return None
        column = _column if path.name == _LARGE else _kept_column
        try:
            found = column(part, path.name)
        except FileNotFoundError:
            continue  # undone meanwhile
        return None if found is None else found[_rows(part)[path.parent.name]].as_py()
