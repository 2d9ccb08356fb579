"""A program that prints much: how much of it is kept, how fast it is read, what is masked of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_machine import secrets
from sweeps.command_task.metrics.output_bound import END_BYTES, KEPT_BYTES, give_back, shorten
from sweeps.command_task.metrics.output_lines import OutputLines
from sweeps.command_task.metrics.output_pattern import OUTPUT_FILE, OutputPattern

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.usefixtures("forked")

LINE = "worker: " + 990 * "x" + "\n"
PRINTS = f"""
print("step 0 loss 3")
for _ in range(40):
    print({LINE!r} * 1000, end="", flush=True)
print("step 1 loss 2")
"""


@pytest.fixture
def printed(tmp_path: Path) -> Path:
    path = tmp_path / OUTPUT_FILE
    lines = (KEPT_BYTES + END_BYTES) // len(LINE) + 8000
    path.write_text("".join(f"{number:09} {LINE}" for number in range(lines)))
    return path


def test_what_was_read_of_its_middle_is_given_back(printed: Path) -> None:
    before, size = printed.read_bytes(), printed.stat().st_size
    give_back(printed, 0)
    assert printed.read_bytes() == before
    give_back(printed, size)
    if printed.stat().st_blocks * 512 > size:
        pytest.skip("this file system frees no blocks of a file")
    assert printed.stat().st_blocks * 512 < KEPT_BYTES + END_BYTES + 2**20
    after = printed.read_bytes()
    assert len(after) == size
    assert after[:KEPT_BYTES] == before[:KEPT_BYTES] and after[-END_BYTES:] == before[-END_BYTES:]
    with printed.open("ab") as file:  # as its program goes on
        file.write(b"more\n")
    assert printed.read_bytes().endswith(LINE.encode() + b"more\n")


def test_it_is_shortened_when_the_trial_is_done(printed: Path) -> None:
    before = printed.read_text().splitlines()
    shorten(printed)
    after = printed.read_text().splitlines()
    (said,) = (number for number, line in enumerate(after) if line.startswith("["))
    assert "MiB of its output are left out; it ends:]" in after[said]
    assert after[:said] == before[:said] and after[said + 1 :] == before[-len(after) + said + 1 :]
    assert printed.stat().st_size < KEPT_BYTES + END_BYTES + 100
    once = printed.read_bytes()
    shorten(printed)
    assert printed.read_bytes() == once


@pytest.mark.long
def test_a_trial_that_prints_much_keeps_little_and_loses_no_row(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(PRINTS)
    words = ["--name", "much", "--metrics", "output: step {step} loss {loss}", "--minimize", "loss"]
    done = subprocess.run(
        [sys.executable, "-m", "sweeps.launch", *words, "--on", "local", "--workers", "1",
         "--", "python", "train.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (trial,) = (tmp_path / "results/much").glob("*/run.parquet")
    assert pq.read_table(trial.with_name("epochs.parquet"))["loss"].to_pylist() == [3, 2]
    output = trial.parent / "files" / OUTPUT_FILE
    assert output.stat().st_size < KEPT_BYTES + END_BYTES + 100
    assert output.read_text().endswith("step 1 loss 2\n")
    shutil.rmtree(tmp_path)


KINDS = [
    "epoch {n} loss 0.123456",
    "[2026-11-30 12:00:00] INFO worker {n}: loading shard {n} of 1000, 12.5 MB/s, eta 00:01",
    "{n}%|████      | {n}/1000 [00:01<00:02, 99.1it/s, loss=0.{n}]",
]


def seconds_a_line(kind: str, folder: Path) -> float:
    """Of this process, to read and to log it."""
    count = 5000
    (folder / OUTPUT_FILE).write_text("".join(f"{kind.format(n=n)}\n" for n in range(count)))
    patterns = ["epoch {epoch} loss {loss}", "val accuracy {accuracy}"]
    begin = time.process_time()
    OutputPattern(patterns, folder, {}).read()
    lines = OutputLines().add((folder / OUTPUT_FILE).read_bytes())
    for line in lines:
        secrets.masked(line.text)
    return (time.process_time() - begin) / count


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_is_read_and_logged_in_a_fiftieth_of_a_millisecond(
    kind: str, tmp_path: Path
) -> None:
    assert min(seconds_a_line(kind, tmp_path) for _ in range(3)) < 20e-6


WORDS = st.sampled_from(
    ["--token", "HF_TOKEN", "=", ":", " ", "x", "hf_" + 20 * "a", "sk-1" + 20 * "b", "Bearer ",
     "abcdefgh12", "https://", "u", "@", "host", "?", "&", "sig", "key", "eos_token", "API_KEY",
     "PASSWORD", '"', "'", "AWS_X", "--no-auth", "\n", "é", "AKIA" + 14 * "Q", "loss", "0.5"]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(WORDS, max_size=12).map("".join))
def test_the_short_way_masks_what_the_long_one_does(text: str) -> None:
    short = secrets.masked(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secrets, "_IN_NAMES", ("",))
        patch.setattr(secrets, "_IN_SHAPES", ("",))
        assert secrets.masked(text) == short
