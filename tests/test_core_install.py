"""The core alone: a sweep of a function or of a command line is launched, watched, resumed and kept
without torch, pandas, matplotlib and every other package of an extra."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import core_environment
import numpy as np
import pytest

from local_machine.installed import extras
from trial_records import tables

# Its state has an array, a tuple and a set; one trial's first attempt fails after it has saved.
FUNCTION = """
import random
from dataclasses import dataclass
from pathlib import Path
import numpy as np
from sweeps import Sweep, grid, minimize

@dataclass
class Config:
    lr: float = 0.1
    epochs: int = 4
    seed: int = 0

def train(config, run):
    random.seed(config.seed)
    np.random.seed(config.seed)
    state = run.load() or {"epoch": 0, "weight": np.ones(3), "seen": set(), "shape": (3,)}
    for epoch in range(state["epoch"], config.epochs):
        if config.lr == 0.5 and epoch == 2 and not Path(__file__).with_name("fixed").exists():
            raise ValueError("broken")
        weight = state["weight"] * config.lr + random.random() + np.random.rand()
        state = {"epoch": epoch + 1, "weight": weight, "seen": state["seen"] | {epoch},
                 "shape": weight.shape}
        run.log(epoch=epoch, loss=float(weight.sum()))
        run.save(state)
    return {"epochs_seen": len(state["seen"])}

sweep = Sweep(train, base=Config(), space=grid({"lr": [0.5, 0.25]}), objective=minimize("loss"))
"""
COMMAND = """
from sweeps import Sweep, grid, minimize
sweep = Sweep(command=["bash", "-c", 'echo "loss {lr}"'], base={"lr": 0.1},
              space=grid({"lr": [0.1, 0.2]}), metrics="output: loss {loss}",
              objective=minimize("loss"))
"""
Type = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("core")


@pytest.fixture(scope="module")
def typed(folder: Path) -> Type:
    """Types a command in the core's environment."""
    python = core_environment.make(folder / "environment")

    def run(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(
            [python, *words], cwd=folder, env=environment, capture_output=True, text=True,
            timeout=100,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done

    return run


def test_no_package_of_an_extra_is_there(typed: Type) -> None:
    names = sorted({name for modules in extras.MODULES.values() for name in modules})
    code = f"import importlib.util as u; print([n for n in {names} if u.find_spec(n)])"
    assert typed("-c", code).stdout == "[]\n"


def test_what_is_installed_is_small() -> None:
    project = core_environment.declared()
    dependencies, more = project["dependencies"], project["optional-dependencies"]
    assert isinstance(dependencies, list) and isinstance(more, dict)
    core = core_environment.mebibytes(core_environment.closure(dependencies))
    search = core_environment.mebibytes(core_environment.closure([*dependencies, *more["search"]]))
    assert 100 < core < 300, core
    assert core < search < 340, search


@pytest.fixture(scope="module")
def swept(typed: Type, folder: Path) -> Path:
    """The results of FUNCTION: one trial failed once, and went on from its state."""
    (folder / "mine.py").write_text(FUNCTION)
    done = typed("-m", "sweeps.launch", "mine.py", "--on", "local", code=1)
    assert "1 failed, 1 done" in done.stderr, done.stderr
    assert "broken" in typed("-m", "sweeps.status", "mine", "--failures", code=1).stdout
    (folder / "fixed").touch()
    again = typed("-m", "sweeps.retry", "mine", "--on", "local")
    assert "2 done" in again.stderr, again.stderr
    return folder / "results"


@pytest.mark.long
def test_a_function_is_swept_and_resumed_as_if_undisturbed(swept: Path) -> None:
    """Each generator goes on where it was when the state was saved."""
    for run in swept.glob("mine/*/run.parquet"):
        row = tables.read_table(run).to_pylist()[0]
        drawn, weight, losses = random.Random(0), np.ones(3), []
        generator = np.random.RandomState(0)
        for _ in range(4):
            weight = weight * row["config.lr"] + drawn.random() + generator.rand()
            losses.append(float(weight.sum()))
        rows = tables.read_table(run.with_name("epochs.parquet")).to_pylist()
        assert [one["loss"] for one in rows] == losses
        assert row["final.epochs_seen"] == 4


@pytest.mark.long
def test_a_command_is_swept(typed: Type, folder: Path) -> None:
    (folder / "command.py").write_text(COMMAND)
    done = typed("-m", "sweeps.launch", "command.py", "--on", "local")
    assert "2 done" in done.stderr, done.stderr


@pytest.mark.long
def test_a_note_an_export_and_the_archive_need_no_more(typed: Type, swept: Path) -> None:
    assert "broken" in typed("-m", "sweeps.logs", "mine", "lr0.5").stdout
    typed("-m", "sweeps.cancel", "mine")
    assert "grid_bs_epoch" in typed("-m", "sweeps", "list").stdout
    typed("-m", "sweeps.note", "mine", "a word")
    typed("-m", "analysis.export", "mine", "--to", "csv", "exported")
    assert list((swept.parent / "exported").rglob("*.csv"))
    typed("-m", "sweeps.compact", "mine")
    assert "2 done" in typed("-m", "sweeps.status", "mine").stdout


def test_the_doctor_misses_no_torch(typed: Type) -> None:
    said = typed("-m", "sweeps.doctor", "--no-job").stdout
    assert "torch" in said and "not installed; what needs it: pip install" in said


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "extra", "module"),
    [
        (("-m", "analysis.report"), "report", "pandas"),
        (("-m", "sweeps.search", "weight_decay"), "search", "optuna"),
        (("-m", "sweeps.study", "cifar10", "--dry-run"), "search", "optuna"),
        (("-m", "sweeps.launch", "grid_bs_epoch", "--scale", "smoke"), "trainer", "torch"),
        (("-m", "sweeps.launch", "grid_bs_epoch", "--dry-run"), "trainer", "torch"),
        (("-m", "trainer", "config.json", "out"), "trainer", "torch"),
    ],
)
def test_what_needs_an_extra_says_how_it_is_installed(
    typed: Type, folder: Path, words: tuple[str, ...], extra: str, module: str
) -> None:
    (folder / "config.json").write_text("{}")
    said = typed(*words, code=2).stderr.splitlines()
    assert said[-2].startswith("error: ") and f"needs the module {module}" in said[-2], said
    assert said[-1].startswith("help: install it: pip install") and f"[{extra}]'" in said[-1]


@pytest.mark.usefixtures("swept")
def test_a_frame_in_a_notebook_says_so_too(typed: Type) -> None:
    code = """
import sweeps
from local_machine.errors import InputError
try:
    sweeps.open("results", "mine").runs()
except InputError as error:
    print(error.help)
"""
    assert "[report]" in typed("-c", code).stdout
