"""A search of a space with branches on a real Slurm, whose driver is killed ten times."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from drill import ROOT, SITE, wait_for
from outcome import assert_given_back
from test_conditional_search import DEFINITIONS, END, HEAD, check, refused

from local_machine.files import matching
from slurm.dev_cluster.cluster import Cluster
from sweeps.search.optuna_journal import load
from trial_records import tables, trial_files

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]

TRIALS, KILLS, JOBS = 40, 10, 8


def test_forty_trials_are_told_once_each_though_the_driver_is_killed_ten_times(
    cluster: Cluster, tmp_path: Path
) -> None:
    del cluster  # its environment
    results = tmp_path / "results"
    search = HEAD + DEFINITIONS["data"] + END.replace("trials=14", f"trials={TRIALS}")
    (tmp_path / "mine.py").write_text(search)
    (tmp_path / "here.toml").write_text(SITE)
    command = [
        sys.executable, "-m", "sweeps.search", str(tmp_path / "mine.py"), "--results", str(results),
        "--json", "--on", "slurm", "--site", str(tmp_path / "here.toml"), "--workers", str(JOBS),
    ]  # fmt: skip

    def begun() -> int:
        return len(matching(results, f"**/{trial_files.CONFIG}"))

    kills = 0
    with (tmp_path / "said").open("a") as log:
        while kills < KILLS:
            least = begun() + 2
            with subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log) as driver:
                wait_for(lambda: begun() >= least or driver.poll() is not None, every=0.1)  # noqa: B023
                assert driver.poll() is None, (tmp_path / "said").read_text()
                driver.send_signal(signal.SIGKILL)
            kills += 1
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["trials"]
    assert len(told) == TRIALS
    assert {one["state"] for one in told} == {"complete"}
    for one in told:
        check(one["params"])
    runs = matching(results, f"**/{trial_files.RUN}")
    assert {one["trial"] for one in told} == {path.parent.name for path in runs}
    # Jobs go on while their driver is gone, so none ran twice.
    rows = [tables.read_table(path).to_pylist()[0] for path in runs]
    assert {len(json.loads(row["attempts"])) for row in rows} == {1}
    assert_given_back(results)
    # As optuna-dashboard opens them, each under a name of its own.
    (journal,) = matching(results, "**/journal.log")
    study = load(journal)
    assert study.study_name == f"mine-{journal.parent.name}"
    assert len(study.trials) == TRIALS + refused(study)
