"""A plain function that is killed anywhere ends as one that nobody disturbed, and one that lost its
trial meanwhile changes nothing that counts."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from plain_task import EPOCHS, FINGERPRINT, LOST, TRAINED, begin, ended, wait_for_word
from saved_trials import contents

from sweeps.run import attempt_folder, checkpoint_file
from trial_records import rows, tables, trial_files

FILES = {
    trial_files.CHECKPOINT,
    trial_files.CONFIG,
    trial_files.EPOCHS,
    trial_files.RUN,
}
# In the second epoch, and at the end.
KILLS = [
    "log:2", "log:3", "sync:1", "write:1", "rename:1", "saved:1", "log:4", "returning:0",
    "returned:0", "publish:1", "run:0", "remove:0",
]  # fmt: skip


def result(trial: Path) -> dict[str, Any]:
    saved = checkpoint_file.read(trial / trial_files.CHECKPOINT, FINGERPRINT)
    assert saved is not None
    run = tables.read_run(trial, FINGERPRINT, ["fingerprint", "status", "test_accuracy"])
    return {
        "rows": tables.read_epochs(trial).to_pylist(),
        "run": {name: run[name] for name in ("status", "test_accuracy")},
        "weights": {name: one.numpy().tobytes() for name, one in saved.state["model"].items()},
        "momentum": [
            one["momentum_buffer"].numpy().tobytes()
            for one in saved.state["optimizer"]["state"].values()
        ],
        "generators": [checkpoint_file.encoded(one).nbytes for one in saved.generators],
        "drawn": [one["torch"].numpy().tobytes() for one in saved.generators],
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """What an undisturbed run comes to, by the number of its ranks."""
    found = {}
    for ranks in (1, 2):
        trial = tmp_path_factory.mktemp("whole") / "trial"
        assert ended(begin(trial, "only", 1, ranks)) == [0] * ranks
        found[ranks] = result(trial)
        assert [row["epoch"] for row in found[ranks]["rows"]] == list(range(EPOCHS))
        assert {path.name for path in trial.iterdir()} == FILES
    return found


@pytest.mark.parametrize(
    ("ranks", "kill"),
    [*((1, kill) for kill in KILLS), *((2, kill) for kill in KILLS[2:10:2])],
)
def test_killed_anywhere_it_ends_as_if_nothing_had_been(
    tmp_path: Path, whole: dict[int, dict[str, Any]], ranks: int, kill: str
) -> None:
    trial = tmp_path / "trial"
    codes = ended(begin(trial, "a", 1, ranks, DIES_AT=kill))
    assert codes[0] == -signal.SIGKILL
    if not (trial / trial_files.RUN).exists():
        # Whatever became of it, a reader sees the rows of steps in their order.
        seen = [row.values["epoch"] for row in rows.read(trial)]
        assert seen == list(range(len(seen)))
        assert ended(begin(trial, "b", 2, ranks)) == [0] * ranks
        assert {path.name for path in trial.iterdir()} == FILES
    else:
        assert kill == "remove:0"
        attempt_folder.sweep_up(trial)
        assert {path.name for path in trial.iterdir()} == FILES
    assert result(trial) == whole[ranks]
    trained = (tmp_path / TRAINED).read_text().split()
    assert len(trained) <= EPOCHS + 1
    assert sorted(set(trained)) == [str(epoch) for epoch in range(EPOCHS)]


def test_killed_at_each_epoch_it_still_ends(
    tmp_path: Path, whole: dict[int, dict[str, Any]]
) -> None:
    trial = tmp_path / "trial"
    places = ["rename:1", "sync:1", "saved:0", "rename:1", "returned:0", "run:0"]
    for number, kill in enumerate(places):
        assert ended(begin(trial, f"t{number}", number + 1, DIES_AT=kill)) == [-signal.SIGKILL]
    assert ended(begin(trial, "last", 9)) == [0]
    assert result(trial) == whole[1]
    assert len((tmp_path / TRAINED).read_text().split()) <= EPOCHS + len(places)


HANGS = [
    "log:0", "sync:0", "write:0", "rename:0", "saved:0", "log:3", "rename:2", "returned:0",
    "publish:1", "run:0",
]  # fmt: skip


@pytest.mark.parametrize("hang", HANGS)
def test_one_that_was_stopped_until_its_trial_was_done_changes_nothing(
    tmp_path: Path, whole: dict[int, dict[str, Any]], hang: str
) -> None:
    trial = tmp_path / "trial"
    (zombie,) = begin(trial, "a", 1, HANGS_AT=hang)
    try:
        wait_for_word(trial, "hangs")
        assert ended(begin(trial, "b", 2)) == [0]
        before = contents(trial)
        os.kill(zombie.pid, signal.SIGCONT)
        assert ended([zombie]) == [LOST]
    finally:
        zombie.kill()
    assert contents(trial) == before
    assert {path.name for path in trial.iterdir()} == FILES
    assert result(trial) == whole[1]
