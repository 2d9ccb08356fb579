"""Ctrl-C, and definitions that end the program, before a worker has started: a line each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.usefixtures("forked")

WAITS = """
import sys, time
print("here", file=sys.stderr, flush=True)
time.sleep(60)
sweep = None
"""
PARSES = """
import argparse
from sweeps import Sweep, grid, minimize

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, required=True)
options = parser.parse_args()
sweep = Sweep(command="true {lr}", base={"lr": 1}, space=grid({"lr": [1]}), metrics="m.jsonl",
              objective=minimize("loss"))
"""


def start(folder: Path, definition: str) -> subprocess.Popen[str]:
    (folder / "mine.py").write_text(definition)
    return subprocess.Popen(
        [sys.executable, "-m", "sweeps.launch", "mine.py", "--on", "local"], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_an_interruption_is_one_line(tmp_path: Path) -> None:
    with start(tmp_path, WAITS) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "here\n"
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")


def test_a_definition_that_reads_the_command_line_is_told_so(tmp_path: Path) -> None:
    with start(tmp_path, PARSES) as process:
        err = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    error, advice = err.splitlines()[-2:]
    assert error.startswith("error: mine.py:7: it reads a command line by argparse when")
    assert 'under `if __name__ == "__main__":`' in advice and "SystemExit" not in err
