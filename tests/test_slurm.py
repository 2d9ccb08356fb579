"""Sweeps on a real Slurm: sent, watched, cancelled, and what its daemons and a launch may suffer.

Where something is disturbed, the results equal an undisturbed run's, bit for bit.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from drill import (
    DEFINITION,
    ROOT,
    SITE,
    Drill,
    Whole,
    empty,
    is_gone,
    replaced,
    wait_for,
)
from outcome import outcome, still_held

from slurm.dev_cluster.cluster import Cluster
from sweeps.state import lease as leases
from sweeps.state.trial_store import State
from trial_records import tables, trial_files

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(400)]

# Nothing happens


def test_a_grid_fills_eight_gpus_from_one_array(cluster: Cluster, tmp_path: Path) -> None:
    """The study's grid at smoke scale, on fewer images yet."""
    results = tmp_path / "results"
    words = ("grid_bs_epoch", "--scale", "smoke", "--results", str(results), "--on", "slurm",
             "--site", "dev_cluster", "--set", "data.name=digits", "--set", "data.train_limit=100",
             "--set", "data.test_limit=100")  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "sweeps.launch", *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    trials = {path.parent.name for path in results.rglob(trial_files.RUN)}
    assert len(trials) == 9
    columns = "--format=JobID,State,Start,End,JobName"

    def jobs() -> list[list[str]]:
        said = cluster.command("sacct", "-X", "--noheader", "--parsable2", columns)
        rows = [row.split("|") for row in said.splitlines()]
        return [row for row in rows if row[-1] in trials]  # each has its trial's name

    wait_for(lambda: [row[1] for row in jobs()] == ["COMPLETED"] * 9, 60)
    assert len({job.partition("_")[0] for job, *_ in jobs()}) == 1
    # At the eighth start none had ended: with one more trial than GPUs, the ninth waits for one.
    begun = sorted(start for _, _, start, _, _ in jobs())
    assert begun[7] <= min(end for _, _, _, end, _ in jobs()) <= begun[8]
    empty(cluster)


def test_two_nodes_agree_with_torchrun(cluster: Cluster, tmp_path: Path) -> None:
    drill = Drill(
        tmp_path, DEFINITION.replace("LR", "[0.1]").replace('"epochs": 14', '"epochs": 3')
    )
    drill.launch("--nodes", "2", "--gpus-per-node", "2")
    (run,) = drill.results.rglob(trial_files.RUN)
    row = tables.read_table(run).to_pylist()[0]
    assert (row["world_size"], row["status"]) == (4, "done")
    out = tmp_path / "torchrun"
    words = ("-m", "torch.distributed.run", "--nproc-per-node", "4", "--standalone", "-m",
             "trainer", str(run.parent / trial_files.CONFIG), str(out))  # fmt: skip
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    here, there = (tables.read_epochs(folder).to_pylist() for folder in (run.parent, out))
    for mine, theirs in zip(here, there, strict=True):
        for loss in ("train_loss", "val_loss"):
            assert mine[loss] == pytest.approx(theirs[loss], abs=1e-6)


def test_workers_take_trial_after_trial(cluster: Cluster, three: Drill, whole: Whole) -> None:
    three.launch("--workers", "2")
    assert outcome(three.results) == whole
    assert len(three.logs()) == 2
    empty(cluster)
    wait_for(lambda: not strays(three), 30)


# Slurm's daemons


def test_the_controller_and_the_accounts_are_away_while_it_runs(
    drill: Drill, cluster: Cluster, whole: Whole
) -> None:
    cluster.kill("slurmdbd")
    try:
        drill.launch("--detach")
        with drill.held():
            cluster.restart("slurmctld")
        drill.ends_as(whole, attempts=1)
    finally:
        cluster.start("slurmdbd")


def test_the_controller_dies_while_it_is_submitted_to(
    drill: Drill, cluster: Cluster, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sbatch waits until it is back, and so does the launch."""
    began = drill.folder / "began"
    with monkeypatch.context() as patch:
        script = f'touch {began}; while [ -e {began} ]; do sleep 0.1; done; exec $real "$@"'
        replaced("sbatch", drill.folder, script, patch)
        launch = subprocess.Popen(
            drill.words("launch", "--detach"), cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
    wait_for(began.exists)
    cluster.kill("slurmctld")
    began.unlink()
    time.sleep(1)
    cluster.start("slurmctld")
    _, said = launch.communicate(timeout=60)
    assert launch.returncode == 0, said
    drill.ends_as(whole, attempts=1)


def test_the_controller_restarts_when_it_has_just_been_submitted_to(
    three: Drill, cluster: Cluster, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = three.folder / "sent"
    with monkeypatch.context() as patch:
        script = f'$real "$@" || exit; touch {sent}; while [ -e {sent} ]; do sleep 0.1; done'
        replaced("sbatch", three.folder, script, patch)
        launch = subprocess.Popen(
            three.words("launch"), cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
    wait_for(sent.exists)
    cluster.restart("slurmctld")
    sent.unlink()
    _, said = launch.communicate(timeout=200)
    assert launch.returncode == 0, said
    three.ends_as(whole, attempts=1)


def test_there_is_no_controller(drill: Drill, cluster: Cluster) -> None:
    cluster.kill("slurmctld")
    try:
        refused = drill.launch("--detach", code=3)
    finally:
        cluster.start("slurmctld")
    assert refused.stderr.splitlines()[-2].startswith("error: ")
    assert not still_held(drill.results)


# The launch


@pytest.mark.parametrize("sends", [False, True])
def test_the_launch_is_killed_around_its_sbatch(
    sends: bool, drill: Drill, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its intent and its sbatch, or between its sbatch and its note."""
    with monkeypatch.context() as patch:
        send = '$real --hold "$@"' if sends else "true"
        replaced("sbatch", drill.folder, f"{send}\nkill -KILL $PPID", patch)
        drill.command("launch", "--detach", code=-signal.SIGKILL)
    lease = drill.standing().lease
    assert lease is not None
    assert lease.submission
    assert not lease.job
    assert drill.standing().state is State.QUEUED
    # A minute later its job is known to be on no way.
    monkeypatch.setattr("sweeps.state.liveness.IN_FLIGHT_SECONDS", 0.0)
    if sends:
        standing = drill.standing()
        assert standing.state is State.QUEUED
        assert standing.job is not None
        assert drill.command("launch", "--detach").returncode == 0  # leaves it alone
        subprocess.run(["scontrol", "release", standing.job.id], check=True)
    else:
        assert drill.standing().state is State.LOST
        path = drill.store.folder_of(drill.trials[0]) / leases.CLAIM
        aged = path.stat().st_mtime - 100
        os.utime(path, (aged, aged))
        drill.launch("--detach")
    drill.ends_as(whole, attempts=1)
    notes = [path for path in drill.logs_folder.glob(".*.json") if len(path.stem) == 13]
    assert len(notes) == (1 if sends else 2)
    assert not list(drill.logs_folder.glob("*.pkl"))


def test_cancel_leaves_nothing(drill: Drill, cluster: Cluster) -> None:
    drill.launch("--detach")
    with drill.held() as lease:
        listed = drill.command("cancel", code=1)
        assert "--yes" in listed.stderr
        assert drill.standing().state is State.RUNNING
        drill.command("cancel", "--yes")
        empty(cluster)
    wait_for(lambda: is_gone(lease.pid) and not strays(drill), 30)
    assert drill.standing().state is State.LOST


def strays(drill: Drill) -> list[str]:
    """The command lines of processes that have to do with a drill's results."""
    done = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if str(drill.results) in line]


def test_workers_that_wait_are_known(three: Drill, cluster: Cluster) -> None:
    """Two of two workers wait: they hold no trial, and are the sweep's all the same."""
    (three.folder / "here.toml").write_text(SITE + "[slurm]\nhold = true\n")
    three.launch("--detach", "--workers", "2")
    assert {one.state for one in three.standings()} == {State.PENDING}
    found = three.store.liveness.workers(three.logs_folder)
    assert len({job.id for job in found}) == 2
    for job in found:
        cluster.command("scancel", job.id)
    empty(cluster)
    three.store.liveness.queue.forget()  # type: ignore[union-attr]
    assert three.store.liveness.workers(three.logs_folder) == []


def test_the_sites_limit_is_kept_and_the_same_command_goes_on(
    three: Drill, cluster: Cluster, whole: Whole
) -> None:
    limited = SITE + "max_submit = 2\n"
    (three.folder / "here.toml").write_text(limited + "[slurm]\nhold = true\n")
    assert "2 of 3 trials were sent" in three.launch("--detach", code=3).stderr
    assert "0 of 1 trials were sent" in three.launch("--detach", code=3).stderr
    held = [one.lease.job for one in three.standings() if one.lease is not None]
    cluster.command("scontrol", "release", *held)
    empty(cluster)
    (three.folder / "here.toml").write_text(limited)
    three.launch()
    assert outcome(three.results) == whole


def test_slurm_refuses_a_partition_and_nothing_is_half_sent(drill: Drill, cluster: Cluster) -> None:
    (drill.folder / "here.toml").write_text(SITE.replace('"gpu"', '"gpux"'))
    refused = drill.launch(code=3)
    assert "invalid partition" in refused.stderr
    assert not still_held(drill.results)
    assert not list(drill.logs_folder.glob(".*.pkl"))
    empty(cluster)


def test_five_hundred_queued_trials_cost_one_squeue(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = DEFINITION.replace("LR", "[i / 1000 + 0.001 for i in range(500)]")
    drill = Drill(tmp_path, many, SITE + 'constraint = ""\n[slurm]\nhold = true\n')
    drill.launch("--detach")
    calls = tmp_path / "calls"
    with monkeypatch.context() as patch:
        for name in ("squeue", "sacct"):
            replaced(name, tmp_path, f'echo {name} >>{calls}\nexec $real "$@"', patch)
        started = time.monotonic()
        value = json.loads(drill.command("status", "--json").stdout)
    print(f"status of 500 queued trials: {time.monotonic() - started:.2f} s")
    assert value["counts"]["queued"] == 500
    assert "you hold it: scontrol release" in value["trials"][0]["note"]
    said = calls.read_text().split()
    assert said.count("squeue") == 1
    assert said.count("sacct") <= 1
    before = kills(cluster)
    drill.command("cancel", "--yes")
    assert 1 <= kills(cluster) - before <= 2  # all of an array at once; again for what came late
    empty(cluster)


def kills(cluster: Cluster) -> int:
    """How often the controller was asked to end jobs."""
    told = re.findall(r"KILL_JOB\s+\(\s*\d+\) count:(\d+)", cluster.command("sdiag"))
    return sum(map(int, told))
