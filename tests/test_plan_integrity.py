"""A plan's own integrity: whatever is changed in its file is named, or changes nothing shown."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import os
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, note, seed, settings
from hypothesis import strategies as st
from test_records_are_data import command, finish_stored, write_stored

import sweeps.launch
import sweeps.retry
import sweeps.status
from analysis.cifar10.task import load
from analysis.data.study_choices import read_all
from local_machine.errors import InputError
from local_machine.json_files import read_json, write_json, write_sealed_json
from sweeps.spec.expand import expand
from sweeps.spec.grid import grid
from sweeps.spec.sweep import Sweep
from sweeps.state.plan import Plan
from sweeps.state.trial_store import TrialStore
from trainer.config import TrainConfig
from trainer.perf import device_peaks
from trial_records import plan as plan_files
from trial_records import trial_files
from trial_records.config import as_before

SWEEP = Sweep(
    base=TrainConfig(), space=grid({"optimizer.lr": [0.1, 0.05], "model.stem": ["cifar"]})
)


def planned(results: Path) -> tuple[TrialStore, Path]:
    """A plan as a launch writes it, and its file."""
    store = TrialStore(results, "sweep")
    plan = Plan("sweep", expand(SWEEP), "full", {}, ["optimizer.lr", "model.stem"], "command")
    store.write_plan(plan)
    return store, store.folder / "plans" / f"{plan.id}.json"


def unsealed(path: Path) -> None:
    """As version 0.1 wrote it."""
    path.write_text(json.dumps(read_json(path)))


def test_a_launchs_plan_ends_in_the_digest_of_all_before(tmp_path: Path) -> None:
    _, path = planned(tmp_path)
    content = path.read_bytes()
    blank = re.sub(rb'(?<=, "sha256": ")[0-9a-f]{64}(?="}\n$)', b"0" * 64, content)
    assert content == content[:-67] + hashlib.sha256(blank).hexdigest().encode() + b'"}\n'
    assert plan_files.read(path).trials[0].point == {"optimizer.lr": 0.1, "model.stem": "cifar"}


@pytest.mark.parametrize("indent", [None, 1, 2, 4])
def test_another_layout_is_no_change(tmp_path: Path, indent: int | None) -> None:
    store, path = planned(tmp_path)
    before = store.plans()
    path.write_text(json.dumps(json.loads(path.read_bytes()), indent=indent))
    assert TrialStore(tmp_path, "sweep").plans() == before
    changed = path.read_text().replace("0.05", "0.06")
    path.write_text(changed)
    with pytest.raises(InputError, match="changed since it was written"):
        TrialStore(tmp_path, "sweep").plans()


@pytest.mark.parametrize("old", [False, True])
def test_a_changed_configuration_is_not_shown(
    tmp_path: Path, old: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """A learning rate of 0.3 for a run that was trained with 0.1."""
    items: list[Any] = [
        ({"optimizer.lr": lr}, TrainConfig().override({"optimizer.lr": lr}).model_dump(mode="json"))
        for lr in (0.1, 0.05)
    ]
    for trial in write_stored(tmp_path, items, sealed=not old):
        finish_stored(tmp_path, trial)
    (path,) = (tmp_path / "other" / "plans").iterdir()
    text = path.read_text()
    config, point = (
        text.replace('"lr": 0.1,', '"lr": 0.3,'),
        text.replace('"optimizer.lr": 0.1', ""),
    )
    point = text.replace('"optimizer.lr": 0.1\n', '"optimizer.lr": 0.3\n')
    for damaged in (config, point):
        assert damaged != text
        path.write_text(damaged)
        with pytest.raises(InputError, match=path.name):
            load(tmp_path, [])
        assert command(sweeps.status, "other", "--results", tmp_path) == 3
        assert path.name in capsys.readouterr().err


def _trial(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda plan: plan["trials"][0].update(changes)


@pytest.mark.parametrize(
    "damage",
    [
        _trial(name="elsewhere-00000000"),
        _trial(name=f"../{'0' * 8}"),
        _trial(name=3),
        _trial(fingerprint="0" * 64),
        _trial(fingerprint="xyz"),
        _trial(config=[]),
        _trial(config={}),
        _trial(point=None),
        lambda plan: plan["trials"].append(plan["trials"][0]),
        lambda plan: plan["trials"].pop(),
        lambda plan: plan.update(id="00000000"),
        lambda plan: plan.update(axes=["optimizer.momentum"]),
        lambda plan: plan["trials"][0]["config"].update(epochs=10**30),
        lambda plan: plan["trials"][0]["config"].update(epochs=True),
        lambda plan: plan["trials"][0]["config"].pop("epochs"),
    ],
)
def test_an_old_plan_is_checked_by_its_fingerprints(
    tmp_path: Path, damage: Callable[[dict[str, Any]], Any]
) -> None:
    store, path = planned(tmp_path)
    unsealed(path)
    assert len(store.plans()) == 1
    values = json.loads(path.read_bytes())
    damage(values)
    path.write_text(json.dumps(values))
    found, problems = TrialStore(tmp_path, "sweep").readable_plans()
    assert found == []
    assert [str(path) in one.what for one in problems] == [True]
    with pytest.raises(InputError, match=path.name):
        load(tmp_path, [])


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"epochs": 100', '"epochs": 100, "epochs": 100', 1),
        lambda text: text.replace('"lr": 0.05', '"lr": NaN', 1),
        lambda text: text.replace('"lr": 0.05', '"lr": 1e999', 1),
        lambda text: text.replace('"epochs": 100', f'"epochs": {"9" * 5000}', 1),
        lambda text: text.replace('"epochs": 100', f'"epochs": {"[" * 900}{"]" * 900}', 1),
        lambda text: text.replace('"epochs": 100', f'"epochs": {"[" * 10**5}', 1),
        lambda text: text.replace('"command"', '"c\\ud800"', 1),
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "null",
        lambda text: "\ufeff" + text,
    ],
)
def test_what_is_not_json_is_a_damaged_plan(tmp_path: Path, change: Any) -> None:
    _, path = planned(tmp_path)
    for old in (False, True):
        if old:
            planned(tmp_path)
            unsealed(path)
        text = path.read_text()
        path.write_text(change(text))
        with pytest.raises(InputError, match=path.name):
            TrialStore(tmp_path, "sweep").plans()
        path.unlink()
        planned(tmp_path)


def test_a_text_that_no_page_could_hold_is_a_damaged_plan(tmp_path: Path) -> None:
    _, path = planned(tmp_path)
    unsealed(path)
    path.write_text(path.read_text().replace('"command": "command"', '"command": "\\ud800"'))
    with pytest.raises(InputError, match="surrogates"):
        TrialStore(tmp_path, "sweep").plans()


def test_a_launch_refuses_a_damaged_plan_of_its_own_and_goes_on_beside_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "one.json"
    config.write_text(TrainConfig().override({"data.name": "digits"}).to_json())
    words = (config, "--results", tmp_path / "results", "--dry-run", "--on", "local")
    assert command(sweeps.launch, *words) == 0
    plans = tmp_path / "results" / "one" / "plans"
    plans.mkdir(parents=True)
    (plans / "00000000.json").write_text("{")
    assert command(sweeps.launch, *words) == 1
    assert "warning: " in (said := capsys.readouterr()).err
    assert "00000000.json" in said.err
    assert "pending" in said.out
    own = TrainConfig().override({"data.name": "digits"}).fingerprint
    (plans / f"{plan_files.identity([own])}.json").write_text("{")
    assert command(sweeps.launch, *words) == 3
    error = capsys.readouterr().err.splitlines()[-2]
    assert error.startswith("error: ")
    assert plan_files.identity([own]) in error


def test_what_lies_under_a_plans_name_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, path = planned(tmp_path)
    plans = path.parent
    os.mkfifo(plans / "00000001.json")
    (plans / "00000002.json").mkdir()
    (plans / "00000003.json").symlink_to("nowhere")
    (plans / "00000004.json").symlink_to(path)
    for words in (("sweep",), ()):
        assert command(sweeps.status, *words, "--results", tmp_path) == 1
        said = capsys.readouterr()
        assert "2 pending" in said.out + said.err
        assert all(f"0000000{n}.json" in said.err for n in (1, 2, 3, 4))
    study = load(tmp_path, [])
    assert len(study.plans[0].runs) == 2
    assert len(study.problems) == 4
    assert len(store.readable_plans()[0]) == 1


# --- the law ---------------------------------------------------------------------------------


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where each value of a nested one lies."""
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    inner = [one for key in keys for one in _paths(value[key], (*path, key))]
    return [path, *inner] if path else inner


def _mutate(content: bytes, kind: str, draw: random.Random) -> bytes:
    if kind == "flip":
        at = draw.randrange(len(content))
        return content[:at] + bytes([content[at] ^ draw.randrange(1, 256)]) + content[at + 1 :]
    if kind == "cut":
        at, length = draw.randrange(len(content)), draw.randrange(1, 40)
        return content[:at] + content[at + length :]
    values = json.loads(content)
    places = _paths(values)

    def holder(path: tuple[Any, ...]) -> Any:
        found = values
        for key in path[:-1]:
            found = found[key]
        return found

    one, other = draw.choice(places), draw.choice(places)
    if kind == "delete":
        del holder(one)[one[-1]]
    elif one[: len(other)] != other and other[: len(one)] != one:
        a, b = copy.deepcopy(holder(one)[one[-1]]), copy.deepcopy(holder(other)[other[-1]])
        holder(one)[one[-1]], holder(other)[other[-1]] = b, a
    return json.dumps(values).encode()


_KINDS = st.sampled_from(["flip", "cut", "delete", "swap"])


@seed(20260101)
@settings(max_examples=int(os.environ.get("PLAN_EXAMPLES", "300")), deadline=None, print_blob=True)
@example("flip", 0)
@given(_KINDS, st.integers(0, 2**32))
def test_a_mutated_plan_is_named_or_shows_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, kind: str, number: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "law"
    truth = TrialStore(folder, "sweep")
    if not folder.exists():
        planned(folder)
    (path,) = plan_files.paths(truth.folder)
    content = path.read_bytes()
    (before,) = truth.plans()
    mutated = _mutate(content, kind, random.Random(number))
    note(f"{kind} {number}: {mutated!r}")
    try:
        path.write_bytes(mutated)
        found, problems = TrialStore(folder, "sweep").readable_plans()
        if problems:
            assert found == []
            assert str(path) in problems[0].what
        else:
            assert found == [before]
    finally:
        path.write_bytes(content)


@seed(20260102)
@settings(max_examples=int(os.environ.get("PLAN_EXAMPLES", "300")), deadline=None, print_blob=True)
@given(st.sampled_from(["flip", "cut", "swap"]), st.integers(0, 2**32))
def test_of_a_mutated_old_plan_the_trials_are_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, kind: str, number: int
) -> None:
    """Of what a plan without a digest says beside its trials' content, nothing tells."""
    folder = tmp_path_factory.getbasetemp() / "old"
    truth = TrialStore(folder, "sweep")
    if not folder.exists():
        unsealed(planned(folder)[1])
    (path,) = plan_files.paths(truth.folder)
    content = path.read_bytes()
    (before,) = truth.plans()
    mutated = _mutate(content, kind, random.Random(number))
    note(f"{kind} {number}: {mutated!r}")
    try:
        path.write_bytes(mutated)
        found, problems = TrialStore(folder, "sweep").readable_plans()
        if problems:
            assert str(path) in problems[0].what
        else:
            # A field that came later may be missing where it has its default.
            shown = {one.fingerprint: (one.point, as_before(one.values)) for one in found[0].trials}
            assert shown == {one.fingerprint: (one.point, one.values) for one in before.trials}
    finally:
        path.write_bytes(content)


# --- the other sealed files ------------------------------------------------------------------


@seed(20260103)
@settings(max_examples=int(os.environ.get("PLAN_EXAMPLES", "300")), deadline=None, print_blob=True)
@given(_KINDS, st.integers(0, 2**32))
def test_a_mutated_note_is_refused_or_says_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, kind: str, number: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    written = trial_files.Failure(
        "ERROR", "loss is 0.5", "trace", ["a", "b"], 1, 12.5, "host", epoch=3
    )
    written.write(folder)
    path = folder / trial_files.FAILURE
    path.write_bytes(_mutate(path.read_bytes(), kind, random.Random(number)))
    note(f"{kind} {number}: {path.read_bytes()!r}")
    try:
        assert trial_files.Failure.read(folder) == written
    except InputError as error:
        assert str(path) in error.what


def test_a_note_without_a_digest_is_read_as_it_is(tmp_path: Path) -> None:
    written = trial_files.Pruned("abcdef01", 3, 4, 12.5)
    write_json(tmp_path / trial_files.PRUNED, dataclasses.asdict(written))
    assert trial_files.Pruned.read(tmp_path) == written


def test_what_says_a_choice_or_a_peak_is_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEPS_CACHE", str(tmp_path))
    device_peaks.store(device_peaks.DevicePeaks("some device", 4e14, 5e13, 2e12, 1e-6))
    assert device_peaks.cached("some device") is not None
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text().replace("2000000000000.0", "3000000000000.0"))
    assert device_peaks.cached("some device") is None
    choices = tmp_path / "study" / "choices.json"
    choices.parent.mkdir()
    value = {"schema_version": 1, "study": "s", "scale": "full", "rule": "r", "stages": []}
    write_sealed_json(choices, value)
    problems: list[InputError] = []
    assert len(list(read_all(tmp_path, problems))) == 1
    choices.write_text(choices.read_text().replace('"rule": "r"', '"rule": "x"'))
    assert list(read_all(tmp_path, problems)) == []
    assert "changed since it was written" in problems[0].what
