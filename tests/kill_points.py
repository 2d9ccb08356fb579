"""Places in the run of a trial at which its process dies or stops, where its environment says so.

    DIES_AT="sync:1"                  # by SIGKILL, in its second save before the log is synced
    HANGS_AT="rename:0"               # by SIGSTOP
    DIES_AT="sync:1 rename:1 run:0"   # of a sweep: in its first attempt, the trial of seed i at
                                      # the i-th of them
    DIES_ONCE=FOLDER DIES_AT="sync:1 run:0"  # at each of them once, whichever trial comes by first;
                                             # FOLDER then has a file for each

A place is passed right before a call that changes the disk, or between two of them; its number
counts the times, from 0, in one attempt. On several ranks it is rank 0 that dies. As a
`sitecustomize` (`of_python`) it comes before any program, in jobs of Slurm too.
"""

from __future__ import annotations

import collections
import functools
import importlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sweeps.run import attempt_folder, checkpoint_file
from sweeps.run.attempt import Attempt
from sweeps.run.attempt_files import AttemptFiles
from sweeps.run.handle import Run
from trial_records.log import LogWriter

SIGNALS = {"DIES_AT": signal.SIGKILL, "HANGS_AT": signal.SIGSTOP}
ONCE = "DIES_ONCE"
TRAINED = "TRAINED"
"""Names the folder in which each trial has a file, with a line for each epoch that is begun."""

_attempt: Attempt | None = None
_passed: collections.Counter[str] = collections.Counter()


def five(epochs: int) -> list[str]:
    """Those after which another thing is on the disk each, where each of the epochs is saved:
    after the first commit, in a save before the log is synced, between the checkpoint's sync and
    its rename, between the last save and the return, between the return and run.parquet."""
    return ["went-on:0", "sync:1", "rename:1", f"went-on:{epochs - 1}", "returned:0"]


def of_python(folder: Path) -> str:
    """The PYTHONPATH with which every Python that is started has these places."""
    folder.mkdir(exist_ok=True)
    tests = Path(__file__).parent
    (folder / "sitecustomize.py").write_text("import kill_points\nkill_points.watch()\n")
    return f"{folder}:{tests}:{tests.parent}"


@functools.cache
def watch() -> None:
    """Have this process pass the places."""
    _before(LogWriter, "append", "log", lambda _, kind, __: kind == "row")
    _before(LogWriter, "sync", "sync")
    _before(checkpoint_file, "write", "write")
    # pathlib's, which write_atomic uses.
    _before(os, "replace", "rename", lambda one, _: "checkpoint.pt" in str(one))
    _before(LogWriter, "saved", "saved")
    _after(Run, "save", lambda *_: passed("went-on"))
    _before(Run, "finish", "returned")
    _before(attempt_folder, "publish", "publish")
    _before(os, "replace", "run", _is_trials_run)
    _before(attempt_folder, "remove", "remove")
    _after(AttemptFiles, "__init__", _begin)
    if TRAINED in os.environ:
        _count_epochs_of_the_trainer()


def passed(place: str) -> None:
    here = f"{place}:{_passed[place]}"
    _passed[place] += 1
    if os.environ.get("RANK", "0") != "0":
        return
    if ONCE in os.environ:
        if here in os.environ["DIES_AT"].split() and _is_first(here):
            os.kill(os.getpid(), signal.SIGKILL)
        return
    for variable, number in SIGNALS.items():
        if _place_of(os.environ.get(variable, "").split()) == here:
            os.kill(os.getpid(), number)


def begun(trial: str, epoch: int) -> None:
    """Note on rank 0 that the trial begins an epoch."""
    if os.environ.get("RANK", "0") == "0" and TRAINED in os.environ:
        with Path(os.environ[TRAINED], f"{trial}.txt").open("a") as file:
            file.write(f"{epoch}\n")


def trained(folder: Path, trial: str) -> list[int]:
    """The epochs that the trial's attempts have begun."""
    return [int(line) for line in (folder / f"{trial}.txt").read_text().split()]


def _is_first(place: str) -> bool:
    try:
        Path(os.environ[ONCE], place).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _place_of(places: list[str]) -> str:
    if len(places) < 2 or _attempt is None:
        return "".join(places)
    content = json.loads(_attempt.config)
    return places[content.get("values", content)["seed"]] if _attempt.number == 1 else ""


def _begin(_: AttemptFiles, attempt: Attempt, *__: Any) -> None:
    global _attempt
    _attempt = attempt
    _passed.clear()


def _is_trials_run(_: Any, to: Any) -> bool:
    path = Path(to)
    return path.name == "run.parquet" and path.parent.name != "files"


def _before(of: Any, name: str, place: str, when: Callable[..., bool] = lambda *_: True) -> None:
    inner = getattr(of, name)

    def outer(*given: Any, **more: Any) -> Any:
        if when(*given):
            passed(place)
        return inner(*given, **more)

    setattr(of, name, outer)


def _after(of: Any, name: str, act: Callable[..., None]) -> None:
    inner = getattr(of, name)

    def outer(*given: Any, **more: Any) -> Any:
        found = inner(*given, **more)
        act(*given)
        return found

    setattr(of, name, outer)


def _count_epochs_of_the_trainer() -> None:
    """Without importing torch before it trains."""
    from trainer.task import Trainer

    inner = Trainer.train

    def train(self: Trainer, config: Any, run: Run) -> dict[str, Any]:
        _count_epochs(importlib.import_module("trainer.train"))
        return inner(self, config, run)

    Trainer.train = train  # type: ignore[method-assign]


@functools.cache
def _count_epochs(module: Any) -> None:
    inner = module._train_epoch

    def train_epoch(training: Any, run: Run) -> Any:
        begun(run.attempt.trial.name, len(training.history.rows))
        return inner(training, run)

    module._train_epoch = train_epoch
