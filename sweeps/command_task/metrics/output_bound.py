"""The bound of the file that a program prints into: its first 32 MiB and its end are kept.

The program writes it by itself, so nobody may cut it while that runs. Of what lies between, and was
read, the disk's blocks are given back: what is there reads as zeros, and nothing moves. Where the
file system cannot do that (NFS before 4.2), the file is shortened when the trial is done.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

from local_machine.files import write_atomic

KEPT_BYTES, END_BYTES = 32 * 2**20, 2**20
# Of Linux: the file keeps its size, and its blocks there are free.
_KEEP_SIZE, _PUNCH_HOLE = 1, 2


def give_back(path: Path, read: int) -> None:
    """Free what lies behind the first KEPT_BYTES and before the last END_BYTES of those that were
    read, where the file system can."""
    length = read - END_BYTES - KEPT_BYTES
    if length <= 0:
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            ctypes.CDLL(None).fallocate(
                descriptor, _KEEP_SIZE | _PUNCH_HOLE, ctypes.c_int64(KEPT_BYTES),
                ctypes.c_int64(length),
            )  # fmt: skip
        finally:
            os.close(descriptor)


def shorten(path: Path) -> None:
    """Of a trial that is done, and whose program has ended: leave out the middle, and say so.
    Raises OSError."""
    size = path.stat().st_size
    left_out = size - KEPT_BYTES - END_BYTES
    if left_out <= 0:
        return
    with path.open("rb") as file:
        begin = file.read(KEPT_BYTES)
        file.seek(size - END_BYTES)
        end = file.read()
    begin = begin[: begin.rfind(b"\n") + 1]
    end = end[end.find(b"\n") + 1 :]
    said = f"[{left_out / 2**20:,.0f} MiB of its output are left out; it ends:]\n".encode()
    write_atomic(path, lambda file: file.write(begin + said + end))
