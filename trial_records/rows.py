"""The rows of a trial that is not done: what its attempts have measured so far."""

from __future__ import annotations

import os
from pathlib import Path

from local_machine.files import read_file, unreadable
from trial_records import log
from trial_records.log import Row
from trial_records.trial_files import ATTEMPT, CHECKPOINT, FILES, LOG

# So often a folder is looked for that is just being moved.
_LOOKS = 5


def read(folder: Path) -> list[Row]:
    """The committed rows of the trial, then those that its running attempt may still take back; of
    a trial that has no log, as version 0.1 left it, those of its epochs.parquet.

    Raises FileNotFoundError where it has neither, InputError where a file is damaged or cannot be
    read.
    """
    for _ in range(_LOOKS):
        found = attempt_files(folder)
        for files in found:
            try:
                return log.rows(read_file(files / LOG))
            except FileNotFoundError:
                continue
        if not found:
            break
    # pyarrow takes a quarter of a second.
    from trial_records import tables

    return [Row(row, 0, True) for row in tables.read_epochs(folder).to_pylist()]


def attempt_files(folder: Path) -> list[Path]:
    """The folders of the attempts' files; one, unless an attempt is just taking it over. Raises
    InputError where the trial's folder cannot be read."""
    try:
        with os.scandir(folder) as entries:
            names = [
                entry.name
                for entry in entries
                if entry.name.startswith(ATTEMPT) and entry.is_dir(follow_symlinks=False)
            ]
        return [files for name in names if (files := folder / name / FILES).is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise unreadable(folder, error) from None


def checkpoint_of(folder: Path) -> Path | None:
    """Where the checkpoint of a trial is; None for none. Raises InputError, OSError."""
    places = [*attempt_files(folder), folder]
    return next((path for one in places if (path := one / CHECKPOINT).exists()), None)
