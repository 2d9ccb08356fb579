"""The cache of decoded images: where it is, and how it is read."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import shlex
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from local_machine.errors import EXIT_IO, InputError
from trainer.data import layouts

_CACHE_FORMAT = 2  # part of the cache's name: raise it when what is decoded changes


def source_key(root: Path | None) -> str:
    """Names the decoded form of these very source files: a changed file is another cache."""
    files = []
    for path in [] if root is None else layouts.files(root):
        facts = path.stat()
        files.append([str(path.relative_to(root or "")), facts.st_size, facts.st_mtime_ns])
    text = json.dumps([_CACHE_FORMAT, None if root is None else str(root), files])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        # Some network filesystems refuse locks. Then several may decode: wasteful, but each
        # renames a whole file into place.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read_cache(cache: Path, names: Sequence[str]) -> list[Any]:
    """Some of the cache's arrays. Raises InputError where the file is damaged: every member of a
    zip file has a CRC."""
    try:
        with zipfile.ZipFile(cache) as file:
            # np.load on the archive stops where an array ends, by a header that may be damaged,
            # and then looks at no CRC; a member read whole is always checked.
            return [_array(file.read(f"{name}.npy")) for name in names]
    # Flipped bits make zipfile raise whatever they happen to run into.
    except Exception as error:
        raise InputError(
            f"cannot read {cache}, it may be damaged: {error or type(error).__name__}",
            f"have it decoded again: rm {shlex.quote(str(cache))}",
            exit_code=EXIT_IO,
        ) from None


def _array(content: bytes) -> npt.NDArray[Any]:
    """A member of the cache, without another copy of it: read-only. Raises for a damaged header."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
    if version != (1, 0) or by_columns or dtype.hasobject:
        raise ValueError("an array of another form")
    return np.frombuffer(content, dtype, offset=file.tell()).reshape(shape)
