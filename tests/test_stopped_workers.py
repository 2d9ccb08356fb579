"""Workers that are stopped until their trials are done elsewhere, and then go on, change nothing.

They run on a machine of another name, so that a person can say that it is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import killed_sweeps
import pytest
from drill import wait_for
from forked_attempts import begin, ended, is_stopped
from kill_points import TRAINED, of_python, trained
from killed_sweeps import EPOCHS, FILES, result, trials
from saved_trials import contents
from test_kill import workers_of
from test_liveness import LATE, age
from test_run_kills import HANGS

from sweeps.state import lease as leases
from sweeps.state.trial_store import State, TrialStore

pytestmark = [
    pytest.mark.usefixtures("forked"),
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.getuid() != 0, reason="only root gives a process a host name of its own"),
]

ROOT = Path(__file__).parent.parent
CLONE_NEWUTS = 0x04000000
GONE = "gone-node"


def on_another_machine() -> None:
    """Of that name, by what this process and its children can tell."""
    assert ctypes.CDLL(None).unshare(CLONE_NEWUTS) == 0
    socket.sethostname(GONE)


@pytest.mark.long
def test_ten_workers_that_go_on_when_their_trials_are_done_elsewhere_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    definition, results = (
        killed_sweeps.write(tmp_path, "function", len(HANGS)),
        tmp_path / "results",
    )
    monkeypatch.setenv("PYTHONPATH", of_python(tmp_path / "site"))
    monkeypatch.setenv(TRAINED, str(tmp_path))
    words = ("--results", str(results), "--on", "local")
    launch = [sys.executable, "-m", "sweeps.launch", str(definition), *words]
    store = TrialStore(results, "function")
    swept = trials(definition)
    folders = [store.folder_of(trial) for trial in swept]
    with (tmp_path / "said").open("w") as said:
        there = subprocess.Popen(
            [*launch, "--workers", str(len(HANGS))], cwd=ROOT, stdout=said, stderr=said,
            env={**os.environ, "HANGS_AT": " ".join(HANGS)}, preexec_fn=on_another_machine,
        )  # fmt: skip
    try:
        wait_for(lambda: all_are_stopped(folders), 200, 0.1)
        stopped = pids(folders)
        for folder in folders:
            age(folder, LATE)
        retry = [sys.executable, "-m", "sweeps.retry", "function", *words, "--host-gone", GONE]
        done = subprocess.run(retry, cwd=ROOT, capture_output=True, text=True, timeout=90)
        assert done.returncode == 0, done.stderr
        assert {one.state for one in store.standings(swept)} == {State.DONE}
        before = contents(store.folder)
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        assert there.wait(90) == 0
        after = contents(store.folder)
    finally:
        for pid in workers_of(there.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        there.terminate()
        there.wait()
    logs = [name for name in after if name.startswith("logs/")]
    for name in {*before, *after} - {*logs}:
        assert after.get(name) == before.get(name), name
    told = "".join(after[name].decode() for name in logs)
    assert told.count("another attempt holds") == len(HANGS)
    for trial, folder in zip(swept, folders, strict=True):
        assert {path.name for path in folder.iterdir()} == FILES["function"]
        begun = trained(tmp_path, trial.name)
        assert len(begun) <= EPOCHS["function"] + 1, trial.name
        alone = tmp_path / "function" / trial.name
        assert ended(begin(alone, trial, "only", 1)) == [0]
        assert result(folder, trial) == result(alone, trial)


def all_are_stopped(folders: list[Path]) -> bool:
    held = pids(folders)
    return len(held) == len(HANGS) and all(map(is_stopped, held))


def pids(folders: list[Path]) -> list[int]:
    """Of those who hold the trials."""
    held = map(leases.read, folders)
    return [lease.pid for lease in held if lease is not None]
