"""What a launch at full scale says of its length before it starts, on a machine without a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_cost_estimate import SMALL, finish

from sweeps import Sweep
from sweeps.cli.options import ScaleName, Where, plan_of
from sweeps.execution.request import request_of
from sweeps.launching import outlook
from sweeps.spec.backend_name import BackendName
from sweeps.spec.expand import expand
from sweeps.spec.scale import Scale
from sweeps.state.plan import Plan
from sweeps.state.progress import look
from sweeps.state.trial_store import TrialStore
from trainer.config import TrainConfig

FULL = TrainConfig().override({"precision": "fp32", "epochs": 200, "model.name": "resnet18"})


@pytest.fixture(autouse=True)
def no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEPS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def told(
    results: Path, config: TrainConfig, capsys: pytest.CaptureFixture[str], scale: str = "full"
) -> str:
    sweep, store = Sweep(config), TrialStore(results, "mine")

    def at_scale(one: str) -> Plan:
        return plan_of(sweep, store, ScaleName(one), {}, None, "")

    plan = at_scale(scale)
    request = request_of(Where(BackendName.DEBUG, 1, results=results))
    outlook.tell(store, plan, look(store, plan.trials, {}), request, at_scale)
    return capsys.readouterr().err


def finish_at(results: Path, scale: Scale, rate: float) -> None:
    """A past run like the one at that scale, at so many images a second."""
    (trial,) = expand(Sweep(FULL), scale=scale)
    finish(results, trial.config.override({"seed": 1}), rate)


def test_days_are_told_before_they_begin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish_at(tmp_path, Scale.FULL, 1.0)
    finish_at(tmp_path, Scale.SMOKE, 20.0)
    finish_at(tmp_path, Scale.CPU, 20.0)
    said = told(tmp_path, FULL, capsys)
    assert "at full scale this takes about 4 days on this machine without a GPU" in said
    assert "--scale smoke takes about 12 minutes, --scale cpu takes about 17 minutes" in said
    assert said.rstrip().endswith("Ctrl-C ends it, and the same command goes on")


def test_of_what_is_short_or_smaller_or_nobody_knows_nothing_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(tmp_path, SMALL, capsys) == ""
    finish_at(tmp_path, Scale.SMOKE, 100.0)
    assert told(tmp_path, FULL, capsys, "smoke") == ""


@pytest.mark.parametrize(
    ("hours", "words"),
    [(0.001, "about 1 minute"), (0.5, "about 30 minutes"), (3.4, "about 3 hours"),
     (72.0, "about 3 days")],
)  # fmt: skip
def test_a_time_in_words(hours: float, words: str) -> None:
    assert outlook.in_words(hours) == words
