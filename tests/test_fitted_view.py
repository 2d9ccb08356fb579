"""What a terminal shows of a sweep under way: what failed and what runs, however many there are."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from results_folder import fail, finish, folder_of, write_plan
from rich.cells import cell_len
from rich.console import Console
from terminal import HEIGHT, WIDTH, Terminal

from sweeps.cli.fitted_view import fitted
from sweeps.state.plan import Plan
from sweeps.state.progress import Progress, look
from sweeps.state.trial_store import State, TrialStore
from trainer.config import TrainConfig

ROOT = Path(__file__).parents[1]
POINTS: list[tuple[dict[str, Any], TrainConfig]] = [
    ({}, TrainConfig().override({"seed": seed, "epochs": 3})) for seed in range(40)
]
DEFINITION = """
import time
from pathlib import Path
from sweeps import Sweep, grid, minimize

def train(config, run):
    run.log(epoch=0, loss=1.0)
    if config["lr"] < 4:
        raise ValueError("the learning rate is too low for this task, which is said at some length")
    while Path({gate!r}).exists():
        time.sleep(0.05)
    run.log(epoch=1, loss=0.5)

base = {{"lr": 0, "epochs": 2, "seed": 0}}
space = grid({{"lr": list(range(40))}})
sweep = Sweep(train, base=base, space=space, objective=minimize("loss"))
"""


@pytest.fixture
def plan(tmp_path: Path) -> tuple[Plan, list[Progress]]:
    """Of 40 trials 5 are done, the last three failed, and the others are pending."""
    write_plan(tmp_path, POINTS)
    for point in POINTS[:5]:
        finish(folder_of(tmp_path, point), point[1])
    for point in POINTS[-3:]:
        fail(folder_of(tmp_path, point), "NONFINITE", "loss is nan " * 20)
    store = TrialStore(tmp_path, "grid")
    (plan,) = store.plans()
    return plan, look(store, plan.trials, {})


def in_state(progress: list[Progress], state: State, numbers: range) -> list[Progress]:
    """As if so many were in it."""
    return [
        replace(one, standing=replace(one.standing, state=state)) if number in numbers else one
        for number, one in enumerate(progress)
    ]


def drawn(
    plans: list[tuple[Plan, list[Progress]]], width: int = WIDTH, height: int = HEIGHT
) -> list[str]:
    console = Console(
        file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None
    )
    with console.capture() as captured:
        console.print(fitted(plans, console))
    lines = captured.get().splitlines()
    assert len(lines) < height
    assert all(cell_len(one) <= width for one in lines)
    return lines


def test_what_failed_and_what_runs_stands_first(plan: tuple[Plan, list[Progress]]) -> None:
    progress = in_state(plan[1], State.RUNNING, range(30, 34))
    lines = drawn([(plan[0], progress)])
    states = [one.split()[1] for one in lines[3:-1]]
    assert states[:7] == ["failed"] * 3 + ["running"] * 4
    assert set(states[7:]) == {"pending"} and len(states) == HEIGHT - 1 - 4
    assert "40 trials: 28 pending, 4 running, 3 failed, 5 done" in lines[0]
    assert "best validation" in lines[1] and " 20 %" in lines[1]
    assert "not shown: 16 pending and 5 done; all of them: python -m sweeps.status" in lines[-1]


def test_many_failures_hide_no_trial_that_runs(plan: tuple[Plan, list[Progress]]) -> None:
    progress = in_state(in_state(plan[1], State.FAILED, range(36)), State.RUNNING, range(36, 38))
    lines = drawn([(plan[0], progress)])
    states = [one.split()[1] for one in lines[3:-1]]
    assert states.count("running") == 2 and states.count("failed") == len(states) - 2


@pytest.mark.long
@pytest.mark.parametrize("width", [30, 80, 200])
@pytest.mark.parametrize("count", [1, 2, 4, 40])
@pytest.mark.parametrize("height", [6, 24])
def test_nothing_is_wider_or_higher_than_the_terminal(
    plan: tuple[Plan, list[Progress]], width: int, height: int, count: int
) -> None:
    plans = [(plan[0], [replace(one) for one in plan[1]]) for _ in range(count)]
    lines = drawn(plans, width, height)
    if count == 40:
        assert "more sweeps" in lines[-1]


@pytest.mark.long
def test_forty_trials_on_a_terminal_of_80_x_24(tmp_path: Path) -> None:
    """A launch and `status --watch` beside it show every trial that failed and each that runs."""
    gate = tmp_path / "gate"
    gate.touch()
    path = tmp_path / "mine.py"
    path.write_text(DEFINITION.format(gate=str(gate)))
    where = ["--results", str(tmp_path / "results")]
    launch = [sys.executable, "-m", "sweeps.launch", str(path), *where]
    launch += ["--on", "local", "--workers", "3", "--no-snapshot"]
    status = [sys.executable, "-m", "sweeps.status", "mine", *where, "--watch"]

    def shows_all(lines: list[str]) -> bool:
        states = [one.split()[1] for one in lines if one.startswith("lr")]
        return states[:7] == ["failed"] * 4 + ["running"] * 3

    with Terminal(launch, ROOT) as first, Terminal(status_when(path, status), ROOT) as second:
        for one in (first, second):
            lines = one.until(shows_all)
            assert all(cell_len(line) <= WIDTH for line in lines), lines
            assert any("40 trials" in line and "4 failed" in line for line in lines)
            assert any(" %" in line and "█" in line for line in lines)
            assert any("not shown: " in line for line in lines)
        gate.unlink()
        assert first.end() == 1 and second.end() == 1


def status_when(path: Path, words: list[str]) -> list[str]:
    """Once there is a sweep to look at."""
    folder = path.parent / "results" / "mine" / "plans"
    wait = f'while [ -z "$(ls {folder} 2>/dev/null)" ]; do sleep 0.1; done; exec "$@"'
    return ["bash", "-c", wait, "bash", *words]
