"""Why a job waits, in words."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm.job_state import Job, JobState
from slurm.waiting import why


def waiting(reason: str, start: float | None = None) -> str:
    return why(Job("12_3", JobState.PENDING, reason, start=start))


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("", ""),
        ("Priority", "jobs of a higher priority go first (Priority)"),
        ("JobHeldUser", "you hold it: scontrol release 12_3 (JobHeldUser)"),
        ("QOSMaxJobsPerUserLimit", "a limit of the QOS (`qos`) is reached "
         "(QOSMaxJobsPerUserLimit)"),
        ("AssocGrpGRESMinutes", "a limit of your account (`account`) is reached "
         "(AssocGrpGRESMinutes)"),
        ("MaxJobsPerAccount", "a limit of your account (`account`) is reached (MaxJobsPerAccount)"),
        ("ReqNodeNotAvail, UnavailableNodes:n[1-4]",
         "a node that it needs is down, drained or reserved "
         "(ReqNodeNotAvail, UnavailableNodes:n[1-4])"),
        ("launch failed requeued held", "its node could not start it, and Slurm holds it: "
         "scontrol release 12_3 (launch failed requeued held)"),
        ("AWordOfTomorrow", "AWordOfTomorrow"),
    ],
)  # fmt: skip
def test_each_reason_has_words_and_keeps_slurms_own(reason: str, words: str) -> None:
    assert waiting(reason) == words


def test_the_expected_start_is_said_while_it_lies_ahead() -> None:
    tomorrow = time.time() + 86_400
    shown = time.strftime("%Y-%m-%d %H:%M", time.localtime(tomorrow))
    assert waiting("Resources", tomorrow).endswith(f"free nodes (Resources), expected {shown}")
    assert waiting("", tomorrow) == f"expected {shown}"
    assert "expected" not in waiting("Resources", time.time() - 60)


@given(st.text(max_size=40))
def test_no_word_of_slurm_is_lost(reason: str) -> None:
    assert reason.partition(",")[0].strip() in waiting(reason)
