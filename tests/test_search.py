"""The command: real trials on this machine, found again after kills, pruned, and its errors."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from outcome import still_held
from saved_trials import epochs_of_all

import sweeps.cancel
import sweeps.launch
import sweeps.search.__main__
import sweeps.status
from local_machine.errors import run_command
from local_machine.files import matching
from sweeps.search.optuna_journal import JOURNAL, load
from trainer.config import TrainConfig
from trial_records import tables, trial_files

# In one process, for its one search is what takes time.
pytestmark = pytest.mark.usefixtures("forked")

ROOT = Path(__file__).parent.parent
TINY = """
from sweeps import Search, Sweep, grid, log_uniform
from trainer.recipes import reported

base = reported("resnet18").override({
    "data.name": "digits", "data.train_limit": 200, "data.test_limit": 100, "model.width": 0.125,
    "epochs": EPOCHS, "batch_size": 64, "precision": "fp32",
})
sweep = Sweep(base=base, space=grid({"optimizer.weight_decay": [1e-3]}))
search = Search(
    base=base, space={"optimizer.weight_decay": log_uniform(1e-5, 1e-2)}, trials=3,
    start=[{"optimizer.weight_decay": 1e-3}], MORE
)
"""


def definition(folder: Path, epochs: int = 2, more: str = "") -> Path:
    path = folder / "tiny.py"
    path.write_text(TINY.replace("EPOCHS", str(epochs)).replace("MORE", more))
    return path


def words(path: Path, *more: object) -> list[str]:
    return [str(path), "--results", str(path.parent / "results"), "--on", "local", *map(str, more)]


def command(module: Any, *given: object) -> int:
    with pytest.raises(SystemExit) as end:
        run_command(module.app, [str(word) for word in given])
    return int(end.value.code or 0)


def program(*given: str) -> list[str]:
    return [sys.executable, "-m", "sweeps.search", *given]


def told(results: Path) -> list[Any]:
    (path,) = results.rglob(JOURNAL)
    return load(path).trials


def wait_for(condition: Callable[[], Any], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A definition whose search has run after its grid; and what the search printed."""
    path = definition(tmp_path_factory.mktemp("search"))
    subprocess.run(
        [sys.executable, "-m", "sweeps.launch", *words(path)], cwd=ROOT, check=True,
        capture_output=True,
    )  # fmt: skip
    done = subprocess.run(program(*words(path, "--json")), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "3 trials: 3 complete" in done.stderr
    assert "within one standard error" in done.stderr
    return path, json.loads(done.stdout)


@pytest.mark.long
def test_a_search_finds_the_best_of_what_it_trained(
    finished: tuple[Path, dict[str, Any]],
) -> None:
    path, answer = finished
    assert answer["schema_version"] == 1
    assert len(answer["trials"]) == 3
    best = max(answer["trials"], key=lambda one: one["value"])
    assert answer["best"]["params"] == best["params"]
    config = TrainConfig.from_file(Path(answer["best"]["config"]))
    folder = path.parent / "results" / "tiny" / answer["best"]["trial"]
    assert config == TrainConfig.from_file(folder / trial_files.CONFIG)
    run = tables.read_run(folder, config.fingerprint)
    assert run["val_accuracy"] == answer["best"]["value"]
    low, high = answer["within_one_standard_error"]["optimizer.weight_decay"]
    assert low <= config.optimizer.weight_decay <= high


def test_the_grids_trial_was_not_trained_again(finished: tuple[Path, dict[str, Any]]) -> None:
    path, answer = finished
    folders = {one.parent.name for one in (path.parent / "results").rglob(trial_files.RUN)}
    assert folders == {one["trial"] for one in answer["trials"]}
    logs = list((path.parent / "results").rglob("*.log"))
    assert sum(log.read_text().count("=== trial") for log in logs) == 3


def test_a_finished_search_runs_nothing_and_goes_on_when_more_is_asked(
    finished: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, answer = finished
    plans = path.parent.rglob("plans/*.json")
    (plan,) = [one for one in plans if "search" in json.loads(one.read_bytes())]
    created = json.loads(plan.read_bytes())["created"]
    done = subprocess.run(
        program(*words(path, "--json")), cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "3 of 3 trials asked before" in done.stderr
    assert json.loads(done.stdout) == answer
    # The plan is still the one that was made before its trials ran.
    assert json.loads(plan.read_bytes())["created"] == created


def test_status_and_launch_know_a_searchs_trials(
    finished: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, answer = finished
    results = path.parent / "results"
    assert command(sweeps.status, "tiny", "--results", results, "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert value["counts"]["done"] == 3
    best = answer["best"]["config"]
    assert command(sweeps.launch, best, "--results", results, "--dry-run") == 0
    assert "1 trial: 1 pending" in capsys.readouterr().err


def test_a_dry_run_touches_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = definition(tmp_path)
    assert command(sweeps.search.__main__, *words(path, "--dry-run")) == 0
    said = capsys.readouterr()
    assert "log_uniform(1e-05, 0.01)" in said.out
    assert "3 trials by tpe" in said.err
    assert command(sweeps.search.__main__, *words(path, "--dry-run", "--json")) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["search"]["space"]["optimizer.weight_decay"]["log"] is True
    assert not (tmp_path / "results").exists()


def test_another_space_under_the_same_journal_is_refused(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = finished
    other = tmp_path / "tiny.py"
    other.write_text(path.read_text().replace("1e-5, 1e-2", "1e-6, 1e-2"))
    given = (other, "--results", path.parent / "results", "--on", "local")
    assert command(sweeps.search.__main__, *given) == 2
    error, help_line = capsys.readouterr().err.splitlines()[-2:]
    assert "log_uniform(1e-06, 0.01) now, log_uniform(1e-05, 0.01) there" in error
    assert help_line.startswith("help: go back to that definition, or start over")


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (["weight_decya"], "no search is called 'weight_decya'"),
        (["mixup"], "has no `search`"),
        (["weight_decay", "--set", "optimizer.weight_decay=1"], "the search varies"),
        (["weight_decay", "--set", "nonsense=1"], "unknown field"),
        (["weight_decay", "--trials", "0"], "--trials"),
        (["weight_decay", "--on", "debug"], "--on debug"),
        (["weight_decay", "--pruner", "medain"], "unknown pruner 'medain'"),
        (["weight_decay", "--set", "data.root=/no/data"], "/no/data"),
    ],
)
def test_bad_input(
    given: list[str], what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(sweeps.search.__main__, *given, "--results", tmp_path / "results") == 2
    error, help_line = capsys.readouterr().err.splitlines()[-2:]
    assert error.startswith("error: ") and what in error
    assert help_line.startswith("help: ")
    assert not (tmp_path / "results").exists()


@pytest.mark.long
def test_a_second_driver_is_told_who_the_first_is(
    unforked: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = definition(tmp_path, epochs=500)
    with subprocess.Popen(program(*words(path)), cwd=ROOT, stderr=subprocess.DEVNULL) as first:
        wait_for(lambda: epochs_of_all(tmp_path / "results"))
        assert command(sweeps.search.__main__, *words(path)) == 2
        assert f"process {first.pid} on" in capsys.readouterr().err
        # Cancel ends the driver as well as its trials.
        assert command(sweeps.cancel, "tiny", "--results", tmp_path / "results", "--yes") == 0
        assert first.wait(60) == 130
    assert not still_held(tmp_path / "results")


@pytest.mark.long
def test_killed_at_random_instants_it_comes_to_the_same_end(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """With its workers, which die with it."""
    path = definition(tmp_path)
    chance = random.Random(5)
    # In the first trial, and behind it.
    for file in ("claim.json", trial_files.RUN):
        with subprocess.Popen(
            program(*words(path)), cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True
        ) as process:
            wait_for(lambda file=file: list(matching(tmp_path / "results", f"**/{file}")))
            time.sleep(chance.uniform(0.0, 1.0))
            os.killpg(process.pid, signal.SIGKILL)
    done = subprocess.run(program(*words(path, "--json")), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    _, undisturbed = finished
    mine = [
        (one["number"], one["params"], one["value"]) for one in json.loads(done.stdout)["trials"]
    ]
    assert mine == [(one["number"], one["params"], one["value"]) for one in undisturbed["trials"]]
    assert len(list((tmp_path / "results").rglob(trial_files.RUN))) == 3


def test_interrupted_it_gives_its_trials_back(tmp_path: Path) -> None:
    path = definition(tmp_path, epochs=500)
    with subprocess.Popen(
        program(*words(path)), cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(lambda: epochs_of_all(tmp_path / "results"))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "its trials were given back; the same command goes on" in said
    assert not still_held(tmp_path / "results")
    assert [one.state.name for one in told(tmp_path / "results")] == ["RUNNING"]


@pytest.mark.long
def test_a_trial_that_lags_behind_is_pruned_and_its_epochs_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of these two the second cannot learn: its learning rate is nothing."""
    path = definition(tmp_path, epochs=10, more='sampler="grid"')
    text = path.read_text().replace(
        '{"optimizer.weight_decay": log_uniform(1e-5, 1e-2)}, trials=3,',
        '{"optimizer.lr": choice([0.02, 1e-9])}, trials=2,',
    )
    text = text.replace('"data.train_limit": 200', '"data.train_limit": 400')
    text = text.replace('start=[{"optimizer.weight_decay": 1e-3}], ', "")
    path.write_text(text.replace("log_uniform", "choice"))
    done = subprocess.run(
        program(*words(path, "--json", "--set", "early_stopping.patience=99")), cwd=ROOT,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout)["trials"][-1]
    assert (last["state"], last["params"]) == ("pruned", {"optimizer.lr": 1e-9})
    folder = tmp_path / "results" / "tiny" / last["trial"]
    epochs = tables.read_epochs(folder).num_rows
    assert 2 <= epochs < 10
    assert not (folder / trial_files.RUN).exists()
    assert not still_held(folder)
    assert json.loads((folder / trial_files.PRUNED).read_text())["search"]
    command(sweeps.status, "tiny", "--results", tmp_path / "results", "--json")
    value = json.loads(capsys.readouterr().out)
    assert value["counts"]["pruned"] == 1
    # Who launches it by itself wants all of it.
    config = folder / trial_files.CONFIG
    again = tmp_path / "results" / "config"
    assert command(sweeps.launch, config, "--results", again, "--dry-run") == 0
