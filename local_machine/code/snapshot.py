"""The code snapshot that this process runs from, if it runs from one.

Whoever unpacked it (sweeps/code/bootstrap.py) names its folder in SWEEPS_SNAPSHOT. A reference into
the project that was captured, such as `/home/me/project/train.py:train`, is one into the snapshot
here; what is written down names the project, so that a name stays what it was.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from local_machine.errors import EXIT_IO, InputError
from local_machine.files import read_file

VARIABLE = "SWEEPS_SNAPSHOT"
OUTSIDE = ".outside"
"""The folder of a snapshot with captured files that lie outside of the project, by whole paths."""
# How programs say that they miss something: as Python does, as the interpreter does of its script,
# and as a shell and C do.
_MISSED_FILE = re.compile(
    r"No such file or directory: ['\"](?P<a>.+)['\"]$|can't open file ['\"](?P<b>.+?)['\"]: |"
    r"(?:^|[\s'\"])(?P<c>[^\s'\":]+)['\"]?: No such file or directory$"
)
_READ_ONLY = re.compile(r"Permission denied: ['\"](.+)['\"]$")
_MISSED_MODULE = re.compile(r"ModuleNotFoundError: No module named ['\"]([\w.]+)['\"]")


@dataclass(frozen=True)
class CodeSnapshot:
    sha256: str
    """Of its content."""
    root: Path
    """The project that was captured, where it lay."""
    tree: Path
    """Its copy, on this machine."""
    linked: tuple[str, ...]
    """What was not captured, and is a link to where it lay."""
    git_commit: str | None
    changed: tuple[str, ...]
    """The files that differed from the commit."""

    def holds(self, path: Path) -> bool:
        """Whether a path of the project is one of the snapshot."""
        if not path.is_relative_to(self.root):
            return False
        name = path.relative_to(self.root).as_posix()
        return not any(name == one or name.startswith(f"{one}/") for one in self.linked)

    def differs(self, places: Sequence[Path]) -> bool | None:
        """Whether any of the places of the tree differed from the commit; None without one."""
        if self.git_commit is None:
            return None
        names = [one.relative_to(self.tree).as_posix() for one in places]
        return any(
            one == name or one.startswith(f"{name}/") for one in self.changed for name in names
        )

    @property
    def listing(self) -> Path:
        """The file that lists what was captured, with sizes."""
        return self.tree.parent.parent / "listing.json"

    @property
    def in_words(self) -> str:
        return f"the code snapshot {self.sha256[:12]} of {self.root}"


def here() -> CodeSnapshot | None:
    """The one that this process runs from. Raises InputError where its folder is damaged."""
    folder = os.environ.get(VARIABLE, "")
    return _read(Path(folder)) if folder else None


@functools.cache
def _read(folder: Path) -> CodeSnapshot:
    try:
        values = json.loads(read_file(folder / "launch.json"))
        return CodeSnapshot(
            values["snapshot_sha256"], Path(values["root"]), folder / "tree" / values["name"],
            tuple(values["linked"]), values["git_commit"], tuple(values["changed"]),
        )  # fmt: skip
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{folder} is not a whole code snapshot: {error}",
            f"unset {VARIABLE}, which names it",
            exit_code=EXIT_IO,
        ) from None


def found(path: Path) -> Path:
    """Where a file of the project is for this process: in the snapshot, where that has it."""
    snapshot = here()
    if snapshot is None or not path.is_absolute():
        return path
    if (copy := snapshot.tree / outside(path)).is_file():
        return copy
    if not snapshot.holds(path):
        return path
    return snapshot.tree / path.relative_to(snapshot.root)


def outside(path: Path) -> str:
    """The name in a snapshot of a file that lies outside of the project."""
    return f"{OUTSIDE}{path.as_posix()}"


def named(path: Path) -> Path:
    """The path in the project of a file of the snapshot; of any other, its own."""
    snapshot = here()
    if snapshot is None or not path.is_relative_to(snapshot.tree):
        return path
    if path.is_relative_to(snapshot.tree / OUTSIDE):
        return Path("/", path.relative_to(snapshot.tree / OUTSIDE))
    return snapshot.root / path.relative_to(snapshot.tree)


def in_project(text: str) -> str:
    """A text, such as a traceback, that names files of the snapshot as the project does."""
    snapshot = here()
    if snapshot is None:
        return text
    text = text.replace(str(snapshot.tree / OUTSIDE), "")
    return text.replace(str(snapshot.tree), str(snapshot.root))


def written() -> list[str]:
    """The files that programs have written into the copy of the project, sorted: nobody keeps them.
    Those that Python leaves by itself are not among them."""
    snapshot = here()
    if snapshot is None:
        return []
    with contextlib.suppress(OSError, ValueError):
        captured = {name for name, _ in json.loads(read_file(snapshot.listing))}
        found = []
        for folder, folders, files in os.walk(snapshot.tree):
            folders[:] = [one for one in folders if one != "__pycache__"]
            paths = (Path(folder, one) for one in files)
            names = (one.relative_to(snapshot.tree).as_posix() for one in paths)
            found += [one for one in names if one not in captured]
        return sorted(one for one in found if not (snapshot.tree / one).is_symlink())
    return []


def missing(error: BaseException) -> str | None:
    """What there is to say of an error of a program that misses a file or a module, or of one that
    comes of such an error, where it may be that the snapshot lacks it; None where that is not so.
    """
    snapshot = here()
    seen: BaseException | None = error
    while snapshot is not None and seen is not None:
        if (said := _missing(seen, snapshot)) is not None:
            return said
        seen = seen.__cause__
    return None


def missing_by(lines: Sequence[str], directory: Path) -> str | None:
    """The same of another program, by the last lines that it printed and where it works."""
    for line in reversed(lines):
        error: OSError | ImportError
        if found := _MISSED_FILE.search(line.strip()):
            path = directory.absolute() / next(filter(None, found.groups()))
            error = FileNotFoundError(errno.ENOENT, "", str(path))
        elif found := _READ_ONLY.search(line.strip()):
            error = PermissionError(errno.EACCES, "", str(directory.absolute() / found[1]))
        elif found := _MISSED_MODULE.search(line):
            error = ModuleNotFoundError(name=found[1])
        else:
            continue
        try:
            return missing(error)
        except (OSError, ValueError):  # what it printed need not be a path
            return None
    return None


def _missing(error: BaseException, snapshot: CodeSnapshot) -> str | None:
    if isinstance(error, ModuleNotFoundError) and error.name:
        name = error.name.replace(".", "/")
        files = [
            f"{folder}{name}{end}" for folder in ("", "src/") for end in (".py", "/__init__.py")
        ]
        if not any((snapshot.root / file).exists() for file in files):
            return None
        what = f"the module {error.name}"
    elif isinstance(error, FileNotFoundError | PermissionError) and isinstance(error.filename, str):
        path = Path(os.path.normpath(Path.cwd() / error.filename))
        if not path.is_relative_to(snapshot.tree.parent):
            return None
        if isinstance(error, PermissionError):
            is_a_copy = path.exists()
            return f"the files of {snapshot.in_words} are read-only" if is_a_copy else None
        # As it would be, seen from the project: that lies beside other folders than the copy.
        what = os.path.normpath(snapshot.root / os.path.relpath(path, snapshot.tree))
    else:
        return None
    return (
        f"{what} is not in {snapshot.in_words}: it was not there at the launch, or lies outside of "
        "the project. Name a file that the snapshot cannot have by its whole path, or launch with "
        "--no-snapshot"
    )
