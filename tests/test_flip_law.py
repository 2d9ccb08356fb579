"""The flip law: whatever byte of a stored file is flipped, each command shows the true figures, or
says what is wrong and leaves them out; never other figures.

    python tests/test_flip_law.py [--stride N] [FILE ...]   # every byte, and a table of counts

Each byte is tried on the functions that read its file, and each N-th on all commands.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import math
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from results_folder import begin, finish, folder_of, write_plan
from test_run import begun

from analysis.cifar10.explain import tested
from analysis.cifar10.task import load
from analysis.data import predictions, task_predictions
from analysis.reading import frames
from local_machine.errors import InputError
from sweeps.compact import archive_writer
from sweeps.state import summary_cache
from sweeps.state.plan import LOGS
from sweeps.state.progress import look
from sweeps.state.trial_store import TrialStore
from sweeps.study import selection
from trainer.config import TrainConfig
from trial_records import archive, tables, trial_files
from trial_records import plan as plan_files

CONFIGS = [TrainConfig().override({"seed": seed, "epochs": 3}) for seed in range(2)]
DONE, RUNNING = ({}, CONFIGS[0]), ({}, CONFIGS[1])
CLASSES = "ant,bee,cow"
# A figure is a cell that somebody is shown, by who shows it, of which trial and what.
Figures = dict[tuple[Any, ...], Any]


def sweep(results: Path) -> Path:
    """One trial that is done, and one that has come to its third epoch."""
    write_plan(results, [DONE, RUNNING])
    folder = folder_of(results, DONE)
    finish(folder, CONFIGS[0])
    epochs = tables.read_table(folder / trial_files.EPOCHS)
    labels = [n % 3 for n in range(8)]
    images = [
        {"index": n, "label": label, "logits": [float(n % 2 * 3), 1.0, 2.0]}
        for n, label in enumerate(labels)
    ]
    right = sum(label == (0 if n % 2 else 2) for n, label in enumerate(labels))
    run = tables.read_run(folder, CONFIGS[0].fingerprint)
    digests = {
        "epochs_sha256": tables.write_table(
            folder / trial_files.EPOCHS, epochs, tables.EPOCHS_SCHEMA
        ),
        "predictions_sha256": tables.write_table(
            folder / trial_files.PREDICTIONS, images, tables.PREDICTIONS_SCHEMA
        ),
    }
    told = {"classes": CLASSES, "test_images": 8, "test_accuracy": right / 8}
    tables.write_run(folder, run | told | digests)
    begin(folder_of(results, RUNNING))
    return results


def compacted(results: Path) -> Path:
    store = TrialStore(results, "grid")
    with archive_writer.held(store) as folder:
        assert archive_writer.gather(store, store.plans()[0].trials, folder).added == 1
    (path,) = archive.parts(results / "grid")
    return path


def cached(results: Path) -> Path:
    (results / "grid" / LOGS).mkdir()
    store = TrialStore(results, "grid")
    look(store, store.plans()[0].trials, {})
    store.summaries.save()
    return results / "grid" / LOGS / summary_cache.FILE


def unsealed(results: Path) -> Path:
    """As before plans had seals: its id is of its trials' fingerprints."""
    (old,) = plan_files.paths(results / "grid")
    fingerprints = [config.fingerprint for config in CONFIGS]
    path = old.with_stem(plan_files.identity(fingerprints))
    values = json.loads(old.read_bytes())
    del values["sha256"]
    path.write_text(json.dumps(values | {"id": path.stem}))
    old.unlink()
    return path


# Each file of a sweep that holds what somebody is shown; made in a sweep of its own.
FILES: dict[str, Callable[[Path], Path]] = {
    "epochs.parquet": lambda results: folder_of(results, DONE) / trial_files.EPOCHS,
    "epochs.parquet, running": lambda results: folder_of(results, RUNNING) / trial_files.EPOCHS,
    "run.parquet": lambda results: folder_of(results, DONE) / trial_files.RUN,
    "predictions.parquet": lambda results: folder_of(results, DONE) / trial_files.PREDICTIONS,
    "config.json": lambda results: folder_of(results, DONE) / trial_files.CONFIG,
    "a plan": lambda results: plan_files.paths(results / "grid")[0],
    "a plan without a seal": unsealed,
    "a compact file": compacted,
    "the summary cache": cached,
}


def status(results: Path, problems: list[str]) -> Figures:
    archive._rows.cache_clear()
    archive._kept_column.cache_clear()
    store = TrialStore(results, "grid")
    found: Figures = {}
    for one in look(store, store.plans()[0].trials, {}):
        shown = one.to_json()
        if shown.pop("problem") is not None:
            del shown["note"]  # says the same
            problems.append(str(one.problem))
        found |= {("status", one.trial.name, key): value for key, value in shown.items()}
    return found


def report(results: Path, problems: list[str]) -> Figures:
    study = load(results, [])
    (plan,) = study.plans
    found: Figures = {}
    for row in plan.runs.to_dict("records"):
        trial = str(row["trial"])
        found |= {("runs", trial, key): value for key, value in row.items()}
        read = predictions.of(study, plan, row)
        found["logits", trial] = None if read is None else read.logits.tolist()
        found["labels", trial] = None if read is None else read.labels.tolist()
    for row in plan.epochs.to_dict("records"):
        found |= {("epochs", row["trial"], row["epoch"], key): row[key] for key in row}
    problems += [problem.what for problem in study.problems]
    return found


def configuration(results: Path, problems: list[str]) -> Figures:
    try:
        found = tested.config(folder_of(results, DONE), CONFIGS[0].fingerprint)
    except InputError as problem:
        problems.append(problem.what)
        return {}
    return {("config", key): value for key, value in found.flat().items()}


COMMANDS = (status, report, configuration)


def reading(*reads: Callable[[Path], Any]) -> Callable[[Path, list[str]], Figures]:
    """As a command, what the functions give that read one file for every command."""

    def readers(results: Path, problems: list[str]) -> Figures:
        found: Figures = {}
        for number, read in enumerate(reads):
            try:
                found["reader", number] = read(results)
            except InputError as problem:
                problems.append(problem.what)
        return found

    return readers


def stacked(file: str, schema: pa.Schema, digest: str | None) -> Callable[[Path], Any]:
    """What a report reads of one trial's file."""

    def read(results: Path) -> Any:
        found = frames._read_one(folder_of(results, DONE) / file, schema, digest)
        if isinstance(found, InputError):
            raise found
        assert found is not None
        return found.table.to_pylist()

    return read


def packed(*columns: str) -> Callable[[Path], Any]:
    def read(results: Path) -> Any:
        (path,) = archive.parts(results / "grid")
        return archive.read(path, list(columns) or None).to_pylist()

    return read


def run(results: Path, *columns: str) -> dict[str, Any]:
    """What the run says; a column of another name that has no value says nothing."""
    folder = folder_of(results, DONE)
    found = tables.read_run(folder, CONFIGS[0].fingerprint, columns or None)
    return {name: value for name, value in found.items() if value is not None}


def plan_of(results: Path) -> plan_files.PlanFile:
    (path,) = plan_files.paths(results / "grid")
    return plan_files.read(path)


def readers_of(name: str, results: Path) -> Callable[[Path, list[str]], Figures]:
    digest = run(results)["epochs_sha256"]
    done, running = folder_of(results, DONE), folder_of(results, RUNNING)
    found: dict[str, tuple[Callable[[Path], Any], ...]] = {
        "epochs.parquet": (
            lambda _: tables.read_epochs(done, digest).to_pylist(),
            lambda _: tables.read_epochs(done).to_pylist(),
            stacked(trial_files.EPOCHS, tables.EPOCHS_SCHEMA, digest),
        ),
        "epochs.parquet, running": (lambda _: tables.read_epochs(running).to_pylist(),),
        "run.parquet": (
            run,
            lambda results: run(results, *selection.COLUMNS),
            stacked(trial_files.RUN, frames.run_schema(), None),
        ),
        "predictions.parquet": (lambda _: tables.read_predictions(done).to_pylist(),),
        "config.json": (lambda _: tested.config(done, CONFIGS[0].fingerprint).flat(),),
        "a plan": (lambda results: plan_of(results).model_dump(),),
        # Beside its trials, nothing tells.
        "a plan without a seal": (
            lambda results: {
                one.fingerprint: (one.point, one.config) for one in plan_of(results).trials
            },
        ),
        "the summary cache": (lambda results: status(results, []),),
        "a compact file": (packed(), packed("trial"), packed("trial", "run", "epochs")),
    }
    return reading(*found[name])


# Words, not figures, which say that a figure is not there.
ABSENT = {"state", "flags", "failure", "cause"}


def is_absent(key: tuple[Any, ...], value: Any) -> bool:
    missing = (
        value is None
        or value is pd.NA
        or value == ""
        or (isinstance(value, float) and math.isnan(value))
    )
    return missing or key[-1] in ABSENT or (key[-1] == "epochs_done" and value == 0)


def same(a: Any, b: Any) -> bool:
    return bool(a == b) or all(isinstance(one, float) and math.isnan(one) for one in (a, b))


@dataclass(frozen=True)
class Truth:
    """A sweep, one of its files, and what commands show while that is whole."""

    results: Path
    path: Path
    content: bytes
    figures: dict[Callable[[Path, list[str]], Figures], Figures]  # of commands, then readers

    @classmethod
    def of(cls, name: str, folder: Path) -> Truth:
        results = sweep(folder)
        path = FILES[name](results)
        problems: list[str] = []
        commands = (*COMMANDS, readers_of(name, results))
        figures = {one: one(results, problems) for one in commands}
        assert problems == []
        return cls(results, path, path.read_bytes(), figures)

    def flipped(self, place: int, mask: int, *, by_readers: bool = False) -> str:
        """`refused` or `unchanged`, in all commands; raises AssertionError where one of them shows
        another figure, and whatever a command ends with that is not an InputError."""
        damaged = bytearray(self.content)
        damaged[place] ^= mask
        self.path.write_bytes(damaged)
        outcome = "unchanged"
        for command, truth in list(self.figures.items())[-1 if by_readers else 0 :]:
            problems: list[str] = []
            try:
                found = command(self.results, problems)
            except InputError as problem:
                found, problems = {}, [problem.what]
            assert not found.keys() - truth.keys(), found.keys() - truth.keys()
            wrong = {key: one for key, one in found.items() if not same(one, truth[key])}
            shown = {key: one for key, one in wrong.items() if not is_absent(key, one)}
            assert not shown, f"{command.__name__} shows {shown}"
            if wrong or found.keys() != truth.keys():
                assert problems, f"{command.__name__} leaves {wrong} out and does not say it"
            if problems:
                assert any(self.path.name in one for one in problems), problems
                outcome = "refused"
        return outcome


@pytest.fixture(scope="module")
def truths(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Truth]:
    return functools.cache(lambda name: Truth.of(name, tmp_path_factory.mktemp("flip")))


@pytest.fixture(autouse=True)
def every_sweep_is_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary_cache, "MANY", 1)


@pytest.mark.long
@pytest.mark.parametrize("name", FILES)
def test_no_flip_shows_another_figure(truths: Callable[[str], Truth], name: str) -> None:
    truth = truths(name)

    @settings(max_examples=25, deadline=None, derandomize=True, print_blob=True, database=None)
    @given(st.integers(0, len(truth.content) - 1), st.integers(1, 255))
    @example(min(558, len(truth.content) - 1), 14)
    def law(place: int, mask: int) -> None:
        truth.flipped(place, mask)

    law()
    truth.path.write_bytes(truth.content)


PREDICTED: dict[str, dict[str, Any]] = {
    "logits": {"labels": [0, 2, 1], "logits": [[1.0, 2.0, 0.5]] * 3, "classes": CLASSES.split(",")},
    "classes": {"labels": ["ant", "bee"], "predicted": ["bee", "bee"]},
    "values": {"targets": [1.0, 2.5, -3.0], "values": [1.5, 2.0, 1e9]},
}


@pytest.mark.long
@pytest.mark.parametrize("kind", PREDICTED)
def test_no_flip_shows_another_prediction_of_any_task(tmp_path: Path, kind: str) -> None:
    """Every byte, of what a report and a rerun read."""
    run = begun(tmp_path / "trial")
    run.predict(**PREDICTED[kind])
    row = run.finish({})
    path = tmp_path / "trial" / trial_files.PREDICTIONS
    content = path.read_bytes()
    truth = tables.read_predictions(path.parent).to_pylist()
    refused = 0
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= (1, 2, 4, 8, 14, 16, 32, 64, 128, 255)[place % 10]
        path.write_bytes(damaged)
        try:
            task_predictions.read(path.parent, {"trial": "t", **row})
            assert tables.read_predictions(path.parent).to_pylist() == truth
        except InputError as problem:
            assert str(path) in problem.what
            refused += 1
    assert refused > 100


def main() -> None:
    parser = argparse.ArgumentParser(description="Flip every byte of each file of a small sweep.")
    parser.add_argument("files", nargs="*", metavar="FILE", help=", ".join(FILES))
    parser.add_argument("--stride", type=int, default=50, help="all commands at each N-th byte")
    options = parser.parse_args()
    summary_cache.MANY = 1
    print(f"{'file':<26}{'bytes':>8}{'refused':>9}{'unchanged':>11}{'wrong':>7}")
    wrong = 0
    for name in options.files or FILES:
        folder = Path(tempfile.mkdtemp())
        truth, counts = Truth.of(name, folder), Counter[str]()
        for place in range(len(truth.content)):
            # The masks in turn, so that each bit is flipped, and several at once.
            mask = (1, 2, 4, 8, 14, 16, 32, 64, 128, 255)[place % 10]
            try:
                counts[truth.flipped(place, mask, by_readers=True)] += 1
                if place % options.stride == 0:
                    truth.flipped(place, mask)
            except Exception as error:
                counts["wrong"] += 1
                print(f"{name}, byte {place}, xor {mask}: {error!r:.300}", file=sys.stderr)
        row = (len(truth.content), counts["refused"], counts["unchanged"], counts["wrong"])
        print("{:<26}{:>8}{:>9}{:>11}{:>7}".format(name, *row), flush=True)
        wrong += counts["wrong"]
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
