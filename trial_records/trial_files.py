"""What a trial leaves on disk: file names and notes.

A trial's folder holds config.json and, until it is done, the folder of an attempt with metrics.log
(log.py) and checkpoint.pt. When it is done it holds epochs.parquet (a row an epoch), checkpoint.pt,
predictions.parquet (a row a test image) and, moved there last of all, run.parquet (one row). A
failed attempt leaves failure.json. Of a compacted trial these are read
from the sweep's compact files (compact.py), as if they were in its folder. tables.py has what is
in the Parquet files. Imports neither torch nor pyarrow, which takes a quarter of a second.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from local_machine.errors import EXIT_IO, InputError, move_away
from local_machine.files import read_file
from local_machine.json_files import parse_json, read_json, write_sealed_json
from local_machine.secrets import masked
from trial_records import archive

SCHEMA_VERSION = 1

CONFIG = "config.json"
EPOCHS = "epochs.parquet"
CHECKPOINT = "checkpoint.pt"
PREDICTIONS = "predictions.parquet"
RUN = "run.parquet"
FAILURE = "failure.json"
LOG = "metrics.log"
# An attempt writes in TRIAL/attempt-TOKEN/files, and moves from there what is to count.
ATTEMPT, FILES = "attempt-", "files"
# Written by a search that wants no more of the trial: its attempt stops when it sees the file.
PRUNED = "pruned.json"

Cause = Literal["OUT_OF_MEMORY", "NONFINITE", "TIMEOUT", "NODE_FAILURE", "NCCL", "DATA", "ERROR"]

# How many workers the launcher put on the process's GPU, as it tells them; unset is one.
PER_GPU = "SWEEPS_PER_GPU"


def content(path: Path) -> bytes:
    """A file of a trial, wherever it is. Raises as `read_file` does."""
    try:
        return read_file(path)
    except FileNotFoundError:
        found = archive.content(path)
        # Where it was taken out of a compact file while we looked, it is in the folder again.
        return read_file(path) if found is None else found


def read_values(folder: Path) -> dict[str, Any]:
    """A trial's config.json as it was stored, by whatever version. Raises InputError where it is
    damaged or cannot be read, FileNotFoundError where there is none."""
    path = folder / CONFIG
    return parse_values(path, content(path))


def parse_values(path: Path, content: bytes) -> dict[str, Any]:
    """As `read_values`, of a file's content."""
    values = parse_json(path, content)
    if not isinstance(values, dict):
        raise InputError(
            f"{path} is damaged: it does not hold fields", f"move it away: {move_away(path)}",
            exit_code=EXIT_IO,
        )  # fmt: skip
    return values


def unusable(path: Path, what: str) -> InputError:
    """For a file of a trial without which the trial's folder is worth nothing."""
    return InputError(
        f"{path} {what}",
        "it was left in place; move its trial's folder away and launch again: "
        + move_away(path.parent),
        exit_code=EXIT_IO,
    )


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed, as failure.json holds it."""

    cause: str  # a Cause; a later version may know more of them
    exception: str
    traceback: str
    log_tail: list[str]
    attempt: int
    failed_at: float  # seconds since 1970, the clock of `host`
    host: str
    epoch: int | None = None  # from 0, where the cause has one
    origin: dict[str, Any] | None = None  # local_machine.origin's of the attempt
    launches: list[float] = field(default_factory=list)  # whose attempts failed; 0.1 has none
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        """What was recorded before secrets were masked is shown without them too."""
        for name in ("exception", "traceback"):
            object.__setattr__(self, name, masked(getattr(self, name)))
        if self.log_tail:
            tail = masked("\n".join(self.log_tail)).split("\n")
            object.__setattr__(self, "log_tail", tail)

    def write(self, folder: Path) -> None:
        write_sealed_json(folder / FAILURE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Failure | None:
        """None where the folder has none. Raises InputError for a damaged file."""
        return read_note(cls, folder / FAILURE)


@dataclass(frozen=True)
class Pruned:
    """Why a trial was stopped early, as pruned.json holds it."""

    search: str  # the id of the search that wanted no more of it
    number: int  # Optuna's, of the trial
    epoch: int  # from 0: the last one that was looked at
    pruned_at: float  # seconds since 1970
    launches: list[float] = field(default_factory=list)  # whose attempt was pruned; 0.1 has none
    schema_version: int = SCHEMA_VERSION

    def write(self, folder: Path) -> None:
        write_sealed_json(folder / PRUNED, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Pruned | None:
        """None where the folder has none. Raises InputError for a damaged file."""
        return read_note(cls, folder / PRUNED)


Note = TypeVar("Note", Failure, Pruned)
_Kind = TypeVar("_Kind")


def read_note(kind: type[_Kind], path: Path) -> _Kind | None:
    """A record of this version, a dataclass; None where there is none. Raises InputError for a
    damaged file."""
    try:
        values = read_json(path)
    except FileNotFoundError:
        return None
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{path} is not a record of version {SCHEMA_VERSION}: {where}: {first['msg']}",
            f"move it away: {move_away(path)}",
            exit_code=EXIT_IO,
        ) from None
