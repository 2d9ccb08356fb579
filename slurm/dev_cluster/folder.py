"""The folder of a development cluster: whether it may be used, who uses it now, what is ours in it.

cluster.json  the settings and ports; made first and removed last, it marks the folder as ours
etc/  munge/  database/  state/  spool/  dev/  run/  log/
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from local_machine.errors import SlurmError

STATE = "cluster.json"
# How often the folder may be removed by others while we take hold of it.
TRIES = 100
FOLDERS = ("etc", "munge", "database", "state", "spool", "dev", "run", "log")
# A Unix socket's path holds 107 bytes, and slurmd's are DIR/spool/n1000/n1000_99999999.4294967295.
LONGEST = 107 - len("/spool/n1000/n1000_99999999.4294967295")


def check_name(folder: Path) -> None:
    """Raises SlurmError where a cluster could not live in a folder of this name."""
    if len(os.fsencode(folder)) > LONGEST:
        raise SlurmError(
            f"{folder} is too long a name: the paths of sockets are bounded",
            f"choose a folder whose path has at most {LONGEST} bytes: --dir DIR",
        )
    # Slurm takes a path as it stands, and reads on at a space, a comma, a # or a %.
    if odd := sorted({c for c in str(folder) if not (c.isalnum() or c in "/._-+")}):
        raise SlurmError(
            f"{folder} holds {' '.join(map(repr, odd))}, which slurm.conf cannot say",
            "choose a folder of letters, digits and ._-+: --dir DIR",
        )


def is_ours(folder: Path) -> bool:
    return (folder / STATE).exists()


def check_empty(folder: Path) -> None:
    """Raises SlurmError where the folder holds something."""
    if any(folder.iterdir()):
        raise SlurmError(
            f"{folder} is not empty, and holds no cluster", "choose a new folder: --dir DIR"
        )


def clear(folder: Path) -> None:
    """Remove what a cluster wrote; anything else in the folder stays."""
    for name in FOLDERS:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder / name)
    # Last, so that a removal cut short is taken up again.
    (folder / STATE).unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder, made where there is none, against any other `up` or `down`."""
    for _ in range(TRIES):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # removed by a `down` just now; or in /proc, where no folder can be made
        except OSError as error:
            reason = (
                "a file is in the way" if isinstance(error, FileExistsError) else error.strerror
            )
            raise SlurmError(
                f"cannot use {folder}: {reason}", "choose another: --dir DIR"
            ) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_still(folder, handle):
                yield
                return
        finally:
            os.close(handle)
    raise SlurmError(f"cannot make the folder {folder}", "choose another: --dir DIR")


def _is_still(folder: Path, handle: int) -> bool:
    """While we waited, a `down` may have removed the folder that we hold."""
    try:
        return os.path.samestat(os.fstat(handle), folder.stat())
    except FileNotFoundError:
        return False
