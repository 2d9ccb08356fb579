"""A plain function as a task: found by where it is defined, configured by whatever its base is."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local_machine.errors import InputError
from sweeps import Sweep, grid, maximize, minimize
from sweeps.cli.trial_table import summed_up
from sweeps.function_task import FunctionTask
from sweeps.spec import task_loader
from sweeps.spec.expand import expand
from sweeps.spec.find import find
from sweeps.state.plan import Plan
from sweeps.state.progress import look
from sweeps.state.trial_store import TrialStore
from trial_records.metrics import whose
from trial_records.tables import write_rows
from trial_records.trial_files import EPOCHS

ROOT = Path(__file__).parent.parent
DEFINITION = """
from dataclasses import dataclass, field
from pydantic import BaseModel
from sweeps import Sweep, grid, minimize

@dataclass
class Net:
    width: int = 8

@dataclass
class Plain:
    lr: float = 0.1
    epochs: int = 3
    seed: int = 1
    net: Net = field(default_factory=Net)

class Model(BaseModel):
    lr: float = 0.1
    epochs: int = 3
    seed: int = 1
    net: Net = Net()

MAPPING = {"lr": 0.1, "epochs": 3, "seed": 1, "net": {"width": 8}}

def train(config, run):
    return {"loss": config["lr"] if isinstance(config, dict) else config.lr}

sweep = Sweep(train, base=BASE, space=grid({"net.width": [8, 16]}), seeds=2,
              objective=minimize("loss"))
"""
BASES = {"dataclass": "Plain()", "model": "Model()", "mapping": "MAPPING"}


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(task_loader, "_tried", {})
    yield


def written(tmp_path: Path, base: str) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(DEFINITION.replace("BASE,", f"{BASES[base]},"))
    return file


@pytest.mark.parametrize("base", BASES)
def test_a_fresh_process_trains_what_the_plan_says(tmp_path: Path, base: str) -> None:
    file = written(tmp_path, base)
    _, sweep = find(str(file))
    trials = expand(sweep, overrides={"lr": "0.5"})
    task = trials[0].task
    assert (task.name, task.reference) == ("mine.train", f"{file}:train")
    assert (task.budget, task.seed, task.metric) == ("epochs", "seed", "loss")
    assert (task.direction, task.reduction) == ("minimize", "best")
    assert trials[0].values == {"lr": 0.5, "epochs": 3, "seed": 1, "net": {"width": 8}}
    assert trials[0].name == f"width8-seed1-{trials[0].fingerprint[:8]}"
    store = TrialStore(tmp_path / "results", "mine")
    store.write_plan(Plan("mine", trials, "full", {}, ["net.width"], "command", task=task))
    code = f"""
from pathlib import Path
from sweeps.spec.task_loader import load
from sweeps.state.trial_store import TrialStore
trials = TrialStore(Path({str(tmp_path / "results")!r}), "mine").plans()[0].trials
for trial in trials:
    print(type(trial.config).__name__, load(trial.task).train(trial.config, None)["loss"])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    kind = {"dataclass": "Plain", "model": "Model", "mapping": "dict"}[base]
    assert done.stdout.splitlines() == [f"{kind} 0.5"] * 4, done.stderr


@pytest.mark.long
@pytest.mark.parametrize("base", BASES)
def test_a_dry_run_of_a_function(tmp_path: Path, base: str) -> None:
    words = [sys.executable, "-m", "sweeps.launch", str(written(tmp_path, base)), "--dry-run",
             "--on", "local", "--json", "--results", str(tmp_path / "results")]  # fmt: skip
    done = subprocess.run([*words, "--seeds", "1"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["trials"]) == 2
    done = subprocess.run([*words, "--set", "lrr=1"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "unknown field 'lrr'" in done.stderr, done.stderr


@dataclasses.dataclass
class Config:
    lr: float = 0.1


def train(config: Config, run: Any) -> None:
    """Of this file."""


def test_the_same_values_of_another_function_are_another_trial() -> None:
    first, second = (
        expand(Sweep(function, base=Config(), objective=maximize("accuracy")))[0]
        for function in (train, other)
    )
    assert first.values == second.values and first.fingerprint != second.fingerprint
    assert first.name == f"test_function_task.train-{first.fingerprint[:8]}"


def other(config: Config, run: Any) -> None:
    """Of this file, too."""


def test_what_no_worker_could_import_is_refused() -> None:
    def nested(config: Config, run: Any) -> None:
        """Inside of another function."""

    space = grid({"lr": [0.1]})
    for function in (nested, lambda config, run: None):
        with pytest.raises(InputError, match="not at the top of a file"):
            Sweep(function, base=Config(), space=space, objective=minimize("loss"))
    with pytest.raises(InputError, match="without an objective"):
        Sweep(train, base=Config(), space=space)
    here: dict[str, Any] = {"__name__": "nowhere"}
    exec("def typed(config, run): pass", here)
    with pytest.raises(InputError, match="in no file"):
        Sweep(here["typed"], base=Config(), objective=minimize("loss"))


def test_without_a_seed_there_is_one_trial_a_point() -> None:
    sweep = Sweep(train, base=Config(), objective=maximize("accuracy", "last"))
    assert isinstance(sweep.task, FunctionTask) and sweep.task.budget is None
    assert len(expand(sweep)) == 1
    with pytest.raises(InputError, match="has no seed that is a whole"):
        expand(sweep, seeds=2)


def test_how_far_a_function_has_come(tmp_path: Path) -> None:
    """By its own metric, in units of its own budget."""
    _, sweep = find(str(written(tmp_path, "dataclass")))
    trials = expand(sweep)
    store = TrialStore(tmp_path / "results", "mine")
    for number, trial in enumerate(trials[:2]):
        rows = [{"epoch": epoch, "loss": 1.0 - 0.1 * epoch - number} for epoch in range(2)]
        folder = store.folder_of(trial)
        folder.mkdir(parents=True)
        write_rows(folder / EPOCHS, rows, whose(folder, trial.fingerprint, trial.task.name))
    progress = look(store, trials, {})
    assert [one.epochs_done for one in progress] == [2, 2, 0, 0]
    assert [one.best for one in progress[:2]] == pytest.approx([0.9, -0.1])
    assert [one.problem for one in progress] == [None] * 4
    plan = Plan("mine", trials, "full", {}, ["net.width"], "command", task=trials[0].task)
    line, table = summed_up(plan, progress)
    assert f"best loss -0.1 ({trials[1].name})" in line and table[0][2:4] == ("2/3", "0.9")
    told = progress[0].to_json()
    assert (told["best_val_accuracy"], told["metric"], told["best"]) == (None, "loss", 0.9)
