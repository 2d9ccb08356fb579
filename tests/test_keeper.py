"""The keeper of a program passes signals on to it, however early they come."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import local_machine
from sweeps.command_task.program import Program

KEEPER = Path(local_machine.__file__).with_name("keeper.py")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_that_comes_before_the_program_has_begun_is_not_lost(
    number: signal.Signals,
) -> None:
    told, tell = os.pipe()
    for _ in range(5):
        keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(KEEPER), str(tell), "sleep", "60"],
            stdin=subprocess.PIPE,
            pass_fds=(tell,),
        )
        assert keeper.stdin is not None
        keeper.stdin.write(bytes([number]))
        keeper.stdin.flush()
        try:
            keeper.wait(10)
            assert json.loads(os.read(told, 100))["code"] == -number
        finally:
            keeper.kill()
            keeper.wait()
            keeper.stdin.close()
    os.close(told)
    os.close(tell)


def test_what_a_program_started_ends_where_its_keeper_is_killed(tmp_path: Path) -> None:
    words = ["sh", "-c", "sleep 30 & echo $! > child; sleep 30; :"]
    program = Program(words, os.environ, tmp_path)
    next_one = Program(["sleep", "30"], os.environ, tmp_path)
    path = tmp_path / "child"
    until = time.monotonic() + 10
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < until
        time.sleep(0.01)
    program._keeper.kill()
    until = time.monotonic() + 10
    while (code := program.poll()) is None:
        time.sleep(0.01)
    assert code == -signal.SIGKILL and time.monotonic() < until
    assert next_one.poll() is None
    next_one.kill()
    program.kill()
