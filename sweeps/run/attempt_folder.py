"""The private folder of an attempt, by whose path alone it writes.

RESULTS/SWEEP/TRIAL/attempt-TOKEN/files/

An attempt makes attempt-TOKEN before it takes the lease, and never again. Whoever then holds the
lease takes over the files of the attempts before it: it renames their `files` into its own folder
and removes theirs. Both ends of that rename, and all that an attempt opens or moves later, lead
through its own folder; so an attempt that lost its trial, however late it goes on, finds no such
path, and can change nothing that counts.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from local_machine.errors import EXIT_IO, InputError
from local_machine.files import matching, sync
from sweeps.run.ends import LostTrialError
from trial_records.trial_files import ATTEMPT, CHECKPOINT, FILES, RUN

# So often it looks for folders of others: each of them is made but once.
_LOOKS = 1000


def path_of(trial: Path, token: str) -> Path:
    return trial / f"{ATTEMPT}{token}"


def make(trial: Path, token: str) -> None:
    """Before the lease is taken. Raises OSError."""
    path_of(trial, token).mkdir()


def drop(trial: Path, token: str) -> None:
    """Remove the folder of an attempt that never began, or left nothing."""
    with contextlib.suppress(OSError):
        path_of(trial, token).rmdir()


def take_over(trial: Path, token: str) -> Path:
    """Take over what the attempts before this one left; the folder of this one's files.

    The caller holds the trial's lease. Raises LostTrialError where a later attempt has taken over
    this one's, OSError where the folder cannot be written.
    """
    own = path_of(trial, token)
    looks = 0
    while others := _others(trial, own.name):
        looks += 1
        for other in others:
            _take(other, own)
        if looks > _LOOKS:
            raise InputError(
                f"{others[0]} cannot be removed", f"see what it holds: ls -la {others[0]}",
                exit_code=EXIT_IO,
            )  # fmt: skip
    files = own / FILES
    with guarded(own):
        files.mkdir(exist_ok=True)
        for part in matching(files, ".*.part"):
            if not part.is_dir():
                part.unlink(missing_ok=True)  # of a writer that was killed
        for folder in (own, trial):
            sync(folder)
    return files


def _others(trial: Path, own: str) -> list[Path]:
    with os.scandir(trial) as entries:
        return [
            Path(entry.path)
            for entry in entries
            if entry.name.startswith(ATTEMPT)
            and entry.name != own
            and entry.is_dir(follow_symlinks=False)
        ]


def _take(other: Path, own: Path) -> None:
    """Take over the files of one other attempt, and remove its folder."""
    try:
        os.rename(other / FILES, own / FILES)  # noqa: PTH104
    except FileNotFoundError:
        if not own.is_dir():
            raise LostTrialError from None
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        # Both attempts have files: one began while the other was taken over.
        with guarded(own):
            os.rename(other / FILES, own / FILES / other.name)  # noqa: PTH104
    with contextlib.suppress(OSError):
        other.rmdir()


@contextlib.contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """Raises LostTrialError where a path was not found because the attempt's folder is gone."""
    try:
        yield
    except FileNotFoundError:
        if folder.is_dir():
            raise
        raise LostTrialError from None


def publish(files: Path, trial: Path, names: Iterable[str]) -> None:
    """Move files into the trial's folder, where they count; run.parquet last, when all the others
    are on the disk. Raises LostTrialError where the trial was lost, OSError."""
    # The checkpoint before its folder: an attempt that finds it here takes the folder from here.
    names = sorted(names, key=lambda name: (name == RUN, name != CHECKPOINT, name))
    for name in names:
        if name == RUN:
            sync(trial)
        with guarded(files):
            if (trial / name).is_dir():
                # Of an attempt that was killed here; a folder takes the place of an empty one only.
                os.rename(trial / name, files / f".old-{name}")  # noqa: PTH104
            os.replace(files / name, trial / name)  # noqa: PTH105
    sync(trial)


def remove(trial: Path, token: str) -> None:
    """Remove the attempt's folder and all in it, of a trial that is done or left nothing."""
    shutil.rmtree(path_of(trial, token), ignore_errors=True)


def sweep_up(trial: Path) -> None:
    """Remove what attempts left of a trial that is done and that nobody holds."""
    for other in _others(trial, ""):
        shutil.rmtree(other, ignore_errors=True)
