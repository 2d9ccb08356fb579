"""A study whose stages are of a plain function: they run, and choose by its objective."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import results_folder

from sweeps.spec import task_loader
from trial_records import trial_files

ROOT = Path(__file__).parent.parent
DEFINITION = """
from sweeps import Search, Stage, Study, Sweep, grid, minimize, uniform

BASE = {"lr": 0.1, "steps": 3, "seed": 0}

def train(config, run):
    for step in range(config["steps"]):
        run.log(step=step, loss=abs(config["lr"] - 0.1))

def rates(so_far):
    return Sweep(train, base=BASE, space=grid({"lr": [0.1, 0.2]}), objective=minimize("loss"))

def search(so_far):
    return Search(train, base=BASE, space={"lr": uniform(0, 1)}, objective=minimize("loss"),
                  trials=2, sampler="random")

study = Study(Stage("rates", rates), Stage("search", search))
"""


@pytest.fixture
def definition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(task_loader, "_tried", {})
    path = tmp_path / "small.py"
    path.write_text(DEFINITION)
    return path


@pytest.mark.long
def test_a_sweep_and_a_search_of_a_function_are_stages(forked: None, definition: Path) -> None:
    results = definition.parent / "results"
    words = [sys.executable, "-m", "sweeps.study", str(definition), "--on", "local",
             "--results", str(results), "--until", "search"]  # fmt: skip
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ran = sorted(path.parent.parent.name for path in results.rglob(trial_files.RUN))
    assert ran == ["rates", "rates", "search", "search"]
    out = definition.parent / "report"
    assert results_folder.run("--results", results, "--out", out) == 0
    text = (out / "report.md").read_text()
    assert "The best mean, 0 over 1 trial, has lr 0.1." in text and "Every file was read." in text


CHOOSING = """
import random
from sweeps import Search, Stage, Study, Sweep, grid, maximize, minimize, uniform

BASE = {"lr": 0.1, "width": 1.0, "steps": 3, "seed": 0}

def train(config, run):
    drawn = random.Random(config["seed"])
    for step in range(config["steps"]):
        # The first step is the best by loss.
        loss = abs(config["lr"] - 0.2) + step + drawn.random() / 100
        run.log(step=step, loss=loss, score=2 - abs(config["width"] - 3))
    return {"end": loss, "slow": config["lr"]}

def rates(so_far):
    space = grid({"lr": [0.1, 0.2, 0.4]})
    return Sweep(train, base=BASE, space=space, objective=RATES, seeds=3)

def widths(so_far):
    return Search(train, base={**BASE, **so_far["rates"]}, space={"width": uniform(1, 5)},
                  objective=maximize("score"), trials=3, sampler="random", start=[{"width": 3}])

def last(so_far):
    base = {**BASE, **so_far["rates"], **so_far["widths"], "seed": 1000}
    return Sweep(train, base=base, objective=minimize("loss"), seeds=2)

study = Study(Stage("rates", rates, reported={"lr": 0.1}),
              Stage("widths", widths, reported={"width": 1.0}), Stage("last", last))
"""


def run(definition: Path, *more: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "sweeps.study", str(definition), "--on", "local",
             "--results", str(definition.parent / "results"), *more]  # fmt: skip
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


def define(path: Path, rates: str = 'minimize("loss")') -> Path:
    path.write_text(CHOOSING.replace("RATES", rates))
    return path


@pytest.mark.long
def test_a_sweep_and_a_search_choose_by_its_objective(forked: None, tmp_path: Path) -> None:
    definition, results = define(tmp_path / "small.py"), tmp_path / "results"
    done = run(definition)
    assert done.returncode == 0, done.stderr
    assert "rates: chose lr=0.2, the best of 3: loss 0.0" in done.stderr
    assert "(seeds)" in done.stderr and "%" not in done.stderr
    assert "widths: chose width=3.0, the best of 3: score 2, best 2; 1 seed a point" in done.stderr
    found = json.loads((results / "small" / "choices.json").read_text())
    assert found["rule"] == (
        "lowest mean loss (best), then by name; highest mean score (best), then by name"
    )
    rates, widths = found["stages"]
    assert (rates["task"], rates["metric"], rates["direction"]) == (
        "small.train", "loss", "minimize"
    )  # fmt: skip
    assert rates["chosen"] == {"lr": 0.2} and rates["told_apart_from_next_by_seeds"] is True
    means = [one["mean"] for one in rates["candidates"]]
    assert means == sorted(means) and len(means) == 3
    assert [len(one["values"]) for one in rates["candidates"]] == [3, 3, 3]
    assert widths["standard_error"] is None and widths["chosen"]["width"] == 3
    for path in results.glob(f"last/*/{trial_files.CONFIG}"):
        values = json.loads(path.read_text())["values"]
        assert (values["lr"], values["width"]) == (0.2, 3)
    text = (results / "small" / "report" / "report.md").read_text()
    assert "## What was chosen" in text and "lowest loss" in text
    assert "rates: lr 0.2 is 0.1 ahead of the next, lr 0.1" in text
    assert "Every file was read." in text
    for word in ("accurac", "validation", "epoch", "image"):
        assert word not in text.partition("## What was chosen")[2].partition("\n## ")[0], word
    again = run(definition)
    assert again.returncode == 0 and "0 to run" in again.stderr


@pytest.mark.long
@pytest.mark.parametrize(
    ("objective", "chosen"),
    [('maximize("loss", "last")', "lr=0.4"), ('maximize("slow", "final")', "lr=0.4")],
)
def test_it_chooses_by_another_objective_without_training_again(
    forked: None, tmp_path: Path, objective: str, chosen: str
) -> None:
    definition = define(tmp_path / "small.py")
    assert run(definition, "--until", "rates").returncode == 0
    define(definition, objective)
    done = run(definition, "--until", "rates")
    assert done.returncode == 0 and "0 to run" in done.stderr, done
    assert f"rates: chose {chosen}" in done.stderr


def test_without_a_value_it_stops_and_says_why(forked: None, tmp_path: Path) -> None:
    definition = define(tmp_path / "small.py", 'minimize("lost")')
    done = run(definition)
    assert done.returncode == 1, done
    assert "no row has the metric 'lost'; the rows have step, loss, score" in done.stderr
