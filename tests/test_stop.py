"""Stop: a request to stop is never lost."""

from __future__ import annotations

import signal
import subprocess
import sys

# In a process of its own, for SIGALRM is pytest's here.
PROGRAM = """
import os, signal, time
from sweeps.stop import Stop, StopRequested

stop = Stop(patience_seconds=PATIENCE)
stop.listen(signal.SIGTERM)
assert not stop()
stop.in_steps = IN_STEPS
os.kill(os.getpid(), signal.SIGTERM)
assert stop()
WORK
"""


def run(patience: float, work: str, in_steps: bool = True) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.replace("PATIENCE", str(patience)).replace("WORK", work)
    program = program.replace("IN_STEPS", str(in_steps))
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30
    )


def test_an_exception_that_a_library_swallows_comes_again() -> None:
    work = """
try:
    time.sleep(9)
except BaseException:
    pass
try:
    time.sleep(9)
except StopRequested:
    print("came again")
"""
    assert run(0.2, work).stdout == "came again\n"


def test_without_a_patience_only_the_flag_is_set() -> None:
    done = run(0.0, "time.sleep(0.5); print('went on')")
    assert (done.returncode, done.stdout) == (0, "went on\n")


def test_where_nobody_asks_it_ends_at_once() -> None:
    done = run(60.0, "time.sleep(9)", in_steps=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("StopRequested")


def test_the_warning_names_its_signal() -> None:
    assert signal.SIGTERM.name in run(0.0, "pass").stderr
