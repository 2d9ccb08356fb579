"""The same launch, while another one or its workers still run the trials."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_logs import SLOW

from local_machine.files import matching

pytestmark = pytest.mark.usefixtures("forked")


class Home:
    """A folder with a sweep whose workers run, until `go` is there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.go = folder, folder / "go"
        (folder / "mine.py").write_text(SLOW.replace("GO", str(self.go)))

    def launch(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "sweeps.launch", "mine.py", *words],
            cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    @contextmanager
    def again(self) -> Iterator[tuple[subprocess.Popen[str], str]]:
        """The same launch once more, when it watches; and what it said by then."""
        with self.launch() as again:
            assert again.stderr is not None
            said = ""
            while "jobs or another launch run what is left" not in said:
                line = again.stderr.readline()
                assert line, said
                said += line
            yield again, said


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    one = Home(tmp_path)
    with one.launch("--workers", "2", "--detach") as first:
        assert first.wait(60) == 0
    while len(matching(tmp_path, "results/mine/*/claim.json")) < 2:
        time.sleep(0.05)
    yield one
    one.go.touch()


def test_it_watches_them_to_their_end(home: Home) -> None:
    with home.again() as (again, said):
        assert "2 running; 0 to run" in said
        home.go.touch()
        _, rest = again.communicate(timeout=60)
        assert again.returncode == 0, rest
        assert "2 trials: 2 done" in rest


def test_ctrl_c_ends_it_alone(home: Home) -> None:
    with home.again() as (again, _):
        again.send_signal(signal.SIGINT)
        _, rest = again.communicate(timeout=60)
        assert again.returncode == 130
        assert "the jobs go on" in rest
    home.go.touch()
    while len(matching(home.folder, "results/mine/*/run.parquet")) < 2:
        time.sleep(0.05)
