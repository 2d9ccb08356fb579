"""A queued job on a real Slurm trains a person's own network, wherever its file was."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from drill import ROOT, SITE, wait_for
from own_code import CODE, DEFINITION, written

from slurm.dev_cluster.cluster import Cluster
from slurm.queue import Queue
from sweeps.state.liveness import Liveness
from sweeps.state.trial_store import State, TrialStore
from trial_records import tables

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]


def test_a_queued_job_trains_the_network_that_was_sent(cluster: Cluster, tmp_path: Path) -> None:
    """Launched from another working directory; the file is gone before the job starts."""
    theirs, elsewhere, results = (tmp_path / one for one in ("theirs", "elsewhere", "results"))
    elsewhere.mkdir()
    own, mine = written(theirs), written(theirs, DEFINITION, "mine.py")
    own.write_text("from beside import SCALE\n" + CODE)
    written(theirs, "SCALE = 1.0\n", "beside.py")
    site = tmp_path / "here.toml"
    site.write_text(SITE)
    partition = ("scontrol", "update", "PartitionName=gpu")
    cluster.command(*partition, "State=DOWN")
    try:
        done = subprocess.run(
            [
                sys.executable, "-m", "sweeps.launch", str(mine), "--on", "slurm",
                "--site", str(site), "--results", str(results), "--detach",
            ],
            capture_output=True, text=True, cwd=elsewhere, timeout=300,
            env=os.environ | {"PYTHONPATH": str(ROOT), "SWEEPS_SNAPSHOT_MB": "100"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        shutil.rmtree(theirs)
    finally:
        cluster.command(*partition, "State=UP")
    store = TrialStore(results, "mine", Liveness(Queue(min_seconds=0.2)))
    (plan,) = store.plans()

    def over() -> bool:
        states = [one.state for one in store.standings(plan.trials)]
        assert not {State.FAILED, State.LOST} & set(states), states
        return set(states) == {State.DONE}

    wait_for(over, 400, every=1)
    (trial,) = plan.trials
    row = tables.read_run(store.folder_of(trial), trial.fingerprint)
    assert row["model.name"] == f"{own}:Net" and row["final.macro_recall"] > 0
    assert row["snapshot_sha256"] and row["slurm_job_id"]
