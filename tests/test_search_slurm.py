"""Searches on a real Slurm: trials as jobs, the driver killed, the driver as a job."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from drill import ROOT, running, wait_for
from outcome import assert_one_at_a_time, attempts, still_held
from saved_trials import epochs_of_all

from slurm.dev_cluster.cluster import Cluster
from sweeps.search.optuna_journal import JOURNAL
from trial_records import trial_files

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(500)]

TRIALS, JOBS = 16, 8
SEARCH = """
from sweeps import Search, log_uniform
from trainer.recipes import reported

search = Search(
    base=reported("wrn_10_1").override({
        "data.name": "digits", "data.train_limit": 200, "data.test_limit": 100,
        "model.width": 0.5, "epochs": 2, "batch_size": 64,
    }),
    space={"optimizer.weight_decay": log_uniform(1e-5, 1e-2)}, trials=TRIALS, pruner="none",
)
"""
SITE = """
partition = "gpu"
cpus_per_gpu = 1
mem_gb_per_gpu = 1
minutes = 30
query_seconds = 1
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("c"), cpus_per_node=4) as one:
        yield one


def words(folder: Path, trials: int = TRIALS, jobs: int = JOBS) -> list[str]:
    (folder / "mine.py").write_text(SEARCH.replace("TRIALS", str(trials)))
    (folder / "here.toml").write_text(SITE)
    return [
        str(folder / "mine.py"), "--results", str(folder / "results"), "--json",
        "--site", str(folder / "here.toml"), "--workers", str(jobs),
    ]  # fmt: skip


def most_at_once(logs: list[Path]) -> int:
    """How many trials were in training at the same time, by their logs."""
    changes = []
    for spans in attempts(logs).values():
        for begin, end in spans:
            changes += [(begin, 1), (end, -1)]
    return max(itertools.accumulate(change for _, change in sorted(changes)))


def assert_all_told(results: Path, answer: dict[str, Any], trials: int = TRIALS) -> None:
    told = answer["trials"]
    assert [one["number"] for one in told] == list(range(trials))
    assert {one["state"] for one in told} == {"complete"}
    names = Counter(one["trial"] for one in told)
    assert set(names.values()) == {1}
    assert {path.parent.name for path in results.rglob(trial_files.RUN)} == set(names)
    assert assert_one_at_a_time(list(results.rglob("*_log.out"))) == 1
    (journal,) = results.rglob(JOURNAL)
    for line in journal.read_bytes().splitlines():
        json.loads(line)
    assert not still_held(results)


def test_the_driver_is_killed_ten_times(cluster: Cluster, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sweeps.search", *words(tmp_path), "--on", "slurm"]
    chance = random.Random(7)
    for _ in range(10):
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
            time.sleep(chance.uniform(0.5, 5.0))
            process.send_signal(signal.SIGKILL)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert_all_told(tmp_path / "results", json.loads(done.stdout))
    assert 1 < most_at_once(list((tmp_path / "results").rglob("*_log.out"))) <= JOBS
    wait_for(lambda: not cluster.command("squeue", "--noheader"), 60)


def test_the_driver_is_a_job_that_requeues_itself(cluster: Cluster, tmp_path: Path) -> None:
    sent = subprocess.run(
        ["sbatch", "--parsable", f"--output={tmp_path}/driver.out",
         "--mem=1G", str(ROOT / "slurm" / "search.sbatch"), *words(tmp_path, trials=6, jobs=2)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert sent.returncode == 0, sent.stderr
    job = sent.stdout.strip()
    wait_for(lambda: epochs_of_all(tmp_path / "results"))
    cluster.command("scancel", "--batch", "--signal=USR1", job)  # as before its time runs out
    wait_for(
        lambda: "Restarts=1" in cluster.command("scontrol", "show", "job", job, check=False), 120
    )
    wait_for(lambda: "COMPLETED" in cluster.command("scontrol", "show", "job", job), 240)
    said = (tmp_path / "driver.out").read_text()
    assert "interrupted: the jobs go on" in said
    answer = json.loads(said[said.rindex("\n{\n") :])
    assert_all_told(tmp_path / "results", answer, trials=6)
    assert not os.environ.get("SLURM_JOB_ID")
