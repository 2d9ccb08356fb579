"""Who may write a results folder, and who wrote a file there."""

from __future__ import annotations

import functools
import os
import shlex
import stat
import sys
import uuid
from pathlib import Path

PROBE = ".probe"
"""How the names of the files end that `probe` writes."""


def probe(folder: Path) -> os.stat_result | None:
    """What the file server says of a file that was just written there: its clock, and who we are
    to it. None where none can be written."""
    path = folder / f".{uuid.uuid4().hex}{PROBE}"
    try:
        path.touch(exist_ok=False)
        try:
            return path.stat()
        finally:
            path.unlink(missing_ok=True)
    except OSError:
        return None


def is_written_by_us(path: Path) -> bool:
    """Whether the file was written by this user. Not by this machine's own number of the user, for
    which a file server may have another."""
    ours = probe(path.parent)
    try:
        return ours is not None and path.lstat().st_uid == ours.st_uid
    except OSError:
        return False


@functools.cache
def warn_of_writers(folder: Path) -> None:
    """Say, once a command, that everybody on the machine may write the folder, where that is so."""
    try:
        mode = folder.stat().st_mode
    except OSError:
        return
    if mode & stat.S_IWOTH:
        print(
            f"warning: anyone on this machine may write {folder}, and what is read there may be "
            f"anyone's: {shlex.join(['chmod', 'o-w', str(folder)])}",
            file=sys.stderr,
            flush=True,
        )
