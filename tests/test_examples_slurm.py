"""Programs of other frameworks as jobs of a real Slurm: preempted, then killed, each ends with the
rows of an undisturbed run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from drill import ROOT, Drill, held, wait_for
from outcome import assert_given_back
from test_examples import EXAMPLES, importing, runs  # noqa: F401 - importing is a fixture
from test_kill import kill

from slurm.dev_cluster.cluster import Cluster
from sweeps.state.trial_store import State
from trial_records.trial_files import RUN

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("importing", "forked"),
]

# So many epochs that none is over before it was killed.
DEFINITION = """
from {name} import sweep as example, train
from sweeps import Sweep

base = {{**example.base, "epochs": 40, "lr": 0.01}}
sweep = Sweep(train, base=base, objective=example.task.objective)
"""


@pytest.mark.parametrize("example", ["lightning/lightning_digits", "hugging_face/tiny_gpt"])
def test_preempted_and_killed_as_a_job_it_ends_with_the_rows_of_an_undisturbed_run(
    cluster: Cluster, tmp_path: Path, example: str
) -> None:
    folder, _, name = example.partition("/")
    shutil.copytree(EXAMPLES / folder, tmp_path, dirs_exist_ok=True)
    drill = Drill(tmp_path, DEFINITION.format(name=name))
    drill.launch("--detach")
    with drill.held() as lease:
        cluster.command("scontrol", "requeue", lease.job)
    drill.waits_for_attempt(2)
    with held(drill.store, drill.epochs() + 2) as lease:
        kill(lease.pid)
    wait_for(lambda: drill.standing().state is State.LOST, told=drill.told)
    drill.launch("--detach")
    whole = tmp_path / "whole"
    line = [sys.executable, "-m", "sweeps.launch", str(tmp_path / "drill.py"), "--on", "local"]
    subprocess.run([*line, "--results", str(whole)], cwd=ROOT, check=True)
    wait_for(lambda: drill.standing().state is State.DONE, 240, told=drill.told)
    assert runs(drill.results) == runs(whole)
    (run,) = pq.read_table(drill.store.folder_of(drill.trials[0]) / RUN).to_pylist()
    # The one that was killed is named only if it has committed something.
    assert len(json.loads(run["attempts"])) in (2, 3)
    assert_given_back(drill.results)
