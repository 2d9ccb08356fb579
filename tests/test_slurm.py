"""Sweeps on a real Slurm, and everything that a cluster does to them.

Each drill ends with results equal to an undisturbed run's, bit for bit, and with no two attempts at
once.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from outcome import assert_one_at_a_time, outcome

from slurm import dev_cluster
from slurm.dev_cluster import Cluster
from slurm.errors import SlurmError
from slurm.queue import Queue
from sweeps.ledger import Ledger, Standing, State
from sweeps.scheduler import Scheduler
from trainer import record

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(400)]

ROOT = Path(__file__).parent.parent
DEFINITION = """
from sweeps.space import grid
from sweeps.sweep import Sweep
from trainer.recipes import reported

base = reported("wrn_10_1").override({
    "data.name": "digits", "data.train_limit": 400, "data.test_limit": 100, "model.width": 0.5,
    "epochs": 30, "batch_size": 64, "augment.mixup": 0.2,
})
sweep = Sweep(base=base, space=grid({"optimizer.lr": LR}))
"""
ONE = DEFINITION.replace("LR", "[0.1]")
THREE = DEFINITION.replace("LR", "[0.02, 0.05, 0.1]")
SITE = """
partition = "gpu"
cpus_per_gpu = 1
mem_gb_per_gpu = 1
minutes = 30
signal_seconds = 20
"""


@contextlib.contextmanager
def running(folder: Path, **wanted: Any) -> Iterator[Cluster]:
    try:
        dev_cluster.require(dev_cluster.missing_packages(), os.geteuid())
    except SlurmError as error:
        pytest.skip(f"{error.what}; {error.help}")
    with dev_cluster.running(folder, **wanted) as one:
        os.environ |= one.environment
        try:
            yield one
        finally:
            for name in one.environment:
                os.environ.pop(name, None)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("c"), cpus_per_node=4, grace_seconds=10) as one:
        yield one


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[object, ...]]:
    """What the three trials come to where nobody disturbs them."""
    folder = tmp_path_factory.mktemp("whole")
    definition = folder / "drill.py"
    definition.write_text(THREE)
    words = (str(definition), "--results", str(folder / "results"), "--on", "debug")
    subprocess.run([sys.executable, "-m", "sweeps.launch", *words], cwd=ROOT, check=True)
    return outcome(folder / "results")


def wait_for(condition: Callable[[], Any], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.3)


@dataclass
class Drill:
    """One sweep in a results folder of its own."""

    folder: Path
    definition: str = ONE

    def __post_init__(self) -> None:
        (self.folder / "drill.py").write_text(self.definition)
        (self.folder / "here.toml").write_text(SITE)
        self.results = self.folder / "results"
        self.ledger = Ledger(self.results, "drill", Scheduler(Queue(min_seconds=0.2)))

    def command(self, *words: str, name: str = "drill.py") -> list[str]:
        site = ("--site", str(self.folder / "here.toml"), "--results", str(self.results))
        return [
            sys.executable, "-m", "sweeps.launch", str(self.folder / name), *site,
            "--on", "slurm", *words,
        ]  # fmt: skip

    def launch(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*words), capture_output=True, text=True, cwd=ROOT, timeout=300
        )
        assert done.returncode == 0 or not check, done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def run_in_background(self) -> None:
        self.launch("--detach")

    def standings(self) -> list[Standing]:
        return self.ledger.standings(
            {trial.name: trial for plan in self.ledger.plans() for trial in plan.trials}.values()
        )

    def standing(self) -> Standing:
        (one,) = self.standings()
        return one

    def epochs(self) -> int:
        found = list(self.results.rglob(record.EPOCHS))
        return record.read_table(found[0]).num_rows if found else 0

    def wait_until_it_trains(self, epochs: int = 2) -> Standing:
        wait_for(lambda: self.epochs() >= epochs)
        standing = self.standing()
        assert standing.state is State.RUNNING, "it was done before the drill began"
        return standing

    def logs(self) -> list[Path]:
        return list((self.results / "drill" / "logs").glob("*_log.out"))

    def ends_as(self, whole: dict[str, tuple[object, ...]], attempts: int) -> None:
        """Wait for the end, launching again what was lost, and compare."""

        def is_over() -> bool:
            states = [one.state for one in self.standings()]
            assert State.FAILED not in states, [one.failure for one in self.standings()]
            if State.LOST in states and not {State.RUNNING, State.QUEUED} & set(states):
                self.run_in_background()
            return set(states) == {State.DONE}

        wait_for(is_over, 240)
        found = outcome(self.results)
        assert found == {name: whole[name] for name in found}
        assert found
        assert assert_one_at_a_time(self.logs()) >= attempts
        assert not list(self.results.rglob("claim.json"))


@pytest.fixture
def drill(cluster: Cluster, tmp_path: Path) -> Drill:
    return Drill(tmp_path)


def job_of(standing: Standing) -> str:
    assert standing.claim is not None and standing.claim.job
    return standing.claim.job


def test_a_grid_fills_eight_gpus_from_one_array(cluster: Cluster, tmp_path: Path) -> None:
    """The study's grid at smoke scale, on fewer images yet."""
    results = tmp_path / "results"
    words = ("grid_bs_epoch", "--scale", "smoke", "--results", str(results), "--on", "slurm",
             "--site", "dev_cluster", "--set", "data.name=digits", "--set", "data.train_limit=300",
             "--set", "data.test_limit=100")  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "sweeps.launch", *words], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as process:
        names: set[str] = set()
        most = 0
        while process.poll() is None:
            lines = cluster.command("squeue", "--noheader", "--format=%t %j").splitlines()
            now = [line.split()[1] for line in lines if line.startswith("R ")]
            most = max(most, len(now))
            names |= set(now)
            time.sleep(0.5)
        said = process.stderr.read() if process.stderr else ""
    assert process.returncode == 0, said
    assert most == 8
    trials = {path.parent.name for path in results.rglob(record.RUN)}
    assert len(trials) == 9
    assert trials <= names
    rows = cluster.command(
        "sacct", "--allocations", "--noheader", "--parsable2", "--format=JobID,State,JobName"
    ).splitlines()
    mine = [row.split("|") for row in rows if row.split("|")[2] in trials]
    assert [state for _, state, _ in mine] == ["COMPLETED"] * 9
    assert len({job.partition("_")[0] for job, _, _ in mine}) == 1
    assert not cluster.command("squeue", "--noheader")


def test_two_nodes_agree_with_torchrun(cluster: Cluster, tmp_path: Path) -> None:
    drill = Drill(tmp_path, ONE.replace('"epochs": 30', '"epochs": 3'))
    drill.launch("--nodes", "2", "--gpus-per-node", "2")
    (run,) = drill.results.rglob(record.RUN)
    row = record.read_table(run).to_pylist()[0]
    assert (row["world_size"], row["status"]) == (4, "done")
    out = tmp_path / "torchrun"
    words = ("-m", "torch.distributed.run", "--nproc-per-node", "4", "--standalone", "-m",
             "trainer", str(run.parent / record.CONFIG), str(out))  # fmt: skip
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True)
    here, there = (
        record.read_table(folder / record.EPOCHS).to_pylist() for folder in (run.parent, out)
    )
    for mine, theirs in zip(here, there, strict=True):
        for loss in ("train_loss", "val_loss"):
            assert mine[loss] == pytest.approx(theirs[loss], abs=1e-6)


def test_a_rank_that_dies_takes_its_attempt_down(cluster: Cluster, tmp_path: Path) -> None:
    drill = Drill(tmp_path)
    drill.launch("--detach", "--gpus-per-node", "2")
    standing = drill.wait_until_it_trains()
    assert standing.claim is not None
    others = subprocess.run(
        ["pgrep", "--full", f"submitit.core._submit {drill.results}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    ranks = [int(pid) for pid in others.stdout.split()]
    rank_1 = next(pid for pid in ranks if variable(pid, "SLURM_PROCID") == "1")
    os.kill(rank_1, signal.SIGKILL)
    # Rank 0 may see the connection break before Slurm ends it: then it says so itself.
    wait_for(lambda: drill.standing().state in (State.LOST, State.FAILED), 60)
    failure = drill.standing().failure
    assert failure is None or failure.cause == "NCCL"
    for pid in ranks:
        wait_for(lambda pid=pid: not Path(f"/proc/{pid}").exists(), 30)
    drill.launch("--gpus-per-node", "2")
    assert drill.standing().state is State.DONE
    assert_one_at_a_time(drill.logs())


def variable(pid: int, name: str) -> str:
    words = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    return dict(word.partition("=")[::2] for word in words).get(name, "")


def test_workers_take_trial_after_trial(
    cluster: Cluster, tmp_path: Path, whole: dict[str, tuple[object, ...]]
) -> None:
    drill = Drill(tmp_path, THREE)
    drill.launch("--workers", "2")
    assert outcome(drill.results) == whole
    assert len(drill.logs()) == 2
    assert not cluster.command("squeue", "--noheader")


def test_the_warning_requeues_and_nothing_shows(
    drill: Drill, cluster: Cluster, whole: dict[str, tuple[object, ...]]
) -> None:
    """As at a time limit, twice: the signal that comes before the limit."""
    drill.run_in_background()
    for epochs in (3, 10):
        job = job_of(drill.wait_until_it_trains(epochs))
        cluster.command("scancel", "--signal=USR2", job)
        wait_for(lambda: drill.standing().state is State.QUEUED, 60)
        wait_for(lambda: drill.standing().state is State.RUNNING, 60)
    drill.ends_as(whole, attempts=3)


def test_scancel_of_one_task_loses_that_one(
    cluster: Cluster, tmp_path: Path, whole: dict[str, tuple[object, ...]]
) -> None:
    drill = Drill(tmp_path, THREE)
    drill.run_in_background()
    wait_for(lambda: drill.epochs() >= 1)
    victim = next(one for one in drill.standings() if one.state is State.RUNNING)
    cluster.command("scancel", job_of(victim))
    wait_for(
        lambda: (
            State.LOST in [one.state for one in drill.standings()]
            or all(one.state is State.DONE for one in drill.standings())
        )
    )
    drill.ends_as(whole, attempts=2)


def test_kill_9_of_the_process_and_of_the_batch_script(
    drill: Drill, whole: dict[str, tuple[object, ...]]
) -> None:
    drill.run_in_background()
    standing = drill.wait_until_it_trains()
    assert standing.claim is not None
    os.kill(standing.claim.pid, signal.SIGKILL)
    wait_for(lambda: drill.standing().state is State.LOST, 60)
    drill.run_in_background()
    job = job_of(drill.wait_until_it_trains(drill.epochs() + 2))
    found = subprocess.run(
        ["pgrep", "--full", f"job0*{job}/slurm_script"], capture_output=True, text=True, check=True
    )
    for pid in found.stdout.split():
        os.kill(int(pid), signal.SIGKILL)
    drill.ends_as(whole, attempts=3)


def test_a_dead_slurmd_and_a_node_set_down_and_back(
    drill: Drill, cluster: Cluster, whole: dict[str, tuple[object, ...]]
) -> None:
    drill.run_in_background()
    job = job_of(drill.wait_until_it_trains())
    node = cluster.command("squeue", "--noheader", f"--jobs={job}", "--format=%N").strip()
    cluster.kill("slurmd", node)
    cluster.command("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=drill")
    wait_for(lambda: drill.standing().state in (State.QUEUED, State.RUNNING), 60)
    cluster.start("slurmd", node)
    cluster.command("scontrol", "update", f"NodeName={node}", "State=RESUME", check=False)
    drill.ends_as(whole, attempts=2)


def test_the_controller_restarts_while_it_runs(
    drill: Drill, cluster: Cluster, whole: dict[str, tuple[object, ...]]
) -> None:
    drill.run_in_background()
    drill.wait_until_it_trains()
    cluster.restart("slurmctld")
    drill.ends_as(whole, attempts=1)


def test_the_controller_is_away_while_submitting(
    drill: Drill, cluster: Cluster, whole: dict[str, tuple[object, ...]]
) -> None:
    cluster.kill("slurmctld")
    try:
        refused = drill.launch("--detach", check=False)
    finally:
        cluster.start("slurmctld")
    assert refused.returncode == 3
    assert refused.stderr.splitlines()[-2].startswith("error: ")
    assert not list(drill.results.rglob("claim.json"))
    drill.run_in_background()
    drill.ends_as(whole, attempts=1)


def test_no_accounts(drill: Drill, cluster: Cluster, whole: dict[str, tuple[object, ...]]) -> None:
    cluster.kill("slurmdbd")
    try:
        drill.run_in_background()
        drill.wait_until_it_trains()
        drill.ends_as(whole, attempts=1)
    finally:
        cluster.start("slurmdbd")


def test_requeue_by_hand(
    drill: Drill, cluster: Cluster, whole: dict[str, tuple[object, ...]]
) -> None:
    drill.run_in_background()
    cluster.command("scontrol", "requeue", job_of(drill.wait_until_it_trains()))
    wait_for(lambda: drill.standing().state is State.QUEUED, 60)
    drill.ends_as(whole, attempts=2)


@pytest.mark.parametrize("sends", [False])
def test_the_launch_is_killed_around_its_sbatch(
    sends: bool, drill: Drill, whole: dict[str, tuple[object, ...]], monkeypatch: Any
) -> None:
    """Between its intent and its sbatch, or between its sbatch and its note."""
    real = subprocess.run(["which", "sbatch"], capture_output=True, text=True, check=True)
    fake = drill.folder / "bin" / "sbatch"
    fake.parent.mkdir()
    send = f'{real.stdout.strip()} "$@"' if sends else "true"
    fake.write_text(f"#!/bin/bash\n{send}\nkill -KILL $PPID\n")
    fake.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
        dead = drill.launch("--detach", check=False)
    assert dead.returncode == -signal.SIGKILL
    claim = drill.standing().claim
    assert claim is not None
    assert claim.submission
    if not sends:
        # Nobody knows yet whether the job is on its way; a minute later it is known not to be.
        assert drill.standing().state is State.QUEUED
        monkeypatch.setattr("sweeps.scheduler.IN_FLIGHT_SECONDS", 0.0)
        assert drill.standing().state is State.LOST
        old = json.loads(
            (drill.ledger.folder_of(drill.standing().trial) / "claim.json").read_text()
        )
        old["claimed_at"] -= 100
        (drill.ledger.folder_of(drill.standing().trial) / "claim.json").write_text(json.dumps(old))
    drill.launch("--detach")
    drill.ends_as(whole, attempts=1)


def test_slurm_refuses_a_partition_and_nothing_is_half_sent(drill: Drill, cluster: Cluster) -> None:
    (drill.folder / "here.toml").write_text(SITE.replace('"gpu"', '"gpux"'))
    refused = drill.launch(check=False)
    assert refused.returncode == 3
    assert "invalid partition" in refused.stderr
    assert not list(drill.results.rglob("claim.json"))
    assert not cluster.command("squeue", "--noheader")


def test_five_hundred_queued_trials_cost_one_squeue(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = DEFINITION.replace("LR", "[i / 1000 + 0.001 for i in range(500)]")
    drill = Drill(tmp_path, many)
    (drill.folder / "here.toml").write_text(SITE + 'constraint = ""\n[slurm]\nhold = true\n')
    drill.run_in_background()
    calls = tmp_path / "calls"
    for name in ("squeue", "sacct"):
        real = subprocess.run(["which", name], capture_output=True, text=True, check=True)
        fake = tmp_path / "bin" / name
        fake.parent.mkdir(exist_ok=True)
        fake.write_text(f'#!/bin/bash\necho {name} >>{calls}\nexec {real.stdout.strip()} "$@"\n')
        fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    words = [sys.executable, "-m", "sweeps.status", "drill", "--results", str(drill.results)]
    started = time.monotonic()
    done = subprocess.run([*words, "--json"], capture_output=True, text=True, cwd=ROOT)
    print(f"status of 500 queued trials: {time.monotonic() - started:.2f} s")
    value = json.loads(done.stdout)
    assert value["counts"]["queued"] == 500
    said = calls.read_text().split()
    assert said.count("squeue") == 1
    assert said.count("sacct") <= 1
    cancel = [sys.executable, "-m", "sweeps.cancel", "drill", "--results", str(drill.results)]
    subprocess.run([*cancel, "--yes"], cwd=ROOT, check=True, capture_output=True)
    wait_for(lambda: not cluster.command("squeue", "--noheader"), 60)
