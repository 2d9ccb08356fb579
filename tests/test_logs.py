"""A trial's log is followed until the trial is over."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from local_machine.files import matching

pytestmark = pytest.mark.usefixtures("forked")

SLOW = """
import time
from pathlib import Path

from sweeps import Sweep, grid, minimize


def train(config, run):
    for epoch in range(3):
        run.log(epoch=epoch, loss=config["lr"])
        run.save({"epoch": epoch + 1})
        print("this is epoch", epoch, flush=True)
        while not Path(config["go"]).exists():
            time.sleep(0.05)


sweep = Sweep(train, base={"lr": 0.1, "go": "GO"}, space=grid({"lr": [0.1, 0.2]}),
              objective=minimize("loss"))
"""


def test_it_is_followed_to_its_end(tmp_path: Path) -> None:
    go = tmp_path / "go"
    (tmp_path / "mine.py").write_text(SLOW.replace("GO", str(go)))

    def command(name: str, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", f"sweeps.{name}", *words],
            cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    with command("launch", "mine.py", "--workers", "1") as launched:
        while not matching(tmp_path, "results/mine/lr0.1-*/claim.json"):
            assert launched.poll() is None
            time.sleep(0.05)
        with command("logs", "mine", "lr0.1", "--follow") as followed:
            assert followed.stdout is not None
            line = ""
            while "this is epoch 0" not in line:
                line = followed.stdout.readline()
                assert line
            go.touch()
            rest, said = followed.communicate(timeout=60)
        launched.communicate(timeout=60)
    assert followed.returncode == launched.returncode == 0
    assert [rest.count(f"this is epoch {number}") for number in (0, 1, 2)] == [0, 1, 1]
    assert said.splitlines()[-1].endswith("is done")
