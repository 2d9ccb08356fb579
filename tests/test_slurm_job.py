"""What a Slurm job does, in a process that is told by its environment that it is one."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from slurm.job_state import Job, JobState
from slurm.queue import Queue
from sweeps.execution.slurm_job import _end
from sweeps.execution.worker import MAX_DEATHS, Worker
from sweeps.run.ends import LostTrialError
from sweeps.spec.expand import expand
from sweeps.spec.sweep import Sweep, Trial
from sweeps.state import lease as leases
from sweeps.state import unsaved
from sweeps.state.lease import Lease
from sweeps.state.lease_watch import Watch
from sweeps.state.plan import LOGS, Plan
from sweeps.state.progress import look
from sweeps.state.trial_store import State, TrialStore
from trainer.recipes import reported
from trial_records import trial_files

ROOT = Path(__file__).parent.parent
TOKEN = "0" * 12
RUN = """
import sys
from sweeps.execution.slurm_job import TrialJob
folder, plan, trial, token = sys.argv[1:]
TrialJob(folder, plan, trial, token, task=0, launch=1.0)()
"""


@pytest.fixture
def store(tmp_path: Path) -> TrialStore:
    return TrialStore(tmp_path, "sweep")


@pytest.fixture
def trial() -> Trial:
    small = {"data.name": "digits", "data.train_limit": 100, "epochs": 2, "model.width": 0.5}
    return expand(Sweep(base=reported("wrn_10_1").override(small)))[0]


def start(store: TrialStore, plan: Plan, restarts: int) -> subprocess.Popen[str]:
    """A job's process, as its first start or a later one."""
    job = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_LOCALID": "0",
           "SLURM_RESTART_COUNT": str(restarts)}  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(store.folder), plan.id, plan.trials[0].name, TOKEN],
        cwd=ROOT, env=os.environ | job, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_trial_that_dies_at_each_start_of_its_job_is_given_up_with_the_reason(
    store: TrialStore, trial: Trial
) -> None:
    """Slurm requeues a job without end; nobody launches it again."""
    plan = Plan("sweep", [trial], "full", {}, [], "command")
    store.write_plan(plan)
    (store.folder / LOGS).mkdir()
    assert store.lease(trial, 1.0, LOGS, submission=TOKEN, task=0)
    for restarts in range(MAX_DEATHS):
        with start(store, plan, restarts) as process:
            assert process.stderr is not None
            assert any(f"attempt {restarts + 1}" in line for line in process.stderr)
            os.kill(process.pid, signal.SIGKILL)
    with start(store, plan, MAX_DEATHS) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    (progress,) = look(store, [trial], {})
    assert progress.state is State.FAILED
    assert progress.standing.failure is not None
    assert progress.standing.failure.attempt == MAX_DEATHS + 1
    assert progress.cause == "ERROR"
    assert f"died {MAX_DEATHS} times" in progress.note


def test_a_death_counts_only_where_nothing_was_saved(store: TrialStore, trial: Trial) -> None:
    """A worker that is preempted without a warning dies often, and gets on all the same."""
    dead = store.lease(trial, 1.0, "log")
    assert dead is not None
    wanted = Lease(1, 0, 1.0, "log")
    folder = store.folder_of(trial)
    first = leases.take(folder, wanted, lambda *_: False)
    assert first is not None
    assert (first.attempt, first.deaths) == (2, 1)
    (folder / trial_files.CHECKPOINT).touch()
    os.utime(folder / trial_files.CHECKPOINT, (time.time() + 5, time.time() + 5))
    second = leases.take(folder, replace(wanted, token="2"), lambda *_: False)
    assert second is not None
    assert (second.attempt, second.deaths) == (3, 0)


def test_a_trial_that_is_stopped_again_and_again_before_it_saves_fails_with_the_reason(
    store: TrialStore, trial: Trial
) -> None:
    """Its time limit is shorter than the time between two saves; each launch is a new one."""
    folder = store.folder_of(trial)
    for launch in range(MAX_DEATHS):
        lease = store.lease(trial, float(launch), "log")
        assert lease is not None and lease.deaths == launch
        unsaved.add(folder)
        store.release(trial, lease)
    lease = store.lease(trial, 9.0, "log")
    assert lease is not None
    assert not Worker(store, 9.0, "log").run_leased(trial, lease)
    failure = trial_files.Failure.read(folder)
    assert failure is not None
    assert "a time limit may be shorter than the time between two saves" in failure.exception
    # A later launch tries it again, and what was saved meanwhile counts.
    assert unsaved.count(folder) == 0
    unsaved.add(folder)
    (folder / trial_files.CHECKPOINT).touch()
    assert unsaved.count(folder) == 0


@pytest.mark.parametrize(
    "successor",
    [
        {"job": "8"},  # another worker of the same launch
        {"restarts": 1},  # the same job, which Slurm started again elsewhere
    ],
)
def test_a_worker_lets_go_of_a_trial_that_another_start_holds(
    store: TrialStore, trial: Trial, successor: dict[str, str | int]
) -> None:
    """As on a node that Slurm takes for dead, whose processes live on."""
    job = {"submission": "worker-1", "job": "7", "started": True, "restarts": 0}
    worker = Worker(store, 1.0, "log", job=job)
    mine = store.lease(trial, 1.0, "log", **job)
    assert mine is not None
    now = replace(mine, token="its-own", **successor)  # type: ignore[arg-type]
    assert leases.install(store.folder_of(trial), mine, now)
    with pytest.raises(LostTrialError):
        worker.run_leased(trial, mine)
    assert leases.read(store.folder_of(trial)) == now
    assert not (store.folder_of(trial) / trial_files.CHECKPOINT).exists()


def test_a_late_note_of_the_launch_takes_no_trial_from_its_job(
    store: TrialStore, trial: Trial
) -> None:
    sent = store.lease(trial, 1.0, LOGS, submission=TOKEN, task=0)
    assert sent is not None
    folder = store.folder_of(trial)
    mine = replace(sent, token="its-own", job="7", started=True)
    assert leases.install(folder, sent, mine)
    Watch(folder, mine).look()
    assert not leases.install(folder, sent, replace(sent, token="noted", job="7"))
    Watch(folder, mine).look()


def test_a_worker_in_a_job_knows_when_its_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """From what Slurm says in the environment; before 23.02, from squeue."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_END_TIME", "1700000000")
    assert _end() == 1.7e9
    monkeypatch.setenv("SLURM_JOB_END_TIME", "")
    for job, end in ((Job("7", JobState.RUNNING, end=5.0), 5.0), (None, math.inf)):
        monkeypatch.setattr(Queue, "jobs", lambda self, ids, job=job: dict.fromkeys(ids, job))
        assert _end() == end
