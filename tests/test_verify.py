"""Finished trials run again: what is equal, what differs, what cannot be told, how it is said."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from saved_trials import contents
from test_kill import ROOT, kill, start, wait_for_an_epoch

import sweeps.compact.__main__
import sweeps.status
import sweeps.verify.__main__
from analysis import report
from local_machine import processes
from local_machine.errors import run_command
from sweeps.spec.sweep import Trial
from sweeps.state.trial_store import TrialStore
from trial_records import tables, verified
from trial_records.trial_files import RUN

# Each trial is killed once, after its second epoch. What the one of lr 0.3 logs last follows from
# no seed; `seconds` does not either, and the task says so.
DEFINITION = """
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path

from sweeps import Sweep, grid, minimize

HERE = Path(__file__).parent

@dataclass
class Config:
    lr: float = 0.1
    seed: int = 0
    epochs: int = 3

def train(config, run):
    random.seed(config.seed)
    state = run.load() or {"epoch": 0, "loss": 1.0}
    while (epoch := state["epoch"]) < config.epochs:
        state = {"epoch": epoch + 1, "loss": random.random() * config.lr}
        if config.lr == 0.3 and epoch == 2:
            state["loss"] += int.from_bytes(os.urandom(6), "big")
        run.log(epoch=epoch, loss=state["loss"], seconds=time.perf_counter())
        run.save(state)
        if epoch == 1 and not run.loaded_rows and (HERE / "kills").exists():
            os.kill(os.getpid(), 9)
        while (HERE / "waits").exists():
            (HERE / "waiting").touch()
            time.sleep(0.05)
    if (HERE / "fails").exists():
        raise ValueError("its data is not here")
    return {"end": state["loss"]}

train.is_exact = True
train.timings = ("seconds",)
sweep = Sweep(
    train, base=Config(), space=grid({"lr": [0.1, 0.2, 0.3]}), objective=minimize("loss")
)
"""


@pytest.fixture(scope="module", autouse=True)
def forked_workers(forked: None) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "start", subprocess.Popen)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With mine.py and results, in which each trial is done and was killed once."""
    folder = tmp_path_factory.mktemp("verify")
    (folder / "mine.py").write_text(DEFINITION)
    (folder / "kills").touch()
    assert start(folder / "mine.py", folder / "results", 1).wait(60) == 0
    (folder / "kills").unlink()
    return folder


@pytest.fixture
def folder(made: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same without a verification; no temporary file may be left."""
    place = made / "tmp"
    place.mkdir(exist_ok=True)
    monkeypatch.setattr("tempfile.tempdir", str(place))
    monkeypatch.setenv("TMPDIR", str(place))
    yield made
    shutil.rmtree(made / "results" / "mine" / verified.FOLDER, ignore_errors=True)
    for word in ("waits", "waiting", "fails"):
        (made / word).unlink(missing_ok=True)
    assert not list(place.iterdir())


class Said:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run(capsys: pytest.CaptureFixture[str], app: Any, folder: Path, *words: str) -> Said:
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        run_command(app, [*words, "--results", str(folder / "results")])
    return Said(int(end.value.code or 0), *capsys.readouterr())


def verify(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> Said:
    return run(capsys, sweeps.verify.__main__.app, folder, "mine", *words)


def status(capsys: pytest.CaptureFixture[str], folder: Path) -> dict[float, Any]:
    """What it says of the trial of each lr."""
    said = run(capsys, sweeps.status.app, folder, "mine", "--json")
    return {trial["point"]["lr"]: trial for trial in said.json["trials"]}


def trial_of(folder: Path, lr: float) -> Trial:
    (plan,) = TrialStore(folder / "results", "mine").plans()
    return next(trial for trial in plan.trials if trial.point["lr"] == lr)


@pytest.mark.long
def test_what_is_equal_and_what_differs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(folder / "results" / "mine")
    assert {one["exactness"] for one in status(capsys, folder).values()} == {"unverified"}
    assert {one["note"] for one in status(capsys, folder).values()} == {"resumed, not verified"}

    said = verify(capsys, folder, "--json")
    assert said.code == 1, said.err
    assert said.json["schema_version"] == 1
    assert (said.json["equal"], said.json["differs"], said.json["not_verified"]) == (2, 1, 0)
    found = {one["trial"][:5]: one for one in said.json["trials"]}
    for name in ("lr0.1", "lr0.2"):
        one = found[name]
        assert (one["outcome"], one["attempts"], one["is_declared"]) == ("equal", 2, True)
        assert (one["difference"], one["tolerance"], one["is_same_code"]) == (None, None, True)
        assert "epochs.parquet: seconds" in one["left_out"]
        assert one["setting"] == one["setting_here"] is not None
    odd = found["lr0.3"]
    rows = tables.read_epochs(folder / "results" / "mine" / odd["trial"]).to_pylist()
    first = odd["difference"]
    assert (first["file"], first["row"], first["column"]) == ("epochs.parquet", 2, "loss")
    assert first["recorded"] == repr(rows[2]["loss"]) != first["rerun"]
    # The trials' own folders are as they were, and the whole sweep but for three records.
    after = contents(folder / "results" / "mine")
    new = after.keys() - before.keys()
    assert len(new) == 3 and all(name.startswith("verified/") for name in new)
    assert {name: after[name] for name in before} == before

    states = status(capsys, folder)
    assert states[0.1]["exactness"] == states[0.2]["exactness"] == "exact"
    assert states[0.1]["note"].startswith("resumed, exact: rerun bit for bit on 20")
    assert states[0.1]["verified"]["outcome"] == "equal"
    assert states[0.3]["exactness"] == "unverified"
    assert (
        "not reproduced bit for bit" in states[0.3]["note"]
        and first["rerun"] in states[0.3]["note"]
    )


@pytest.mark.long
def test_the_report_flags_what_differs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verify(capsys, folder)
    out = folder / "report"
    said = run(capsys, report.app, folder, "mine", "--out", str(out), "--json", "--strict")
    assert said.code == 1
    flags = [(one["trial"][:5], one["codes"]) for one in said.json["flags"]]
    assert flags == [("lr0.3", ["NOT_REPRODUCED"])]
    text = (out / "report.md").read_text()
    assert "3 trials have several attempts: 2 exact, 1 unverified." in text
    assert "epochs.parquet, row 2, loss: recorded" in text
    assert text.count("| bit for bit |") == 2 and "| unverified |" in text


def test_one_verified_resumed_trial_speaks_for_others_alike(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = verify(capsys, folder, "--trial", trial_of(folder, 0.1).name)
    assert said.code == 0 and "bit for bit" in said.out
    states = status(capsys, folder)
    assert states[0.2]["note"] == "resumed, exact: 1 trial alike was verified"
    assert states[0.2]["verified"] is None
    # Until one of them differs.
    assert verify(capsys, folder, "--trial", trial_of(folder, 0.3).name).code == 1
    states = status(capsys, folder)
    assert [states[lr]["exactness"] for lr in (0.1, 0.2)] == ["exact", "unverified"]


def test_a_damaged_record_is_named_and_ignored(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verify(capsys, folder, "--trial", trial_of(folder, 0.1).name)
    (path,) = (folder / "results" / "mine" / verified.FOLDER).iterdir()
    path.write_text(path.read_text().replace('"equal"', '"close"'))
    said = run(capsys, sweeps.status.app, folder, "mine")
    assert said.code == 1 and str(path) in said.err
    assert said.out.count("resumed, not verified") == 3
    out = folder / "report"
    said = run(capsys, report.app, folder, "mine", "--out", str(out), "--json")
    assert said.code == 1 and str(path) in said.json["problems"][0]["what"]
    path.write_bytes(b"\xff\x00")
    assert verify(capsys, folder, "--trials", "1").code == 0


def test_what_is_compacted_is_verified_and_stays_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compact = sweeps.compact.__main__.app
    name = trial_of(folder, 0.1).name
    try:
        assert run(capsys, compact, folder, "mine").code == 0
        assert verify(capsys, folder, "--trial", name).code == 0
        assert status(capsys, folder)[0.1]["exactness"] == "exact"
    finally:
        assert run(capsys, compact, folder, "mine", "--undo").code == 0
    assert status(capsys, folder)[0.1]["exactness"] == "exact"


def test_other_code_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, path = trial_of(folder, 0.1).name, folder / "mine.py"
    path.write_text(DEFINITION.replace("* config.lr", "* config.lr * 2"))
    try:
        said = verify(capsys, folder, "--trial", name, "--json")
    finally:
        path.write_text(DEFINITION)
    (one,) = said.json["trials"]
    # This process has the old one, its worker is a copy of it: what is recorded is by the file.
    assert one["is_same_code"] is False
    assert one["recorded"]["code_sha256"] != one["rerun"]["code_sha256"]


def test_what_cannot_be_run_again_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "fails").touch()
    said = verify(capsys, folder, "--trials", "1")
    assert said.code == 1 and "not verified: ERROR: ValueError: its data is not here" in said.out
    assert not (folder / "results" / "mine" / verified.FOLDER).exists()
    said = verify(capsys, folder, "--trial", "lr0.1-seed0")
    assert said.code == 2 and "did you mean 'lr0.1-" in said.err
    monkeypatch.setattr(Trial, "problem", property(lambda trial: _unparsed(trial)))
    said = verify(capsys, folder, "--json")
    assert said.code == 1 and said.json["not_verified"] == 3
    assert "no field of today" in said.json["trials"][0]["problem"]


def _unparsed(trial: Trial) -> Any:
    from local_machine.errors import InputError

    return InputError(f"{trial.name}: no field of today", "")


def test_only_a_finished_trial_is_verified(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = folder / "results"
    trials = [trial_of(folder, lr) for lr in (0.1, 0.2, 0.3)]
    runs = [results / "mine" / trial.name / RUN for trial in trials]
    for path in runs:
        path.rename(path.with_suffix(".aside"))
    try:
        said = verify(capsys, folder)
        assert said.code == 2 and "mine has no finished trial: 3 trials: 3 pending" in said.err
        said = verify(capsys, folder, "--trial", trials[0].name)
        assert said.code == 2 and "is pending, and only a finished trial" in said.err
    finally:
        for path in runs:
            path.with_suffix(".aside").rename(path)


def test_a_record_of_several_ranks_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = trial_of(folder, 0.2)
    where = folder / "results" / "mine" / trial.name
    before = (where / RUN).read_bytes()
    tables.write_run(where, {**tables.read_run(where, trial.fingerprint), "world_size": 4})
    try:
        said = verify(capsys, folder, "--trial", trial.name)
    finally:
        (where / RUN).write_bytes(before)
    assert said.code == 1 and "it was trained on 4 ranks" in said.out


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(folder: Path, number: signal.Signals) -> None:
    (folder / "waits").touch()
    words = [sys.executable, "-m", "sweeps.verify", "mine", "--results", str(folder / "results")]
    real = subprocess.Popen.__base__ or subprocess.Popen
    with real(words, cwd=ROOT, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while not (folder / "waiting").exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        assert process.wait(30) == 130
    # The fixture sees that no temporary file is left.
    assert not (folder / "results" / "mine" / verified.FOLDER).exists()


def test_a_full_disk_ends_it(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/dev/full/none")
    said = verify(capsys, folder, "--trials", "1")
    assert said.code == 3 and said.err.count("error: ") == 1, said.err


TRAINER = """
from sweeps import Sweep, grid
from trainer.recipes import reported

base = reported("wrn_10_1").override({
    "data.name": "digits", "data.train_limit": 200, "data.test_limit": 100, "model.width": 0.5,
    "epochs": 12, "batch_size": 32, "augment.mixup": 0.2,
})
sweep = Sweep(base=base, space=grid({"optimizer.lr": [0.05]}))
"""


@pytest.mark.long
def test_a_killed_trial_of_the_trainer_is_exact(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)
    definition, results = tmp_path / "mine.py", tmp_path / "results"
    definition.write_text(TRAINER)
    with start(definition, results, 1, "debug") as process:
        for _ in range(2):  # when the second one is seen, the first one is saved
            wait_for_an_epoch(process, results)
        kill(process.pid)
    assert start(definition, results, 1, "debug").wait(100) == 0
    said = verify(capsys, tmp_path, "--json")
    assert said.code == 0, said.err
    (one,) = said.json["trials"]
    assert (one["outcome"], one["is_declared"], one["attempts"]) == ("equal", True, 2), one
    assert one["columns"] > 70
    assert "resumed, exact" in run(capsys, sweeps.status.app, tmp_path, "mine").out
