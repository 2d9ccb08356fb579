"""A real search of a space with branches, an integer and a constraint, whose driver is killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import results_folder
from test_function_search import fresh as fresh
from test_function_search import wait_for

from local_machine.files import matching
from sweeps.search.optuna_journal import JOURNAL, is_refused, load
from trial_records import trial_files

ROOT = Path(__file__).parent.parent
TRIALS = 14
HEAD = """
import math
from dataclasses import dataclass
from sweeps import Search, choice, integers, log_uniform, minimize, uniform

@dataclass
class Config:
    optimizer: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.0
    layers: int = 2
    seed: int = 0

def train(config, run):
    far = abs(math.log10(config.lr) + 2) + config.momentum + config.layers / 10
    run.log(epoch=0, loss=far + 0.5 * (config.optimizer == "lion"))

def where(point):
    return point["layers"] * point.get("lr", 0.1) < 0.5
"""
END = """
search = Search(train, base=Config(), space=space, where=where, objective=minimize("loss"),
                start=[{"optimizer": "lion", "layers": 4}], trials=14)
"""
DEFINITIONS = {
    "data": """
space = {
    "optimizer": choice(
        sgd={"lr": log_uniform(1e-3, 1), "momentum": uniform(0, 0.99)},
        adamw={"lr": log_uniform(1e-5, 1e-1)},
        lion={},
    ),
    "layers": integers(1, 8),
}
""",
    "function": """
def space(trial):
    point = {"optimizer": trial.suggest_categorical("optimizer", ["sgd", "adamw", "lion"])}
    if point["optimizer"] != "lion":
        point["lr"] = trial.suggest_float("lr", 1e-5, 1, log=True)
    if point["optimizer"] == "sgd":
        point["momentum"] = 1 - trial.suggest_float("one_minus_momentum", 0.01, 1, log=True)
    return point | {"layers": trial.suggest_int("layers", 1, 8)}
""",
}


def definition(folder: Path, kind: str) -> Path:
    path = folder / "mine.py"
    path.write_text(HEAD + DEFINITIONS[kind] + END)
    return path


def program(path: Path, *more: str) -> list[str]:
    words = ["--results", str(path.parent / "results"), "--on", "local", "--workers", "2", *more]
    return [sys.executable, "-m", "sweeps.search", str(path), *words]


@pytest.mark.long
@pytest.mark.parametrize("kind", DEFINITIONS)
def test_killed_again_and_again_nothing_is_asked_twice_or_lost(
    forked: None, tmp_path: Path, kind: str
) -> None:
    path, results = definition(tmp_path, kind), tmp_path / "results"
    for count in (1, 4, 7, 10) if kind == "data" else (5,):
        with subprocess.Popen(
            program(path), cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True
        ) as process:
            wait_for(lambda: len([*matching(results, f"**/{trial_files.CONFIG}")]) >= count)  # noqa: B023
            os.killpg(process.pid, signal.SIGKILL)
    done = subprocess.run(program(path, "--json"), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    told = answer["trials"]
    assert answer["counts"] == {"complete": TRIALS} and len(told) == TRIALS
    assert {one["params"]["optimizer"] for one in told} == {"sgd", "adamw", "lion"}
    for one in told:
        check(one["params"])
        config = json.loads(
            (results / "mine" / one["trial"] / trial_files.CONFIG).read_text()
        )["values"]  # fmt: skip
        assert config == {**config, **one["params"]}
        # A field that the branch does not have is as in the base.
        assert "lr" in one["params"] or config["lr"] == 0.1
        assert "momentum" in one["params"] or config["momentum"] == 0.0
    # None of its trials was trained twice, and none beside those that were asked for.
    names = Counter(one["trial"] for one in told)
    folders = {one.parent.name for one in matching(results, f"mine/*/{trial_files.RUN}")}
    assert {*names} == folders
    assert all(one["params"]["optimizer"] == "lion" for one in told if names[one["trial"]] > 1)
    # What optuna-dashboard opens.
    (journal,) = results.rglob(JOURNAL)
    study = load(journal)
    assert study.study_name == f"mine-{journal.parent.name}"
    assert len(study.trials) == TRIALS + answer["refused"] == TRIALS + refused(study)
    assert study.best_trial.value == pytest.approx(answer["best"]["value"])
    out = tmp_path / "report"
    assert results_folder.run("--results", results, "--out", out) == 0
    text = (out / "report.md").read_text()
    assert "Every file was read." in text and not re.search(r"\bnan\b", text)
    assert ("in some trials" if kind == "function" else "where optimizer is sgd") in text


def refused(study: Any) -> int:
    return sum(map(is_refused, study.trials))


def check(point: dict[str, Any]) -> None:
    """It is a point of one branch, and satisfies the constraint."""
    fields = {"optimizer", "layers"} | ({"lr"} if point["optimizer"] != "lion" else set())
    fields |= {"momentum"} if point["optimizer"] == "sgd" else set()
    assert {*point} == fields
    assert type(point["layers"]) is int and 1 <= point["layers"] <= 8
    assert point["layers"] * point.get("lr", 0.1) < 0.5


def test_a_dry_run_shows_each_branch(forked: None, tmp_path: Path) -> None:
    path = definition(tmp_path, "data")
    done = subprocess.run(program(path, "--dry-run"), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "lr where optimizer=adamw log_uniform(1e-05, 0.1)" in rows
    assert not (tmp_path / "results").exists()
