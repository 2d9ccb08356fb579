"""Options of a command: those of the command line, and those that count from the next launch on."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from local_machine.errors import InputError
from sweeps import Sweep, grid, minimize
from sweeps.spec.loader import load
from sweeps.without_file.definition import sweep_of
from sweeps.without_file.words import SweepWords

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.usefixtures("forked")

TRAIN = """
import csv, sys, time
from pathlib import Path
out = Path(sys.argv[1])
if "--go-on" not in sys.argv:
    (out / "last.txt").write_text("1")
    print("step 0", flush=True)
    print("loss 2.0 took", time.time_ns() % 1_000_000, flush=True)
    sys.exit(75)
print("step 1")
print("loss 1.0 took", time.time_ns() % 1_000_000)
(out / "pwd").write_text(str(Path.cwd()))
(out / "p.csv").write_text("target,value\\n1.0,1.1\\n2.0,2.1\\n")
"""


def run(home: Path, module: str, line: str, *behind: str) -> subprocess.CompletedProcess[str]:
    words = [*shlex.split(line), *(("--", *behind) if behind else ())]
    return subprocess.run(
        [sys.executable, "-m", module, *words], cwd=home, capture_output=True, text=True,
        check=False, timeout=100, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


LINE = (
    "--name one --metrics 'output: step {step}' --metrics 'output: loss {loss} took {took}' "
    "--minimize loss --directory work --resume=--go-on --checkpoint last.txt "
    "--predictions p.csv --on local --workers 1"
)

SECOND = (
    "--name two --metrics 'output: step {step} loss {loss}' --minimize loss --on local --workers 1"
)


@pytest.mark.long
def test_a_command_line_has_every_option_of_a_command(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "train.py").write_text(TRAIN)
    behind = ("python", "train.py", "{folder}", "{resume}")
    done = run(tmp_path, "sweeps.launch", LINE, *behind)
    assert done.returncode == 0, done.stderr
    (trial,) = (path.parent for path in (tmp_path / "results/one").glob("*/run.parquet"))
    assert (trial / "files/pwd").read_text() == str(work)
    assert pq.read_table(trial / "epochs.parquet")["loss"].to_pylist() == [2.0, 1.0]
    assert pq.read_table(trial / "predictions.parquet").num_rows == 2

    # What it took differs from run to run, and nothing said so.
    said = run(tmp_path, "sweeps.verify", "one --json")
    assert (said.returncode, json.loads(said.stdout)["differs"]) == (1, 1), said.stderr
    done = run(tmp_path, "sweeps.launch", f"{LINE} --timing took", *behind)
    assert done.returncode == 0 and "1 done; 0 to run" in done.stderr, done.stderr
    said = run(tmp_path, "sweeps.verify", "one --json")
    assert said.returncode == 0, said.stdout
    assert "epochs.parquet: took" in json.loads(said.stdout)["trials"][0]["left_out"]
    # By its name too, from elsewhere.
    again = run(work, "sweeps.launch", "one --results ../results --on local")
    assert again.returncode == 0 and "1 done; 0 to run" in again.stderr, again.stderr
    # From elsewhere it is said where the launch was.
    (tmp_path / "train.py").write_text("print('step 0 loss 1')")
    assert run(tmp_path, "sweeps.launch", SECOND, "python", "train.py").returncode == 0
    said = run(work / "..", "sweeps.verify", "two --results results")
    assert said.returncode == 0, said.stdout
    (work / "train.py").unlink()
    said = run(work, "sweeps.verify", "two --results ../results")
    assert said.returncode == 1
    assert f"train.py is not there, in {work}: it was launched from {tmp_path}" in said.stdout


def test_the_file_says_each_option(tmp_path: Path) -> None:
    words = SweepWords(
        called="w", metrics=["output: step {step}", "output: loss {loss}"], minimize="loss",
        directory="{folder}", resume="--go-on", checkpoint="a-*.pt", predictions="p.npz",
        timings=["took", "ms"], shell=True, grid=["x=1,2"],
    )  # fmt: skip
    made = sweep_of(words, ["train {x} {resume} | tee log"], {}, None, tmp_path)
    path = tmp_path / "w.py"
    path.write_text(made.text)
    again = load(path, "sweep", Sweep)
    assert again.task is not None and made.made.task is not None
    assert again.task.planned == made.made.task.planned
    command = again.task.planned.command
    assert command is not None and command.shell and command.timings == ("took", "ms")
    assert command.metrics == ("output: step {step}", "output: loss {loss}")


@pytest.mark.parametrize("timings", [3, [""], [1]])
def test_timings_are_names(timings: object) -> None:
    with pytest.raises(InputError, match="timings is"):
        Sweep(
            command="true {x}", base={"x": 1}, space=grid({"x": [1]}), metrics="m.jsonl",
            objective=minimize("loss"), timings=timings,  # type: ignore[arg-type]
        )  # fmt: skip
