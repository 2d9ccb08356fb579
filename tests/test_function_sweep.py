"""A plain function, swept from its file to its report, with its worker killed in each trial."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from test_kill import ROOT, kill, start, workers_of

from sweeps.spec.sweep import Trial
from sweeps.state.trial_store import TrialStore
from trial_records import rows, tables

pytestmark = pytest.mark.usefixtures("forked")

# Each epoch leaves a line in `trained` when it begins. What it draws must follow from the seed,
# also in an attempt that goes on where another was killed.
DEFINITION = """
import random
import time
from dataclasses import dataclass
from pathlib import Path

from sweeps import Sweep, grid, minimize

@dataclass
class Config:
    seed: int = 0
    epochs: int = 3

def train(config, run):
    random.seed(config.seed)
    state = run.load() or {"epoch": 0, "loss": 1.0}
    while (epoch := state["epoch"]) < config.epochs:
        with Path(__file__).with_name("trained").open("a") as file:
            file.write(f"{config.seed} {epoch}\\n")
        time.sleep(0.05)
        state = {"epoch": epoch + 1, "loss": random.random()}
        run.log(epoch=epoch, loss=state["loss"])
        run.save(state)
    return {"end": state["loss"]}

sweep = Sweep(train, base=Config(), space=grid({"seed": [0, 1]}), objective=minimize("loss"))
"""
SEEDS, EPOCHS = (0, 1), 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With mine.py and results, in which each trial is done and was killed once."""
    folder = tmp_path_factory.mktemp("function")
    definition, results = folder / "mine.py", folder / "results"
    definition.write_text(DEFINITION)
    with start(definition, results, 1) as launch:
        # The launch replaces its worker.
        wait_until(lambda: "0 1" in trained(folder))
        kill(workers_of(launch.pid)[0])
        # Nobody is left.
        wait_until(lambda: "1 1" in trained(folder))
        kill(workers_of(launch.pid)[0])
        launch.kill()
    said = command("sweeps.status", "mine", "--results", results)
    assert "1 lost, 1 done" in said.stdout, said
    (lost,) = [trial for trial in trials(folder) if trial.point["seed"] == 1]
    seen = [row.values["epoch"] for row in rows.read(results / "mine" / lost.name)]
    assert seen in ([0], [0, 1])
    assert start(definition, results, 1).wait(60) == 0
    return folder


def wait_until(happened: Callable[[], bool]) -> None:
    while not happened():
        time.sleep(0.005)


def trained(folder: Path) -> list[str]:
    path = folder / "trained"
    return path.read_text().splitlines() if path.exists() else []


def trials(folder: Path) -> tuple[Trial, ...]:
    (plan,) = TrialStore(folder / "results", "mine").plans()
    return tuple(plan.trials)


def command(*words: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", *map(str, words)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


def test_no_row_is_lost_and_at_most_one_epoch_a_kill_is_trained_again(folder: Path) -> None:
    for trial in trials(folder):
        at, seed = folder / "results" / "mine" / trial.name, trial.point["seed"]
        drawn = random.Random(seed)
        losses = [drawn.random() for _ in range(EPOCHS)]
        assert tables.read_epochs(at).to_pylist() == [
            {"epoch": epoch, "loss": loss} for epoch, loss in enumerate(losses)
        ]
        run = tables.read_run(at, trial.fingerprint)
        assert (run["status"], run["objective"]) == ("done", min(losses))
        assert run["final.end"] == losses[-1]
        assert len(json.loads(run["attempts"])) == 2
        begun = [line for line in trained(folder) if line.startswith(f"{seed} ")]
        assert len(begun) <= EPOCHS + 1
        assert sorted(set(begun)) == [f"{seed} {epoch}" for epoch in range(EPOCHS)]


def test_status_shows_every_trial_done_and_a_launch_runs_none(folder: Path) -> None:
    results, before = folder / "results", trained(folder)
    said = command("sweeps.status", "mine", "--results", results)
    assert said.returncode == 0 and not said.stderr, said
    assert said.stdout.count(f"{EPOCHS}/{EPOCHS}") == len(SEEDS)
    assert "2 trials: 2 done" in said.stdout and "best loss 0.1344" in said.stdout
    assert "best val" not in said.stdout  # what is best is told by its own metric
    again = command("sweeps.launch", folder / "mine.py", "--results", results, "--on", "local")
    assert again.returncode == 0 and "0 to run" in again.stderr, again
    assert trained(folder) == before


def test_past_runs_tell_the_cost(folder: Path) -> None:
    words = ("--results", folder / "results", "--dry-run", "--set", "epochs=7")
    said = command("sweeps.launch", folder / "mine.py", *words)
    assert "2 pending" in said.stderr and "by runs alike" in said.stderr, said


@pytest.mark.long
def test_it_is_compacted_and_reported_on(folder: Path) -> None:
    results, out = folder / "results", folder / "report"
    said = command("sweeps.compact", "mine", "--results", results)
    assert "2 trials in" in said.stdout + said.stderr, said
    said = command("analysis.report", "mine", "--results", results, "--out", out)
    assert said.returncode == 0, said
    text = (out / "report.md").read_text()
    assert "2 planned trials: 2 done. No trial is flagged." in text
    assert "Compared by loss" in text and "Every file was read." in text
