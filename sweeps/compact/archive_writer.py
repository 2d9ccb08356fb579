"""Parts: finished trials gathered into compact files, and put back.

A part is written whole, synced and read back before a file of its trials is removed; going back,
the folders are whole before the part is removed. So whoever kills this, at any instant, leaves each
trial in one form or in both, and the same command goes on.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from local_machine import clock, seal
from local_machine.errors import EXIT_IO, InputError, move_away
from local_machine.files import matching, read_file, set_aside, sync, unreadable, write_atomic
from local_machine.terminal import counted
from sweeps.compact import flat_tables
from sweeps.run import attempt_folder
from sweeps.spec.sweep import Trial
from sweeps.state import lease as leases
from sweeps.state.lease import CLAIM, Lease
from sweeps.state.lease_watch import Watch
from sweeps.state.trial_store import State, TrialStore
from trial_records import archive, trial_files
from trial_records import tables as trial_tables
from trial_records.config import fingerprint_of

# Files of so many bytes are held in memory, and on the disk twice, at a time.
PART_BYTES = 64 * 2**20
# Small as their files are, in memory a trial's tables take a third of a megabyte.
PART_TRIALS = 1000
# How often the folder may be removed before our lease is in it.
TRIES = 5
# What is gathered of a folder. Checkpoints stay where they are: moving them would save nothing.
SUFFIXES = (".json", ".parquet")

# The tables beside run.parquet, of which it has the digests.
_BESIDE = {
    trial_files.EPOCHS: trial_tables.EPOCHS_SCHEMA,
    trial_files.PREDICTIONS: trial_tables.PREDICTIONS_SCHEMA,
}
_FILE = pa.struct([("bytes", pa.binary()), ("mtime_ns", pa.int64())])


@dataclass(frozen=True)
class _Row:
    """One trial, read from its folder."""

    name: str
    run: pa.Table
    epochs: pa.Table | None
    stored: dict[str, pa.Table]  # of run.parquet and epochs.parquet all columns, of any task
    files: dict[str, tuple[bytes, int]]  # content, time of writing

    @property
    def contents(self) -> dict[str, bytes]:
        return {name: content for name, (content, _) in self.files.items()}

    @property
    def size(self) -> int:
        return sum(map(len, self.contents.values()))


@dataclass
class Gathered:
    """What became of a sweep's trials."""

    added: int = 0  # trials that were not in a compact file before
    compacted: int = 0  # that are now
    open: int = 0  # not done: left as they are
    damaged: dict[str, InputError] = field(default_factory=dict)  # done, and left as they are


@contextlib.contextmanager
def held(store: TrialStore) -> Iterator[Path]:
    """The folder of the sweep's compact files, for this process alone.

    Raises InputError where another process has it, OSError where it cannot be written.
    """
    folder = store.folder / archive.FOLDER
    for _ in range(TRIES):
        folder.mkdir(exist_ok=True)
        # Whoever had it before us removes the folder where nothing is left in it.
        with contextlib.suppress(FileNotFoundError):
            taken = leases.take(folder, Lease(1, 0, clock.now(), ""), store.liveness.is_alive)
            break
    else:
        raise InputError(f"{folder} is gone each time", "try again", exit_code=EXIT_IO)
    if taken is None:
        other = leases.read(folder)
        who = f"process {other.pid} on {other.host}" if other else "another process"
        raise InputError(
            f"{who} compacts {store.sweep} already",
            f"wait for it; where it is gone, remove its lease: rm {folder / CLAIM}",
        )
    try:
        for part in matching(folder, ".*.part"):
            part.unlink(missing_ok=True)  # of one that was killed
        with Watch(folder, taken):
            yield folder
    finally:
        leases.leave(folder, taken)
        with contextlib.suppress(OSError):
            folder.rmdir()


def gather(store: TrialStore, trials: Iterable[Trial], folder: Path) -> Gathered:
    """Compact what is done and no process holds, and remove the files that are compacted.

    Raises InputError where a compact file is damaged, OSError where the disk is full: what was
    begun then stands in both forms.
    """
    found = Gathered()
    known = archive.trials(store.folder)
    for part in archive.parts(store.folder):
        if not flat_tables.are_there(part):
            flat_tables.write(part, flat_tables.decoded(part, _contents(part)))
        _clear_leftovers(store.folder, part)
    waiting: list[_Row] = []
    size = 0
    trials = [trial for trial in trials if trial.name not in known]
    for standing in counted(store.standings(trials), len(trials), "gathered {} of {} trials"):
        path = store.folder_of(standing.trial)
        try:
            if standing.problem is not None:
                raise InputError(standing.problem, f"see python -m sweeps.status {store.sweep}")
            if standing.state is not State.DONE or path.is_symlink() or not _let_go(store, path):
                found.open += 1
                continue
            row = _read(path, standing.trial)
        except InputError as problem:
            found.damaged[standing.trial.name] = problem
            continue
        except OSError as error:
            found.damaged[standing.trial.name] = unreadable(path, error)
            continue
        if waiting and (size + row.size > PART_BYTES or len(waiting) == PART_TRIALS):
            _move(folder, waiting)
            waiting, size = [], 0
        waiting.append(row)
        size += row.size
        found.added += 1
    if waiting:
        _move(folder, waiting)
    found.compacted = len(known) + found.added
    return found


def _let_go(store: TrialStore, folder: Path) -> bool:
    """Whether no process holds the finished trial; leases of those that held it are removed."""
    lease = leases.read(folder)
    if lease is not None and store.liveness.is_alive(lease, folder):
        return False
    leases.clear(folder)
    attempt_folder.sweep_up(folder)
    return True


def _read(folder: Path, trial: Trial) -> _Row:
    """Raises InputError where a file is damaged: the folder then stays as it is."""
    names = [
        entry.name
        for entry in os.scandir(folder)
        if entry.name.endswith(SUFFIXES)
        and entry.name[0] != "."
        and entry.name != CLAIM
        and entry.is_file(follow_symlinks=False)
    ]
    files = {}
    for name in sorted(names):
        path = folder / name
        files[name] = read_file(path), path.stat().st_mtime_ns
    path = folder / trial_files.CONFIG
    if trial_files.CONFIG in files:
        values = trial_files.parse_values(path, files[trial_files.CONFIG][0])
        if fingerprint_of(values) != fingerprint_of(trial.task.content(trial.values)):
            raise trial_files.unusable(path, "is of another configuration")
    path = folder / trial_files.RUN
    if trial_files.RUN not in files:
        raise trial_files.unusable(path, "is not a regular file")
    run = trial_tables.checked(path, files[trial_files.RUN][0]).table
    trial_tables.check_run(path, run, trial.fingerprint)
    stored = {trial_files.RUN: run}
    # Of another task the small files alone are kept, which all else is read from.
    has_our_columns = trial_tables.is_of_trainer(run)
    run = trial_tables.conform(path, run, trial_tables.run_schema())
    tables = {}
    for name, schema in _BESIDE.items():
        if name in files:
            digest = run[trial_tables.DIGESTS[name]][0].as_py()
            table = trial_tables.checked(folder / name, files[name][0], digest=digest).table
            stored[name] = table
            if has_our_columns:
                tables[name] = trial_tables.conform(folder / name, table, schema)
    stored.pop(trial_files.PREDICTIONS, None)
    return _Row(trial.name, run, tables.get(trial_files.EPOCHS), stored, files)


def _stacked(tables: list[pa.Table], schema: pa.Schema) -> pa.Table:
    """The tables as one of the schema's columns, each of which may be empty."""
    nullable = pa.schema([one.with_nullable(True) for one in schema])
    return pa.concat_tables([nullable.empty_table(), *tables], promote_options="default")


def _move(folder: Path, rows: list[_Row]) -> None:
    """Write a part, see that it can be read, and only then remove what it holds."""
    table = _table(rows)
    content = _encoded(table)
    path = folder / archive.name_of(io.BytesIO(content))
    write_atomic(path, lambda file: file.write(content))
    back = archive.read(path)
    if path.read_bytes() != content or _encoded(back.cast(table.schema)) != content:
        aside = set_aside(path, "damaged")
        raise InputError(
            f"{aside} does not read back as it was written",
            f"nothing was removed; see to the disk, rm {aside}, then run the same command again",
            exit_code=EXIT_IO,
        )
    flat_tables.write(path, ((row.name, row.stored) for row in rows))
    # The file system makes each wait, but not for the other.
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(lambda row: _clear(folder.parent / row.name, row.contents), rows):
            pass


def _table(rows: list[_Row]) -> pa.Table:
    names = sorted({name for row in rows for name in row.files})
    counts = [None if row.epochs is None else row.epochs.num_rows for row in rows]
    epochs = _stacked(
        [row.epochs for row in rows if row.epochs is not None], trial_tables.EPOCHS_SCHEMA
    )
    ends, total = [0], 0
    for count in counts:
        total += count or 0
        ends.append(total)
    lists = pa.ListArray.from_arrays(
        pa.array(ends, pa.int32()),
        _structs(epochs),
        mask=pa.array([count is None for count in counts]),
    )
    files = [
        {
            name: dict(zip(("bytes", "mtime_ns"), pair, strict=True))
            for name, pair in row.files.items()
        }
        for row in rows
    ]
    kind = pa.struct([(name, _FILE) for name in names])
    return pa.table(
        {
            "trial": pa.array([row.name for row in rows]),
            "run": _structs(_stacked([row.run for row in rows], trial_tables.run_schema())),
            "epochs": lists,
            "files": pa.array(files, kind),
        }
    )


def _structs(table: pa.Table) -> pa.StructArray:
    columns = [column.combine_chunks() for column in table.columns]
    fields = [one.with_nullable(True) for one in table.schema]
    return pa.StructArray.from_arrays(columns, fields=fields)


def _encoded(table: pa.Table) -> bytes:
    blank = seal.BLANK * sum(_leaves(field.type) for field in table.schema)
    metadata = {"compact_version": str(archive.SCHEMA_VERSION), archive.DIGESTS: blank}
    content: bytes = trial_tables.encoded(table.combine_chunks(), metadata, "zstd").to_pybytes()
    return archive.digested(content, blank)


def _leaves(kind: pa.DataType) -> int:
    """How many columns a file has for it."""
    inner = [kind.field(i).type for i in range(kind.num_fields)]
    return sum(map(_leaves, inner)) if inner else 1


def _clear(folder: Path, files: dict[str, bytes]) -> None:
    """Remove the files that are still what was compacted, and the folder where nothing is left."""
    for name in sorted(files, key=lambda name: name != trial_files.RUN):
        path = folder / name
        with contextlib.suppress(FileNotFoundError):
            if path.read_bytes() == files[name]:
                path.unlink()
    _remove_parts(folder, files)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _remove_parts(folder: Path, names: Iterable[str]) -> None:
    """Remove what writers of these files left that were killed."""
    begins = tuple(f".{name}." for name in names)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in os.listdir(folder):  # noqa: PTH208
            if name.startswith(begins) and name.endswith(".part"):
                (folder / name).unlink(missing_ok=True)


def _clear_leftovers(sweep: Path, part: Path) -> None:
    """Remove what a command that was killed did not come to remove."""
    names = archive.read(part, ["trial"])["trial"].to_pylist()
    left = {name for name in names if _has_gathered(sweep / name)}
    if left:
        for name, contents in _contents(part):
            if name in left:
                _clear(sweep / name, contents)


def _has_gathered(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.rmdir()  # where nothing is left in it
    try:
        return any(path.name.endswith(SUFFIXES) for path in folder.iterdir())
    except OSError:
        return False


def _folders(part: Path) -> Iterator[tuple[str, dict[str, tuple[bytes, int]]]]:
    """Each trial of a part and its files: content, time of writing."""
    table = archive.read(part, ["trial", "files"])
    for batch in table.to_batches(max_chunksize=64):
        for row in batch.to_pylist():
            present = {name: file for name, file in row["files"].items() if _is_there(file)}
            files = {name: (file["bytes"], file["mtime_ns"]) for name, file in present.items()}
            yield row["trial"], files


def _contents(part: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Each trial of a part and its files' content."""
    for name, files in _folders(part):
        yield name, {file: content for file, (content, _) in files.items()}


def _is_there(file: dict[str, Any] | None) -> bool:
    return file is not None and file["bytes"] is not None


def put_back(store: TrialStore) -> int:
    """Write every compacted trial's folder as it was, then remove the compact files; how many.

    A file that was written since under the same name stays; the compacted one is put beside it.
    Raises as `gather` does.
    """
    count = 0
    for part in archive.parts(store.folder):
        for name, files in _folders(part):
            folder = store.folder / name
            try:
                # A link may lead out of the results folder.
                folder.mkdir(exist_ok=not folder.is_symlink())
            except FileExistsError:
                help_line = f"move it away: {move_away(folder)}"
                what = f"{folder} is not a folder"
                raise InputError(what, help_line, exit_code=EXIT_IO) from None
            _remove_parts(folder, files)
            # As a trial does it: whoever sees run.parquet sees all.
            for file in sorted(files, key=lambda file: file == trial_files.RUN):
                _restore(folder / file, *files[file])
            count += 1
        sync(store.folder)
        flat_tables.remove(part)
        part.unlink()
        sync(part.parent)
    return count


def _restore(path: Path, content: bytes, mtime_ns: int) -> None:
    if path.exists() and path.read_bytes() != content:
        path = path.with_name(f"{path.name}.compacted")
    if not path.exists():
        write_atomic(path, lambda file: file.write(content))
    os.utime(path, ns=(mtime_ns, mtime_ns))


def drop_checkpoints(store: TrialStore, *, really: bool) -> tuple[int, int]:
    """Remove the compacted trials' checkpoints, or only count them; how many, and their bytes."""
    count = size = 0
    for name in archive.trials(store.folder):
        path = store.folder / name / trial_files.CHECKPOINT
        if path.parent.is_symlink():
            continue  # it may lead out of the results folder
        try:
            bytes_ = path.stat().st_size
        except FileNotFoundError:
            continue
        count, size = count + 1, size + bytes_
        if really:
            path.unlink()
            with contextlib.suppress(OSError):
                path.parent.rmdir()
    return count, size
