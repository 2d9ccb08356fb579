"""Exported: what a destination has of each trial, so that a second export adds only what is new.

DEST/.exported/SWEEP.json, sealed. It is written before trials grow, without them, and after: a
trial that the destination has and this does not was broken off, and is written again.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from analysis.export.trial import Point, Trial, digest
from local_machine.errors import EXIT_IO, InputError, move_away
from local_machine.json_files import read_json, write_sealed_json

FOLDER = ".exported"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Mark:
    """How much of a trial was exported."""

    rows: int
    digest: str
    """Of these rows."""
    end: str
    """As `Trial.end` was."""

    @classmethod
    def of(cls, trial: Trial, points: Sequence[Point]) -> Mark:
        return cls(len(points), digest(points), trial.end)

    @property
    def was_done(self) -> bool:
        return self.end.startswith("done")

    def begins(self, trial: Trial, points: Sequence[Point]) -> bool:
        """Whether the trial only grew since."""
        is_same_result = not self.was_done or self.end == trial.end
        return is_same_result and digest(points[: self.rows]) == self.digest


_MARKS = TypeAdapter(dict[str, Mark])


def read(dest: Path, sweep: str, tool: str) -> dict[str, Mark]:
    """The marks of a sweep's trials; empty where none was exported. Raises InputError where the
    file is damaged."""
    path = _path(dest, sweep, tool)
    try:
        return _MARKS.validate_python(read_json(path)["trials"])
    except FileNotFoundError:
        return {}
    except (ValidationError, KeyError, TypeError):
        raise InputError(
            f"{path} is not a record of an export",
            f"move it away, and everything is exported again: {move_away(path)}",
            exit_code=EXIT_IO,
        ) from None


def write(dest: Path, sweep: str, tool: str, marks: Mapping[str, Mark]) -> None:
    """Raises OSError."""
    value = {
        "schema_version": SCHEMA_VERSION,
        "trials": {name: asdict(mark) for name, mark in marks.items()},
    }
    path = _path(dest, sweep, tool)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_sealed_json(path, value)


def _path(dest: Path, sweep: str, tool: str) -> Path:
    return dest / FOLDER / tool / f"{sweep}.json"


@contextlib.contextmanager
def held(dest: Path) -> Iterator[None]:
    """The destination for this process alone. Raises InputError where another process has it."""
    folder = dest / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another process exports into {dest}", "wait for it, or give another folder"
            ) from None
        except OSError:
            pass  # a file system without locks
        yield
