"""Putting a report in its folder: all of it or none."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from local_machine.errors import InputError, move_away, storage_error
from local_machine.files import matching, read_file, write_atomic

# Lists a report's files, for `sha256sum --check` and for the next report to know them by.
MANIFEST = "report.sha256"


# --- the folder ------------------------------------------------------------------------------


def check_out(out: Path) -> None:
    """Raise the InputError with which a report could not be written to `out`; changes nothing.

    Refused are a file in the way, a folder that holds files and no report, or a report whose list
    is damaged, and one in which results of sweeps lie.
    """
    folder = Path(os.path.realpath(out))
    another = "choose another folder with --out DIR"
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not there.is_dir():
        raise InputError(f"cannot make the folder {folder}: a file is in the way", another)
    if there != folder or not any(folder.iterdir()):
        return
    if not (folder / MANIFEST).is_file():
        raise InputError(
            f"{folder} holds files and no report", "choose an empty or a new folder with --out DIR"
        )
    listed(folder)
    # They would be moved, perhaps while a sweep writes to them.
    if any(matching(folder, "**/plans/*.json")):
        raise InputError(f"{folder} holds results of sweeps", another)


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A new folder to fill, which takes the place of `folder` when the block ends without error.

    Between two renames there is no `folder` for an instant; who is killed in it leaves the earlier
    report in a hidden folder beside, which the next one puts back. Two at once do not mix: one of
    them wins.
    """
    check_out(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = folder.with_name(f".{folder.name}.{os.getpid()}-{threading.get_ident()}.part")
    old = new.with_suffix(".old")
    try:
        new.mkdir()
        _recover(folder, new)
        yield new
        _swap(new, old, folder)
    except OSError as error:
        error.filename = str(folder)  # a reader does not know the hidden folder
        raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
        _settle(old, folder)


def _swap(new: Path, old: Path, folder: Path) -> None:
    if folder.exists():
        shutil.copymode(folder, new)
        for path, place in _foreign(folder, new):
            if place.exists() or any(parent.is_file() for parent in place.parents):
                what = f"{path} is in the way: no report wrote it"
                raise InputError(what, move_away(path, "mine"))
    try:
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        if storage_error(error) is not None:
            raise
        # A folder that is mounted cannot be renamed, nor one that another has just filled.
        raise InputError(
            f"cannot replace the folder {folder}: {error.strerror}",
            "choose another folder with --out DIR",
        ) from None


def _settle(old: Path, folder: Path) -> None:
    """Put an earlier report back; where another has its place, move what others put in it there,
    and remove the rest."""
    if not old.exists():
        return
    if not folder.exists():
        old.rename(folder)
        return
    for path, place in _foreign(old, folder):
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copymode(path.parent, place.parent)
        if place.exists():
            return  # put there since: both are kept, this one in the hidden folder
        path.rename(place)
    # From here on it is a leftover like any other, whatever of it a kill leaves.
    shutil.rmtree(old.rename(old.with_suffix(".part")), ignore_errors=True)


def _recover(folder: Path, new: Path) -> None:
    """Finish what a report that was killed has left beside `folder`."""
    hidden = f".{glob.escape(folder.name)}.*"
    for old in sorted(matching(folder.parent, f"{hidden}.old")):
        _settle(old, folder)
    # By the file server's own clock, which this machine's need not agree with.
    now = new.stat().st_mtime
    for part in matching(folder.parent, f"{hidden}.part"):
        # Younger ones can be of a report that is being written now.
        with suppress(FileNotFoundError):
            if now - part.stat().st_mtime > 3600:
                shutil.rmtree(part, ignore_errors=True)


def _foreign(folder: Path, other: Path) -> list[tuple[Path, Path]]:
    """What the report in `folder` did not write, and its place in `other`: files, and whole
    folders, even empty ones, where it wrote nothing below them and `other` has no such folder.
    """
    ours = listed(folder)
    shared = {str(parent) for name in ours for parent in PurePosixPath(name).parents}

    def below(here: Path) -> Iterator[tuple[Path, Path]]:
        for path in sorted(here.iterdir()):
            name = path.relative_to(folder).as_posix()
            is_folder = path.is_dir() and not path.is_symlink()
            if is_folder and (name in shared or (other / name).is_dir()):
                yield from below(path)
            elif is_folder or name not in ours:
                yield path, other / name

    return list(below(folder))


def listed(folder: Path) -> set[str]:
    """The names of the files in a report's folder that the report wrote."""
    path = folder / MANIFEST
    try:
        text = read_file(path).decode()
    except FileNotFoundError:
        return {MANIFEST}
    except UnicodeDecodeError:
        text = ""
    if not re.fullmatch(r"(?:[0-9a-f]{64}  [^\n]+\n)+", text):
        raise InputError(
            f"{path}, the list of a report's files, is damaged",
            f"choose another folder with --out DIR, or remove the folder {folder}",
        )
    return {MANIFEST, *(line[66:] for line in text.split("\n"))}  # after 64 digits and two spaces


def put(path: Path, content: str | bytes) -> str:
    """Write a file; returns the SHA-256 of its bytes in hexadecimal."""
    # A lone surrogate, as a file's name can hold, has no UTF-8.
    data = content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace")
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, lambda file: file.write(data))
    return hashlib.sha256(data).hexdigest()
