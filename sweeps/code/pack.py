"""Packing a project into one file that is named by its content, the same on every machine."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from local_machine.errors import InputError
from local_machine.files import write_atomic
from sweeps.code.project import Project

LIMIT = "SWEEPS_SNAPSHOT_MB"
"""The variable that says how large a snapshot may be, in MB; 0: there are none."""
_MB = 10**6
_DEFAULT_MB = 100
# What each file's time is: tools that pack files again take none from before 1980.
_MOMENT = 946_684_800


@dataclass(frozen=True)
class Entry:
    """A file, or a link, of a project."""

    name: str
    content: bytes
    """Of a link, what it leads to."""
    is_program: bool = False
    is_link: bool = False


@dataclass(frozen=True)
class Pack:
    sha256: str
    content: bytes
    """An uncompressed tar archive: how it is compressed differs from machine to machine."""

    def keep(self, folder: Path) -> Path:
        """The file in the folder, one for each content. Raises OSError."""
        path = folder / f"{self.sha256}.tar.gz"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            packed = gzip.compress(self.content, 1, mtime=0)
            write_atomic(path, lambda file: file.write(packed))
        return path


def limit_mb() -> float:
    """How large a snapshot may be. Raises InputError where the variable is not a number."""
    word = os.environ.get(LIMIT, str(_DEFAULT_MB))
    try:
        found = float(word)
    except ValueError:
        found = -1.0
    if not 0 <= found < float("inf"):
        raise InputError(f"{LIMIT}={word} is not a valid size", f"export {LIMIT}={_DEFAULT_MB}")
    return found


def check_size(sizes: Iterable[tuple[str, int]], root: Path) -> None:
    """Raise InputError where the files have more bytes than a snapshot may."""
    sizes = list(sizes)
    whole, limit = sum(size for _, size in sizes), limit_mb()
    if whole <= limit * _MB:
        return
    largest = sorted(sizes, key=lambda one: -one[1])[:5]
    named = ", ".join(f"{name} ({size / _MB:.1f} MB)" for name, size in largest)
    raise InputError(
        f"the code of {root} has {whole / _MB:.1f} MB, and a code snapshot at most {limit:g} MB; "
        f"its largest files: {named}",
        f"have git ignore what is not code (.gitignore), allow more (export {LIMIT}="
        f"{2 * whole // _MB + 1}), or run from the folder as it is: --no-snapshot",
    )


def read(project: Project) -> list[Entry]:
    """The project's files as they are now. Raises InputError where they are too large, or one
    cannot be read."""
    root, found = project.root, []
    for name in project.names:
        try:
            facts = os.lstat(root / name)
        except OSError:
            continue  # removed, and git not told
        if stat.S_ISREG(facts.st_mode) or stat.S_ISLNK(facts.st_mode):
            found.append((name, facts))
    check_size(((name, facts.st_size) for name, facts in found), root)
    entries = []
    for name, facts in found:
        path = root / name
        try:
            if stat.S_ISLNK(facts.st_mode):
                entries.append(Entry(name, os.fsencode(_target(path, root)), is_link=True))
            else:
                entries.append(entry(name, path, is_program=bool(facts.st_mode & 0o100)))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _unreadable(path, error) from None
    return entries


def entry(name: str, path: Path, *, is_program: bool = False) -> Entry:
    """A file as it is now, under a name. Raises FileNotFoundError, and InputError where it cannot
    be read."""
    try:
        return Entry(name, path.read_bytes(), is_program)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"the code snapshot cannot hold {path}: {error.strerror}",
        "correct its permissions, have git ignore it, or launch with --no-snapshot",
    )


def _target(path: Path, root: Path) -> str:
    """What a link leads to from within a copy of the project: to the copy, or out of it to the same
    place as before."""
    target = path.readlink()
    whole = Path(os.path.normpath(path.parent / target))
    if not whole.is_relative_to(root):
        return str(whole)
    return os.path.relpath(whole, path.parent)


def packed(entries: Iterable[Entry]) -> Pack:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for one in sorted(entries, key=lambda one: one.name):
            member = tarfile.TarInfo(one.name)
            member.mtime = _MOMENT
            if one.is_link:
                member.type, member.linkname = tarfile.SYMTYPE, os.fsdecode(one.content)
                archive.addfile(member)
                continue
            member.mode = 0o755 if one.is_program else 0o644
            member.size = len(one.content)
            archive.addfile(member, io.BytesIO(one.content))
    content = file.getvalue()
    return Pack(hashlib.sha256(content).hexdigest(), content)
