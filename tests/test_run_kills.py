"""A plain function, and the trainer, that is killed anywhere ends as one that nobody disturbed, and
one that lost its trial meanwhile changes nothing that counts."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import killed_sweeps
import pytest
from drill import draw_images
from forked_attempts import LOST, begin, ended, wait_until_stopped
from kill_points import five, trained
from killed_sweeps import EPOCHS, FILES, result
from saved_trials import contents

from sweeps.run import attempt_folder
from sweeps.spec.sweep import Trial
from trial_records import rows, trial_files

# In the second epoch, and at the end.
KILLS = [
    "log:2", "log:3", "sync:1", "write:1", "rename:1", "saved:1", "log:4", "went-on:4",
    "returned:0", "publish:1", "run:0", "remove:0",
]  # fmt: skip

Whole = Callable[[str, int], dict[str, Any]]


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Trial]]:
    """One of each task."""
    folder = tmp_path_factory.mktemp("sweeps")
    draw_images(folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRILL_DATA", str(folder / "data"))
        yield {
            task: killed_sweeps.trials(killed_sweeps.write(folder, task, 1))[0]
            for task in killed_sweeps.DEFINITIONS
        }


@pytest.fixture(scope="module")
def whole(trials: dict[str, Trial], tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """What an undisturbed run comes to, by its task and the number of its ranks."""
    found: dict[tuple[str, int], dict[str, Any]] = {}

    def run(task: str, ranks: int) -> dict[str, Any]:
        if (task, ranks) not in found:
            folder = tmp_path_factory.mktemp("whole") / "sweep" / "trial"
            assert ended(begin(folder, trials[task], "only", 1, ranks)) == [0] * ranks
            found[task, ranks] = result(folder, trials[task])
            epochs = [row["epoch"] for row in found[task, ranks]["rows"]]
            assert epochs == list(range(EPOCHS[task]))
            assert {path.name for path in folder.iterdir()} == FILES[task]
        return found[task, ranks]

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a trial; the names above it are in its files."""
    return tmp_path / "sweep" / "trial"


@pytest.mark.long
@pytest.mark.parametrize(
    ("task", "ranks", "kill"),
    [
        *(("function", 1, kill) for kill in KILLS),
        *(("function", 2, kill) for kill in five(EPOCHS["function"])),
        *(("trainer", ranks, kill) for ranks in (1, 2) for kill in five(EPOCHS["trainer"])),
    ],
)
def test_killed_anywhere_it_ends_as_if_nothing_had_been(
    folder: Path, trials: dict[str, Trial], whole: Whole, task: str, ranks: int, kill: str
) -> None:
    trial = trials[task]
    codes = ended(begin(folder, trial, "a", 1, ranks, DIES_AT=kill))
    assert codes[0] == -signal.SIGKILL
    if not (folder / trial_files.RUN).exists():
        # Whatever became of it, a reader sees the rows of steps in their order.
        seen = [row.values["epoch"] for row in rows.read(folder)]
        assert seen == list(range(len(seen)))
        assert ended(begin(folder, trial, "b", 2, ranks)) == [0] * ranks
    else:
        assert kill == "remove:0"
        attempt_folder.sweep_up(folder)
    assert {path.name for path in folder.iterdir()} == FILES[task]
    assert result(folder, trial) == whole(task, ranks)
    epochs = trained(folder.parent, folder.name)
    assert len(epochs) <= EPOCHS[task] + 1
    assert sorted({*epochs}) == list(range(EPOCHS[task]))


def test_killed_at_each_epoch_it_still_ends(
    folder: Path, trials: dict[str, Trial], whole: Whole
) -> None:
    trial = trials["function"]
    places = ["rename:1", "sync:1", "saved:0", "rename:1", "returned:0", "run:0"]
    for number, kill in enumerate(places):
        attempt = begin(folder, trial, f"t{number}", number + 1, DIES_AT=kill)
        assert ended(attempt) == [-signal.SIGKILL]
    assert ended(begin(folder, trial, "last", 9)) == [0]
    assert result(folder, trial) == whole("function", 1)
    assert len(trained(folder.parent, folder.name)) <= EPOCHS["function"] + len(places)


HANGS = [
    "log:0", "sync:0", "write:0", "rename:0", "saved:0", "log:3", "rename:2", "returned:0",
    "publish:1", "run:0",
]  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("hang", HANGS)
def test_one_that_was_stopped_until_its_trial_was_done_changes_nothing(
    folder: Path, trials: dict[str, Trial], whole: Whole, hang: str
) -> None:
    trial = trials["function"]
    (zombie,) = begin(folder, trial, "a", 1, HANGS_AT=hang)
    try:
        wait_until_stopped(zombie.pid)
        assert ended(begin(folder, trial, "b", 2)) == [0]
        before = contents(folder)
        os.kill(zombie.pid, signal.SIGCONT)
        assert ended([zombie]) == [LOST]
    finally:
        zombie.kill()
    assert contents(folder) == before
    assert {path.name for path in folder.iterdir()} == FILES["function"]
    assert result(folder, trial) == whole("function", 1)
