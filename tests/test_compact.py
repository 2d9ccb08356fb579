"""Compaction: read the same before, during and after; killed anywhere it loses nothing."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from results_folder import begin, fail, finish, folder_of, name_of, write_plan

import sweeps.compact.__main__
import sweeps.launch
import sweeps.status
from analysis.cifar10.explain import tested
from analysis.cifar10.task import load
from local_machine.errors import EXIT_IO, InputError, run_command
from local_machine.json_files import write_json
from sweeps.compact import archive_writer
from sweeps.cost import past_runs as past_runs_module
from sweeps.cost.past_runs import past_runs
from sweeps.spec.expand import expand
from sweeps.spec.sweep import Sweep
from sweeps.state.lease import CLAIM, Lease
from sweeps.state.plan import Plan
from sweeps.state.progress import look
from sweeps.state.trial_store import State, TrialStore
from trainer.config import TrainConfig
from trainer.perf.cost_model import TrainerCosts
from trainer.recipes import reported
from trial_records import archive, tables, trial_files

CONFIGS = [TrainConfig().override({"seed": seed, "epochs": 3}) for seed in range(5)]
POINTS: list[tuple[dict[str, Any], TrainConfig]] = [({}, config) for config in CONFIGS]
# What changes a folder, as the interpreter announces it.
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.utime"}


def done(results: Path, config: TrainConfig, **changes: Any) -> Path:
    folder = folder_of(results, ({}, config))
    finish(folder, config, images_per_second=100.0 + config.seed, **changes)
    rows = [{"index": i, "label": i % 3, "logits": [0.5, i, -i]} for i in range(20)]
    tables.write_table(folder / trial_files.PREDICTIONS, rows, tables.PREDICTIONS_SCHEMA)
    (folder / trial_files.CHECKPOINT).write_bytes(b"weights")
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Three trials done, one running, one failed; the running one has come to an epoch or more."""
    write_plan(tmp_path, POINTS)
    for config in CONFIGS[:3]:
        done(tmp_path, config)
    begin(folder_of(tmp_path, POINTS[3]))
    lease = Lease(1, 0, 0.0, "")
    write_json(folder_of(tmp_path, POINTS[3]) / CLAIM, asdict(lease))
    fail(folder_of(tmp_path, POINTS[4]), "NONFINITE")
    return tmp_path


def run(results: Path, *words: str) -> int:
    with pytest.raises(SystemExit) as end:
        run_command(sweeps.compact.__main__.app, ["grid", "--results", str(results), *words])
    return int(end.value.code or 0)


def seen(results: Path) -> Any:
    """What every reader makes of the results."""
    study = load(results, [])
    store = TrialStore(results, "grid")
    (plan,) = store.plans()
    done_names = [name_of(config) for config in CONFIGS[:3]]
    return (
        study.plans[0].runs.to_json(),
        study.plans[0].epochs.to_json(),
        study.plans[0].epochs.dtypes.astype(str).to_dict(),
        list(study.plans[0].epochs["trial"].cat.categories),
        [str(problem) for problem in study.problems],
        [one.to_json() for one in look(store, plan.trials, {})],
        [str(run) for run in past_runs(results, TrainerCosts())],
        [tables.read_predictions(store.folder / name) for name in done_names],
        [tables.read_run(store.folder / name_of(c), c.fingerprint) for c in CONFIGS[:3]],
        [tested.config(store.folder / name_of(c), c.fingerprint) for c in CONFIGS[:3]],
        [trial.name for trial in store.settle_names(plan.trials)],
        [store.lease(trial, 1.0, "") for trial in plan.trials[:4]],
    )


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def dies_at(count: int, action: Callable[[], object]) -> bool:
    """Whether `action` was killed before its change number `count`, from 0, to any folder."""
    child = os.fork()
    if child == 0:
        left = count

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal left
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & 3
            if event in CHANGES or writes:
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        code = 1
        with contextlib.suppress(BaseException):
            sys.addaudithook(hook)
            action()
            code = 0
        os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False


def compacted(results: Path) -> archive_writer.Gathered:
    store = TrialStore(results, "grid")
    with archive_writer.held(store) as folder:
        return archive_writer.gather(store, store.plans()[0].trials, folder)


def put_back(results: Path) -> int:
    store = TrialStore(results, "grid")
    with archive_writer.held(store):
        return archive_writer.put_back(store)


def test_all_readers_see_the_same_and_undoing_is_exact(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, files = seen(results), tree(results)
    assert run(results, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["schema_version"], said["added"], said["compacted"], said["open"]) == (1, 3, 3, 2)
    assert seen(results) == before
    assert before[5][3]["state"] == "running"
    left = {path.name for path in folder_of(results, POINTS[0]).iterdir()}
    assert left == {trial_files.CHECKPOINT}
    assert len(archive.parts(results / "grid")) == 1
    # Again: there is nothing to do, and nothing is done.
    there = tree(results)
    assert run(results) == 0
    assert tree(results) == there
    assert run(results, "--undo") == 0
    assert tree(results) == files
    assert not (results / "grid" / archive.FOLDER).exists()
    assert seen(results) == before


def test_at_most_five_files_a_trial_before(results: Path) -> None:
    for config in CONFIGS[:3]:
        assert len(list(folder_of(results, ({}, config)).iterdir())) == 5


@pytest.mark.long
@pytest.mark.parametrize("back", [False, True], ids=["compact", "undo"])
def test_killed_before_any_change_it_loses_nothing(results: Path, back: bool) -> None:
    before, files = seen(results), tree(results)
    if back:
        compacted(results)
    start = results.with_name(results.name + "-start")
    shutil.copytree(results, start)
    action = put_back if back else compacted
    deaths = 0
    while True:
        # The same content in another place has other names in memory.
        here = results.with_name(f"{results.name}-{deaths}") / "x"
        shutil.copytree(start, here)
        if not dies_at(deaths, lambda here=here: action(here)):  # type: ignore[misc]
            break
        deaths += 1
        assert seen(here) == before
        assert action(here) in (3, 0) if back else compacted(here).compacted == 3
        assert seen(here) == before
        if not back:
            put_back(here)
        assert {k: v[0] for k, v in tree(here).items()} == {k: v[0] for k, v in files.items()}
        shutil.rmtree(here.parent)
    # The lease, the part and its name, three trials' four files each, at the least.
    assert deaths > 15


@pytest.mark.parametrize(("step", "act"), [("_read", compacted), ("_compacted", put_back)])
def test_past_runs_are_all_found_while_they_are_moved(
    results: Path, monkeypatch: pytest.MonkeyPatch, step: str, act: Callable[[Path], Any]
) -> None:
    before = past_runs(results, TrainerCosts())
    if act is put_back:
        compacted(results)
    original, acts = getattr(past_runs_module, step), [act]

    def moved(*given: Any) -> Any:
        if acts:
            acts.pop()(results)
        return original(*given)

    monkeypatch.setattr(past_runs_module, step, moved)
    assert past_runs(results, TrainerCosts()) == before
    assert not acts


@pytest.mark.long
def test_readers_beside_it_see_the_same_at_every_instant(results: Path) -> None:
    """Another process compacts, or puts back, once in each reading: somewhere in it."""
    before = seen(results)
    start, started = os.pipe()
    end, ended = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            os.close(started)
            while os.read(start, 1):
                time.sleep(random.uniform(0, 0.1))
                if archive.parts(results / "grid"):
                    put_back(results)
                else:
                    compacted(results)
                os.write(ended, b"x")
            code = 0
        os._exit(code)
    os.close(ended)
    forms = set()
    for _ in range(12):
        os.write(started, b"x")
        assert seen(results) == before
        assert os.read(end, 1)
        forms.add(bool(archive.parts(results / "grid")))
    os.close(started)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert forms == {True, False}


def test_trials_added_later_become_another_part(results: Path) -> None:
    compacted(results)
    shutil.rmtree(folder_of(results, POINTS[4]))
    done(results, CONFIGS[4], test_accuracy=0.7)
    before = seen(results)
    found = compacted(results)
    assert (found.added, found.compacted, found.open) == (1, 4, 1)
    assert len(archive.parts(results / "grid")) == 2
    assert seen(results) == before
    assert put_back(results) == 4
    assert seen(results) == before


@pytest.mark.parametrize(
    ("limit", "most", "held"), [("PART_BYTES", 1, [1] * 5), ("PART_TRIALS", 2, [1, 2, 2])]
)
def test_the_order_is_the_plans_however_the_trials_are_parted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, most: int, held: list[int]
) -> None:
    """A part holds no more trials than fit into memory, and is called by its content."""
    write_plan(tmp_path, POINTS)
    for config in CONFIGS:
        done(tmp_path, config)
    before = seen(tmp_path)
    monkeypatch.setattr(archive_writer, limit, most)
    assert compacted(tmp_path).added == 5
    rows = [archive.read(one, ["trial"]).num_rows for one in archive.parts(tmp_path / "grid")]
    assert sorted(rows) == held
    assert seen(tmp_path) == before


def test_a_trial_in_both_forms_counts_once(results: Path) -> None:
    before = seen(results)
    copy = results.with_name(results.name + "-copy")
    shutil.copytree(results, copy)
    compacted(results)
    shutil.copytree(copy, results, dirs_exist_ok=True)
    assert seen(results) == before
    assert compacted(results).compacted == 3
    assert not (folder_of(results, POINTS[0]) / trial_files.RUN).exists()


def test_a_trial_of_an_older_schema(results: Path) -> None:
    folder = folder_of(results, POINTS[1])
    for path, newer in (
        (folder / trial_files.RUN, ["step_used", "compile"]),
        (folder / trial_files.EPOCHS, ["val_loss_smoothed"]),
    ):
        table = tables.read_table(path).drop_columns(newer)
        tables.write_table(path, table, table.schema.with_metadata({b"schema_version": b"1"}))
    before = seen(results)
    assert compacted(results).added == 3
    assert seen(results) == before


def test_a_damaged_trial_is_left_in_its_folder(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder_of(results, POINTS[1]) / trial_files.EPOCHS
    path.write_bytes(path.read_bytes()[:-9])
    study = load(results, [])
    assert run(results) == 1
    assert str(path) in capsys.readouterr().err
    assert path.exists()
    assert len(archive.trials(results / "grid")) == 2
    again = load(results, [])
    pd.testing.assert_frame_equal(again.plans[0].runs, study.plans[0].runs)
    assert [str(one) for one in again.problems] == [str(one) for one in study.problems]


def test_checkpoints_go_only_when_that_is_said_twice(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, files = seen(results), tree(results)
    path = folder_of(results, POINTS[0]) / trial_files.CHECKPOINT
    assert run(results, "--drop-checkpoints") == 1
    assert "3 checkpoints" in capsys.readouterr().err
    assert path.exists()
    assert run(results, "--drop-checkpoints", "--yes") == 0
    assert not path.parent.exists()
    assert seen(results) == before
    with pytest.raises(InputError, match="is missing"):
        tested.weights(path.parent, CONFIGS[0].fingerprint)
    assert run(results, "--undo") == 0
    left = {name: file for name, file in files.items() if trial_files.CHECKPOINT not in name}
    assert tree(results) == left
    assert run(results, "--undo", "--drop-checkpoints") == 2


def test_one_command_at_a_time(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = TrialStore(results, "grid")
    with archive_writer.held(store):
        assert run(results) == 2
    said = capsys.readouterr().err
    assert "error: process" in said
    assert "help: " in said
    assert not (results / "grid" / archive.FOLDER).exists()


def test_what_was_written_since_stays(results: Path) -> None:
    folder = folder_of(results, POINTS[0])
    (folder / "notes.json").write_text("1")
    compacted(results)
    (folder / "notes.json").write_text("2")
    assert compacted(results).compacted == 3
    put_back(results)
    assert (folder / "notes.json").read_text() == "2"
    assert (folder / "notes.json.compacted").read_text() == "1"


def test_a_launch_after_it_skips_what_is_compacted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    definition = tmp_path / "grid.py"
    definition.write_text(
        "from sweeps import Sweep\nfrom trainer.recipes import reported\n"
        "sweep = Sweep(base=reported('resnet18'))\n"
    )
    results = tmp_path / "results"
    trials = expand(Sweep(base=reported("resnet18")), seeds=2)
    store = TrialStore(results, "grid")
    store.write_plan(Plan("grid", trials, "full", {}, [], "command"))
    for trial in trials:
        finish(store.folder_of(trial), trial.config)
    assert run(results) == 0
    assert {one.state for one in store.standings(trials)} == {State.DONE}
    with pytest.raises(SystemExit) as end:
        words = [str(definition), "--seeds", "2", "--results", str(results), "--on", "debug"]
        run_command(sweeps.launch.app, words)
    assert not end.value.code
    assert "2 done; 0 to run" in capsys.readouterr().err
    assert not store.folder_of(trials[0]).exists()


def status(results: Path) -> int:
    with pytest.raises(SystemExit) as end:
        run_command(sweeps.status.app, ["grid", "--results", str(results)])
    return int(end.value.code or 0)


def test_a_damaged_part_is_an_error_and_nothing_runs_again(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compacted(results)
    (path,) = archive.parts(results / "grid")
    path.write_bytes(path.read_bytes()[:-100])
    archive._rows.cache_clear()
    store = TrialStore(results, "grid")
    states = [one.state for one in store.standings(store.plans()[0].trials)]
    assert states == [*[State.UNKNOWN] * 3, State.RUNNING, State.UNKNOWN]
    assert status(results) == 1
    assert run(results) == EXIT_IO
    assert run(results, "--undo") == EXIT_IO
    with pytest.raises(InputError, match="is damaged") as error:
        load(results, [])
    assert str(path) in error.value.what
    assert "backup" in error.value.help
    assert "Traceback" not in capsys.readouterr().err
    # Another sweep beside it is read, and this one named.
    write_plan(results, POINTS[:1], sweep="other")
    study = load(results, [])
    assert [plan.sweep for plan in study.plans] == ["other"]
    assert len(study.problems) == 1


@pytest.mark.long
def test_no_flipped_byte_is_read_as_another_result(results: Path) -> None:
    def read() -> Any:
        study = load(results, [])
        (plan,) = study.plans
        files = [dict(archive_writer._folders(path)) for path in archive.parts(results / "grid")]
        return plan.runs.to_json(), plan.epochs.to_json(), files

    compacted(results)
    whole = read()
    (path,) = archive.parts(results / "grid")
    content = path.read_bytes()
    for place in range(0, len(content), max(1, len(content) // 150)):
        damaged = bytearray(content)
        damaged[place] ^= 0x55
        path.write_bytes(damaged)
        try:
            assert read() == whole, place
        except InputError as error:
            assert error.exit_code == EXIT_IO
            assert str(path) in error.what
    path.write_bytes(content)
    assert read() == whole
