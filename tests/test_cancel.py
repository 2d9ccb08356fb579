"""Cancel: everything that a sweep runs ends, also what was between two trials."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

import sweeps.cancel
from local_machine import processes
from local_machine.errors import run_command
from sweeps.spec.expand import expand
from sweeps.spec.sweep import Sweep, Trial
from sweeps.state import lease as leases
from sweeps.state.lease import CLAIM, Lease
from sweeps.state.plan import Plan
from sweeps.state.trial_store import TrialStore
from trainer.recipes import reported

ROOT = Path(__file__).parent.parent
LONG = """
from sweeps import Sweep
from trainer.recipes import reported

sweep = Sweep(base=reported("resnet18").override({
    "data.name": "digits", "data.train_limit": 200, "data.test_limit": 100, "model.width": 0.125,
    "epochs": 500, "batch_size": 64, "precision": "fp32", "early_stopping.patience": 500,
}))
"""


def cancel(results: Path, *words: str) -> int:
    with pytest.raises(SystemExit) as end:
        run_command(sweeps.cancel.app, ["sweep", "--results", str(results), *words])
    return int(end.value.code or 0)


@pytest.fixture
def store(tmp_path: Path) -> TrialStore:
    found = TrialStore(tmp_path, "sweep")
    found.write_plan(Plan("sweep", [trial()], "full", {}, [], "command"))
    return found


def trial() -> Trial:
    return expand(Sweep(base=reported("resnet18")))[0]


@pytest.fixture
def process(store: TrialStore, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """What a worker of the sweep looks like from outside, which takes no time to start."""
    room = tmp_path / "made" / "sweeps" / "execution"
    room.mkdir(parents=True)
    (room / "worker.py").write_text("import time; time.sleep(60)")
    words = ["sweeps.execution.worker", str(store.folder), "--plan", "x", "--launch", "0.0"]
    with looking_like(words, tmp_path / "made") as one:
        yield one


@contextlib.contextmanager
def looking_like(
    words: list[str], cwd: Path, launch: str = "0.0"
) -> Iterator[subprocess.Popen[bytes]]:
    environment = os.environ | {"SWEEPS_LAUNCH": launch, "PYTHONPATH": str(cwd)}
    command = [sys.executable, "-m", *words]
    with subprocess.Popen(command, cwd=cwd, env=environment) as one:
        # Until it is Python and no longer a copy of this process.
        wait_for(lambda: processes.command(one.pid)[1:] == command[1:])
        yield one
        one.kill()


def hold(store: TrialStore, pid: int, **more: str) -> None:
    started = processes.started(pid)
    assert started
    lease = Lease(1, 0, 0.0, "log", pid=pid, process_started=started, **more)
    folder = store.folder_of(trial())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CLAIM).write_text(json.dumps(asdict(lease)))


def test_nothing_to_cancel(store: TrialStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert cancel(store.folder.parent, "--yes") == 0
    assert "nothing of sweep" in capsys.readouterr().err


def test_without_yes_it_lists(
    store: TrialStore, process: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    hold(store, process.pid)
    assert cancel(store.folder.parent) == 1
    assert f"running  process {process.pid}" in capsys.readouterr().out
    assert process.poll() is None


def test_a_worker_between_two_trials_is_found(
    store: TrialStore, process: subprocess.Popen[bytes]
) -> None:
    threading.Timer(0.4, hold, (store, process.pid)).start()
    assert cancel(store.folder.parent, "--yes") == 0
    assert process.wait(10) == -15


def test_another_machines_process_is_out_of_reach_and_told(
    store: TrialStore, process: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    hold(store, process.pid, host="elsewhere")
    assert cancel(store.folder.parent, "--yes") == 1
    assert f"not cancelled: process {process.pid} of elsewhere" in capsys.readouterr().err
    assert process.poll() is None


def test_a_damaged_plan_keeps_no_other_from_being_cancelled(
    store: TrialStore, process: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    (store.folder / "plans" / "00000000.json").write_text("{")
    hold(store, process.pid)
    assert cancel(store.folder.parent, "--yes") == 1
    assert process.wait(10) == -15
    assert "00000000.json is not a usable plan" in capsys.readouterr().err


def test_a_damaged_drivers_claim_keeps_no_trial_from_being_cancelled(
    store: TrialStore, process: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    for number, make in enumerate((lambda path: path.mkdir(), lambda path: path.write_text("{"))):
        folder = store.folder / "searches" / str(number)
        folder.mkdir(parents=True)
        make(folder / CLAIM)
    hold(store, process.pid)
    assert cancel(store.folder.parent, "--yes") == 1
    assert process.wait(10) == -15
    assert capsys.readouterr().err.count("warning: ") == 2


@pytest.mark.long
@pytest.mark.parametrize("seconds", [0.0, 0.7, 1.6])
def test_a_worker_gives_its_trial_back_whenever_it_is_asked(tmp_path: Path, seconds: float) -> None:
    """Also amid the import of torch, which swallows what a signal's handler raises."""
    (tmp_path / "sweep.py").write_text(LONG)
    words = [str(tmp_path / "sweep.py"), "--results", str(tmp_path / "results"), "--on", "local"]
    subprocess.run(
        [sys.executable, "-m", "sweeps.launch", *words, "--detach"],
        check=True, capture_output=True, cwd=ROOT,
    )  # fmt: skip
    (lease,) = (tmp_path / "results").rglob(CLAIM)
    pid = json.loads(lease.read_text())["pid"]
    time.sleep(seconds)
    assert cancel(tmp_path / "results", "--yes") == 0
    wait_for(lambda: leases.read(lease.parent) is None and not Path(f"/proc/{pid}").exists())
    (log,) = (tmp_path / "results").glob("*/logs/*.log")
    assert "stopped on request; the trial was given back" in log.read_text()


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
