"""What an attempt before this one may still be doing in the program's folder.

An attempt leaves TRIAL/.running-TOKEN-RANK while its program runs. Whoever finds one of another
attempt kills what is left of that program, where it ran on this machine; else it waits until that
attempt's watch has ended it.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from local_machine import clock, processes
from local_machine.errors import InputError
from local_machine.files import matching
from local_machine.json_files import read_json, write_sealed_json
from sweeps.run.attempt import BOUND_SECONDS

log = logging.getLogger("sweeps.command_task")

FOLDER = "SWEEPS_FOLDER"
"""The environment variable that names the program's folder, by which its processes are found."""
_MARK = ".running-"


def begin(trial: Path, token: str, rank: int) -> None:
    """Raises OSError."""
    value = {"host": processes.host(), "boot": processes.boot()}
    write_sealed_json(trial / f"{_MARK}{token}-{rank}", value)


def end(trial: Path, token: str, rank: int) -> None:
    """The program has ended, and all that it started."""
    with suppress(OSError):
        (trial / f"{_MARK}{token}-{rank}").unlink(missing_ok=True)


def settle(trial: Path, folder: Path, should_stop: Callable[[], bool]) -> bool:
    """See that no program of an attempt before this one works in the folder any more; False where
    this attempt was asked to stop meanwhile. Raises OSError."""
    marks = matching(trial, f"{_MARK}*")
    if not all(_is_here(mark) for mark in marks):
        log.info(
            "an attempt before this one ran elsewhere, and did not say that its program has ended: "
            "waiting %.0f s, after which its watch has ended it", BOUND_SECONDS,
        )  # fmt: skip
        until = clock.monotonic() + BOUND_SECONDS
        while clock.monotonic() < until:
            if should_stop():
                return False
            clock.sleep(0.5)
    if marks:
        kill_here(folder)
    for mark in marks:
        mark.unlink(missing_ok=True)
    return True


def _is_here(mark: Path) -> bool:
    try:
        value = read_json(mark)
        return bool(value["host"] == processes.host() and value["boot"] == processes.boot() != "/")
    except (InputError, FileNotFoundError, KeyError, TypeError):
        return False


def kill_here(folder: Path) -> None:
    """Kill every process of this user's on this machine that was started for the folder."""
    kill_by(FOLDER, str(folder))


def kill_by(variable: str, value: str) -> None:
    """Kill every process of this user's on this machine that was started with the variable."""
    for entry in matching(processes.PROC, "[0-9]*"):
        pid = int(entry.name)
        is_own = pid != os.getpid() and processes.owner(pid) == os.getuid()
        if is_own and processes.variables(pid).get(variable) == value:
            log.warning("killing process %d, which a program left behind", pid)
            with suppress(OSError):
                processes.send_signal(pid, signal.SIGKILL)
