"""How often in a row the cluster stopped a trial before it had saved anything: where its time limit
is shorter than the time between two saves, it would never get on.

RESULTS/SWEEP/TRIAL/unsaved.json
"""

from __future__ import annotations

from pathlib import Path

from local_machine.errors import InputError
from local_machine.json_files import read_json, write_json
from sweeps.state import lease as leases

FILE = "unsaved.json"


def count(trial: Path) -> int:
    """0 where it has saved something since, or the file tells nothing."""
    try:
        note = read_json(trial / FILE)
        known = isinstance(note, dict) and note.get("checkpoint") == leases.checkpoint(trial)
        return int(note["stops"]) if known else 0
    except (FileNotFoundError, InputError, KeyError, TypeError, ValueError):
        return 0


def add(trial: Path) -> None:
    """It was stopped once more. Raises OSError."""
    stops = count(trial) + 1
    write_json(trial / FILE, {"stops": stops, "checkpoint": leases.checkpoint(trial)})


def clear(trial: Path) -> None:
    (trial / FILE).unlink(missing_ok=True)
