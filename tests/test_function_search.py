"""A search over a plain function: by its own metric, direction and budget."""

from __future__ import annotations

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
import results_folder

import sweeps.search.__main__
from local_machine.errors import InputError, run_command
from local_machine.files import matching
from sweeps import Search, log_uniform, maximize, minimize
from sweeps.search.optuna_journal import JOURNAL, Journal, load
from sweeps.search.outcome import NoMetricError, outcome
from sweeps.search.runner import Asked
from sweeps.spec import task_loader
from sweeps.spec.find import find_search
from sweeps.spec.scale import Scale
from sweeps.task import Objective
from trial_records import tables, trial_files
from trial_records.metrics import measured, whose

ROOT = Path(__file__).parent.parent
# The further its rate is from 0.1, the higher is its loss; and one that lags waits to be stopped.
DEFINITION = """
import math, time
from dataclasses import dataclass
from sweeps import Search, choice, log_uniform, maximize, minimize

@dataclass
class Config:
    lr: float = 0.1
    steps: int = 20
    seed: int = 0

def train(config, run):
    distance = abs(math.log10(config.lr) + 1)
    ends = time.monotonic() + 60
    for step in range(run.load() or 0, config.steps):
        run.log(epoch=step // 5)
        if step % 2:
            run.log(step=step, loss=distance + 1 / (step + 1))
        while distance > 0.1 and step > 10 and time.monotonic() < ends:
            time.sleep(0.02)
            if run.should_stop():
                run.save(step + 1)
    return {"score": 1 - distance}

search = Search(
    train, base=Config(), space={"lr": log_uniform(1e-4, 1)}, objective=minimize("loss"),
    start=[{"lr": 0.1}], trials=3, sampler="random"
)
"""


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(task_loader, "_tried", {})
    yield


def definition(folder: Path, *changes: tuple[str, str]) -> Path:
    path, text = folder / "mine.py", DEFINITION
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    path.write_text(text)
    return path


def program(path: Path, *more: str) -> list[str]:
    words = ["--results", str(path.parent / "results"), "--on", "local", *more]
    return [sys.executable, "-m", "sweeps.search", str(path), *words]


def finished(path: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(program(path, *more), cwd=ROOT, capture_output=True, text=True)


def refused(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        run_command(sweeps.search.__main__.app, program(path)[3:])
    return int(end.value.code or 0), capsys.readouterr().err


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


@pytest.mark.long
def test_killed_and_started_again_it_comes_to_its_end(
    forked: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = definition(tmp_path)
    results = tmp_path / "results"
    with subprocess.Popen(
        program(path), cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        wait_for(lambda: list(matching(results, f"**/{trial_files.RUN}")))
        wait_for(lambda: len(list(matching(results, f"**/{trial_files.CONFIG}"))) > 1)
        os.killpg(process.pid, signal.SIGKILL)
    done = finished(path, "--json")
    assert done.returncode == 0, done.stderr
    assert "epoch" not in done.stderr.partition("best: ")[2]
    assert "best: lr=0.1: loss 0.05\n" in done.stderr and "standard error" not in done.stderr
    answer = json.loads(done.stdout)
    assert (answer["metric"], answer["direction"], answer["standard_error"]) == (
        "loss", "minimize", None,
    )  # fmt: skip
    assert answer["best"]["value"] == pytest.approx(0.05)
    assert answer["within_one_standard_error"] == {}
    # The first was whole; what came after was worse, and stopped.
    told = answer["trials"]
    assert [one["number"] for one in told] == [0, 1, 2]
    assert told[0]["state"] == "complete" and "pruned" in answer["counts"]
    assert len({one["params"]["lr"] for one in told}) == 3
    assert len(list(results.glob("mine/*/config.json"))) == 3
    # Steps of its budget are what the pruner counted.
    (journal,) = results.rglob(JOURNAL)
    study = load(journal)
    assert study.direction.name == "MINIMIZE"
    first = study.trials[0].intermediate_values
    assert list(first) == list(range(2, 21, 2)) and first[20] == pytest.approx(0.05)
    # The best configuration, as its own trial's folder has it.
    best = Path(answer["best"]["config"])
    assert (
        best.read_text()
        == (results / "mine" / answer["best"]["trial"] / trial_files.CONFIG).read_text()
    )
    # Nothing is run when all is done.
    again = finished(path, "--json")
    assert "3 of 3 trials asked before" in again.stderr and json.loads(again.stdout) == answer
    report_knows_it(results, tmp_path / "report", answer["counts"]["pruned"])
    # The journal is of its objective.
    definition(tmp_path, ('minimize("loss")', 'maximize("score", "final")'))
    task_loader._tried.clear()
    code, said = refused(path, capsys)
    assert code == 2
    assert "the objective is maximize score (final) now, minimize loss (best) there" in said


def report_knows_it(results: Path, out: Path, pruned: int) -> None:
    code = results_folder.run("--results", results, "--out", out)
    text = (out / "report.md").read_text()
    assert code == 0
    assert "Every file was read." in text and "accuracy" not in text
    assert "The best mean, 0.05 over 1 trial, has lr 0.1." in text
    assert "A search: sampler random chose the points, and pruner successive" in text
    assert text.count("| 0 | pruned |") == pruned


@pytest.mark.long
def test_an_objective_that_nothing_measured(forked: None, tmp_path: Path) -> None:
    path = definition(tmp_path, ('"loss")', '"los")'))
    for _ in range(2):  # and again, before anything is trained
        done = finished(path)
        assert done.returncode == 1, done.stderr
        error, help_line = done.stderr.splitlines()[-2:]
        assert error.endswith("no row has the metric 'los'; the rows have epoch, step, loss")
        assert len(list((tmp_path / "results").rglob(trial_files.RUN))) == 1
    # As the help says, and the same trial is told by what it had.
    command = help_line.partition("): ")[2]
    assert command.startswith("mv ")
    subprocess.run(command, shell=True, check=True)
    definition(tmp_path)
    done = finished(path, "--trials", "1")
    assert done.returncode == 0 and "best: lr=0.1: loss 0.05" in done.stderr, done.stderr


def test_a_dry_run_in_its_own_units(tmp_path: Path) -> None:
    path = definition(tmp_path)
    done = finished(path, "--dry-run", "--set", "steps=50")
    assert done.returncode == 0
    assert "3 trials by random, pruner successive_halving, of at most 50 steps each" in done.stderr
    done = finished(path, "--dry-run", "--json")
    found = json.loads(done.stdout)["search"]
    assert (found["objective"], list(found["space"])) == ("best", ["lr"])
    done = finished(path, "--dry-run", "--scale", "smoke")
    assert done.returncode == 2
    assert "--scale smoke: mine.train does not say what that is" in done.stderr
    assert not (tmp_path / "results").exists()


@dataclass
class Config:
    lr: float = 0.1


def train(config: Config, run: Any) -> None:
    """Of this file."""


def search(objective: Objective = minimize("loss"), **changes: Any) -> Search:  # noqa: B008
    return Search(
        train, base=Config(), space={"lr": log_uniform(1e-3, 1)}, objective=objective, **changes
    )


def test_what_is_no_search_of_a_function() -> None:
    space = {"lr": log_uniform(1e-3, 1)}
    with pytest.raises(InputError, match="a search of a function without an objective"):
        Search(train, base=Config(), space=space)
    with pytest.raises(InputError, match="the objective of a function is a str"):
        Search(train, base=Config(), space=space, objective="best")
    with pytest.raises(InputError, match="train has its own: minimize loss"):
        Search(base=Config(), space=space, objective="last", task=search().task)
    with pytest.raises(InputError, match="not at the top of a file"):
        Search(lambda config, run: None, base=Config(), space=space, objective=minimize("loss"))
    with pytest.raises(InputError, match="unknown field 'lrr'"):
        Search(train, base=Config(), space={"lrr": space["lr"]}, objective=minimize("loss"))


def test_its_journal_is_of_its_task_and_objective() -> None:
    asked = Asked.of(search(), Scale.FULL, {})
    assert asked.definition == {
        "the task": "test_function_search.train",
        "the objective": "minimize loss (best)",
        "the range of lr": "log_uniform(0.001, 1)",
    }
    assert asked.epochs == 1


def test_the_trainers_journal_is_as_before() -> None:
    _, found = find_search("weight_decay")
    kept = Asked.of(found, Scale.FULL, {}).definition
    assert [*kept][:2] == ["objective", "the range of optimizer.weight_decay"]
    assert kept["objective"] == "best" and "optimizer.weight_decay" not in kept
    assert kept["epochs"] == 100 and kept["model.name"] == "resnet18"


ROWS = [{"epoch": 0, "loss": 2.0}, {"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 1.5}]
FINGERPRINT = "0" * 64


def write(folder: Path, objective: Objective, rows: list[Any], returned: Any = None) -> None:
    """A finished trial that was run for an objective."""
    folder.mkdir()
    digest = tables.write_rows(
        folder / trial_files.EPOCHS, rows, whose(folder, FINGERPRINT, "mine")
    )
    goal = (objective.metric, objective.direction, objective.reduction)
    tables.write_run(
        folder,
        whose(folder, FINGERPRINT, "mine")
        | {"status": "done"}
        | measured(rows, returned, *goal)
        | {tables.DIGESTS[trial_files.EPOCHS]: digest},
    )


@pytest.mark.parametrize("run_for", [minimize("loss"), maximize("other", "last")])
@pytest.mark.parametrize(
    ("objective", "value"),
    [
        (minimize("loss"), 1.0),
        (maximize("loss"), 2.0),
        (minimize("loss", "last"), 1.5),
        (minimize("loss", "final"), 0.25),
    ],
)
def test_a_trial_is_told_by_the_searchs_objective(
    tmp_path: Path, run_for: Objective, objective: Objective, value: float
) -> None:
    """Whatever it was run for: that is not part of what a trial is."""
    write(tmp_path / "trial", run_for, ROWS, {"loss": 0.25})
    assert outcome(search(objective), tmp_path / "trial", FINGERPRINT) == (value, None)


def test_a_trial_without_a_finite_value_is_told_as_failed(tmp_path: Path) -> None:
    write(tmp_path / "a", minimize("loss"), [{"epoch": 0, "loss": float("nan")}])
    with pytest.raises(InputError, match="a: its loss is nan"):
        outcome(search(), tmp_path / "a", FINGERPRINT)
    write(tmp_path / "b", minimize("loss"), ROWS, {"score": 1.0})
    with pytest.raises(NoMetricError, match="train returned no 'loss'; it returned score"):
        outcome(search(minimize("loss", "final")), tmp_path / "b", FINGERPRINT)


@pytest.mark.parametrize(("objective", "best"), [(minimize("x"), -3.0), (maximize("x"), 0.5)])
def test_the_best_comes_first(tmp_path: Path, objective: Objective, best: float) -> None:
    journal = Journal(tmp_path, search(objective), {}, 10)
    for value in (0.0, 0.5, -3.0):
        journal.study.tell(journal.ask().number, value)
    assert journal.complete()[0].value == best
