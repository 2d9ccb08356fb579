"""Files that others may have put there: read as what they are, or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

LARGEST = 2**26


def read_file(path: Path) -> bytes:
    """What a regular file holds. Raises OSError where it cannot be read, and for anything else: to
    open a FIFO would wait for a writer that never comes, and a device may have no end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        if facts.st_size > LARGEST:
            raise OSError(errno.EFBIG, "it is far too large", str(path))
        return file.readall()
