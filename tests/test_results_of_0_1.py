"""What version 0.1 left is read, resumed and finished, bit for bit. make.py in results_of_0_1 made
it: a sweep of three trials that was stopped in its second, the same one undisturbed, and a job that
waits in a queue."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from analysis.cifar10.task import load
from trial_records import plan as plans
from trial_records import tables, trial_files

pytestmark = pytest.mark.usefixtures("forked")

ROOT = Path(__file__).parent.parent
OLD = Path(__file__).parent / "results_of_0_1"
DONE, BEGUN, PENDING = "lr0.1-seed42-99a3b560", "lr0.05-seed42-f16713e3", "lr0.01-seed42-1e91ca44"
OF_TIME = ("seconds", "images_per_second")
# What a job of the old launch finds in its environment, and what the old launch sent it to do.
JOB = {
    "SLURM_JOB_ID": "3", "SLURM_ARRAY_JOB_ID": "1", "SLURM_ARRAY_TASK_ID": "2",
    "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_LOCALID": "0",
}  # fmt: skip
QUEUED = """
import dataclasses, sys
from submitit.core.utils import DelayedSubmission
import sweeps
job = DelayedSubmission.load(sys.argv[1]).function
dataclasses.replace(job, folder=sys.argv[2])()
"""


def python(*words: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=ROOT, env=os.environ | more, capture_output=True, text=True,
    )  # fmt: skip


def states(results: Path, sweep: str = "small") -> dict[str, str]:
    done = python("-m", "sweeps.status", sweep, "--results", results, "--json")
    shown = json.loads(done.stdout)
    assert not shown["problems"] + [trial for trial in shown["trials"] if trial["problem"]]
    return {trial["name"]: trial["state"] for trial in shown["trials"]}


def epochs(folder: Path) -> pa.Table:
    return tables.read_epochs(folder).drop_columns(OF_TIME)


def check_equal(folder: Path) -> None:
    """As the undisturbed run of version 0.1 has it: bit for bit where the processor and torch are
    those that it ran on."""
    expected = OLD / "undisturbed" / "small" / folder.name
    (plan,) = (OLD / "undisturbed" / "small" / "plans").iterdir()
    (fingerprint,) = (one.fingerprint for one in plans.read(plan).trials if one.name == folder.name)
    run, old = (tables.read_run(one, fingerprint) for one in (folder, expected))
    mine, its = epochs(folder), epochs(expected)
    if run["device"] == old["device"] and run["torch_version"] == old["torch_version"]:
        assert mine.equals(its)
        assert run["test_accuracy"] == old["test_accuracy"]
        assert run["test_loss"] == old["test_loss"]
    else:
        for name in ("lr", "train_loss", "val_loss"):
            assert mine[name].to_pylist() == pytest.approx(its[name].to_pylist(), rel=0.02)


@pytest.fixture
def halfway(tmp_path: Path) -> Path:
    shutil.copytree(OLD / "halfway", tmp_path / "results")
    return tmp_path / "results"


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


@pytest.mark.long
def test_a_sweep_is_gone_on_with_and_ends_as_if_nothing_had_been(halfway: Path) -> None:
    assert states(halfway) == {DONE: "done", BEGUN: "pending", PENDING: "pending"}
    before = contents(halfway / "small" / DONE)
    words = ["--on", "local", "--workers", "1", "--scale", "smoke", "--results", halfway]
    done = python("-m", "sweeps.launch", OLD / "small.py", *words)
    assert done.returncode == 0, done.stderr
    assert "2 pending, 1 done; 2 to run" in done.stderr
    assert contents(halfway / "small" / DONE) == before
    assert states(halfway) == dict.fromkeys((DONE, BEGUN, PENDING), "done")
    logs = sorted((halfway / "small" / "logs").glob("*.log"))
    # 18 steps an epoch, four of which the checkpoint has of the third.
    assert "resuming at epoch 2, step 4" in logs[-1].read_text()
    for name in (DONE, BEGUN, PENDING):
        check_equal(halfway / "small" / name)
    resumed = tables.read_epochs(halfway / "small" / BEGUN).slice(0, 2)
    assert resumed.equals(tables.read_epochs(OLD / "halfway" / "small" / BEGUN))


@pytest.mark.long
def test_a_report_is_made_of_it(halfway: Path, tmp_path: Path) -> None:
    words = ["--results", halfway, "--out", tmp_path / "report", "--json"]
    done = python("-m", "analysis.report", "small", *words)
    assert json.loads(done.stdout)["problems"] == [], done.stderr
    assert "Every file was read." in (tmp_path / "report" / "report.md").read_text()


@pytest.mark.long
def test_a_job_that_still_waited_runs_its_trial(tmp_path: Path) -> None:
    shutil.copytree(OLD / "queued", tmp_path / "results")
    folder = tmp_path / "results" / "small"
    assert states(tmp_path / "results")[PENDING] == "queued"
    words = [folder / "logs" / "1_2_submitted.pkl", folder]
    done = python("-c", QUEUED, *words, **JOB)
    assert done.returncode == 0, done.stderr
    assert trial_files.RUN in {path.name for path in (folder / PENDING).iterdir()}, done.stderr
    assert not (folder / PENDING / "claim.json").exists()
    check_equal(folder / PENDING)


@pytest.mark.parametrize(
    "folder", sorted({one.parts[-3] for one in ROOT.glob("results/*/*/plans")})
)
def test_the_results_of_this_repository_are_read_without_a_problem(folder: str) -> None:
    results = ROOT / "results" / folder
    done = python("-m", "sweeps.status", "--results", results, "--json")
    shown = json.loads(done.stdout)
    assert (done.returncode, shown["problems"]) == (0, []), done.stderr
    assert {trial["state"] for trial in shown["trials"]} == {"done"}
    study = load(results, [])
    assert study.problems == []
    assert len(study.trials) == len(shown["trials"])


@pytest.mark.long
def test_a_report_of_them_names_no_problem(tmp_path: Path) -> None:
    results = ROOT / "results" / "h100"
    done = python(
        "-m", "analysis.report", "--results", results, "--out", tmp_path / "report", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["problems"] == []
