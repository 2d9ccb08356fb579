"""An objective that was changed in the sweep file: no trial runs again, and every reader compares
by the new one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import results_folder

ROOT = Path(__file__).parent.parent
DEFINITION = """
from sweeps import Sweep, grid, maximize, minimize

BASE = {"lr": 0.1, "steps": 3}

def train(config, run):
    for step in range(config["steps"]):
        run.log(step=step, loss=config["lr"] + step, score=7 * config["lr"])
    return {"test": 100 * config["lr"]}

sweep = Sweep(train, base=BASE, space=grid({"lr": [0.1, 0.3]}), objective=OBJECTIVE)
"""


def command(*words: object) -> str:
    line = [sys.executable, "-m", *map(str, words)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    return done.stdout + done.stderr


@pytest.mark.long
@pytest.mark.parametrize(
    ("objective", "status", "report"),
    [
        ('maximize("score")', "best score 2.1 (lr0.3", "2.1 over 1 trial, has lr 0.3."),
        ('maximize("loss")', "best loss 2.3 (lr0.3", "2.3 over 1 trial, has lr 0.3."),
        ('minimize("loss", "last")', "best loss 2.1 (lr0.1", "2.1 over 1 trial, has lr 0.1."),
        ('maximize("test", "final")', "best test 30 (lr0.3", "30 over 1 trial, has lr 0.3."),
    ],
)
def test_every_reader_compares_by_the_new_one(
    tmp_path: Path, forked: None, objective: str, status: str, report: str
) -> None:
    path, results = tmp_path / "mine.py", tmp_path / "results"
    where = ("--results", results)
    path.write_text(DEFINITION.replace("OBJECTIVE", 'minimize("loss")'))
    command("sweeps.launch", path, "--on", "debug", *where)
    path.write_text(DEFINITION.replace("OBJECTIVE", objective))
    assert "0 to run" in command("sweeps.launch", path, "--on", "debug", *where)
    assert status in command("sweeps.status", "mine", *where)
    out = tmp_path / "report"
    assert results_folder.run("--results", results, "--out", out) == 0
    text = (out / "report.md").read_text()
    assert f"The best mean, {report}" in text
    assert "no finite value" not in text


def test_a_metric_that_is_called_as_the_trainers_is_shown_as_it_was_logged(
    tmp_path: Path, forked: None
) -> None:
    """It may be in percent already."""
    path, where = tmp_path / "mine.py", ("--results", tmp_path / "results")
    text = DEFINITION.replace("score=7 *", "val_accuracy=91.5 +")
    path.write_text(text.replace("OBJECTIVE", 'maximize("val_accuracy")'))
    command("sweeps.launch", path, "--on", "debug", *where)
    said = command("sweeps.status", "mine", *where)
    assert "best val_accuracy 91.8 (lr0.3" in said and "%" not in said
    assert "step  " in said and "epoch" not in said


def test_a_trial_of_two_objectives_has_an_entry_for_each(tmp_path: Path, forked: None) -> None:
    path, where = tmp_path / "mine.py", ("--results", tmp_path / "results")
    path.write_text(DEFINITION.replace("OBJECTIVE", 'minimize("loss")'))
    command("sweeps.launch", path, "--on", "debug", *where)
    other = DEFINITION.replace("OBJECTIVE", 'maximize("score")').replace("[0.1, 0.3]", "[0.3, 0.5]")
    path.write_text(other)
    command("sweeps.launch", path, "--on", "debug", *where)
    said = json.loads(command("sweeps.status", "mine", "--json", *where))
    shared = [one for one in said["trials"] if one["point"]["lr"] == 0.3]
    found = {(one["metric"], one["direction"], round(one["best"], 3)) for one in shared}
    assert found == {("loss", "minimize", 0.3), ("score", "maximize", 2.1)}
    assert [len(one["plans"]) for one in shared] == [1, 1]
    assert said["counts"]["done"] == 3
