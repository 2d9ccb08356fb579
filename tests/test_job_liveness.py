"""Whose a lease is, against small executables that stand where Slurm's commands do."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from test_queue import Slurm, live, past

from slurm.queue import Queue
from sweeps.execution import slurm_job
from sweeps.state import liveness
from sweeps.state.lease import Lease
from sweeps.state.liveness import Liveness

TOKEN, OTHER = "0123456789ab", "ba9876543210"


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    fakes = Slurm(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    fakes.says("squeue")
    fakes.says("sacct")
    return fakes


def lease(submission: str = TOKEN, **of: object) -> Lease:
    return Lease(1, 0, 1.0, "log", submission=submission, job="7", started=True, **of)  # type: ignore[arg-type]


def is_alive(one: Lease) -> bool:
    return Liveness(Queue()).is_alive(one, Path("/nowhere"))


@pytest.mark.parametrize(
    ("state", "restarts", "of_worker", "of_trial"),
    [
        ("RUNNING", 1, True, True),  # the same start
        ("RUNNING", 2, False, True),
        ("PENDING", 2, False, True),
        ("COMPLETING", 2, True, True),  # its last start may still be there
        ("COMPLETED", 1, False, False),
    ],
)
def test_a_worker_that_was_started_again_has_left_its_trial_behind(
    slurm: Slurm, state: str, restarts: int, of_worker: bool, of_trial: bool
) -> None:
    """A trial's own job finds its lease again; a worker knows nothing of what it did."""
    slurm.says("squeue", rows=[live("7", state, restarts=str(restarts))])
    assert is_alive(lease(f"worker-{TOKEN}", restarts=1)) is of_worker
    assert is_alive(lease(restarts=1)) is of_trial


@pytest.mark.parametrize(
    ("comment", "alive"),
    [
        (TOKEN, True),
        (f"{TOKEN} 89abcdef", True),  # as the job names itself once it runs
        ("(null)", True),
        ("my own words", True),  # a cluster that puts its own there
        (OTHER, False),
        (f"worker-{OTHER}", False),
    ],
)
def test_a_job_number_that_was_given_anew_is_another_job(
    slurm: Slurm, comment: str, alive: bool
) -> None:
    slurm.says("squeue", rows=[live("7", comment=comment)])
    assert is_alive(lease()) is alive


def test_the_workers_of_a_sweep_are_known_without_a_lease(slurm: Slurm, tmp_path: Path) -> None:
    rows = [
        live("7_0", "PENDING", comment=f"worker-{TOKEN}"),
        live("7_1", comment=f"worker-{TOKEN}"),
        live("7_2", "COMPLETED", comment=f"worker-{TOKEN}"),
        live("8", "PENDING", comment=f"worker-{OTHER}"),  # of a sweep in another folder
        live("9", comment=TOKEN),  # a trial's own job
        live("10_0", submitted="1795492001"),
        live("10_1", "PENDING", submitted="1795492055", restarts="1"),
        live("100_1", "PENDING", submitted="1795492001"),
        live("11", submitted="1795492001"),
    ]
    slurm.says("squeue", rows=rows)
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / liveness.mark_of(TOKEN)).touch()
    (logs / liveness.mark_of_array("10", 1795492001.0)).touch()
    (logs / liveness.mark_of_array("11", 1795000000.0)).touch()  # of an earlier cluster
    found = Liveness(Queue()).workers(logs)
    assert [one.id for one in found] == ["7_0", "7_1", "10_0", "10_1"]
    assert Liveness(None).workers(logs) == []


def test_an_array_begins_once_and_its_number_may_come_again(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What failed before the first of its tasks began is tried again, what failed since is not."""
    logs = tmp_path / "logs"
    logs.mkdir()
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")

    def begins(task: int, submitted: int, restarts: int = 0) -> float:
        row = live(f"7_{task}", submitted=str(submitted), restarts=str(restarts))
        slurm.says("squeue", rows=[row])
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(task))
        time.sleep(0.01)
        return slurm_job._first_start(logs, "7")

    first = begins(0, 1795492001)
    assert begins(1, 1795492001) == first
    assert begins(0, 1795492099, restarts=1) == first
    another = begins(0, 1795500000)
    assert another > first
    assert begins(1, 1795500044, restarts=2) == another


def test_a_job_that_slurm_knows_no_more_is_over(slurm: Slurm) -> None:
    assert not is_alive(lease())
    slurm.says("sacct", rows=[past("7", "TIMEOUT")])
    assert not is_alive(lease())


def test_a_job_of_another_cluster_on_the_same_files_is_left_alone(slurm: Slurm) -> None:
    """This Slurm does not know it, which says nothing."""
    slurm.says("scontrol", raw="ClusterName = here\nSLURM_VERSION = 22.05\n")
    assert is_alive(lease(cluster="there"))
    assert not is_alive(lease(cluster="here"))
    assert not is_alive(lease(cluster="Here"))
    # One that has not started finds its lease gone when it does.
    assert not is_alive(replace(lease(cluster="there"), started=False))
