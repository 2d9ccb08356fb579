"""Stop: a request to stop is never lost."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_cancel import LONG, ROOT

from slurm.site import Resources, Site
from sweeps.execution.backends.backend import Work
from sweeps.execution.backends.local import Local
from sweeps.execution.request import LaunchRequest
from sweeps.execution.shutdown import was_killed
from sweeps.spec.backend_name import BackendName
from sweeps.spec.expand import expand
from sweeps.spec.find import find
from sweeps.state import lease as leases
from sweeps.state.lease import CLAIM
from sweeps.state.plan import Plan
from sweeps.state.trial_store import TrialStore

# In a process of its own, for SIGALRM is pytest's here.
PROGRAM = """
import os, signal, time
from sweeps.execution.shutdown import Stop, StopRequested

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


def test_a_process_that_was_stopped_ends_in_its_own_time() -> None:
    """The repeating alarm that ends a step which takes too long ends nothing after that."""
    work = """
def work():
    time.sleep(9)
stop.warned = False
assert stop.during(work)
time.sleep(0.5)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(0.5)
print("went to its end", stop())
"""
    done = run(0.2, work)
    assert (done.returncode, done.stdout) == (0, "went to its end True\n"), done.stderr


# A training step that blocks for longer than a worker's patience, and an end that takes as long.
BLOCKING = """
import os, signal, sys, threading, time
import sweeps.MODULE as module
import trainer.train
from local_machine.errors import run_command

def train(config, run, *_):
    run.should_stop()
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    time.sleep(9)

trainer.train.train = train
for name in ("sweeps.execution.worker", "sweeps.launching.dispatch"):
    __import__(name)
    sys.modules[name].PATIENCE_SECONDS = 0.3
class Slow:
    def write(self, text):
        if "stopped on request" in text or "interrupted" in text:
            time.sleep(1.0)
        return sys.__stderr__.write(text)
    def flush(self):
        sys.__stderr__.flush()
sys.stderr = Slow()
run_command(module.app, sys.argv[1:])
"""


@pytest.mark.long
@pytest.mark.parametrize(("module", "code"), [("worker", 128 + signal.SIGTERM), ("launch", 130)])
def test_a_worker_whose_step_blocks_ends_with_the_code_of_a_stop(
    tmp_path: Path, module: str, code: int
) -> None:
    """Not with that of an alarm, by which its launch would take it for killed and start another."""
    (tmp_path / "sweep.py").write_text(LONG)
    store = TrialStore(tmp_path, "sweep")
    trials = expand(find(str(tmp_path / "sweep.py"))[1])
    plan = Plan("sweep", trials, "full", {}, [], "command")
    store.write_plan(plan)
    words = [str(tmp_path / "sweep.py"), "--results", str(tmp_path), "--on", "debug"]
    if module == "worker":
        words = [str(store.folder), "--plan", plan.id, "--launch", "1.0"]
    done = subprocess.run(
        [sys.executable, "-c", BLOCKING.replace("MODULE", module), *words],
        capture_output=True, text=True, cwd=ROOT, timeout=60,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert all(leases.read(path.parent) is None for path in tmp_path.rglob(CLAIM))


def test_what_was_asked_to_stop_is_not_started_again(tmp_path: Path) -> None:
    """By a signal that came before it listened, too."""
    (tmp_path / "sweep.py").write_text(LONG)
    store = TrialStore(tmp_path, "sweep")
    plan = Plan("sweep", expand(find(str(tmp_path / "sweep.py"))[1]), "full", {}, [], "command")
    store.write_plan(plan)
    request = LaunchRequest(BackendName.LOCAL, Site(), Resources(), workers=1)
    with Local(store, request) as backend:
        backend.submit(Work(store, [plan], plan.trials, launch=1.0))
        (worker,) = backend.running.values()
        worker.process.terminate()
        assert worker.process.wait(60) in (-signal.SIGTERM, 128 + signal.SIGTERM)
        assert not backend.poll() and not backend.running
    assert [was_killed(code) for code in (0, 1, 143, -9, -11, -15)] == [
        False, False, False, True, True, False,
    ]  # fmt: skip


def test_the_warning_names_its_signal() -> None:
    assert signal.SIGTERM.name in run(0.0, "pass").stderr
