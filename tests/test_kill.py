"""kill -9 at any instant: what comes out is what an undisturbed run writes."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest
import torch

from trainer import record

ROOT = Path(__file__).parent.parent
# Dropout and MixUp are on, since they too must be drawn alike after a resume.
DEFINITION = """
from sweeps.space import grid
from sweeps.sweep import Sweep
from trainer.recipes import reported

base = reported("wrn_10_1").override({
    "data.name": "digits", "data.train_limit": 400, "data.test_limit": 100, "model.width": 0.5,
    "epochs": 12, "batch_size": 64, "augment.mixup": 0.2,
})
sweep = Sweep(base=base, space=grid({"optimizer.lr": [0.05, 0.1]}))
"""
KILLS = 10
TIMING = {"seconds", "images_per_second"}
ATTEMPT = re.compile(r"=== trial (\S+), attempt \d+$")


def start(definition: Path, results: Path, workers: int) -> subprocess.Popen[bytes]:
    words = ("--results", str(results), "--on", "local", "--workers", str(workers))
    return subprocess.Popen(
        [sys.executable, "-m", "sweeps.launch", str(definition), *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def workers_of(launch: int) -> list[int]:
    found = subprocess.run(
        ["ps", "--ppid", str(launch), "-o", "pid="], capture_output=True, text=True, check=False
    )
    return [int(word) for word in found.stdout.split()]


def kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it may have ended by itself, just before
        os.kill(process, signal.SIGKILL)


def outcome(results: Path) -> dict[str, tuple[object, ...]]:
    """Each trial's epochs without their timing, its predictions' bytes, its weights' bytes."""
    found: dict[str, tuple[object, ...]] = {}
    for run in results.rglob(record.RUN):
        folder = run.parent
        epochs = [
            {key: value for key, value in row.items() if key not in TIMING}
            for row in record.read_table(folder / record.EPOCHS).to_pylist()
        ]
        state = torch.load(folder / record.CHECKPOINT, weights_only=True)
        weights = {name: value.numpy().tobytes() for name, value in state["best_weights"].items()}
        found[folder.name] = (epochs, (folder / record.PREDICTIONS).read_bytes(), weights)
    return found


def attempts(results: Path) -> dict[str, list[tuple[datetime, datetime]]]:
    """Each trial's attempts in the workers' logs: times of the first and last line."""
    found: dict[str, list[tuple[datetime, datetime]]] = {}
    for log in (results / "killed" / "logs").glob("*.log"):
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


@pytest.mark.timeout(240)
def test_killed_and_resumed_is_bit_for_bit_what_was_undisturbed(tmp_path: Path) -> None:
    definition = tmp_path / "killed.py"
    definition.write_text(DEFINITION)
    assert start(definition, tmp_path / "whole", 2).wait(100) == 0

    results = tmp_path / "pieces"
    moment = random.Random(0)
    kills = 0
    while kills < KILLS:
        with start(definition, results, 2) as process:
            time.sleep(moment.uniform(2.0, 5.0))
            if process.poll() is not None:
                break  # both trials were done before ten kills
            victims = workers_of(process.pid)
            # In turn: everything at once, a worker alone, the launch alone.
            if kills % 3 != 1:
                kill(process.pid)
            for victim in victims if kills % 3 == 0 else victims[: kills % 3 == 1]:
                kill(victim)
            kills += 1
            if kills % 3 == 2:
                time.sleep(1.0)
                kill(process.pid)  # the worker was replaced; now its launch goes too
    print(f"{kills} kills")
    assert kills >= 3
    assert start(definition, results, 2).wait(100) == 0

    whole, pieces = outcome(tmp_path / "whole"), outcome(results)
    assert len(whole) == 2
    assert pieces == whole
    for spans in attempts(results).values():
        for (_, end), (begin, _) in itertools.pairwise(spans):
            assert begin >= end, "two attempts ran at once"
