"""What a notebook sees of a sweep: states, frames and its end, and nothing that is damaged."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import sweeps
from local_machine.errors import InputError
from local_machine.files import matching
from sweeps import OpenedSweeps, Sweep, grid
from sweeps.state.trial_store import State
from trainer.recipes import reported
from trial_records import trial_files

pytestmark = pytest.mark.usefixtures("forked")

ROOT = Path(__file__).parent.parent
DEFINITION = """
from sweeps import Sweep, grid
from trainer.recipes import reported

small = {"data.name": "digits", "data.train_limit": 100, "data.test_limit": 100}
sweep = Sweep(base=reported("wrn_10_1").override(small), space=grid({"optimizer.lr": [0.1, 0.01]}))
"""


def start(folder: Path) -> subprocess.Popen[bytes]:
    (folder / "two.py").write_text(DEFINITION)
    words = ["--on", "local", "--workers", "1", "--scale", "smoke", "--set", "epochs=3"]
    launch = subprocess.Popen(
        [sys.executable, "-m", "sweeps.launch", str(folder / "two.py"), *words,
         "--results", str(folder / "results")],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not list(matching(folder / "results", "two/plans/*.json")):
        assert launch.poll() is None
        time.sleep(0.01)
    return launch


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a sweep that a notebook waited for, from the moment of its launch."""
    folder = tmp_path_factory.mktemp("notebook")
    with start(folder) as launch:
        opened = sweeps.open(folder / "results", "two")
        assert set(opened.states()) and not opened.wait(timeout=0)
        assert opened.wait(timeout=100)
        assert set(opened.states().values()) == {State.DONE}
        assert launch.wait() == 0
    return folder / "results"


@pytest.fixture
def opened(results: Path) -> OpenedSweeps:
    return sweeps.open(results)


@pytest.mark.long
def test_every_trial_stands_somewhere(opened: OpenedSweeps, results: Path) -> None:
    assert opened.names == ["two"]
    states = opened.states()
    assert len(states) == 2
    assert all((results / folder / trial_files.RUN).exists() for folder in states)
    assert (opened.counts()["done"], opened.counts()["failed"]) == (2, 0)
    assert opened.wait()


def test_the_frames_hold_what_is_stored(opened: OpenedSweeps, results: Path) -> None:
    trials, runs, epochs = opened.trials(), opened.runs(), opened.epochs()
    assert sorted(trials["optimizer.lr"]) == sorted(runs["optimizer.lr"]) == [0.01, 0.1]
    assert set(trials["epochs_done"]) == set(trials["epochs_planned"]) == {3}
    assert trials["best_val_accuracy"].tolist() == runs["val_accuracy"].tolist()
    for trial, mine in epochs.groupby("trial"):
        stored = pd.read_parquet(results / "two" / str(trial) / trial_files.EPOCHS)
        pd.testing.assert_frame_equal(
            mine.reset_index(drop=True),
            stored.drop(columns=["task", "fingerprint"]),
            check_dtype=False,
        )
    assert set(epochs["sweep"]) == {"two"} and len(epochs) == 6
    assert opened.problems == []


def test_what_is_damaged_is_named_and_left_out(opened: OpenedSweeps, results: Path) -> None:
    first, second = (results / folder for folder in opened.states())
    whole = (first / trial_files.RUN).read_bytes()
    try:
        (first / trial_files.RUN).write_bytes(whole[:-9] + bytes(9))
        assert opened.runs()["trial"].tolist() == [second.name]
        (problem,) = opened.problems
        assert str(first / trial_files.RUN) in problem.what
    finally:
        (first / trial_files.RUN).write_bytes(whole)
    assert len(opened.runs()) == 2 and opened.problems == []


def test_waiting_ends_where_nobody_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.notebook.WAIT_SECONDS", 0.01)
    with start(tmp_path) as launch:
        launch.terminate()
    opened = sweeps.open(str(tmp_path / "results"), "two")
    assert not opened.wait()
    assert State.PENDING in opened.states().values()
    assert not opened.wait(timeout=0)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no sweep"):
        sweeps.open(tmp_path)
    with pytest.raises(InputError, match="no sweep 'absent'"):
        sweeps.open(tmp_path, "absent")


def test_the_names_load_nothing_before_they_are_asked_for() -> None:
    code = (
        "import sys, sweeps, sweeps.launch; from sweeps import *; assert open is __builtins__.open;"
        "print(callable(sweeps.open), sorted(sys.modules.keys() & {'pandas', 'torch', 'pyarrow'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ, capture_output=True, text=True
    )
    assert done.stdout == "True []\n", done.stderr


def test_a_sweep_is_launched_from_a_notebook(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = reported("wrn_10_1").override(
        {"data.name": "digits", "data.train_limit": 100, "data.test_limit": 100}
    )
    sweep = Sweep(base=base, space=grid({"optimizer.lr": [0.1, 0.01]}))
    words = {"results": tmp_path, "scale": "smoke", "on": "local", "workers": 1}
    opened = sweep.launch("lr", overrides={"epochs": 1}, **words)
    assert opened.counts()["done"] == 2
    assert sorted(opened.runs()["optimizer.lr"]) == [0.01, 0.1]
    assert (opened.runs()["epochs"] == 1).all()
    assert capsys.readouterr().out == ""
    # Again, by the other way to say it: nothing is left to run.
    again = sweeps.launch_sweep(sweep, "lr", overrides={"epochs": 1}, **words)
    assert again.states() == opened.states()


IN_THIS_PROCESS = """
import logging, os, signal, sys, threading
import sweeps
from sweeps import Sweep, grid
from trainer.recipes import reported

small = {"data.name": "digits", "data.train_limit": 100, "data.test_limit": 100, "epochs": 1}
base = reported("resnet18").override({**small, "model.width": 0.0625, "batch_size": 50})
os.environ["RANK"] = "3"
root = logging.getLogger()
before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGALRM), [*root.handlers]
for lr in (0.1, 0.2):
    Sweep(base=base, space=grid({"optimizer.lr": [lr]})).launch("x", results="r", on="debug")
assert before == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGALRM), root.handlers)
assert root.level == logging.WARNING and os.environ["RANK"] == "3"

def refused():
    try:
        Sweep(base=base).launch("y", results="r", on="debug")
    except sweeps.notebook.InputError as error:
        print(error.what)

thread = threading.Thread(target=refused)
thread.start()
thread.join()
"""


@pytest.mark.long
def test_a_notebook_that_trained_is_its_own_again(tmp_path: Path) -> None:
    """A SIGTERM ends it, its log has no line twice, and its environment has what it had."""
    done = subprocess.run(
        [sys.executable, "-c", IN_THIS_PROCESS], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("=== trial") == 2
    assert 'on="debug" in a thread' in done.stdout


def test_no_workers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="workers=-1"):
        Sweep(base=reported("wrn_10_1")).launch("x", results=tmp_path, workers=-1)


@pytest.mark.parametrize("words", [{"on": "nope"}, {"scale": "tiny"}, {"workers": 0}])
def test_a_word_that_the_command_would_refuse_is_refused(
    words: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(InputError):
        Sweep(base=reported("wrn_10_1")).launch("lr", results=tmp_path, **words)
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a valid name"):
        Sweep(base=reported("wrn_10_1")).launch("../x", results=tmp_path)
