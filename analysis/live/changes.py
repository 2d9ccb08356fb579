"""Changes: what tells one state of a results folder from the next, without reading a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from analysis.output.publish import MANIFEST
from local_machine.errors import InputError

# Below sweep, trial, attempt and its files no record lies.
_DEPTH = 5
# What jobs said, the code that they ran, the journals of searches; and, but of an attempt that has
# them still, a program's own files.
_NOT_READ = frozenset(("logs", "code", "searches", "files"))
# A checkpoint is not a record; a lease is touched every few seconds, and Standings reads it.
_UNREAD = ("checkpoint", "claim.", ".")

Stamp = tuple[int, int, int]


def stamps(results: Path) -> dict[str, Stamp]:
    """Inode, size and time of change of each file under the results folder that a report may be
    made from; other reports are left out. Raises InputError where there is no folder: what vanishes
    below it is a change like any other."""
    if not results.is_dir():
        raise InputError(f"there is no results folder {results}", "name it with --results DIR")
    return dict(_below(str(results), 1))


def _below(folder: str, depth: int) -> Iterator[tuple[str, Stamp]]:
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except OSError:
        return
    if any(entry.name == MANIFEST for entry in entries):
        return
    for entry in entries:
        try:
            if entry.is_dir(follow_symlinks=False):
                own = entry.name in _NOT_READ and not Path(folder).name.startswith("attempt-")
                if depth < _DEPTH and not own and not entry.name.startswith("."):
                    yield from _below(entry.path, depth + 1)
            elif not entry.name.startswith(_UNREAD):
                known = entry.stat()
                yield entry.path, (known.st_ino, known.st_size, known.st_mtime_ns)
        except OSError:
            continue
