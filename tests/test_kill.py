"""kill -9 at any instant: what comes out is what an undisturbed run writes."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from outcome import assert_one_at_a_time, outcome
from saved_trials import epochs_of_all

from local_machine.files import matching

# A group, and with test_worker_kills.py one of two: pytest-xdist deals the larger groups first, and
# a long test that was dealt last would run on while the other core idles.
pytestmark = pytest.mark.usefixtures("forked")

ROOT = Path(__file__).parent.parent
# Dropout and MixUp are on, since they too must be drawn alike after a resume.
DEFINITION = """
from sweeps import Sweep, grid
from trainer.recipes import reported

base = reported("wrn_10_1").override({
    "data.name": "digits", "data.train_limit": 200, "data.test_limit": 100, "model.width": 0.5,
    "epochs": 24, "batch_size": 32, "augment.mixup": 0.2,
})
sweep = Sweep(base=base, space=grid({"optimizer.lr": [0.05, 0.1]}))
"""
KILLS = 10


def start(
    definition: Path, results: Path, workers: int, where: str = "local"
) -> subprocess.Popen[bytes]:
    words = ("--results", str(results), "--on", where, "--workers", str(workers))
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


def wait_for_an_epoch(launch: subprocess.Popen[bytes], results: Path) -> None:
    """Until a worker has written one more: killed by the clock, none might ever get so far."""
    before = epochs_of_all(results)
    while launch.poll() is None and epochs_of_all(results) == before:
        time.sleep(0.02)


@pytest.mark.long
@pytest.mark.timeout(240)
def test_killed_and_resumed_is_bit_for_bit_what_was_undisturbed(tmp_path: Path) -> None:
    definition = tmp_path / "killed.py"
    definition.write_text(DEFINITION)
    # In one process, so that one import of torch serves both trials.
    assert start(definition, tmp_path / "whole", 1, "debug").wait(100) == 0

    results = tmp_path / "pieces"
    moment = random.Random(0)
    kills = 0
    while kills < KILLS:
        with start(definition, results, 2) as process:
            wait_for_an_epoch(process, results)
            time.sleep(moment.uniform(0.0, 0.3))
            if len(list(matching(results, "**/run.parquet"))) == 2:
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
    assert_one_at_a_time((results / "killed" / "logs").glob("*.log"))
