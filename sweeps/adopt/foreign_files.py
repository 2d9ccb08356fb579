"""The files of foreign runs: looked for beneath one folder, and refused where they lead out of it,
are not regular or are too large."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from local_machine.errors import InputError, printable
from local_machine.files import matching, open_file, unreadable
from sweeps.command_task.metrics.kinds import is_in_folder

MOST_BYTES = 2**28
"""Of a file of metrics, which is held in memory."""
MOST_EVENT_BYTES = 2**32
"""Of a file of TensorBoard's, which may hold pictures, and is read event by event."""
MOST_CONFIG_BYTES = 2**22
_CHUNK = 2**20


def folders_of(root: Path, glob: str) -> list[Path]:
    """The folders of a folder that a pattern names, hidden ones only where it names them. Raises
    InputError for a pattern that leads out of the folder, and where the folder cannot be read."""
    check_glob("--runs", glob)
    hidden = any(part.startswith(".") for part in Path(glob).parts)
    try:
        if not root.is_dir():
            raise InputError(f"{root} is not a folder", "give the folder that has the runs in it")
        os.listdir(root)  # noqa: PTH208 - a glob is silent about what it cannot read
        found = [path for path in sorted(matching(root, glob)) if path.is_dir()]
    except OSError as error:
        raise unreadable(root, error) from None
    return [
        path
        for path in found
        if hidden or not any(part[0] == "." for part in path.relative_to(root).parts)
    ]


def check_glob(option: str, glob: str) -> None:
    """Raises InputError where a pattern could lead out of its folder, or is not a valid one."""
    if not is_in_folder(glob):
        raise InputError(
            f"{option} is {glob!r}, which is not a pattern of paths inside a folder",
            f"name what lies in it, with * for anything: {option} 'outputs/*/*'",
        )


def files_matching(folder: Path, glob: str) -> list[Path]:
    """Raises OSError."""
    return [path for path in sorted(matching(folder, glob)) if not path.is_dir()]


def check_inside(root: Path, path: Path) -> None:
    """Raises InputError where a path leads out of the folder of all runs, by a link."""
    inside = Path(os.path.realpath(root))
    if not Path(os.path.realpath(path)).is_relative_to(inside):
        raise InputError(
            f"{path} is a link that leads out of {root}",
            "copy what it leads to into the run's folder, if it is the run's own",
        )


def check_regular(path: Path, most: int) -> os.stat_result:
    """Raises InputError where it is not a regular file, cannot be read or is too large."""
    try:
        facts = path.stat()
    except OSError as error:
        raise unreadable(path, error) from None
    if not stat.S_ISREG(facts.st_mode):
        raise InputError(f"{path} is not a regular file", "name files by a narrower pattern")
    if facts.st_size > most:
        raise InputError(
            f"{path} has {facts.st_size >> 20} MiB, and at most {most >> 20} are read",
            "write fewer rows of it to another file, and name that",
        )
    return facts


def digests(folder: Path, paths: Iterable[Path]) -> dict[str, str]:
    """The SHA-256 of each file, by its path in the folder. Raises InputError."""
    found = {}
    for path in paths:
        digest = hashlib.sha256()
        try:
            with open_file(path) as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
        except OSError as error:
            raise unreadable(path, error) from None
        found[shown(path.relative_to(folder))] = digest.hexdigest()
    return found


def shown(path: Path) -> str:
    """A path as text that UTF-8 can hold."""
    return os.fsencode(path).decode(errors="backslashreplace")


def named(path: Path) -> str:
    """The same, for a person."""
    return printable(shown(path), keep="")
