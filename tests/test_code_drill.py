"""Queued jobs on a real Slurm run the code that was sent, whatever becomes of the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from code_projects import commit_all, written
from drill import ROOT, SITE, wait_for

from slurm.dev_cluster.cluster import Cluster
from slurm.queue import Queue
from sweeps.state.liveness import Liveness
from sweeps.state.trial_store import State, TrialStore
from trial_records import tables

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]


def test_forty_queued_jobs_run_the_sent_code(cluster: Cluster, tmp_path: Path) -> None:
    """The checkout is edited so that it would fail, and then deleted."""
    project = written(tmp_path / "project", trials=40)
    commit = commit_all(project)
    (project / "lib" / "scores.py").write_text("BASE = 2.0  # not committed\n")
    site, results = tmp_path / "here.toml", tmp_path / "results"
    site.write_text(SITE)
    partition = ("scontrol", "update", "PartitionName=gpu")
    cluster.command(*partition, "State=DOWN")
    try:
        done = subprocess.run(
            [
                sys.executable, "-m", "sweeps.launch", "experiment.py", "--on", "slurm",
                "--site", str(site), "--results", str(results), "--detach",
            ],
            capture_output=True, text=True, cwd=project, timeout=300,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        (project / "experiment.py").write_text("raise SystemExit('edited')\n")
        (project / "lib" / "scores.py").write_text("raise SystemExit('edited')\n")
        commit_all(project)
        shutil.rmtree(project)
    finally:
        cluster.command(*partition, "State=UP")
    store = TrialStore(results, "experiment", Liveness(Queue(min_seconds=0.2)))
    (plan,) = store.plans()
    assert len(plan.trials) == 40

    def over() -> bool:
        states = [one.state for one in store.standings(plan.trials)]
        assert not {State.FAILED, State.LOST} & set(states), states
        return set(states) == {State.DONE}

    wait_for(over, 400, every=1)
    (snapshot,) = (results / "experiment" / "code").glob("*.tar.gz")
    for trial in plan.trials:
        row = tables.read_run(store.folder_of(trial), trial.fingerprint)
        assert row["snapshot_sha256"] == snapshot.name.partition(".")[0]
        assert (row["git_commit"], row["git_dirty"]) == (commit, True)
        assert row["objective"] == 2.0 * trial.values["lr"]
        assert row["final.table"] == 5.0
