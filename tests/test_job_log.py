"""A job's log, by its id, and what of it says why the job ended."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slurm.job_state import Job, JobState
from sweeps.state.job_log import ending, last_words, logs_of

AFTERWARDS = """
srun: error: n1: task 0: Exited with exit code 2
srun: launch/slurm: _step_signal: Terminating StepId=56.0
srun: error: n[1-2]: tasks 0-1: Killed
slurmstepd: error: *** STEP 1.0 ON n1 CANCELLED AT 2026-11-29T12:00:00 ***
srun: Job step aborted: Waiting up to 32 seconds for job step to finish.
"""
REASON = "slurmstepd: error: execve(): /no/such/python: No such file or directory"


def test_a_job_is_not_a_task_of_an_array_of_its_number(tmp_path: Path) -> None:
    for name in ("12_0_log.out", "12_1_log.out", "12_1_0_log.out", "12_10_0_log.out"):
        (tmp_path / name).touch()
    found = {job: [path.name for path in logs_of(tmp_path, job)] for job in ("12", "12_1", "1")}
    assert found == {"12": ["12_0_log.out", "12_1_log.out"], "12_1": ["12_1_0_log.out"], "1": []}


@pytest.mark.parametrize("reason", [REASON, "slurmstepd: error: Detected 1 oom_kill event in n1."])
def test_the_reason_is_the_last_line_that_slurm_does_not_say_each_time(
    tmp_path: Path, reason: str
) -> None:
    (tmp_path / "7_0_log.out").write_text(f"first\n{reason}\n{AFTERWARDS}\n\n")
    assert last_words(tmp_path, "7") == [reason]
    assert last_words(tmp_path, "7", 2) == ["first", reason]
    (tmp_path / "8_0_log.out").write_text(AFTERWARDS)
    assert last_words(tmp_path, "8") == [AFTERWARDS.split("\n")[-2]]
    # An empty log of the first rank says less than the next one's.
    (tmp_path / "9_0_log.out").touch()
    (tmp_path / "9_1_log.out").write_text(reason)
    assert last_words(tmp_path, "9") == [reason]


def test_a_log_that_is_no_log_or_obeyed_by_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "1_0_log.out").mkdir()
    os.mkfifo(tmp_path / "2_0_log.out")
    (tmp_path / "3_0_log.out").write_bytes(b"x\n" * 100_000 + b"\x1b[31mred\xff" + b"y" * 5000)
    assert last_words(tmp_path, "1") == last_words(tmp_path, "2") == last_words(tmp_path, "4") == []
    (line,) = last_words(tmp_path, "3")
    assert line.startswith("\\x1b[31mred") and len(line) == 300


def test_how_slurm_says_that_it_ended() -> None:
    assert ending(Job("1", JobState.FAILED, exit_code=127, signal=0)) == "FAILED, exit code 127"
    assert ending(Job("1", JobState.OUT_OF_MEMORY, exit_code=0, signal=9)) == (
        "OUT_OF_MEMORY, signal 9"
    )
    assert ending(Job("1", JobState.NODE_FAIL)) == "NODE_FAIL"
