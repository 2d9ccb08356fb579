"""What a finished sweep left, and how its attempts lay in time; for the tests that break it."""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import torch

from local_machine.files import matching
from sweeps.state import lease as leases
from trial_records import tables, trial_files

TIMING = {"seconds", "images_per_second"}
ATTEMPT = re.compile(r"=== trial (\S+), attempt \d+$")


def still_held(results: Path) -> list[Path]:
    """The folders that a lease holds."""
    # Unlike glob, it passes over a folder that is removed meanwhile.
    found = (Path(at) for at, _, names in os.walk(results) if leases.CLAIM in names)
    return [folder for folder in found if leases.read(folder) is not None]


def assert_given_back(results: Path, seconds: float = 30) -> None:
    """No lease is held, soon: a trial is done before its lease is given back."""
    deadline = time.monotonic() + seconds
    while held := still_held(results):
        assert time.monotonic() < deadline, held
        time.sleep(0.05)


def outcome(results: Path) -> dict[str, tuple[object, ...]]:
    """Each trial's epochs without their timing, its predictions' bytes, its weights' bytes."""
    found: dict[str, tuple[object, ...]] = {}
    for run in matching(results, f"**/{trial_files.RUN}"):
        folder = run.parent
        epochs = [
            {key: value for key, value in row.items() if key not in TIMING}
            for row in tables.read_epochs(folder).to_pylist()
        ]
        saved = torch.load(folder / trial_files.CHECKPOINT, weights_only=True)
        state = saved.get("state", saved)  # beside it in version 0.1
        weights = {name: value.numpy().tobytes() for name, value in state["best_weights"].items()}
        found[folder.name] = (epochs, (folder / trial_files.PREDICTIONS).read_bytes(), weights)
    return found


def attempts(logs: Iterable[Path]) -> dict[str, list[tuple[datetime, datetime]]]:
    """Each trial's attempts in the workers' logs: times of the first and last line."""
    found: dict[str, list[tuple[datetime, datetime]]] = {}
    for log in logs:
        trial = ""
        for line in log.read_text().splitlines():
            stamp = re.match(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) ", line)
            if stamp is None:
                continue
            now = datetime.strptime(stamp[1], "%Y-%m-%d %H:%M:%S,%f")
            if (begun := ATTEMPT.search(line)) is not None:
                trial = begun[1]
                found.setdefault(trial, []).append((now, now))
            elif trial:
                first, _ = found[trial].pop()
                found[trial].append((first, now))
                if "=== end of" in line:
                    trial = ""
    return {trial: sorted(spans) for trial, spans in found.items()}


def assert_one_at_a_time(logs: Iterable[Path]) -> int:
    """Fails where two attempts at a trial overlap; the greatest number of attempts at one."""
    spans = attempts(logs)
    for one in spans.values():
        for (_, end), (begin, _) in itertools.pairwise(one):
            assert begin >= end, "two attempts ran at once"
    return max(map(len, spans.values()))
