"""Submitting, against small executables that stand where Slurm's commands do."""

from __future__ import annotations

from pathlib import Path

import pytest
from outcome import still_held
from test_queue import Slurm, live

from local_machine.errors import SlurmError
from slurm.queue import Queue
from slurm.site import Resources, Site
from sweeps.execution.backends.backend import Work
from sweeps.execution.backends.slurm import Slurm as SlurmBackend
from sweeps.execution.job_entry import read_note
from sweeps.execution.request import LaunchRequest
from sweeps.execution.slurm_submit import Submission
from sweeps.spec.backend_name import BackendName
from sweeps.spec.expand import expand
from sweeps.spec.grid import grid
from sweeps.spec.sweep import Sweep
from sweeps.state.liveness import Liveness
from sweeps.state.plan import LOGS, Plan
from sweeps.state.trial_store import TrialStore
from trainer.recipes import reported
from trial_records import trial_files


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    fakes = Slurm(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    for command in ("squeue", "sacct", "srun"):
        fakes.says(command)
    fakes.says("sbatch", raw="Submitted batch job 9\n")
    return fakes


@pytest.fixture
def submission(slurm: Slurm, tmp_path: Path) -> Submission:
    sweep = Sweep(base=reported("resnet18"), space=grid({"optimizer.lr": [0.1, 0.2, 0.3]}))
    plan = Plan("sweep", expand(sweep), "full", {}, [], "command")
    queue = Queue(min_seconds=0)
    store = TrialStore(tmp_path / "results", "sweep", Liveness(queue))
    return Submission(store, plan, 1.0, Site(max_submit=3), Resources(), queue)


def hidden(submission: Submission) -> list[str]:
    """The notes and marks that lie in the log folder."""
    return sorted(path.name for path in (submission.store.folder / LOGS).glob(".*"))


def test_what_only_cleans_up_takes_no_room(slurm: Slurm, submission: Submission) -> None:
    """A launch that comes right after the end of another's jobs is not refused."""
    rows = [live("5_0", "COMPLETING"), live("5_1", "COMPLETED"), live("6"), live("7", "PENDING")]
    slurm.says("squeue", rows=rows)
    with pytest.raises(SlurmError, match="1 of 3 trials were sent"):
        submission.trials(submission.plan.trials)


def test_a_job_can_find_what_it_runs_before_its_number_is_known(
    slurm: Slurm, submission: Submission, tmp_path: Path
) -> None:
    """Here it starts before sbatch has answered; where its launch dies then, nothing is missing."""
    logs = submission.store.folder / LOGS
    fake = tmp_path / "bin" / "sbatch"
    fake.write_text(
        f'#!/bin/bash\ncp {logs}/.*.json {tmp_path}/early.json && cp "$1" {tmp_path}/script\n'
        "echo Submitted batch job 9\n"
    )
    assert submission.trials(submission.plan.trials) == 3
    early = read_note(tmp_path / "early.json")
    assert early.trials == [trial.name for trial in submission.plan.trials] and not early.jobs
    (note,) = hidden(submission)
    assert read_note(logs / note).jobs == ["9_0", "9_1", "9_2"]
    assert note.removeprefix(".").removesuffix(".json") in (tmp_path / "script").read_text()


def test_what_a_job_runs_is_read_from_no_folder_that_others_may_write(
    slurm: Slurm, submission: Submission, tmp_path: Path
) -> None:
    """Neither a script nor a pickle lies with the logs, which colleagues may write."""
    fake = tmp_path / "bin" / "sbatch"
    fake.write_text(
        f'#!/bin/bash\nrealpath "$1" >{tmp_path}/where\n'
        f"ls {submission.logs} >{tmp_path}/there\necho Submitted batch job 9\n"
    )
    submission.trials(submission.plan.trials)
    folder = Path((tmp_path / "where").read_text().strip()).parent
    assert not folder.is_relative_to(tmp_path) and not folder.exists()
    assert (tmp_path / "there").read_text() == ""
    assert {path.suffix for path in submission.logs.iterdir()} == {".json"}


def test_what_was_refused_leaves_nothing(slurm: Slurm, submission: Submission) -> None:
    slurm.says("sbatch", rc=1, stderr="sbatch: error: invalid partition specified: gpux\n")
    with pytest.raises(SlurmError, match="invalid partition"):
        submission.trials(submission.plan.trials)
    with pytest.raises(SlurmError, match="invalid partition"):
        submission.workers(2, [submission.plan], retry=False)
    assert hidden(submission) == []
    assert not still_held(submission.store.folder)


def test_workers_are_the_sweeps_from_before_they_are_sent(
    slurm: Slurm, submission: Submission
) -> None:
    ids = submission.workers(2, [submission.plan], retry=False)
    assert ids == ["9_0", "9_1"]
    (mark,) = hidden(submission)
    rows = [live("9_0", "PENDING", comment=mark[1:]), live("9_1", comment=mark[1:])]
    slurm.says("squeue", rows=rows)
    found = submission.store.liveness.workers(submission.store.folder / LOGS)
    assert [job.id for job in found] == ids


def test_a_launch_is_over_when_its_last_trial_is_done(slurm: Slurm, submission: Submission) -> None:
    """It does not wait for Slurm to say so, which it is seldom asked."""
    plan, store = submission.plan, submission.store
    slurm.says("squeue", rows=[live("9")])
    jobs = SlurmBackend(store, LaunchRequest(BackendName.SLURM, Site(), Resources(), workers=1))
    jobs.submit(Work(store, [plan], plan.trials, launch=1.0))
    for trial in plan.trials:
        assert jobs.poll()
        store.folder_of(trial).mkdir(parents=True)
        (store.folder_of(trial) / trial_files.RUN).touch()
    asked = len(slurm.calls("squeue"))
    assert not jobs.poll() and len(slurm.calls("squeue")) == asked
