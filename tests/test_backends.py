"""What a launch says and leaves behind, by the backend that it ran its trials on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from outcome import still_held
from test_queue import Slurm, live

import sweeps.launch
from local_machine import processes
from local_machine.errors import run_command
from slurm.site import Resources, Site
from sweeps.execution.backends.local import Local
from sweeps.execution.backends.slurm import Slurm as SlurmBackend
from sweeps.execution.request import LaunchRequest
from sweeps.launching import dispatch
from sweeps.spec.backend_name import BackendName
from sweeps.spec.expand import expand
from sweeps.spec.find import find
from sweeps.state.lease import Lease
from sweeps.state.liveness import Liveness
from sweeps.state.plan import Plan
from sweeps.state.trial_store import TrialStore
from trial_records import trial_files

ROOT = Path(__file__).parent.parent
DEFINITION = """
from sweeps import Sweep, grid
from trainer.recipes import reported

base = reported("resnet18").override({
    "data.name": "digits", "data.train_limit": 100, "data.test_limit": 100, "model.width": 0.0625,
    "epochs": 1, "batch_size": 50, "precision": "fp32",
})
sweep = Sweep(base=base, space=grid({"optimizer.lr": [0.01, 1e30]}))
"""
FINE = DEFINITION.replace("1e30", "0.02")


def written(folder: Path, definition: str) -> Path:
    path = folder / "two.py"
    path.write_text(definition)
    return path


def planned(folder: Path, liveness: Liveness | None = None) -> tuple[TrialStore, Plan]:
    store = TrialStore(folder / "results", "two", liveness)
    trials = expand(find(str(written(folder, FINE)))[1])
    return store, Plan("two", trials, "full", {}, [], "command")


@pytest.mark.long
def test_what_was_to_be_left_alone_but_ran_here_tells_how_it_ended(tmp_path: Path) -> None:
    """--on debug has nothing that could go on alone."""
    words = [str(written(tmp_path, DEFINITION)), "--results", str(tmp_path / "results")]
    done = subprocess.run(
        [sys.executable, "-m", "sweeps.launch", *words, "--on", "debug", "--detach"],
        capture_output=True, text=True, cwd=ROOT, timeout=100,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "two: 2 trials: 1 failed, 1 done" in done.stderr and "1 failed: " in done.stderr
    assert "launched" not in done.stderr


def test_this_process_runs_what_others_give_back_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, plan = planned(tmp_path)
    other = store.lease(plan.trials[0], 1.0, "")
    assert other is not None
    trained: list[str] = []

    def train(worker: Any, trial: Any, lease: Lease) -> bool:
        if not trained:
            store.release(plan.trials[0], other)
        trained.append(trial.name)
        (store.folder_of(trial) / trial_files.RUN).touch()
        store.finish(trial, lease)
        return False

    monkeypatch.setattr("sweeps.execution.worker.Worker.run_leased", train)
    words = [str(tmp_path / "two.py"), "--results", str(tmp_path / "results"), "--on", "debug"]
    with pytest.raises(SystemExit):
        run_command(sweeps.launch.app, words)
    assert "1 to run" in capsys.readouterr().err
    assert trained == [plan.trials[1].name, plan.trials[0].name]


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The processes that are started in the place of workers."""
    started: list[subprocess.Popen[bytes]] = []

    def start(store: TrialStore, *_: Any, **__: Any) -> tuple[processes.Process[bytes], Path]:
        started.append(subprocess.Popen(["sleep", "60"]))
        return started[-1], store.folder / "x.log"

    monkeypatch.setattr("sweeps.execution.backends.local.start_worker", start)
    yield started
    for one in started:
        one.kill()
        one.wait()


@pytest.mark.parametrize("detach", [True, False])
def test_an_interrupt_ends_no_worker_that_is_to_go_on_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    worker: list[subprocess.Popen[bytes]],
    detach: bool,
) -> None:
    """Such as the end of the terminal, while the launch waits for the workers to begin."""
    store, plan = planned(tmp_path)

    def interrupted(_: Local) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(Local, "detach", interrupted)
    monkeypatch.setattr(Local, "poll", interrupted)
    request = LaunchRequest(BackendName.LOCAL, Site(), Resources(), workers=1, detach=detach)
    assert dispatch.run(store, [plan], request, {}) == 130
    (one,) = worker
    time.sleep(0.1)
    assert one.poll() == (None if detach else -signal.SIGTERM)
    said = "the jobs go on; watch: " if detach else "gave its trials back"
    assert said in capsys.readouterr().err


def test_jobs_that_were_not_sent_are_not_said_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where an interrupt comes while sbatch does not answer."""
    slurm = Slurm(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    for command in ("sbatch", "squeue", "sacct", "srun"):
        slurm.says(command)
    store, plan = planned(tmp_path)

    def interrupted(*_: Any) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr("slurm.send.Batch.send", interrupted)
    request = LaunchRequest(BackendName.SLURM, Site(), Resources())
    with pytest.raises(KeyboardInterrupt):
        dispatch.run(store, [plan], request, {})
    assert "the jobs go on" not in capsys.readouterr().err
    assert not still_held(store.folder)


def test_a_job_that_ended_early_is_told_of_though_others_did_its_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm = Slurm(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    slurm.says("sbatch", raw="Submitted batch job 9\n")
    for command in ("sacct", "srun"):
        slurm.says(command)
    slurm.says("squeue", rows=[live("9_0", "FAILED", code="256"), live("9_1")])
    store, plan = planned(tmp_path)

    def submit(backend: SlurmBackend, work: Any) -> None:
        send(backend, work)
        for trial in work.trials:
            store.folder_of(trial).mkdir(parents=True)
            (store.folder_of(trial) / trial_files.RUN).touch()

    send = SlurmBackend.submit
    monkeypatch.setattr(SlurmBackend, "submit", submit)
    monkeypatch.setattr(dispatch, "look", lambda *_: [])
    monkeypatch.setattr(dispatch, "_opened", lambda *_: (work, 0))
    work = dispatch.Work(store, [plan], plan.trials, 1.0)
    request = LaunchRequest(BackendName.SLURM, Site(), Resources(), workers=2)
    dispatch.run(store, [plan], request, {})
    assert "1 of 2 jobs of workers ended early: 9_0 FAILED" in capsys.readouterr().err
