"""A first sweep: launch, launch again, status, logs, retry; and what bad input is answered."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from outcome import still_held
from saved_trials import epochs_of_all

import sweeps.launch
import sweeps.logs
import sweeps.retry
import sweeps.status
from local_machine import processes
from local_machine.devices import visible_gpus
from local_machine.errors import run_command
from local_machine.files import matching, set_aside
from sweeps.state.trial_store import State, TrialStore
from trial_records import trial_files

# In one process, for its one launch is what takes time.
pytestmark = pytest.mark.usefixtures("forked")

ROOT = Path(__file__).parent.parent
TINY = """
from sweeps import Sweep, grid
from trainer.recipes import reported

base = reported("resnet18").override({
    "data.name": "digits", "data.train_limit": 200, "data.test_limit": 100, "model.width": 0.125,
    "epochs": 2, "batch_size": 64, "precision": "fp32",
})
sweep = Sweep(base=base, space=grid({"optimizer.lr": [0.01, 0.02]}))
"""
ONE_FAILS = TINY.replace("[0.01, 0.02]", "[0.01, 1e30]")


def command(module: Any, *words: object) -> int:
    """The exit code of a command run in this process."""
    with pytest.raises(SystemExit) as end:
        run_command(module.app, [str(word) for word in words])
    return int(end.value.code or 0)


def launch(*words: object, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sweeps.launch", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **more},
        timeout=100,
    )


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A definition and a results folder in which one launch has run it."""
    folder = tmp_path_factory.mktemp("finished")
    definition = folder / "tiny.py"
    definition.write_text(TINY)
    done = launch(definition, "--results", folder / "results", "--on", "local")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{folder / 'results' / 'tiny'}\n"
    assert "2 trials: 2 pending; 2 to run" in done.stderr
    assert "[2/2]" in done.stderr
    assert "2 trials: 2 done" in done.stderr
    yield definition, folder / "results"


@pytest.mark.long
def test_a_finished_trial_has_its_five_files(finished: tuple[Path, Path]) -> None:
    folders = [path.parent for path in finished[1].rglob(trial_files.RUN)]
    assert len(folders) == 2
    for folder in folders:
        names = {path.name for path in folder.iterdir()}
        assert names == {
            trial_files.CONFIG,
            trial_files.EPOCHS,
            trial_files.CHECKPOINT,
            trial_files.PREDICTIONS,
            trial_files.RUN,
        }
        run = pq.read_table(folder / trial_files.RUN).to_pylist()[0]
        assert run["status"] == "done"
        assert folder.name.endswith(run["fingerprint"][:8])


def test_launching_again_runs_nothing(
    finished: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(finished[1])
    assert command(sweeps.launch, finished[0], "--results", finished[1]) == 0
    said = capsys.readouterr()
    assert "2 trials: 2 done; 0 to run" in said.err
    assert tree(finished[1]) == before


def test_a_dry_run_shows_the_trials_and_touches_nothing(
    finished: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    assert command(sweeps.launch, finished[0], "--results", results, "--dry-run") == 0
    said = capsys.readouterr()
    assert "2 trials: 2 pending" in said.err
    assert sum("pending" in line for line in said.out.splitlines()) == 2
    assert not results.exists()
    before = tree(finished[1])
    words = (finished[0], "--results", finished[1], "--dry-run", "--json")
    assert command(sweeps.launch, *words) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["schema_version"] == 1
    assert value["counts"]["done"] == 2
    assert [trial["state"] for trial in value["trials"]] == ["done", "done"]
    assert [trial["point"] for trial in value["trials"]] == [
        {"optimizer.lr": 0.01},
        {"optimizer.lr": 0.02},
    ]
    assert tree(finished[1]) == before


def test_status_tells_how_it_stands(
    finished: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["tiny"], [], ["tiny", "--watch"]):
        assert command(sweeps.status, *words, "--results", finished[1]) == 0
        assert "2 done" in capsys.readouterr().out
    assert command(sweeps.status, "tiny", "--results", finished[1], "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert value["schema_version"] == 1
    assert value["counts"]["done"] == 2
    for trial in value["trials"]:
        assert trial["epochs_done"] == trial["epochs"] == 2
        assert 0 <= trial["best_val_accuracy"] <= 1
    assert command(sweeps.status, "tiny", "--results", finished[1], "--failures") == 0
    assert "no failures" in capsys.readouterr().err


def test_status_never_shows_the_test_set(
    finished: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    command(sweeps.status, "tiny", "--results", finished[1], "--json")
    assert "test" not in capsys.readouterr().out


def test_logs_are_a_trials_own(
    finished: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for lr in ("0.01", "0.02"):
        assert command(sweeps.logs, "tiny", f"lr{lr}", "--results", finished[1]) == 0
        said = capsys.readouterr().out
        assert "epoch 1/2" in said
        assert "epoch 2/2" in said
        assert said.count("=== trial") == said.count("=== end of") == 1
        assert f"lr{lr}" in said
    assert command(sweeps.logs, "tiny", "lr", "--results", finished[1]) == 2
    assert "2 trials match" in capsys.readouterr().err


@pytest.fixture
def copy(finished: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """A results folder of one's own to spoil."""
    shutil.copytree(finished[1], tmp_path / "results")
    return finished[0], tmp_path / "results"


def test_damaged_files_are_named_and_left(
    copy: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    epochs = next(copy[1].rglob(trial_files.EPOCHS))
    epochs.write_bytes(epochs.read_bytes()[:-9])
    before = tree(copy[1])
    assert command(sweeps.status, "tiny", "--results", copy[1]) == 1
    said = capsys.readouterr().out
    assert f"{epochs} is damaged" in said
    assert "2 done" in said
    plan = next((copy[1] / "tiny" / "plans").iterdir())
    plan.write_text("{")
    before = tree(copy[1])
    assert command(sweeps.status, "tiny", "--results", copy[1]) == 3
    error, help_line = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {plan} is not a usable plan")
    assert help_line.startswith("help: ")
    assert tree(copy[1]) == before


@pytest.mark.long
def test_a_failed_trial_is_told_apart_and_tried_again(tmp_path: Path) -> None:
    """In this process, so that one import of torch serves all of it."""
    definition, results = tmp_path / "tiny.py", tmp_path / "results"
    definition.write_text(ONE_FAILS)
    done = launch(definition, "--results", results, "--on", "debug")
    assert done.returncode == 1, done.stderr
    assert "1 done, 1 failed" in done.stderr or "1 failed, 1 done" in done.stderr
    store = TrialStore(results, "tiny")
    (plan,) = store.plans()
    good, bad = (store.standing(trial) for trial in plan.trials)
    assert (good.state, bad.state) == (State.DONE, State.FAILED)
    assert bad.failure is not None
    assert (bad.failure.cause, bad.failure.epoch, bad.failure.attempt) == ("NONFINITE", 0, 1)
    assert any("attempt 1" in line for line in bad.failure.log_tail)
    again = launch(definition, "--results", results, "--on", "debug")
    assert "1 done, 1 failed; 1 to run" in again.stderr or "1 failed, 1 done; 1" in again.stderr
    failure = store.standing(plan.trials[1]).failure
    assert failure is not None
    assert failure.attempt == 2


def test_failures_are_grouped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    definition, results = tmp_path / "tiny.py", tmp_path / "results"
    definition.write_text(TINY)
    command(sweeps.launch, definition, "--results", results, "--dry-run", "--json")
    value = json.loads(capsys.readouterr().out)
    plan = {**value, "id": value["plan"], "created": "2026", "command": "c", "seeds": [42]}
    path = results / "tiny" / "plans" / f"{value['plan']}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(plan))
    for number, trial in enumerate(value["trials"]):
        folder = results / "tiny" / trial["name"]
        folder.mkdir()
        trial_files.Failure("ERROR", f"E: {number}", "the traceback", ["tail"], 1, 0.0, "h").write(
            folder
        )
    assert command(sweeps.status, "tiny", "--results", results, "--failures") == 1
    said = capsys.readouterr().out
    assert "ERROR: 2 trials" in said
    assert said.count("the traceback") == 1
    assert "tail" in said


def test_retry_starts_afresh_and_keeps_the_checkpoint(
    copy: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = next(copy[1].rglob(trial_files.RUN)).parent
    (folder / trial_files.RUN).unlink()
    trial_files.Failure("ERROR", "x", "tb", [], 1, 0.0, "h").write(folder)
    words = ("tiny", "--results", copy[1], "--fresh", "--on", "debug")
    assert command(sweeps.retry, *words) == 0
    assert "1 to run" in capsys.readouterr().err
    assert (folder / trial_files.RUN).exists()
    assert not (folder / trial_files.FAILURE).exists()
    assert (folder / f"{trial_files.CHECKPOINT}.before-retry").exists()


@pytest.mark.long
def test_ctrl_c_gives_the_trials_back_and_launching_goes_on(unforked: None, tmp_path: Path) -> None:
    definition, results = tmp_path / "tiny.py", tmp_path / "results"
    definition.write_text(TINY.replace('"epochs": 2', '"epochs": 40'))
    words = [sys.executable, "-m", "sweeps.launch", str(definition), "--results", str(results)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        words, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    ) as process:
        wait_for(lambda: epochs_of_all(results))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=40)
    assert process.returncode == 130
    assert "the same command goes on" in said
    assert not still_held(results)
    assert epochs_of_all(results) > 0
    (plan,) = TrialStore(results, "tiny").plans()
    assert all(
        TrialStore(results, "tiny").standing(trial).state is State.PENDING for trial in plan.trials
    )


def test_a_killed_launch_takes_its_workers_along(tmp_path: Path) -> None:
    definition, results = tmp_path / "tiny.py", tmp_path / "results"
    definition.write_text(TINY.replace('"epochs": 2', '"epochs": 200'))
    words = [sys.executable, "-m", "sweeps.launch", str(definition), "--results", str(results)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(words, stderr=subprocess.DEVNULL, cwd=ROOT, env=environment) as process:
        wait_for(lambda: still_held(results))
        process.kill()
    wait_for(lambda: not still_held(results))


def test_detached_workers_go_on_alone(tmp_path: Path) -> None:
    definition, results = tmp_path / "tiny.py", tmp_path / "results"
    definition.write_text(TINY)
    done = launch(definition, "--results", results, "--detach")
    assert done.returncode == 0
    assert "sweeps.status tiny" in done.stderr
    wait_for(lambda: len(list(matching(results, f"**/{trial_files.RUN}"))) == 2)


def wait_for(condition: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("words", "code", "error", "help_words"),
    [
        (["grid_bs_epohc"], 2, "no sweep is called 'grid_bs_epohc'", "'grid_bs_epoch'"),
        (["nowhere.py"], 2, "no definition file nowhere.py", "path"),
        (["grid_bs_epoch", "--set", "wieght_decay=1"], 2, "unknown field", "weight_decay"),
        (["grid_bs_epoch", "--set", "optimizer.lr=fast"], 2, "optimizer.lr=fast", "learning rate"),
        (["grid_bs_epoch", "--set", "optimizer.lr"], 2, "--set optimizer.lr", "KEY=VALUE"),
        (["grid_bs_epoch", "--set", "optimizer.lr=-1"], 2, "greater than 0", "learning rate"),
        (["cutout", "--set", "seed=1", "--set", "seed=2"], 2, "given twice", "once"),
        (["grid_bs_epoch", "--set", "epochs=3"], 2, "the sweep varies epochs", "leave it out"),
        (["grid_bs_epoch", "--set", "data.root=/no/data"], 2, "/no/data", "data.root"),
        (["grid_bs_epoch", "--seeds", "0"], 2, "--seeds", "--help"),
        (["grid_bs_epoch", "--scale", "huge"], 2, "--scale", "--help"),
        (["grid_bs_epoch", "--sacle", "smoke"], 2, "--sacle", "--help"),
        ([], 2, "name", "--help"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_bad_input_is_answered_and_changes_nothing(
    words: list[str],
    code: int,
    error: str,
    help_words: str,
    dry: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    results = tmp_path / "results"
    assert command(sweeps.launch, *words, "--results", results, *dry) == code
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert lines[-2].startswith("error: ")
    assert lines[-1].startswith("help: ")
    assert error in lines[-2]
    assert help_words in lines[-1]
    assert "Traceback" not in said.err
    assert said.out == ""
    assert not results.exists()


def test_an_empty_data_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    words = ("grid_bs_epoch", "--set", f"data.root={tmp_path / 'data'}")
    assert command(sweeps.launch, *words, "--results", tmp_path / "results") == 2
    assert "no data" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_a_results_folder_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for results in (tmp_path / "file", Path("/proc/results")):
        words = ("cutout", "--scale", "smoke", "--set", "data.name=digits", "--results", results)
        assert command(sweeps.launch, *words) == 3
        *_, error, help_line = capsys.readouterr().err.splitlines()
        assert error.startswith("error: cannot write")
        assert "--results DIR" in help_line


@pytest.mark.parametrize("module", [sweeps.status, sweeps.retry, sweeps.logs])
def test_an_unknown_sweep_is_answered_with_the_near_one(
    module: Any, finished: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    trial = ["x"] if module is sweeps.logs else []
    for name in ("tinny", "../results", ""):
        assert command(module, name, *trial, "--results", finished[1]) == 2
        assert "'tiny'" in capsys.readouterr().err or name != "tinny"


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(Exception, match="no sweep is called"):
        run_command(sweeps.launch.app, ["nope", "--debug"])


@pytest.mark.long
def test_a_disk_that_fills_up_stops_the_worker_and_harms_nothing(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    size = "size=400k"  # a few small files, not the checkpoint of the second epoch
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(results)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted: {mounted.stderr.strip()}")
    try:
        definition = tmp_path / "tiny.py"
        definition.write_text(TINY.replace('"model.width": 0.125', '"model.width": 0.25'))
        full = launch(definition, "--results", results)
        assert full.returncode == 3, full.stderr
        *_, error, help_line = full.stderr.splitlines()
        assert error.startswith("error: cannot write")
        assert "No space left" in error
        assert "free some space" in help_line
        assert "Traceback" not in full.stderr
        assert not still_held(results)
        assert not list(results.rglob("*.part"))
        more = subprocess.run(["mount", "-o", "remount,size=90m", str(results)], check=True)
        assert more.returncode == 0
        done = launch(definition, "--results", results)
        assert done.returncode == 0, done.stderr
    finally:
        subprocess.run(["umount", str(results)], check=True)


@pytest.mark.long
@pytest.mark.parametrize("shell", ["2>&1 | head -1", ">/dev/full 2>/dev/full", ">&- 2>&- <&-"])
def test_a_sweep_is_seen_through_whoever_reads(tmp_path: Path, shell: str) -> None:
    definition = tmp_path / "tiny.py"
    definition.write_text(TINY.replace('"epochs": 2', '"epochs": 1'))
    words = [sys.executable, "-m", "sweeps.launch", str(definition), "--results", str(tmp_path)]
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {' '.join(words)} {shell}"], cwd=ROOT, timeout=100,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0
    assert len(list(tmp_path.glob("tiny/*/run.parquet"))) == 2
    assert not list(tmp_path.glob("tiny/*/claim.json"))


def test_gpus_are_those_that_the_environment_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, gpus in (("", []), ("-1", []), ("2,3", ["2", "3"]), ("GPU-ab", ["GPU-ab"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert visible_gpus() == gpus


def test_one_damaged_trial_does_not_stop_the_others(
    copy: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = sorted(path.parent for path in copy[1].rglob(trial_files.RUN))
    for folder in (first, second):
        (folder / trial_files.RUN).unlink()
    (first / "claim.json").write_text("")
    assert command(sweeps.launch, copy[0], "--results", copy[1], "--on", "debug") == 1
    said = capsys.readouterr().err
    assert "1 done" in said
    assert "1 unknown" in said
    assert f"warning: {first / 'claim.json'} is damaged" in said
    assert (second / trial_files.RUN).exists()
    assert (first / "claim.json").read_text() == ""


def test_a_damaged_run_is_done_but_told(
    copy: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = next(copy[1].rglob(trial_files.RUN))
    run.write_bytes(b"")
    assert command(sweeps.status, "tiny", "--results", copy[1]) == 1
    assert f"{run} is damaged" in capsys.readouterr().out
    assert command(sweeps.launch, copy[0], "--results", copy[1]) == 1
    assert f"warning: {run} is damaged" in capsys.readouterr().err


def test_a_run_of_another_configuration_is_told_and_trains_nothing(
    copy: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = copy[1].rglob(trial_files.RUN)
    shutil.copy(other, one)
    before = tree(copy[1])
    assert command(sweeps.status, "tiny", "--results", copy[1]) == 1
    assert "another configuration" in capsys.readouterr().out
    assert command(sweeps.launch, copy[0], "--results", copy[1]) == 1
    assert f"{one} is of another configuration" in capsys.readouterr().err
    assert tree(copy[1]) == before


def test_a_done_trial_without_its_epochs_is_told(
    copy: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    epochs = next(copy[1].rglob(trial_files.EPOCHS))
    epochs.unlink()
    assert command(sweeps.status, "tiny", "--results", copy[1], "--json") == 1
    trials = json.loads(capsys.readouterr().out)["trials"]
    assert [one["problem"] for one in trials].count(f"{epochs} is gone") == 1
    assert not any(one["stopped_early"] for one in trials)


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("nowhere")])
def test_odd_things_in_the_place_of_files_and_folders(
    copy: tuple[Path, Path], capsys: pytest.CaptureFixture[str], make: Callable[[Path], None]
) -> None:
    """A folder among the logs; a file or a link to nowhere as a trial's folder."""
    make(copy[1] / "tiny" / "logs" / "odd.log")
    assert command(sweeps.logs, "tiny", "lr0.01", "--results", copy[1]) == 0
    folder = next(copy[1].rglob(trial_files.RUN)).parent
    shutil.rmtree(folder)
    folder.symlink_to("nowhere")
    capsys.readouterr()
    assert command(sweeps.launch, copy[0], "--results", copy[1]) == 1
    assert f"{folder} is not a folder, or a link to nowhere" in capsys.readouterr().err


def test_a_report_in_the_place_of_a_folder_is_answered(
    copy: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = copy[1].parent / "other"
    blocked.write_text("")
    assert command(sweeps.launch, copy[0], "--results", blocked, "--on", "debug") == 3
    said = capsys.readouterr().err.splitlines()
    assert said[-2].startswith("error: cannot")
    assert said[-1].startswith("help: ")


def test_a_damaged_plan_hides_no_other(
    copy: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = copy[1] / "tiny" / "plans" / "00000000.json"
    damaged.write_text("{")
    assert command(sweeps.status, "--results", copy[1]) == 1
    said = capsys.readouterr()
    assert "2 done" in said.out
    assert f"warning: {damaged} is not a usable plan" in said.err
    assert command(sweeps.status, "--results", copy[1], "--json") == 1
    value = json.loads(capsys.readouterr().out)
    assert (value["counts"]["done"], len(value["problems"])) == (2, 1)
    assert command(sweeps.status, "--results", copy[1], "--watch") == 1
    assert damaged.read_text() == "{"


def test_a_retry_of_nothing_is_no_failure(
    copy: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(next(copy[1].rglob(trial_files.RUN)).parent)
    assert command(sweeps.retry, "tiny", "--results", copy[1]) == 0
    assert "1 done" in capsys.readouterr().err


def test_watching_goes_on_between_two_trials(
    copy: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker holds nothing for an instant after it finished one trial."""
    run = next(copy[1].rglob(trial_files.RUN))
    aside = run.with_suffix(".aside")
    run.rename(aside)
    looks = iter([lambda: None, lambda: aside.rename(run)])
    monkeypatch.setattr(time, "sleep", lambda _: next(looks)())
    assert command(sweeps.status, "tiny", "--results", copy[1], "--watch") == 0
    assert "2 trials: 2 done" in capsys.readouterr().out


def test_a_detached_launch_whose_worker_gives_up_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    definition, results = tmp_path / "tiny.py", tmp_path / "results"
    definition.write_text(TINY)
    # The worker cannot make the trials' folders; launch itself has written all that it writes.
    monkeypatch.setattr("sweeps.execution.backends.local.start_worker", _one_that_gives_up)
    assert command(sweeps.launch, definition, "--results", results, "--detach") == 3
    assert "error: the disk is full" in capsys.readouterr().err


def _one_that_gives_up(store: TrialStore, *_: Any, **__: Any) -> tuple[processes.Process, Path]:
    log = store.folder / "logs" / "x.log"
    log.write_text("error: the disk is full\nhelp: free some space\n")
    return subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]), log


def test_a_folder_name_that_is_no_text_is_refused(
    finished: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = os.fsdecode(os.fsencode(tmp_path) + b"/r\xff")
    assert command(sweeps.launch, finished[0], "--results", results) == 2
    assert "is not UTF-8" in capsys.readouterr().err
    assert not Path(results).exists()


def test_a_finished_sweep_without_its_plan_gets_it_back(
    copy: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    plan = next((copy[1] / "tiny" / "plans").iterdir())
    plan.unlink()
    assert command(sweeps.launch, copy[0], "--results", copy[1]) == 0
    assert plan.exists()


def test_two_retries_keep_two_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    for text in ("first", "second"):
        path.write_text(text)
        set_aside(path, "before-retry")
    assert {one.read_text() for one in tmp_path.iterdir()} == {"first", "second"}
