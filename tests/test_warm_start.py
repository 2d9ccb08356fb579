"""A search that is told what other sweeps have finished: nothing of it is trained again."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_driver import DECAY, EPOCHS, Killed, Writer, search
from test_function_search import fresh as fresh
from test_function_search import program

import sweeps.search.__main__
from local_machine.errors import run_command
from local_machine.files import matching
from sweeps import Sweep, choice, grid
from sweeps.search.driver import Driver, drive
from sweeps.search.optuna_journal import Journal
from sweeps.search.runner import Asked
from sweeps.search.warm_start import WarmStart
from sweeps.spec.expand import expand
from sweeps.spec.scale import Scale
from sweeps.state.plan import Plan
from sweeps.state.trial_store import TrialStore
from trainer.recipes import reported
from trial_records import trial_files

ROOT = Path(__file__).parent.parent
DEFINITION = """
import math
from dataclasses import dataclass
from sweeps import Search, Sweep, choice, chain, grid, log_uniform, minimize, uniform

@dataclass
class Config:
    optimizer: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.0
    width: int = 8
    seed: int = 0

def train(config, run):
    value = abs(math.log10(config.lr) + 2) + config.momentum
    run.log(epoch=0, loss=value if config.lr > 1e-6 else math.nan)

sweep = Sweep(
    train, base=Config(), objective=minimize("loss"),
    space=chain(
        grid({"lr": [0.1, 0.01], "momentum": [0.0, 0.5]}),
        grid({"optimizer": ["adamw"], "lr": [0.001]}),
        grid({"optimizer": ["adamw"], "lr": [0.001], "momentum": [0.5]}),
        grid({"lr": [5.0]}),
        grid({"lr": [0.1], "width": [16]}),
    ),
)
search = Search(
    train, base=Config(), objective=minimize("loss"), sampler="random", pruner="none", trials=3,
    space={
        "optimizer": choice(
            sgd={"lr": log_uniform(1e-3, 1), "momentum": uniform(0, 0.9)},
            adamw={"lr": log_uniform(1e-4, 1e-1)},
        )
    },
    start=[{"optimizer": "sgd", "lr": 0.01, "momentum": 0.0}],
)
"""
GRID = """
search = Search(
    train, base=Config(), objective=minimize("loss"), sampler="grid", pruner="none", trials=9,
    space={"optimizer": choice(["sgd"]), "lr": choice([0.1, 0.01, 0.5]),
           "momentum": choice([0.0, 0.5])},
    where=lambda point: point["lr"] < 0.5 or not point["momentum"],
)
"""


def run(command: str, path: Path, results: str, *more: str) -> subprocess.CompletedProcess[str]:
    words = ["-m", f"sweeps.{command}", str(path), "--results", str(path.parent / results)]
    line = [sys.executable, *words, "--on", "local", "--workers", "1", *more]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True)


def trained(path: Path, results: str) -> set[str]:
    return {one.parent.name for one in matching(path.parent / results, f"*/*/{trial_files.RUN}")}


def answer(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.long
def test_what_a_sweep_has_finished_is_told_once_and_not_trained(
    forked: None, tmp_path: Path
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(DEFINITION)
    assert run("launch", path, "results").returncode == 0
    source = str(tmp_path / "results" / "mine")
    dry = run("search", path, "others", "--from", source, "--dry-run")
    assert "--from: 5 finished trials are inside the space\n" in dry.stderr
    assert not (tmp_path / "others").exists()
    done = run("search", path, "others", "--from", source, "--json")
    found = answer(done)
    # Five of the sweep's, one of them the point to start with, and three of its own.
    assert "5 finished trials are inside the space, 5 of them new to the search" in done.stderr
    assert "lr=5.0 lies outside of log_uniform(0.001, 1)" in done.stderr
    assert "width is 16 there, 8 here" in done.stderr
    assert "momentum is 0.5 there, 0.0 here" in done.stderr
    assert (found["given"], found["counts"]) == (5, {"complete": 8})
    given = [one for one in found["trials"] if one["from"]]
    assert [one["value"] for one in given] == [1.0, 1.5, 0.0, 0.5, 1.0]
    assert found["best"]["value"] == 0.0 and found["best"]["params"] == {
        "optimizer": "sgd", "lr": 0.01, "momentum": 0.0,
    }  # fmt: skip
    own = trained(path, "others")
    assert len(own) == 3 and not own & trained(path, "results")
    # Again, and on with more.
    again = run("search", path, "others", "--from", source, "--trials", "4", "--json")
    assert "5 finished trials are inside the space, 0 of them new" in again.stderr
    assert "3 of 4 trials asked before" in again.stderr
    assert answer(again)["counts"] == {"complete": 9}
    assert len(trained(path, "others")) == 4
    # In the same results folder the name is enough, and what is not yet finished is named.
    path.write_text(DEFINITION + GRID)
    gridded = run("search", path, "results", "--from", "mine", "--json")
    assert answer(gridded)["counts"] == {"complete": 5}
    assert len(trained(path, "results")) == 8 + 1


def test_a_point_that_was_given_is_not_trained_when_it_is_asked_for(tmp_path: Path) -> None:
    """The trainer's, from a grid in another results folder; a driver that is killed and goes on."""
    base = reported("resnet18").override({"epochs": EPOCHS})
    there = TrialStore(tmp_path / "cpu", "decays")
    trials = expand(Sweep(base=base, space=grid({DECAY: [1e-4, 1e-3, 1e-2, 0.5]})))
    there.write_plan(Plan("decays", trials, "full", {}, [DECAY], "c"))
    for trial in trials[:-2]:
        Writer(there)._run(trial, 1.0)
    wanted = search(space={DECAY: choice([1e-4, 1e-3, 1e-2])}, sampler="random", seed=1)
    asked = Asked.of(wanted, Scale.FULL, {})
    warm = WarmStart.of(asked, [str(there.folder)], tmp_path)
    assert [one.params[DECAY] for one in warm.taken] == [1e-4, 1e-3]
    assert [*warm.left_out] == ["not finished"] and len(warm.left_out["not finished"]) == 2
    assert [one.user_attrs["val_images"] for one in warm.taken] == [500, 500]
    store = TrialStore(tmp_path / "here", "s")
    for kill_at in (3, 5, -1):
        writer = Writer(store, kill_at)
        folder = store.folder / "searches" / "00000000"
        folder.mkdir(parents=True, exist_ok=True)
        journal = Journal(folder, wanted, {}, EPOCHS, warm.taken)
        plan = Plan("s", [], "full", {}, [DECAY], "c", search={}, search_id="00000000")
        with contextlib.suppress(Killed):
            made = Driver(
                store, folder, wanted, Scale.FULL, {}, 12, 2, journal, writer, plan
            )  # fmt: skip
            drive(made, lambda: False, lambda _: None)
    assert made.journal.given == 2 and made.journal.asked == 12
    assert len(made.journal.told()) == 14
    assert {made.journal.point_of(one)[DECAY] for one in made.journal.told()} == {1e-4, 1e-3, 1e-2}
    # The third value alone was trained here, once, and is all that the plan has.
    assert [one.point[DECAY] for one in store.plan("00000000").trials] == [1e-2]
    assert len([*matching(tmp_path / "here", f"*/*/{trial_files.RUN}")]) == 1
    assert made.journal.complete()[0].params[DECAY] == 1e-3


def test_no_such_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.py"
    path.write_text(DEFINITION)
    with pytest.raises(SystemExit) as end:
        run_command(sweeps.search.__main__.app, program(path, "--from", "nowhere")[3:])
    assert end.value.code == 2
    assert "--from nowhere: there is no sweep's folder of that name" in capsys.readouterr().err
