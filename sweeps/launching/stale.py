"""`--stale`: what other code has trained is trained again, and its records are kept aside."""

from __future__ import annotations

import itertools
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from local_machine.errors import InputError
from local_machine.files import matching
from sweeps.code.other_code import trained_by_other
from sweeps.spec.sweep import Trial
from sweeps.state import lease as leases
from sweeps.state.progress import look
from sweeps.state.trial_store import TrialStore
from trial_records import trial_files

FOLDER = "stale"
"""In a sweep's folder, with a numbered folder for each trial that was set aside."""


def set_aside(store: TrialStore, trials: Sequence[Trial]) -> list[Trial]:
    """Move the folders of finished trials away, so that they are pending; those that were moved.

    Raises InputError where one is in a compact file, or `compact` runs, and OSError.
    """
    from sweeps.compact import archive_writer

    if not trained_by_other(look(store, trials, {})):
        return []
    moved = []
    with archive_writer.held(store):
        # Another launch may have trained some of them again since they were chosen.
        for one in trained_by_other(look(store, trials, {})):
            folder = store.folder_of(one.trial)
            if not (folder / trial_files.RUN).exists():
                raise InputError(
                    f"{one.trial.name} is in a compact file",
                    f"take it out: {shlex.join(_undo(store))}",
                )
            held = leases.read(folder)
            if held is not None and store.liveness.is_alive(held, folder):
                continue  # by who has just finished it
            _move(folder, store.folder / FOLDER)
            moved.append(one.trial)
    if moved:
        print(
            f"{store.sweep}: {len(moved)} done before are trained again; their records are in "
            f"{store.folder / FOLDER}",
            file=sys.stderr,
            flush=True,
        )
    return moved


def _undo(store: TrialStore) -> list[str]:
    results = str(store.folder.parent)
    return ["python", "-m", "sweeps.compact", store.sweep, "--results", results, "--undo"]


def _move(folder: Path, home: Path) -> None:
    """At once; then under names that no pattern for Parquet files finds."""
    home.mkdir(exist_ok=True)
    names = (home / f"{folder.name}.{number}" for number in itertools.count(1))
    aside = next(name for name in names if not name.exists())
    folder.rename(aside)
    # Also what a launch that was killed here has left.
    for path in matching(home, "*/*.parquet"):
        path.rename(path.with_name(f"{path.name}.old"))
