"""The cache of decoded images: where it is, who may have written it, how it is written and read.

Named by the files that the images come from (their names, sizes and times) and by what decoding
depends on, so that it is found at once; and, as a link, by what is in these files, so that a copy
of them is not decoded again. A file that another user could have written is not used: its images
would be trained on as if they were the user's own.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import shlex
import shutil
import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from local_machine.errors import EXIT_IO, InputError
from local_machine.files import matching, open_file, unreadable, write_atomic
from local_machine.private_folder import cache_home

_CACHE_FORMAT = 2  # part of the cache's name: raise it when what is decoded changes


def cache_file(root: Path | None, files: Iterable[str], decoded_by: Sequence[Any]) -> Path:
    """Where the decoded form of these very files is, or will be: a changed file is another cache.
    `decoded_by` is what else decides it. Where another user's file is in its place, the name has
    this user's number."""
    return _own(cache_home() / f"images-{_key(root, files, decoded_by)}.npz")


def content_file(root: Path, files: Iterable[str], decoded_by: Sequence[Any]) -> Path:
    """The same, named by what is in the files, and by their names below the root. Raises
    InputError where one cannot be read."""
    whole = hashlib.sha256(json.dumps([_CACHE_FORMAT, decoded_by]).encode())
    for path in files:
        content = hashlib.sha256()
        with open_file(Path(path)) as file:
            while read := file.read(2**20):
                content.update(read)
        whole.update(json.dumps([_below(path, root), content.hexdigest()]).encode())
    return _own(cache_home() / f"content-{whole.hexdigest()[:32]}.images")


def may_be_a_copy() -> bool:
    """Whether there is any file of `content_file`."""
    return bool(matching(cache_home(), "content-*"))


def _own(path: Path) -> Path:
    own = path.with_name(f"{path.stem}-{os.geteuid()}{path.suffix}")
    with contextlib.suppress(OSError):
        # One of this user's that others may write is written again.
        return path if path.lstat().st_uid in (0, os.geteuid()) else own
    return path


def _key(root: Path | None, files: Iterable[str], decoded_by: Sequence[Any]) -> str:
    # As the JSON of a list, in pieces: there may be a million files.
    source = json.dumps([_CACHE_FORMAT, None if root is None else str(root)])[:-1]
    whole = hashlib.sha256(f"{source}, [".encode())
    for number, path in enumerate(files):
        try:
            facts = os.stat(path)  # noqa: PTH116 - a Path takes longer to make than this
        except OSError as error:
            raise unreadable(Path(path), error) from None
        one = [_below(path, root), facts.st_size, facts.st_mtime_ns]
        whole.update((", " * (number > 0) + json.dumps(one)).encode())
    more = f", {json.dumps(decoded_by)}" if any(one is not None for one in decoded_by) else ""
    whole.update(f"]{more}]".encode())
    return whole.hexdigest()[:16]


def _below(path: str, root: Path | None) -> str:
    """What the root is followed by; a file that is the root itself has any name."""
    return path[len(str(root)) + 1 :] or "."


def is_there(cache: Path) -> bool:
    """Whether there is a file that only this user, or root, can have written."""
    try:
        return _is_private(cache.stat())
    except OSError:
        return False


def _is_private(facts: os.stat_result) -> bool:
    if facts.st_uid not in (0, os.geteuid()) or facts.st_mode & stat.S_IWOTH:
        return False
    # A group of this user alone, as Linux distributions give them.
    return not facts.st_mode & stat.S_IWGRP or facts.st_gid == facts.st_uid == os.geteuid()


def is_whole(cache: Path) -> bool:
    """Whether it is there, and no bit of it has flipped."""
    try:
        with _opened(cache) as file:
            return file.testzip() is None
    # Flipped bits make zipfile raise whatever they happen to run into.
    except Exception:
        return False


def link(cache: Path, path: Path) -> None:
    """Have the cache under this name, too; a copy where the disk has no links. Raises OSError."""
    path.unlink(missing_ok=True)
    try:
        path.hardlink_to(cache)
    except OSError:
        with cache.open("rb") as whole:
            write_atomic(path, lambda file: _copy(whole, file))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        # Some network filesystems refuse locks. Then several may decode: wasteful, but each
        # renames a whole file into place.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


Write = Callable[[IO[bytes]], object]


def write_cache(cache: Path, members: Iterable[tuple[str, Write]]) -> None:
    """Each member of the archive by its name and what writes it, one after the other. Raises
    OSError."""

    def write(file: BinaryIO) -> None:
        _keep_private(file)
        with zipfile.ZipFile(file, "w") as archive:
            for name, write_member in members:
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    write_member(member)

    write_atomic(cache, write)


def _copy(whole: BinaryIO, file: BinaryIO) -> None:
    _keep_private(file)
    shutil.copyfileobj(whole, file)


def _keep_private(file: BinaryIO) -> None:
    # Where modes cannot be changed, whoever reads it says so.
    with contextlib.suppress(OSError):
        os.fchmod(file.fileno(), stat.S_IMODE(os.fstat(file.fileno()).st_mode) & ~0o022)


def array(values: npt.NDArray[Any]) -> Write:
    return lambda member: np.lib.format.write_array(member, values, allow_pickle=False)


def begin_array(member: IO[bytes], shape: tuple[int, ...]) -> None:
    """The head of an array of bytes, which then are written."""
    head = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(member, head)


def read_cache(
    cache: Path, names: Sequence[str], optional: Mapping[str, Any] | None = None
) -> list[Any]:
    """Some of the cache's arrays; of `optional` ones that it lacks, what is given there.

    Raises InputError where the file is damaged (every member of a zip file has a CRC), and where
    another user may have written it.
    """
    wanted = {**dict.fromkeys(names), **(optional or {})}
    try:
        with _opened(cache) as file:
            members = {*file.namelist()}
            # np.load on the archive stops where an array ends, by a header that may be damaged,
            # and then looks at no CRC; a member read whole is always checked.
            return [
                other
                if name not in names and f"{name}.npy" not in members
                else _array(file.read(f"{name}.npy"))
                for name, other in wanted.items()
            ]
    except InputError:
        raise
    # Flipped bits make zipfile raise whatever they happen to run into.
    except Exception as error:
        raise _damaged(cache, error) from None


def shape_of(cache: Path, name: str) -> tuple[int, ...]:
    """Of one array, without reading it. Raises InputError as `read_cache` does."""
    try:
        with _opened(cache) as file, file.open(f"{name}.npy") as member:
            np.lib.format.read_magic(member)
            shape: tuple[int, ...] = np.lib.format.read_array_header_1_0(member)[0]
            return shape
    except InputError:
        raise
    except Exception as error:
        raise _damaged(cache, error) from None


@contextlib.contextmanager
def _opened(cache: Path) -> Iterator[zipfile.ZipFile]:
    with open_file(cache) as file:
        # Of what is open: the name may be another file's by now.
        if not _is_private(os.fstat(file.fileno())):
            raise InputError(
                f"{cache} is a file that another user may have written: its images are not used",
                f"have it decoded again: rm {shlex.quote(str(cache))}; or export "
                "SWEEPS_CACHE=FOLDER with a folder of your own, on a disk that keeps owners",
                exit_code=EXIT_IO,
            )
        with zipfile.ZipFile(file) as archive:
            yield archive


def _damaged(cache: Path, error: Exception) -> InputError:
    return InputError(
        f"cannot read {cache}, it may be damaged: {error or type(error).__name__}",
        f"have it decoded again: rm {shlex.quote(str(cache))}",
        exit_code=EXIT_IO,
    )


def _array(content: bytes) -> npt.NDArray[Any]:
    """A member of the cache, without another copy of it: read-only. Raises for a damaged header."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
    if version != (1, 0) or by_columns or dtype.hasobject:
        raise ValueError("an array of another form")
    return np.frombuffer(content, dtype, offset=file.tell()).reshape(shape)
