"""Adopt: equal trials of two sweeps are trained once, and what is copied is verified first."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import sweeps.launch
from analysis.cifar10.task import load
from analysis.sections import cost, provenance, summary
from local_machine.errors import run_command
from sweeps.cost.tally import tally
from sweeps.run.handle import Run
from sweeps.spec.expand import expand
from sweeps.spec.find import find
from sweeps.spec.sweep import Trial
from sweeps.state.adoption import adopt
from sweeps.state.progress import look
from sweeps.state.trial_store import State, TrialStore
from trainer.train import train
from trial_records import tables, trial_files

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parent.parent
TINY = """
from sweeps import Search, Sweep, choice, grid
from trainer.recipes import reported

base = reported("resnet18").override({
    "data.name": "digits", "data.train_limit": 200, "data.test_limit": 100, "model.width": 0.125,
    "epochs": 1, "batch_size": 64, "precision": "fp32",
})
sweep = Sweep(base=base, space=grid({"optimizer.lr": RATES}))
search = Search(base, {"optimizer.lr": choice(RATES)}, trials=2, sampler="grid", pruner="none")
"""


def define(folder: Path, name: str, rates: str) -> Path:
    path = folder / f"{name}.py"
    path.write_text(TINY.replace("RATES", rates))
    return path


def launched(definition: Path, module: Any = sweeps.launch, on: str = "debug") -> int:
    results = definition.parent / "results"
    words = [definition, "--results", results, "--on", on]
    with pytest.raises(SystemExit) as end:
        run_command(module.app, [str(word) for word in words])
    return int(end.value.code or 0)


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of a sweep's run.parquet files, by trial."""
    found = sorted(folder.glob(f"*/{trial_files.RUN}"))
    return {path.parent.name: pq.read_table(path).to_pylist()[0] for path in found}


def store_of(folder: Path, name: str = "second") -> tuple[TrialStore, list[Trial]]:
    """Of the second sweep, which has not begun."""
    sweep = find(str(folder / "second.py"))[1]
    return TrialStore(folder / "results", name), expand(sweep)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One sweep of two trials that were trained, and the definition of one that shares one."""
    folder = tmp_path_factory.mktemp("adopt")
    ran = define(folder, "first", "[0.01, 0.02]")
    words = [sys.executable, "-m", "sweeps.launch", str(ran), "--on", "debug"]
    subprocess.run([*words, "--results", str(folder / "results")], cwd=ROOT, check=True)
    define(folder, "second", "[0.02, 0.03]")
    return folder


@pytest.fixture
def folder(first: Path, tmp_path: Path) -> Path:
    shutil.copytree(first, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What was trained in this process."""
    trained: list[Path] = []

    def noted(config: Any, run: Run, *_: object) -> dict[str, Any]:
        trained.append(run.attempt.trial)
        return train(config, run, *_)

    monkeypatch.setattr("trainer.train.train", noted)
    return trained


@pytest.mark.long
def test_a_launch_trains_only_what_no_other_sweep_has(
    folder: Path, no_training: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = rows(folder / "results" / "first")
    assert launched(folder / "second.py") == 0
    assert "1 of them are taken from other sweeps" in capsys.readouterr().err
    assert [out.name[:6] for out in no_training] == ["lr0.03"]
    shared, own = rows(folder / "results" / "second").values()
    (name,) = (name for name in before if name.startswith("lr0.02"))
    assert (shared["shared_from"], own["shared_from"]) == (f"first/{name}", None)
    # All else is as it was trained, its provenance too; the digest is of the new row.
    changed = {key for key, value in shared.items() if before[name][key] != value}
    # So is the one of the epochs, which say whose they are.
    assert changed == {"shared_from", "sweep", tables.OF_ROW, "epochs_sha256"}
    assert rows(folder / "results" / "first") == before

    trial = folder / "results" / "second" / name
    assert {path.name for path in trial.iterdir()} == {
        trial_files.CONFIG,
        trial_files.EPOCHS,
        trial_files.CHECKPOINT,
        trial_files.PREDICTIONS,
        trial_files.RUN,
    }
    origin = folder / "results" / "first" / name
    for file in (trial_files.CHECKPOINT, trial_files.CONFIG):
        assert (trial / file).read_bytes() == (origin / file).read_bytes()
    for file in (trial_files.EPOCHS, trial_files.PREDICTIONS):
        here, there = (pq.read_table(place / file) for place in (trial, origin))
        # It is another sweep's now, and says so; all else is as it was.
        assert set(here["sweep"].to_pylist()) == {"second"}
        assert set(here["trial"].to_pylist()) == {trial.name}
        own = ["sweep", "trial"]
        assert here.drop_columns(own).equals(there.drop_columns(own))
        digest = shared[tables.DIGESTS[file]]
        assert tables.checked(trial / file, (trial / file).read_bytes(), digest=digest).by_digest
    run = tables.read_run(trial, shared["fingerprint"])
    assert run["shared_from"] == f"first/{name}"
    assert tables.read_predictions(trial).num_rows == 100
    assert tables.checked(trial / trial_files.RUN, (trial / trial_files.RUN).read_bytes()).by_digest


def test_a_third_sweep_names_where_it_was_trained(folder: Path) -> None:
    assert launched(folder / "second.py") == 0
    shutil.rmtree(folder / "results" / "first")
    define(folder, "third", "[0.02]")
    assert launched(folder / "third.py") == 0
    (row,) = rows(folder / "results" / "third").values()
    assert row["shared_from"].startswith("first/lr0.02")


def test_a_search_is_told_of_what_is_done(folder: Path, no_training: list[Path]) -> None:
    import sweeps.search.__main__

    path = define(folder, "third", "[0.01, 0.02]")
    assert launched(path, sweeps.search.__main__, on="local") == 0
    found = rows(folder / "results" / "third")
    assert [row["shared_from"] for row in found.values()] == [f"first/{name}" for name in found]
    assert not list((folder / "results" / "third" / "logs").glob("*.log"))


@pytest.mark.parametrize("file", [trial_files.RUN, trial_files.EPOCHS, trial_files.PREDICTIONS])
def test_nothing_damaged_is_taken(folder: Path, file: str) -> None:
    (path,) = (folder / "results" / "first").glob(f"lr0.02*/{file}")
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    store, trials = store_of(folder)
    assert adopt(store, trials, time.time()) == set()
    assert not store.folder.exists()


def test_nothing_without_digests_or_of_other_images_is_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, trials = store_of(folder)
    with monkeypatch.context() as patched:
        patched.setattr("trainer.data.datasets.content_of", lambda _: "0" * 64)
        assert adopt(store, trials, time.time()) == set()
    (path,) = (folder / "results" / "first").glob(f"lr0.02*/{trial_files.RUN}")
    table = pq.read_table(path).drop_columns([tables.OF_ROW])
    pq.write_table(table.replace_schema_metadata({b"schema_version": b"1"}), path)
    assert adopt(store, trials, time.time()) == set()


def test_who_holds_a_trial_keeps_it_and_a_partial_one_gives_way(folder: Path) -> None:
    store, trials = store_of(folder)
    lease = store.lease(trials[0], 1.0, "")
    assert lease is not None
    assert adopt(store, trials, time.time()) == set()
    own = f"{trial_files.ATTEMPT}{lease.token}"
    assert {path.name for path in store.folder_of(trials[0]).iterdir()} == {"claim.json", own}
    store.release(trials[0], lease)
    (store.folder_of(trials[0]) / trial_files.CHECKPOINT).write_bytes(
        b"of an attempt that was killed"
    )
    (weights,) = (folder / "results" / "first").glob(f"lr0.02*/{trial_files.CHECKPOINT}")
    weights.unlink()
    assert adopt(store, trials, time.time()) == {trials[0].name}
    assert not (store.folder_of(trials[0]) / trial_files.CHECKPOINT).exists()


@pytest.mark.long
@pytest.mark.parametrize("files", [1, 4])
def test_killed_after_any_file_it_is_not_done_and_adopted_again(folder: Path, files: int) -> None:
    """SIGKILL once so many files were put in place: run.parquet is the last."""
    code = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT / "tests")!r})
from pathlib import Path
from local_machine import files as record
write, left = record.write_atomic, [{files}]
def killing(path, content):
    if left[0] == 0:
        write(path, lambda file: (file.write(b"half"), file.flush(), os.kill(os.getpid(), 9)))
    left[0] -= 1
    write(path, content)
record.write_atomic = killing
from sweeps.state.adoption import adopt
from test_adopt import store_of
store, trials = store_of(Path({str(folder)!r}))
adopt(store, trials, time.time())
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == -9
    store, trials = store_of(folder)
    assert store.standing(trials[0]).state is State.LOST
    assert adopt(store, trials, time.time()) == {trials[0].name}
    assert store.standing(trials[0]).state is State.DONE
    row = tables.read_run(store.folder_of(trials[0]), trials[0].fingerprint)
    assert row["shared_from"].startswith("first/")
    assert not list(store.folder_of(trials[0]).glob("*.part"))


@pytest.mark.parametrize("file", [trial_files.CONFIG, "claim.json"])
def test_a_folder_that_is_another_trials_or_damaged_is_left_alone(folder: Path, file: str) -> None:
    store, trials = store_of(folder)
    place = store.folder_of(trials[0])
    place.mkdir(parents=True)
    content = trials[1].config.to_json() if file == trial_files.CONFIG else "{"
    (place / file).write_text(content)
    assert adopt(store, trials, time.time()) == set()
    assert [path.name for path in place.iterdir()] == [file]
    assert (place / file).read_text() == content


def test_a_compacted_trial_is_taken_too(folder: Path) -> None:
    import sweeps.compact.__main__

    words = ["first", "--results", str(folder / "results")]
    with pytest.raises(SystemExit):
        run_command(sweeps.compact.__main__.app, words)
    assert not list((folder / "results" / "first").glob(f"*/{trial_files.RUN}"))
    store, trials = store_of(folder)
    assert adopt(store, trials, time.time()) == {trials[0].name}


def test_its_hours_are_counted_once(folder: Path) -> None:
    assert launched(folder / "second.py") == 0
    study = load(folder / "results", [])
    assert not study.problems
    (part,) = cost.cost(study).parts
    (hours,) = (table.frame for table in part.tables if table.name == "cost-hours")
    assert dict(zip(hours["sweep"], hours["trials"], strict=True)) == {"first": 2, "second": 1}
    assert any(note.startswith("1 trial not counted") for note in part.notes)
    said = " ".join(summary.summary(study).parts[0].notes)
    assert "1 trial have" not in said
    assert "3 configurations between them; 1 trial has the records of another" in said
    assert "trained in both" not in said
    # It ended before it was planned, as it should.
    assert not any("had finished" in note for note in provenance.provenance(study).parts[0].notes)

    store, trials = store_of(folder)
    progress = look(store, trials, {})
    assert [one.devices for one in progress] == [0.0, 1.0]
    own = progress[1].seconds_per_epoch
    assert own is not None
    assert tally(progress) == (pytest.approx(own / 3600), 0.0)


def test_names_of_another_sweep_lead_nowhere(folder: Path) -> None:
    """A folder whose name ends in the right digits is any folder until its records are read."""
    store, trials = store_of(folder)
    digits = trials[0].fingerprint[:8]
    for path in (folder / "results" / "first").glob("lr0.02*"):
        shutil.rmtree(path)
    (folder / "results" / "first" / f"empty-{digits}").mkdir()
    (folder / "results" / "first" / f"file-{digits}").write_text("")
    (folder / "results" / "first" / f"link-{digits}").symlink_to("nowhere")
    assert adopt(store, trials, time.time()) == set()
