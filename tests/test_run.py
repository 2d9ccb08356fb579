"""Run, as a task calls it: what it commits, what it refuses, and what several ranks agree on."""

from __future__ import annotations

import json
import logging
import math
import multiprocessing
import os
import random
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from saved_trials import names_in

from local_machine.errors import InputError
from sweeps.run import attempt_folder, checkpoint_file, interval, random_states
from sweeps.run.attempt import Attempt
from sweeps.run.ends import LostTrialError, StoppedError
from sweeps.run.handle import Run, metrics_of
from sweeps.run.ranks import Ranks
from trial_records import rows, tables, trial_files

RUNS = iter(range(10**6))
FINGERPRINT, CONFIG = "0" * 64, "{}"


def begun(trial: Path, **more: Any) -> Run:
    """Another attempt at the trial."""
    number = next(RUNS)
    limit = more.pop("limit_seconds", math.inf)
    trial.mkdir(exist_ok=True)
    attempt_folder.make(trial, f"t{number}")
    attempt = Attempt(trial, FINGERPRINT, CONFIG, f"t{number}", number, limit, task="plain")
    return Run(attempt, **more)


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    return tmp_path / "trial"


def seen(trial: Path) -> list[tuple[dict[str, Any], bool]]:
    return [(row.values, row.committed) for row in rows.read(trial)]


def test_rows_are_seen_at_once_and_count_when_they_are_saved(trial: Path) -> None:
    run = begun(trial)
    assert run.load() is None
    run.log(epoch=0, loss=1.0)
    assert seen(trial) == [({"epoch": 0, "loss": 1.0}, False)]
    run.log(epoch=0, accuracy=np.float64(0.5))
    run.save({"epoch": 1, "x": np.arange(3)})
    assert seen(trial) == [({"epoch": 0, "loss": 1.0, "accuracy": 0.5}, True)]
    run.log(epoch=1, loss=math.nan)
    again = begun(trial)
    state = again.load()
    assert state["epoch"] == 1 and state["x"].tolist() == [0, 1, 2]
    # What was not saved is taken back, and what the first one logs goes nowhere.
    assert seen(trial) == [({"epoch": 0, "loss": 1.0, "accuracy": 0.5}, True)]
    run.log(epoch=1, loss=9.0)
    with pytest.raises(LostTrialError):
        run.save({"epoch": 9})
    assert again.loaded_rows == [{"epoch": 0, "loss": 1.0, "accuracy": 0.5}]
    again.log(epoch=1, loss=math.inf)
    row = again.finish(metrics_of({"test": torch.tensor(0.25)}))
    assert (row["test"], row["status"]) == (0.25, "done")
    assert tables.read_epochs(trial).to_pylist() == [
        {"epoch": 0, "loss": 1.0, "accuracy": 0.5},
        {"epoch": 1, "loss": math.inf, "accuracy": None},
    ]
    assert tables.read_run(trial, FINGERPRINT)["test"] == 0.25
    # The checkpoint is of the last save, and nothing of the attempts is left.
    assert names_in(trial) == sorted(
        [trial_files.CHECKPOINT, trial_files.CONFIG, trial_files.EPOCHS, trial_files.RUN]
    )


def test_a_task_that_saves_nothing_has_its_rows_when_it_is_done(trial: Path) -> None:
    run = begun(trial)
    run.log(loss=1.0)
    run.end()
    again = begun(trial)
    again.log(loss=2.0)
    again.finish({})
    assert tables.read_epochs(trial).to_pylist() == [{"loss": 2.0}]


def test_a_task_that_does_nothing_but_return_is_done(trial: Path) -> None:
    run = begun(trial)
    time.sleep(0.05)
    row = run.finish(run.provenance())
    (attempt,) = json.loads(row["attempts"])
    assert attempt["seconds"] >= 0.05 and row["seconds"] >= 0.05
    assert row["host"] and (trial / "run.parquet").exists()


def test_what_a_failed_attempt_left(trial: Path) -> None:
    run = begun(trial)
    run.log(epoch=0)
    run.save(1)
    run.log(epoch=1)
    run.end(is_over=True)
    assert tables.read_epochs(trial).to_pylist() == [{"epoch": 0}]
    assert [committed for _, committed in seen(trial)] == [True, False]
    assert begun(trial).load() == 1


def test_the_generators_go_on_where_they_were(trial: Path) -> None:
    def drawn() -> list[float]:
        return [random.random(), float(np.random.rand()), float(torch.rand(()))]

    run = begun(trial)
    run.load()
    run.save(1)
    expected = drawn()
    drawn()
    again = begun(trial)
    again.load()
    assert drawn() == expected
    again.restore_generators()
    assert drawn() == expected
    again.save(2, generators=False)
    last = begun(trial)
    drawn()
    before = bytes(checkpoint_file.encoded(random_states.capture()))
    assert last.load() == 2
    assert bytes(checkpoint_file.encoded(random_states.capture())) == before


@pytest.mark.parametrize(
    ("state", "where"),
    [
        ({"model": torch.nn.Linear(1, 1)}, "state['model']"),
        ({"a": [1, {"b": range(3)}]}, "state['a'][1]['b']"),
        ([np.array([object()])], "state[0]"),
        ({("a", frozenset()): 1}, "of state"),
        (Path("x"), "state cannot"),
        ({"generator": torch.Generator()}, "state['generator']"),
    ],
)
def test_what_could_not_be_loaded_is_refused_when_it_is_saved(
    trial: Path, state: Any, where: str
) -> None:
    run = begun(trial)
    with pytest.raises(InputError) as caught:
        run.save(state)
    assert where in caught.value.what and "state_dict" in caught.value.help
    assert not rows.checkpoint_of(trial)


def test_a_trial_that_was_saved_has_to_be_loaded(trial: Path) -> None:
    run = begun(trial)
    run.save(1)
    again = begun(trial)
    for act in (lambda: again.log(loss=1), lambda: again.save(2)):
        with pytest.raises(InputError) as caught:
            act()
        assert "run.load()" in caught.value.help
    assert again.load() == 1
    with pytest.raises(InputError, match=r"after run\.log"):
        again.load()


@pytest.mark.parametrize("what", ["checkpoint", "log", "gone"])
def test_what_is_damaged_is_set_aside_and_all_begins_anew(
    trial: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    run = begun(trial)
    run.log(epoch=0, loss=1.0)
    run.save(1)
    run.end()
    (files,) = rows.attempt_files(trial)
    path = files / (trial_files.CHECKPOINT if what == "checkpoint" else trial_files.LOG)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    if what == "gone":
        path.unlink()
    again = begun(trial)
    with caplog.at_level(logging.WARNING):
        assert again.load() is None
    assert "starts over" in caplog.text
    assert seen(trial) == []
    assert (trial / f"{trial_files.CHECKPOINT}.damaged").exists()


def test_saving_can_be_rare(
    trial: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    monkeypatch.setattr("local_machine.clock.monotonic", lambda: now[0])
    run = begun(trial, limit_seconds=60.0)
    run.load()
    with caplog.at_level(logging.WARNING):
        for minute in range(12):
            now[0] = 60.0 * minute
            run.save(minute, every="5min")
    assert caplog.text.count("time limit of 60 s is shorter than the 300 s") == 1
    run.end()
    assert begun(trial).load() == 10


@pytest.mark.parametrize("every", ["5 minutes", "", "0s", "-1", "nan", "infs", "1e9h"])
def test_an_interval_that_is_none_is_refused(trial: Path, every: str) -> None:
    with pytest.raises(InputError, match="interval"):
        begun(trial).save(1, every=every)


def test_intervals() -> None:
    assert [interval.seconds(one) for one in (90, 1.5, "90", "5min", "2h", "30 s")] == [
        90, 1.5, 90, 300, 7200, 30,
    ]  # fmt: skip


def test_a_stop_is_acted_on_at_the_next_save_however_rare(trial: Path) -> None:
    asked = iter([False, True, False])
    run = begun(trial, stop=lambda: next(asked))
    run.load()
    assert not run.should_stop()
    assert run.should_stop() and run.should_stop()  # it stays asked
    with pytest.raises(StoppedError):
        run.save(7, every="5min")
    run.end()
    assert begun(trial).load() == 7


def test_a_folder_is_committed_whole_or_not_at_all(trial: Path) -> None:
    run = begun(trial)
    assert run.load() is None and run.load_checkpoint() is None
    for number in range(3):
        with run.checkpoint({"number": number}) as folder:
            assert not list(folder.iterdir())
            (folder / "shard").write_text(str(number))
        run.log(epoch=number)
    with pytest.raises(ZeroDivisionError), run.checkpoint() as folder:
        (folder / "shard").write_text("half")
        raise ZeroDivisionError
    again = begun(trial)
    assert again.load() == {"number": 2}
    found = again.load_checkpoint()
    assert found is not None and (found / "shard").read_text() == "2"
    assert [values["epoch"] for values, _ in seen(trial)] == [0, 1]
    (found / "shard").parent.rename(found.with_name("elsewhere"))
    assert begun(trial).load() is None


@pytest.mark.parametrize("moved", range(4))
def test_a_kill_among_the_files_of_a_trials_end_costs_no_checkpoint(
    trial: Path, moved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun(trial)
    run.load()
    run.log(epoch=0)
    with run.checkpoint({"epoch": 1}) as folder:
        (folder / "weights").write_text("w")
    replace, left = os.replace, iter(range(moved))

    def until_killed(old: Path, new: Path) -> None:
        if Path(new).parent == trial and next(left, None) is None:
            raise KeyboardInterrupt
        replace(old, new)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", until_killed)
        run.finish({})
    again = begun(trial)
    assert again.load() == {"epoch": 1}
    found = again.load_checkpoint()
    assert found is not None and (found / "weights").read_text() == "w"


def test_files_of_a_tasks_own_take_no_name_of_ours(trial: Path) -> None:
    run = begun(trial)
    run.load()
    for name in (trial_files.CONFIG, "claim.json", trial_files.CHECKPOINT, "checkpoint-500"):
        (run.folder / name).write_text("its own")
    run.finish({})
    assert (trial / trial_files.CONFIG).read_text() == CONFIG
    own = trial / trial_files.FILES
    assert {path.name for path in own.iterdir()} == {
        trial_files.CONFIG, "claim.json", trial_files.CHECKPOINT, "checkpoint-500",
    }  # fmt: skip
    assert not (trial / "claim.json").exists()


@pytest.mark.parametrize("returned", [{"loss": "0.1"}, {"loss": None}, 0.5, [1]])
def test_what_is_returned_has_to_be_metrics(trial: Path, returned: Any) -> None:
    run = begun(trial)
    run.load()
    with pytest.raises(InputError):
        run.finish(metrics_of(returned))
    assert not (trial / trial_files.RUN).exists()


def test_a_folder_of_another_trial_is_refused(trial: Path) -> None:
    trial.mkdir()
    (trial / trial_files.CONFIG).write_text('{"lr": 1}')
    with pytest.raises(InputError, match="holds another trial"):
        begun(trial).load()


# Fencing


def test_whoever_came_last_has_the_files_and_nobody_before_gets_them_back(trial: Path) -> None:
    """A holder that lost its lease in the middle of taking over, and goes on with that."""
    trial.mkdir()
    for token in "abc":
        attempt_folder.make(trial, token)
    first = attempt_folder.take_over(trial, "a")
    assert not attempt_folder.path_of(trial, "b").exists()
    attempt_folder.make(trial, "d")
    (first / "x").write_text("x")
    last = attempt_folder.take_over(trial, "d")
    assert (last / "x").exists() and len(list(trial.iterdir())) == 1
    for token in "abc":
        with pytest.raises(LostTrialError):
            attempt_folder.take_over(trial, token)
        with pytest.raises(LostTrialError):
            attempt_folder.publish(attempt_folder.path_of(trial, token) / "files", trial, ["x"])
    assert (last / "x").exists()
    assert [path.name for path in trial.iterdir()] == [f"{trial_files.ATTEMPT}d"]


# Several ranks


def in_ranks(tmp_path: Path, act: Callable[[Run, int], Any], seconds: float = 5.0) -> list[str]:
    """What `act` gave or raised, in words, on each of two ranks."""
    trial = tmp_path / "trial"
    trial.mkdir(exist_ok=True)
    attempt_folder.make(trial, "t")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def work(rank: int) -> None:
        os.environ |= {
            "RANK": f"{rank}", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": f"{port}",
        }  # fmt: skip
        torch.distributed.init_process_group("gloo")
        run = Run(Attempt(trial, FINGERPRINT, CONFIG, "t", task="plain"), ranks=Ranks(seconds))
        try:
            said = repr(act(run, rank))
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        (tmp_path / f"rank-{rank}").write_text(said)

    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=work, args=(rank,)) for rank in range(2)]
    for one in processes:
        one.start()
    for one in processes:
        one.join(50)
        one.kill()
    return [(tmp_path / f"rank-{rank}").read_text() for rank in range(2)]


def test_ranks_share_what_rank_0_has(tmp_path: Path) -> None:
    def act(run: Run, rank: int) -> Any:
        run.load()
        run.log(epoch=0, loss=float(rank))
        with run.checkpoint({"epoch": 1}) as folder:
            (folder / f"shard-{rank}").write_text(str(rank))
        torch.manual_seed(rank)
        stops = [run.should_stop() for _ in range(25)]
        run.save({"epoch": 2})
        return run.folder.name, any(stops), float(torch.rand(()))

    first, second = in_ranks(tmp_path, act)
    assert first.startswith("('files', False") and second.startswith("('files', False")

    def go_on(run: Run, rank: int) -> Any:
        state = run.load()
        return state, run.loaded_rows, float(torch.rand(()))

    (tmp_path / "trial" / "attempt-t").rename(tmp_path / "trial" / "attempt-before")
    again = in_ranks(tmp_path, go_on)
    for before, after in zip((first, second), again, strict=True):
        assert after.startswith("({'epoch': 2}, [{'epoch': 0, 'loss': 0.0}]")
        assert before.rpartition(" ")[2] == after.rpartition(" ")[2]


def test_a_rank_that_saves_alone_is_told_so(tmp_path: Path) -> None:
    def act(run: Run, rank: int) -> Any:
        run.load()
        if rank == 0:
            run.save(1)
        else:
            torch.distributed.barrier()

    first, _ = in_ranks(tmp_path, act, 1.0)
    assert "rank 0 of 2 called run.save, and rank 1 did not within 1 s" in first
    assert "on every rank" in first


@pytest.mark.parametrize("gone", [0, 1])
def test_a_rank_that_was_killed_is_not_waited_for_and_is_said_to_be_gone(
    tmp_path: Path, gone: int
) -> None:
    def act(run: Run, rank: int) -> Any:
        run.load()
        if rank == gone:
            (tmp_path / f"rank-{gone}").write_text("gone")
            os.kill(os.getpid(), signal.SIGKILL)
        run.save(1)

    said = in_ranks(tmp_path, act, 30.0)[1 - gone]
    assert f"called run.save, and rank {gone} cannot be reached any more" in said
    assert "within" not in said


def test_ranks_that_do_different_things_are_told_so(tmp_path: Path) -> None:
    def act(run: Run, rank: int) -> Any:
        run.load()
        return run.should_stop() if rank else run.save(1)

    for said in in_ranks(tmp_path, act):
        assert "InputError: rank 0 called run.save and rank 1 called run.should_stop" in said


def test_what_goes_wrong_on_rank_0_is_known_to_all(tmp_path: Path) -> None:
    def act(run: Run, rank: int) -> Any:
        run.load()
        (tmp_path / "trial" / "attempt-t").rename(tmp_path / "gone") if rank == 0 else None
        run.save(1)

    assert in_ranks(tmp_path, act) == ["LostTrialError: ", "LostTrialError: "]


def test_ranks_that_have_not_met_are_told_to(trial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(InputError) as caught:
        begun(trial).load()
    assert "WORLD_SIZE is 2" in caught.value.what
    assert "init_process_group" in caught.value.help
