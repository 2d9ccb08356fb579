"""What half-finished trials have saved, for the tests that look at it or change it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from local_machine.files import matching
from sweeps.run import attempt_folder
from trainer.records import saved_weights
from trial_records import log, rows, trial_files


def state_of(folder: Path, fingerprint: str) -> dict[str, Any]:
    """The state that was saved last, wherever it is."""
    path = rows.checkpoint_of(folder)
    assert path is not None
    state = saved_weights.load(path, fingerprint)
    assert state is not None
    return state


def rows_of(folder: Path) -> list[log.Values]:
    return log.values_of(rows.read(folder))


def names_in(folder: Path) -> list[str]:
    """Of the files of a trial, those of its attempt without the attempt's token."""
    names = []
    for path in folder.rglob("*"):
        first, *rest = path.relative_to(folder).parts
        if path.is_file():
            attempt = first.startswith(trial_files.ATTEMPT)
            names.append("/".join(["attempt", *rest[1:]] if attempt else [first, *rest]))
    return sorted(names)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def save_as_0_1(folder: Path, state: dict[str, Any], fingerprint: str) -> None:
    """As version 0.1 left a trial that was interrupted."""
    attempt_folder.sweep_up(folder)
    whole = {"schema_version": 1, "fingerprint": fingerprint, **state}
    torch.save(whole, folder / trial_files.CHECKPOINT)


def epochs_in(trial: Path) -> int:
    """How many rows the trial has, committed or not."""
    try:
        return len(rows.read(trial))
    except FileNotFoundError:
        return 0


def epochs_of_all(results: Path) -> int:
    """How many rows all of the trials have."""
    return sum(epochs_in(path.parent) for path in matching(results, f"*/*/{trial_files.CONFIG}"))
