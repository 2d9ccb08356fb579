"""What a cluster does to jobs, on a real Slurm: time limits, preemption, lost nodes, kills.

Each drill ends with results equal to an undisturbed run's, bit for bit, and with no two attempts at
once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from drill import SITE, Drill, Whole, go_on, is_gone, variable, wait_for
from outcome import assert_one_at_a_time

from slurm.dev_cluster.cluster import Cluster
from sweeps.state.trial_store import State

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(400)]


# The end of a job's time


def test_the_time_limit_comes_twice_and_nothing_shows(
    cluster: Cluster, tmp_path: Path, whole: Whole
) -> None:
    """The trial is held until its warning is there: at its own pace it needs no minute.

    Slurm looks at limits every 30 s and warns half a minute early rather than late: here when the
    job has run for 25 to 55 s. Earlier, and a slow machine would be warned before it has begun to
    train, again and again.
    """
    site = SITE.replace("minutes = 30", "minutes = 1").replace("= 20", "= 5")
    drill = Drill(tmp_path, site=site)
    drill.launch("--detach")
    for attempt, epochs in ((1, 2), (2, 5)):
        drill.waits_for_attempt(attempt)
        with drill.held(epochs):
            wait_for(lambda n=attempt: drill.said().count("SIGUSR2: stopping") == n, 70)
    # On a slow machine its last attempt may be warned as well.
    drill.ends_as(whole, attempts=3, most=9)


@pytest.mark.parametrize("warning", ["signal", "SIGTERM", "none"])
def test_preemption(warning: str, drill: Drill, cluster: Cluster, whole: Whole) -> None:
    """By a higher partition: with the job's own signal, with SIGTERM, or at once."""
    with contextlib.ExitStack() as stack:
        if warning == "SIGTERM":
            stack.enter_context(without_user_signal(cluster))
        if warning == "none":
            partition = ("scontrol", "update", "PartitionName=gpu")
            cluster.command(*partition, "GraceTime=0")
            stack.callback(cluster.command, *partition, "GraceTime=10")
        drill.launch("--detach")
        with drill.held() as lease:
            node = node_of(cluster, lease.job)
            cluster.command(
                "sbatch", "--partition=high", f"--nodelist={node}", "--exclusive",
                "--output=/dev/null", "--wrap=true",
            )  # fmt: skip
            number = "SIGUSR2" if warning == "signal" else "SIGTERM"
            wait_for(lambda: f"{number}: stopping" in drill.said(), 60)
        drill.waits_for_attempt(2)
        # Where it gives no notice, Slurm has requeued the job before it asks, or kills it before.
        if warning != "none":
            assert "not requeueing job" not in drill.said()
        drill.ends_as(whole, attempts=2)


@contextlib.contextmanager
def without_user_signal(cluster: Cluster) -> Iterator[None]:
    """A cluster that sends SIGTERM when a job's grace begins, as it does unless told otherwise."""
    conf = cluster.folder / "etc" / "slurm.conf"
    text = conf.read_text()
    changed = "".join(
        line for line in text.splitlines(keepends=True) if "send_user_signal" not in line
    )
    assert changed != text
    conf.write_text(changed)
    cluster.restart("slurmctld")
    try:
        yield
    finally:
        conf.write_text(text)
        cluster.restart("slurmctld")


def node_of(cluster: Cluster, job: str) -> str:
    return cluster.command("squeue", "--noheader", f"--jobs={job}", "--format=%N").strip()


def test_requeue_by_hand(drill: Drill, cluster: Cluster, whole: Whole) -> None:
    drill.launch("--detach")
    with drill.held() as lease:
        cluster.command("scontrol", "requeue", lease.job)
    drill.waits_for_attempt(2)
    drill.ends_as(whole, attempts=2)


@pytest.mark.parametrize("command", ["scontrol", "squeue"])
def test_a_job_that_slurm_puts_back_goes_on_whatever_it_was_told(
    command: str, cluster: Cluster, tmp_path: Path, whole: Whole
) -> None:
    """It is preempted while it asks to be requeued: it is refused, or hears nothing."""
    folder, back = tmp_path / "bin", tmp_path / "back"
    drill = Drill(tmp_path, site=f'{SITE}setup = ["export PATH={folder}:$PATH"]\n')
    first = f"touch {back}; /usr/bin/scontrol requeue $(<{back}.armed); exit 1"
    asked = '[ "$1" = requeue ]' if command == "scontrol" else "true"
    folder.mkdir()
    (folder / command).write_text(
        f"#!/bin/bash\nif {asked} && [ -e {back}.armed ] && [ ! -e {back} ]; then {first}; fi\n"
        f'exec /usr/bin/{command} "$@"\n'
    )
    (folder / command).chmod(0o755)
    drill.launch("--detach")
    with drill.held() as lease:
        Path(f"{back}.armed").write_text(lease.job)
        os.kill(lease.pid, signal.SIGTERM)
    wait_for(back.exists, told=drill.told)
    drill.waits_for_attempt(2)
    drill.ends_as(whole, attempts=2)


# Ends without a word


def test_scancel_of_one_task_loses_that_one(cluster: Cluster, three: Drill, whole: Whole) -> None:
    three.launch("--detach")
    with three.held() as lease:
        cluster.command("scancel", lease.job)
        wait_for(lambda: State.LOST in [one.state for one in three.standings()])
    lost = [one for one in three.standings() if one.state is State.LOST]
    assert [one.lease and one.lease.job for one in lost] == [lease.job]
    three.ends_as(whole, attempts=2)


def test_kill_9_of_the_process_and_of_the_batch_script(drill: Drill, whole: Whole) -> None:
    drill.launch("--detach")
    with drill.held() as lease:
        os.kill(lease.pid, signal.SIGKILL)
    wait_for(lambda: drill.standing().state is State.LOST, 60)
    drill.launch("--detach")
    with drill.held(drill.epochs() + 2) as lease:
        found = subprocess.run(
            ["pgrep", "--full", f"job0*{lease.job}/slurm_script"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        for pid in found.stdout.split():
            os.kill(int(pid), signal.SIGKILL)
        wait_for(lambda: drill.standing().state is State.LOST, 60)
    drill.ends_as(whole, attempts=3)


def test_a_rank_that_dies_takes_its_attempt_down(drill: Drill) -> None:
    drill.launch("--detach", "--gpus-per-node", "2")
    with drill.held():
        found = subprocess.run(
            ["pgrep", "--full", f"sweeps.execution.job_entry .*{drill.results}"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        ranks = [int(pid) for pid in found.stdout.split()]
        os.kill(next(pid for pid in ranks if variable(pid, "SLURM_PROCID") == "1"), signal.SIGKILL)
    # Rank 0 may see the connection break before Slurm ends it: then it says so itself.
    wait_for(lambda: drill.standing().state in (State.LOST, State.FAILED), 60)
    failure = drill.standing().failure
    assert failure is None or failure.cause == "NCCL"
    for pid in ranks:
        wait_for(lambda pid=pid: is_gone(pid), 30)
    drill.launch("--gpus-per-node", "2")
    assert drill.standing().state is State.DONE
    assert_one_at_a_time(drill.logs())


@pytest.mark.parametrize("workers", [(), ("--workers", "1")], ids=["trial", "worker"])
def test_a_node_that_is_taken_for_dead(
    workers: tuple[str, ...], drill: Drill, cluster: Cluster, whole: Whole
) -> None:
    """Its slurmd is, and the trial's process is not: it wakes beside its successor.

    The successor of a worker is the same job, which finds the lease of its own earlier start.
    """
    drill.launch("--detach", *workers)
    with drill.held() as old:
        node = node_of(cluster, old.job)
        cluster.kill("slurmd", node)
        try:
            cluster.command("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=drill")
            drill.waits_for_attempt(2)
            with drill.held(drill.epochs() + 1):
                go_on(old)
                wait_for(lambda: is_gone(old.pid), 30)
        finally:
            cluster.start("slurmd", node)
            cluster.command("scontrol", "update", f"NodeName={node}", "State=RESUME", check=False)
    drill.ends_as(whole, attempts=2)
