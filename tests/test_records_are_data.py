"""Records are data: what any version stored is shown as stored, and checked when it is launched."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from results_folder import finish, only
from test_launch import command

import sweeps.launch
import sweeps.logs
import sweeps.retry
import sweeps.status
from analysis import whole_report
from analysis.cifar10.task import load
from local_machine.errors import InputError
from local_machine.json_files import write_json, write_sealed_json
from sweeps.spec.sweep import Trial
from sweeps.state.trial_store import State, TrialStore
from trainer.config import TrainConfig
from trial_records import plan as plan_files
from trial_records import trial_files
from trial_records.config import ADDED, fingerprint_of, flat_of

Values = dict[str, Any]
Item = tuple[dict[str, Any], Values]

SMALL = TrainConfig().override(
    {
        "data.name": "digits", "data.train_limit": 200, "data.test_limit": 100, "epochs": 1,
        "model.width": 0.125, "batch_size": 64, "precision": "fp32", "compile": "off",
    }
)  # fmt: skip


def write_stored(
    results: Path, items: list[Item], *, sealed: bool = True, **changes: Any
) -> list[dict[str, Any]]:
    """A plan as some version wrote it, with whatever configurations; its trials."""
    trials = []
    for point, values in items:
        fingerprint = fingerprint_of(values)
        name = f"t-{fingerprint[:8]}"
        trials.append({"name": name, "fingerprint": fingerprint, "point": point, "config": values})
    head = {
        "schema_version": 1,
        "sweep": "other",
        "id": plan_files.identity(trial["fingerprint"] for trial in trials),
        "scale": "full",
        "overrides": {},
        "axes": list(dict.fromkeys(axis for point, _ in items for axis in point)),
        "seeds": [42],
        "created": "2026-01-01T00:00:00+00:00",
        "command": "python -m sweeps.launch other",
        "trials": trials,
    }
    folder = results / "other" / "plans"
    folder.mkdir(parents=True, exist_ok=True)
    write = write_sealed_json if sealed else write_json
    write(folder / f"{head['id']}.json", head | changes)
    return trials


def finish_stored(results: Path, trial: dict[str, Any], **changes: Any) -> Path:
    """What the trial left when it finished, in a version that knew its configuration."""
    folder = results / "other" / str(trial["name"])
    finish(folder, TrainConfig(), fingerprint=trial["fingerprint"], **changes)
    write_json(folder / trial_files.CONFIG, trial["config"])
    return folder


def changed(**changes: Any) -> Values:
    """Today's values with some changed, by a dotted name with __ for the dot; None removes one."""
    values = copy.deepcopy(TrainConfig().model_dump(mode="json"))
    for key, value in changes.items():
        *path, leaf = key.split("__")
        section = values
        for part in path:
            section = section.setdefault(part, {})
        if value is None:
            del section[leaf]
        else:
            section[leaf] = value
    return values


UNKNOWN = changed(temperature=0.25, gating__experts=4)
REMOVED = changed(model__name="alexnet")
BEYOND = changed(augment__cutout=99, optimizer__momentum=1.5)
RENAMED = changed(optimizer__lr=None, optimizer__learning_rate=0.3)
LACKING = changed(epochs=None, seed=None, batch_size=None, label_smoothing=None)
ANOTHER_KIND = changed(epochs="many", optimizer__lr="auto", seed="lucky")
OTHERS = {
    "unknown field": (UNKNOWN, {"temperature": 0.25, "gating.experts": 4}),
    "removed architecture": (REMOVED, {"model.name": "alexnet"}),
    "out of range": (BEYOND, {"augment.cutout": 99, "optimizer.momentum": 1.5}),
    "renamed": (RENAMED, {"optimizer.learning_rate": 0.3, "optimizer.lr": None}),
    "lacking": (LACKING, {"epochs": None, "seed": None, "batch_size": None}),
    "another kind": (ANOTHER_KIND, {"epochs": "many", "optimizer.lr": "auto", "seed": "lucky"}),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("sealed", [True, False])
def test_what_today_cannot_train_is_shown_as_it_was_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, sealed: bool
) -> None:
    values, shown = OTHERS[name]
    today = TrainConfig().override({"seed": 7}).model_dump(mode="json")
    odd, _ = write_stored(tmp_path, [({}, values), ({}, today)], sealed=sealed)
    finish_stored(tmp_path, odd, test_accuracy=0.8765, val_accuracy=0.8642)

    assert command(sweeps.status, "other", "--results", tmp_path, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["problems"] == []
    trials = {one["name"]: one for one in told["trials"]}
    assert trials[odd["name"]]["state"] == "done"
    epochs = values.get("epochs")
    assert trials[odd["name"]]["epochs"] == (epochs if isinstance(epochs, int) else None)
    assert command(sweeps.status, "other", "--results", tmp_path) == 0
    assert odd["name"] in capsys.readouterr().out

    study = load(tmp_path, [])
    assert study.problems == []
    runs = study.plans[0].runs
    assert runs["test_accuracy"].tolist()[0] == 0.8765
    for key, value in shown.items():
        assert key in study.plans[0].fields
        found = runs[key].tolist()[0]
        assert found == value or (value is None and found != found) or found is value


@pytest.mark.long
@pytest.mark.parametrize("name", OTHERS)
def test_a_report_is_drawn_of_what_today_cannot_train(tmp_path: Path, name: str) -> None:
    items: list[Item] = []
    for cutout in (0, 12):
        values = copy.deepcopy(OTHERS[name][0])
        values["augment"]["crop_padding"] = cutout
        items.append(({"augment.crop_padding": cutout}, values))
    for trial in write_stored(tmp_path, items):
        finish_stored(tmp_path, trial, test_accuracy=0.8765)
    study = load(tmp_path, [])
    page = whole_report.build(study).write(tmp_path / "report")
    assert study.problems == []
    assert "87.65" in page.read_text()


@pytest.mark.long
def test_an_axis_that_today_does_not_know_is_an_axis(tmp_path: Path) -> None:
    # One that is called as a column of the tables, and as an outcome.
    points = [{"temperature": t, "n": t, "device": "x"} for t in (0.5, 1.0)]
    items: list[Item] = [(point, changed(**point)) for point in points]
    for trial in write_stored(tmp_path, items):
        finish_stored(tmp_path, trial)
    plan = only(tmp_path)
    assert plan.axes == ["temperature", "config.n", "device"]
    assert plan.runs["point.temperature"].tolist() == [0.5, 1.0]
    assert plan.runs["config.device"].tolist() == ["x", "x"]
    assert plan.runs["device"].tolist() == ["cpu", "cpu"]
    study = load(tmp_path, [])
    whole_report.build(study).write(tmp_path / "report")


@pytest.mark.long
def test_a_search_over_a_field_that_today_does_not_know_is_a_search(tmp_path: Path) -> None:
    space = {"temperature": {"kind": "float", "low": 0.1, "high": 1.0, "log": True},
             "value": {"kind": "choice", "values": ["a", "b"]}}  # fmt: skip
    search = {"sampler": "tpe", "pruner": "none", "objective": "best", "trials": 3, "seed": 0,
              "space": space}  # fmt: skip
    points = [{"temperature": t, "value": v} for t, v in ((0.2, "a"), (0.4, "b"), (0.9, "a"))]
    items: list[Item] = [(point, changed(**point)) for point in points]
    for n, trial in enumerate(write_stored(tmp_path, items, search=search)):
        finish_stored(tmp_path, trial, val_accuracy=0.5 + n / 10)
    study = load(tmp_path, [])
    assert study.problems == []
    page = whole_report.build(study).write(tmp_path / "report").read_text()
    assert "temperature from 0.1 to 1" in page


def test_a_field_that_came_later_has_the_value_of_before(tmp_path: Path) -> None:
    values = TrainConfig().model_dump(mode="json")
    for name in ADDED:
        *path, leaf = name.split(".")
        (values[path[0]] if path else values).pop(leaf)
    (trial,) = write_stored(tmp_path, [({}, values)])
    assert trial["fingerprint"] == TrainConfig().fingerprint
    runs = only(tmp_path).runs
    assert {name: runs[name].tolist()[0] for name in ADDED} == flat_of(ADDED)
    (planned,) = TrialStore(tmp_path, "other").plans()[0].trials
    assert planned.config == TrainConfig()


def test_a_plan_knows_its_trials_as_they_are_stored(tmp_path: Path) -> None:
    write_stored(tmp_path, [({}, values) for values, _ in OTHERS.values()])
    store = TrialStore(tmp_path, "other")
    (plan,) = store.plans()
    assert [one.values for one in plan.trials] == [values for values, _ in OTHERS.values()]
    for trial in plan.trials:
        assert store.standing(trial).state is State.PENDING
        assert trial.problem is not None
        assert trial.name in trial.problem.what
        with pytest.raises(InputError, match="this version cannot train"):
            _ = trial.config


def test_what_is_asked_of_a_trial_that_today_would_make_another_of(tmp_path: Path) -> None:
    """Its values are fine, but today's version has a field more, and no word of before for it."""
    values = changed(schedule__gamma=None)
    (trial,) = write_stored(tmp_path, [({}, values)])
    (planned,) = TrialStore(tmp_path, "other").plans()[0].trials
    assert planned.problem is not None
    assert f"{trial['name']}: it was planned without schedule.gamma" in planned.problem.what


def test_of_a_retry_one_trial_is_a_problem_and_the_other_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = SMALL.model_dump(mode="json")
    odd = copy.deepcopy(good)
    odd["model"]["name"] = "alexnet"
    trials = write_stored(tmp_path, [({}, odd), ({}, good)])
    for trial in trials:
        folder = tmp_path / "other" / trial["name"]
        folder.mkdir()
        trial_files.Failure("ERROR", "x", "", [], 1, 0.0, "host").write(folder)
    assert command(sweeps.retry, "other", "--results", tmp_path, "--on", "debug") == 1
    said = capsys.readouterr().err
    assert f"warning: this version cannot train {trials[0]['name']}: " in said
    assert "unknown architecture 'alexnet'" in said
    assert "bug" not in said
    assert "Traceback" not in said
    store = TrialStore(tmp_path, "other")
    assert [store.standing(one).state for one in store.plans()[0].trials] == [
        State.FAILED,
        State.DONE,
    ]


def test_the_configuration_in_a_trials_folder_is_compared_as_it_is_stored(tmp_path: Path) -> None:
    """A definition that gained an axis: the folder of an older version is known by its content."""
    values = TrainConfig().model_dump(mode="json")
    del values["compile"], values["deterministic"]  # before there were these
    folder = tmp_path / "sweep" / f"short-{TrainConfig().fingerprint[:8]}"
    folder.mkdir(parents=True)
    write_json(folder / trial_files.CONFIG, values)
    longer = Trial.of(f"long-{TrainConfig().fingerprint[:8]}", {}, TrainConfig())
    store = TrialStore(tmp_path, "sweep")
    assert store.settle_names([longer])[0].name == folder.name
    write_json(folder / trial_files.CONFIG, values | {"seed": 1})
    assert store.settle_names([longer])[0].name == longer.name


@pytest.mark.parametrize("damage", [lambda text: text[:-9], lambda text: "[]"])
def test_a_damaged_configuration_is_its_own_trials_problem(
    tmp_path: Path, damage: Callable[[str], str]
) -> None:
    folder = tmp_path / "sweep" / f"short-{TrainConfig().fingerprint[:8]}"
    folder.mkdir(parents=True)
    (folder / trial_files.CONFIG).write_text(damage(TrainConfig().to_json()))
    longer = Trial.of(f"long-{TrainConfig().fingerprint[:8]}", {}, TrainConfig())
    other = Trial.of(f"o-{SMALL.fingerprint[:8]}", {}, SMALL)
    settled = TrialStore(tmp_path, "sweep").settle_names([longer, other])
    assert [one.name for one in settled] == [folder.name, other.name]


def test_records_are_read_where_no_trainer_is_loaded(tmp_path: Path) -> None:
    """No schema is declared then: fingerprints, plans and runs are read by what is stored."""
    (trial,) = write_stored(tmp_path, [({}, changed())], sealed=False)
    folder = finish_stored(tmp_path, trial, shared_from=None)
    code = f"""
import sys
from pathlib import Path
from trial_records import plan, tables
from trial_records.config import is_of
from trial_records.trial_files import read_values

folder = Path({str(folder)!r})
((trial,),) = (plan.read(path).trials for path in plan.paths(folder.parent))
assert is_of(read_values(folder), trial.fingerprint)
row = tables.read_run(folder, trial.fingerprint)
assert row["status"] == "done" and row["optimizer.lr"] == 0.1
assert not any(name.partition(".")[0] == "trainer" for name in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
