"""Programs of ours as copies of this process, in which torch is imported already.

A fresh interpreter takes seconds to import it, which would be most of the time of a test that
starts ten workers. What the copies do is what `python -m` does, and they can be killed as any
process. Only their command line is not theirs: `cancel` does not know them for workers.

    REAL_PROCESSES=1 make check   # every program in an interpreter of its own
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import inspect
import logging
import os
import random
import runpy
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from local_machine import processes
from sweeps.spec import task_loader

PROGRAMS = {
    "sweeps.launch", "sweeps.execution.worker", "sweeps.search", "sweeps.study", "sweeps.status",
    "sweeps.cancel", "sweeps.retry", "sweeps.verify", "analysis.report", "trainer",
}  # fmt: skip
# What they would import; not what they would compute with.
NEEDED = ("trainer.train", "sweeps.execution.worker", "sweeps.launching.dispatch")
SIGNATURE = inspect.signature(subprocess.Popen._execute_child)  # type: ignore[attr-defined]


class Forked(subprocess.Popen[Any]):
    """A Popen that runs our programs in a fork, and any other program as ever."""

    def _execute_child(self, *given: Any) -> None:
        how = SIGNATURE.bind(self, *given).arguments
        words = how["args"]
        ours = not isinstance(words, str) and [*words][:2] == [sys.executable, "-m"]
        if not ours or words[2] not in PROGRAMS:
            super()._execute_child(*given)  # type: ignore[misc]
            return
        for name in NEEDED:
            importlib.import_module(name)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # as in a notebook's kernel
                stream.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _become([str(word) for word in words[2:]], how)
        self._child_created = True
        pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(how[name] for name in pipes))  # type: ignore[attr-defined]


@contextlib.contextmanager
def forking() -> Iterator[None]:
    """Our programs start as forks within the block, unless this process may hold a GPU's context,
    which no fork can use."""
    import torch

    with pytest.MonkeyPatch.context() as patch:
        if "REAL_PROCESSES" not in os.environ and not torch.cuda.is_available():
            patch.setattr(subprocess, "Popen", Forked)
            patch.setattr(processes, "start", Forked)
        yield


def _become(words: list[str], how: dict[str, Any]) -> NoReturn:
    """Do as `python -m` with these words would, with nothing of what pytest has set up."""
    code = 1
    try:
        _surround(how)
        sys.argv = words
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else end.code is not None
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _surround(how: dict[str, Any]) -> None:
    if how["start_new_session"]:
        os.setsid()
    for number, end in enumerate((how["p2cread"], how["c2pwrite"], how["errwrite"])):
        if end >= 0:
            os.dup2(end, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    if how["cwd"] is not None:
        os.chdir(how["cwd"])
    if how["env"] is not None:
        environment = {str(key): str(value) for key, value in how["env"].items()}
        os.environ.clear()
        os.environ.update(environment)
    if how["preexec_fn"] is not None:
        how["preexec_fn"]()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    atexit._clear()
    random.seed()
    # The tasks of tests that ran in this process: a new interpreter knows none.
    for known in (task_loader._tried, task_loader._of_classes):
        known.clear()
    logging.getLogger().handlers.clear()
    logging.getLogger().setLevel(logging.WARNING)
    sys.path[0] = str(Path.cwd())
    if {"HANGS_AT", "DIES_ONCE"} & {*os.environ}:
        importlib.import_module("kill_points").watch()
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
