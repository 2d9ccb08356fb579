"""Files: read as what they are, or not at all, since others may have put them there; written whole
or not at all."""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from local_machine.errors import EXIT_IO, InputError, move_away

# The plan of a million trials has fewer bytes. A file with holes may claim any number.
LARGEST = 2**31
_LOOKS = 100


def open_file(path: Path) -> io.FileIO:
    """A stored file, open for reading. Raises as `read_file` does."""
    try:
        return open_regular(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unreadable(path, error) from None


def open_regular(path: Path) -> io.FileIO:
    """The same. Raises OSError, whose strerror says what lies there; FileNotFoundError where
    nothing does."""
    try:
        file = open(path, "rb", buffering=0, opener=_opener)  # noqa: SIM115
    except FileNotFoundError:
        if path.is_symlink():
            raise OSError(errno.EINVAL, "it is a link to nowhere") from None
        raise
    except IsADirectoryError:
        raise OSError(errno.EINVAL, "it is a folder, not a file") from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is not a regular file")
    return file


def _opener(path: str, flags: int) -> int:
    # To open a FIFO would wait for a writer that never comes.
    return os.open(path, flags | os.O_NONBLOCK)


def read_file(path: Path) -> bytes:
    """What a stored file holds: the one way in which files are read that others may have put there.

    Raises FileNotFoundError where there is none, and InputError where it cannot be read or is not a
    regular file (or a link to one).
    """
    with open_file(path) as file:
        if os.fstat(file.fileno()).st_size > LARGEST:
            raise unreadable(
                path, OSError(errno.EFBIG, "it is larger than any file that a sweep writes")
            )
        try:
            return file.readall()
        except OSError as error:
            raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"cannot read {path}: {error.strerror}",
        f"correct its permissions, or move it away: {move_away(path)}",
        exit_code=EXIT_IO,
    )


# No site file or state of a development cluster has more bytes.
LARGEST_REGULAR = 2**26


def read_regular(path: Path) -> bytes:
    """What a regular file holds. Raises OSError where it cannot be read, and for anything else: to
    open a FIFO would wait for a writer that never comes, and a device may have no end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        if facts.st_size > LARGEST_REGULAR:
            raise OSError(errno.EFBIG, "it is far too large", str(path))
        return file.readall()


def matching(folder: Path, pattern: str) -> list[Path]:
    """Paths in a folder that fit a pattern of `Path.glob`, in no order; none without the folder.

    Others remove folders while we look: then `Path.glob` raises in Python 3.11 and 3.12, so
    we look again. Raises OSError where that does not end, or where a folder cannot be listed.
    """
    for _ in range(_LOOKS):
        try:
            return list(folder.glob(pattern))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
                raise
    return list(folder.glob(pattern))


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write aside in the same folder, fsync, rename: a reader sees the old file or the new one.

    Raises OSError (disk full, no permission); the file that was there is then still there, and
    nothing is left beside it.
    """
    # The process and thread are in the name so that two writers cannot share a part file.
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with part.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException as error:
        # A read-only disk answers EROFS also where there is no file.
        with contextlib.suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            # A failing write does not say where, and the part file's name helps nobody.
            error.filename = str(path)
        raise
    sync(path.parent)  # without this a power cut can forget the rename


def sync(path: Path) -> None:
    """So that a power cut does not forget what the file or the folder holds. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_aside(path: Path, word: str, folder: Path | None = None) -> Path:
    """Keep the file under another name, `path.word`, numbered where that is taken, in `folder` or
    where it is; the new name."""
    place = folder or path.parent
    names = (place / f"{path.name}.{word}{n or ''}" for n in itertools.count())
    aside = next(name for name in names if not name.exists())
    path.replace(aside)
    return aside
