"""A study whose stages are of a plain function: they run, and choose nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import results_folder

from local_machine.errors import InputError
from sweeps.spec import task_loader
from sweeps.spec.scale import Scale
from sweeps.study.stages import SoFar, Stage, find_study
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
    assert "The best mean, 0.0 over 1 trial, has lr 0.1." in text and "Every file was read." in text


@pytest.mark.parametrize("name", ["rates", "search"])
def test_none_of_them_can_choose(definition: Path, name: str) -> None:
    """Said before anything is trained."""
    _, study = find_study(str(definition))
    make = study.stages[study.index(name)].make
    with pytest.raises(InputError, match=f"stage {name} cannot choose: .* small.train trains it"):
        Stage(name, make, reported={"lr": 0.1}).made(SoFar(Scale.FULL, {}))
