"""Files that were read before, for a report that is made again and again: what was read of a file
holds until it changes."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

_T = TypeVar("_T")
_Stamp = tuple[int, int, int]


class FilesRead:
    """What the last report read, by the files that it was read of."""

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[list[_Stamp | None], Any]] = {}
        self._used: set[Hashable] = set()

    @contextmanager
    def recalled(self) -> Iterator[None]:
        """What is read once inside the block is recalled where no file of it changed; what the
        block did not ask for is forgotten at its end."""
        self._used = set()
        token = _files_read.set(self)
        try:
            yield
        finally:
            _files_read.reset(token)
        self._known = {key: self._known[key] for key in self._used & self._known.keys()}

    def once(self, key: Hashable, files: Sequence[Path], read: Callable[[], _T]) -> _T:
        self._used.add(key)
        stamps = [_stamp(file) for file in files]
        known = self._known.get(key)
        if known is None or known[0] != stamps or None in stamps:
            known = self._known[key] = stamps, read()
        found: _T = known[1]
        return found


_files_read: ContextVar[FilesRead | None] = ContextVar("files_read", default=None)


def once(key: Hashable, files: Sequence[Path], read: Callable[[], _T]) -> _T:
    """What `read` gives, which depends on the key and on these files alone, and which nobody
    changes. It is recalled where the files were there and are the same; what `read` raises is
    raised, and nothing is remembered then."""
    known = _files_read.get()
    return read() if known is None else known.once(key, files, read)


def _stamp(file: Path) -> _Stamp | None:
    """Inode, size and time of change; None where there is no such file."""
    try:
        known = os.stat(file)  # noqa: PTH116 - a hundred times a second, of a thousand files
    except OSError:
        return None
    return known.st_ino, known.st_size, known.st_mtime_ns
