"""Queue against small executables that stand where Slurm's commands do and print what it prints."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local_machine.errors import SlurmError
from slurm.commands import _by_array, available, cancel, config, requeue
from slurm.job_state import OVER, QUEUED, RUNNING, Job, JobState
from slurm.queue import Queue

ME = str(os.getuid())

# Prints rows in the format that its own command line asks for, as the real commands do; says what
# it was called with. `raw` is printed as it is.
FAKE = """#!{python} -SE
import json, os, sys, time
folder, name = {folder!r}, os.path.basename(sys.argv[0])
with open(os.path.join(folder, name + ".calls"), "a") as calls:
    asked = {{k: os.environ.get(k) for k in {watched!r}}}
    calls.write(json.dumps([sys.argv[1:], asked]) + "\\n")
with open(os.path.join(folder, name + ".json")) as file:
    says = json.load(file)
args = sys.argv[1:]
if says.get("hang"):
    os.fork()  # a wrapper's child, which holds the pipes as well
    time.sleep(60)
text = says.get("raw", "")
if name == "squeue" and "--jobs" in args:
    says = says.get("others", {{"rows": []}})
if "--delimiter" in args:
    separator = args[args.index("--delimiter") + 1]
elif "--Format" in args:
    columns = args[args.index("--Format") + 1].split(",")
    kinds = {{c.split(":0", 1)[1] for c in columns}}
    assert len(kinds) == 1
    separator = kinds.pop()
for row in says.get("rows", []):
    text += "".join(cell + separator for cell in row) + "\\n"
sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
sys.stderr.write(says.get("stderr", ""))
sys.stdout.flush()
sys.stderr.flush()
os._exit(says.get("rc", 0))
"""
WATCHED = ["LC_ALL", "SLURM_TIME_FORMAT", "SQUEUE_STATES", "SACCT_FORMAT", "SLURM_BITSTR_LEN"]


class Slurm:
    """A folder on PATH with the fakes in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()

    def says(self, command: str, **what: Any) -> None:
        fake = self.folder / "bin" / command
        if not fake.exists():
            text = FAKE.format(python=sys.executable, folder=str(self.folder), watched=WATCHED)
            fake.write_text(text)
            fake.chmod(0o755)
        (self.folder / f"{command}.json").write_text(json.dumps(what))

    def calls(self, command: str) -> list[tuple[list[str], dict[str, str | None]]]:
        path = self.folder / f"{command}.calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    fakes = Slurm(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    fakes.says("squeue")
    fakes.says("sacct")
    return fakes


def live(job_id: str, state: str = "RUNNING", **over: str) -> list[str]:
    """A row of squeue, as 22.05 printed it."""
    row = {
        "id": job_id, "state": state, "reason": "None", "code": "0", "restarts": "0",
        "nodes": "n1", "start": "1795492002", "end": "1795495602", "limit": "1:00:00",
        "name": "arr", "comment": "(null)", "submitted": "1795492001",
    } | over  # fmt: skip
    return list(row.values())


def past(job_id: str, state: str = "COMPLETED", **over: str) -> list[str]:
    """A row of sacct, as 22.05 printed it."""
    row = {
        "id": job_id, "state": state, "code": "0:0", "user": ME, "nodes": "n1",
        "start": "1795492002", "end": "1795492062", "limit": "60", "name": "arr", "comment": "",
    } | over  # fmt: skip
    return list(row.values())


def test_every_state_is_queued_or_running_or_over_or_neither_and_known() -> None:
    assert not QUEUED & RUNNING and not RUNNING & OVER and not QUEUED & OVER
    assert set(JobState) - QUEUED - RUNNING - OVER == {JobState.UNKNOWN, JobState.REVOKED}
    assert all(state.is_alive != state.is_over for state in JobState)
    for word in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "SUSPENDED", "CONFIGURING",
                 "COMPLETING", "STOPPED", "REVOKED"):  # fmt: skip
        assert JobState(word).is_alive, word


def test_a_state_of_a_later_slurm_is_alive_and_shown_as_it_is() -> None:
    state = JobState("HIBERNATING")
    assert str(state) == "HIBERNATING" == f"{state}"
    assert state.is_alive and not state.is_queued and not state.is_running
    assert pickle.loads(pickle.dumps(state)) == state != JobState.UNKNOWN


def test_one_squeue_and_one_sacct_answer_for_all(slurm: Slurm) -> None:
    slurm.says("squeue", rows=[live("2_0", name="a"), live("2_1", "PENDING", reason="Priority")])
    slurm.says("sacct", rows=[past("2_2"), past("1", "FAILED", code="7:0", limit="UNLIMITED")])
    jobs = Queue().jobs(["2_0", "2_1", "2_2", "1"])
    assert jobs["2_0"] == Job(
        "2_0", JobState.RUNNING, name="a", restarts=0, nodes="n1", start=1795492002.0,
        end=1795495602.0, minutes=60, submitted=1795492001.0,
    )  # fmt: skip
    assert jobs["2_1"] is not None and jobs["2_1"].reason == "Priority"
    assert jobs["2_2"] is not None and (jobs["2_2"].exit_code, jobs["2_2"].minutes) == (0, 60)
    assert jobs["1"] is not None and (jobs["1"].exit_code, jobs["1"].minutes) == (7, None)
    assert len(slurm.calls("squeue")) == len(slurm.calls("sacct")) == 1
    asked = slurm.calls("sacct")[0][0]
    assert asked[asked.index("--jobs") + 1] == "2,1"


def test_what_the_queue_shows_is_not_asked_of_the_accounts(slurm: Slurm) -> None:
    slurm.says("squeue", rows=[live("5"), live("6", "COMPLETING")])
    assert all(Queue().jobs(["5", "6"]).values())
    assert not slurm.calls("sacct")
    assert Queue().jobs([]) == {} and len(slurm.calls("squeue")) == 1


def test_the_throttle(slurm: Slurm) -> None:
    now = [0.0]
    slurm.says("squeue", rows=[live("5")])
    queue = Queue(min_seconds=15, clock=lambda: now[0])
    queue.jobs(["5", "404"])
    slurm.says("squeue", rows=[live("5", "COMPLETING"), live("7")])
    now[0] = 14.9
    before = len(slurm.calls("squeue"))
    five = queue.jobs(["5"])["5"]
    assert five is not None and five.state == "RUNNING"
    assert [job.id for job in queue.mine()] == ["5"]
    assert len(slurm.calls("squeue")) == before
    now[0] = 15.0
    five = queue.jobs(["5"])["5"]
    assert five is not None and five.state == "COMPLETING"
    assert len(slurm.calls("squeue")) == before + 1
    queue.forget()
    queue.mine()
    assert len(slurm.calls("squeue")) == before + 2


def test_a_job_submitted_since_the_last_answer_is_not_called_gone(slurm: Slurm) -> None:
    queue = Queue(clock=lambda: 0.0)
    assert queue.jobs(["5"]) == {"5": None}
    slurm.says("squeue", rows=[live("6", "PENDING")])
    six = queue.jobs(["6"])["6"]
    assert six is not None and six.state.is_queued


def test_how_a_job_ended_is_asked_once_and_what_is_unknown_again(slurm: Slurm) -> None:
    slurm.says("sacct", rows=[past("5", "TIMEOUT")])
    queue = Queue(min_seconds=0)
    for _ in range(3):
        five = queue.jobs(["5"])["5"]
        assert five is not None and five.state == "TIMEOUT"
    assert len(slurm.calls("sacct")) == 1
    slurm.says("sacct", rows=[])
    assert queue.jobs(["6"]) == {"6": None}
    slurm.says("sacct", rows=[past("6", "CANCELLED by 1000", code="0:15")])
    six = queue.jobs(["6"])["6"]
    assert six is not None and (six.state, six.signal) == ("CANCELLED", 15)


def test_a_requeued_job_is_alive_whatever_its_accounts_say(slurm: Slurm) -> None:
    slurm.says("sacct", rows=[past("5", "NODE_FAIL")])
    queue = Queue(min_seconds=0)
    queue.jobs(["5"])
    slurm.says("squeue", rows=[live("5", "PENDING", reason="BeginTime", restarts="2")])
    five = queue.jobs(["5"])["5"]
    assert five is not None and (five.state, five.restarts) == ("PENDING", 2)


def test_accounts_that_were_never_closed_do_not_keep_a_job_alive(slurm: Slurm) -> None:
    slurm.says("sacct", rows=[past("5", "RUNNING", end="Unknown")])
    assert Queue().jobs(["5"]) == {"5": None}


def test_another_users_job_is_asked_of_the_queue_by_id(slurm: Slurm) -> None:
    other = str(os.getuid() + 1)
    ended = past("5", "PREEMPTED", user=other)
    slurm.says("sacct", rows=[ended, past("6", "RUNNING", user=other)])
    slurm.says("squeue", rows=[], others={"rows": [live("5", "REQUEUED")]})
    queue = Queue(min_seconds=0)
    jobs = queue.jobs(["5", "6"])
    assert jobs["5"] is not None and jobs["5"].state == "REQUEUED"
    assert jobs["6"] is not None and jobs["6"].state.is_alive  # hidden from us in the queue
    assert queue.mine() == []
    slurm.says("squeue", rows=[])
    five = queue.jobs(["5"])["5"]
    assert five is not None and five.state == "PREEMPTED"


def test_accounts_that_are_late_do_not_call_another_users_job_gone(slurm: Slurm) -> None:
    slurm.says("squeue", rows=[live("5")], others={"rows": [live("6", "PENDING")]})
    jobs = Queue().jobs(["5", "6", "99"])
    assert jobs["6"] is not None and jobs["6"].state == "PENDING"
    assert jobs["99"] is None
    first, second = (call[0] for call in slurm.calls("squeue"))
    assert first[first.index("--user") + 1] == ME and "--jobs" not in first
    assert second[second.index("--jobs") + 1] == "6,99" and "--user" not in second


def test_an_end_that_only_the_queue_saw_is_remembered(slurm: Slurm) -> None:
    slurm.says("sacct", rc=1, stderr="Slurm accounting storage is disabled\n")
    slurm.says("squeue", rows=[live("5", "FAILED", code="1792"), live("6", "FAILED", code="9")])
    queue = Queue(min_seconds=0)
    assert queue.accounting and queue.note == ""
    jobs = queue.jobs(["5", "6", "7"])
    assert jobs["5"] is not None and (jobs["5"].exit_code, jobs["5"].signal) == (7, 0)
    assert jobs["6"] is not None and (jobs["6"].exit_code, jobs["6"].signal) == (0, 9)
    assert jobs["7"] is None
    assert not queue.accounting and "cannot be known" in queue.note
    slurm.says("squeue", rows=[])
    assert queue.jobs(["5"])["5"] == jobs["5"]
    assert len(slurm.calls("sacct")) == 1


def test_without_sacct_the_queue_alone_answers(slurm: Slurm) -> None:
    (slurm.folder / "bin" / "sacct").unlink()
    error = "slurm_load_jobs error: Invalid job id specified\n"
    slurm.says("squeue", rows=[live("5")], others={"rows": [], "rc": 1, "stderr": error})
    queue = Queue()
    jobs = queue.jobs(["5", "4"])
    assert jobs["5"] is not None and jobs["4"] is None
    assert not queue.accounting


def test_arrays_steps_and_parts(slurm: Slurm) -> None:
    slurm.says("squeue", rows=[live("1_[0-68:2%4]", "PENDING"), live("9+0"), live("9+1")])
    slurm.says(
        "sacct",
        rows=[
            past("2_[1,3,5-7]", "CANCELLED by 0", nodes="None assigned"),
            past("2_0", "FAILED"),
            past("2_0.batch", "FAILED"),
            past("2_4", "NODE_FAIL"),
            past("2_4", "COMPLETED"),
            past("3_[0,2,42,4...]", "CANCELLED"),
            past("4.extern"),
        ],
    )
    ids = ["1_2", "1_3", "1_68", "1_70", "1", "9", "9+1", "2_1", "2_2", "2_6", "2_4", "3_42",
           "3_43", "4"]  # fmt: skip
    states = {key: job and str(job.state) for key, job in Queue().jobs(ids).items()}
    assert states == {
        "1_2": "PENDING", "1_3": None, "1_68": "PENDING", "1_70": None, "1": "PENDING",
        "9": "RUNNING", "9+1": "RUNNING",
        "2_1": "CANCELLED", "2_2": None, "2_6": "CANCELLED", "2_4": "COMPLETED",
        "3_42": "CANCELLED", "3_43": "CANCELLED", "4": None,
    }  # fmt: skip
    two = Queue().jobs(["2_6"])["2_6"]
    assert two is not None and (two.id, two.nodes) == ("2_6", "")


def test_an_arrays_own_id_stands_for_its_liveliest_task(slurm: Slurm) -> None:
    rows = [live("1_0", "FAILED"), live("1_1", "PENDING"), live("1_2"), live("1_3", "FAILED")]
    slurm.says("squeue", rows=rows)
    one = Queue().jobs(["1"])["1"]
    assert one is not None and one.id == "1_2"


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    tasks=st.lists(
        st.tuples(st.integers(0, 4_000_000), st.integers(0, 3_000_000), st.integers(1, 5)),
        min_size=1,
        max_size=4,
    ),
    base=st.integers(1, 2**31),
    asked=st.lists(st.integers(0, 7_000_000), max_size=5),
)
def test_ranges_hold_what_they_say(
    slurm: Slurm, tasks: list[tuple[int, int, int]], base: int, asked: list[int]
) -> None:
    parts = [f"{a}-{a + n}:{step}" if step > 1 else f"{a}-{a + n}" for a, n, step in tasks]
    slurm.says("sacct", rows=[past(f"{base}_[{','.join(parts)}%7]", "CANCELLED")])
    wanted = {*asked, *(a for a, _, _ in tasks), *(a + n for a, n, _ in tasks)}
    for key, job in Queue().jobs([f"{base}_{task}" for task in wanted]).items():
        task = int(key.split("_")[1])
        inside = any(a <= task <= a + n and (task - a) % step == 0 for a, n, step in tasks)
        assert (job is not None) == inside
        assert job is None or job.id == key


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(names=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_names_and_comments_cannot_move_a_column(slurm: Slurm, names: list[str]) -> None:
    texts = [*names, "a|b\n77|RUNNING", "\x1f\x1e", "\n\n", "\"; $(x) '", "CLUSTER: x\n"]
    rows = [live(f"8_{n}", name=text, comment=text) for n, text in enumerate(texts)]
    slurm.says("squeue", rows=rows)
    slurm.says("sacct", rows=[past(f"7_{n}", name=text) for n, text in enumerate(texts)])
    queue = Queue()
    ended = queue.jobs([f"7_{n}" for n in range(len(texts))]).values()
    assert [job and (job.name, str(job.state)) for job in ended] == [
        (text, "COMPLETED") for text in texts
    ]
    assert [(job.id, job.name, job.comment) for job in queue.mine()] == [
        (f"8_{n}", text, "" if text == "(null)" else text) for n, text in enumerate(texts)
    ]


def test_bytes_that_are_no_text_and_clusters_headings(slurm: Slurm) -> None:
    slurm.says("squeue", raw="CLUSTER: a\n", rows=[live("5", name="\udcff")])
    assert [job.name for job in Queue().mine()] == ["\\xff"]


@pytest.mark.parametrize(
    "raw", ["lmod: loaded slurm\n", "\x1b[31mhello\n", "123|RUNNING|x\n", "no newline"]
)
@pytest.mark.parametrize("command", ["squeue", "sacct"])
def test_garbage_is_named_and_nothing_is_taken_for_gone(
    slurm: Slurm, command: str, raw: str
) -> None:
    slurm.says(command, raw=raw)
    with pytest.raises(SlurmError) as caught:
        Queue().jobs(["5"])
    words = raw.strip().replace("\x1b", "?")
    assert command in caught.value.what and words in caught.value.what


def test_garbage_between_rows_and_rows_of_the_wrong_width(slurm: Slurm) -> None:
    slurm.says("squeue", rows=[live("5"), ["oops\n6", *live("6")[1:]]])
    with pytest.raises(SlurmError, match="oops"):
        Queue().jobs(["5"])
    slurm.says("squeue", rows=[live("5"), live("6")[:-1]])
    with pytest.raises(SlurmError, match="not an answer"):
        Queue().jobs(["5"])
    slurm.says("squeue", rows=[live("x5")])
    with pytest.raises(SlurmError, match="x5"):
        Queue().jobs(["5"])


def test_slurms_own_words(slurm: Slurm) -> None:
    slurm.says("squeue", rc=1, stderr="slurm_load_jobs error: Unable to contact controller\n")
    with pytest.raises(SlurmError, match=r"squeue ended with 1: .*Unable to contact") as caught:
        Queue().jobs(["5"])
    assert caught.value.exit_code == 3 and caught.value.help
    slurm.says("squeue")
    slurm.says("sacct", rc=1, stderr="sacct: error: Problem talking to the database: refused\n")
    queue = Queue()
    with pytest.raises(SlurmError, match="Problem talking to the database"):
        queue.jobs(["5"])
    assert queue.accounting
    slurm.says("squeue", rc=1, stderr="squeue: fatal: Could not establish a configuration source")
    with pytest.raises(SlurmError) as caught:
        Queue().mine()
    assert "SLURM_CONF" in caught.value.help


@pytest.mark.parametrize("command", ["squeue", "sacct"])
def test_a_command_that_hangs_is_ended_with_its_children(slurm: Slurm, command: str) -> None:
    slurm.says(command, hang=True)
    begun = time.monotonic()
    with pytest.raises(SlurmError, match=rf"{command} gave no answer in 0\.3 s"):
        Queue(timeout=0.3).jobs(["5"])
    assert time.monotonic() - begun < 10


def test_no_slurm_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not available()
    with pytest.raises(SlurmError, match="no Slurm here: squeue") as caught:
        Queue().mine()
    assert "python -m slurm.dev_cluster up" in caught.value.help
    (tmp_path / "squeue").write_text("not for running")
    with pytest.raises(SlurmError, match="squeue"):
        Queue().mine()


def test_the_environment_of_the_commands(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUEUE_STATES", "RUNNING")
    monkeypatch.setenv("SACCT_FORMAT", "user")
    monkeypatch.setenv("SLURM_TIME_FORMAT", "relative")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    Queue().jobs(["5"])
    for command in ("squeue", "sacct"):
        seen = slurm.calls(command)[0][1]
        assert seen == {
            "LC_ALL": "C", "SLURM_TIME_FORMAT": "%s", "SQUEUE_STATES": None, "SACCT_FORMAT": None,
            "SLURM_BITSTR_LEN": "0",
        }  # fmt: skip


@settings(deadline=None)
@given(text=st.text())
def test_only_a_job_id_reaches_a_command_line(text: str) -> None:
    words = text.replace("_", "").replace("+", "")
    if words.isascii() and words.isdecimal():
        return
    for ask in (lambda: Queue().jobs([text]), lambda: cancel([text]), lambda: requeue(text)):
        with pytest.raises(SlurmError, match="not a valid job id"):
            ask()


@pytest.mark.parametrize("word", ["", "-u", "--all", "5 6", "5\n", "5_", "5_[1-2]", "5_1_2", "٣"])
def test_words_that_are_no_job_id(word: str) -> None:
    with pytest.raises(SlurmError, match="not a valid job id"):
        cancel([word])


@pytest.mark.parametrize(
    ("limit", "minutes"),
    [("1-02:03:04", 1563), ("1:00:00", 60), ("05:00", 5), ("UNLIMITED", None), ("NOT_SET", None)],
)
def test_time_limits(slurm: Slurm, limit: str, minutes: int | None) -> None:
    slurm.says("squeue", rows=[live("5", limit=limit, start="N/A")])
    (job,) = Queue().mine()
    assert (job.minutes, job.start) == (minutes, None)


def test_cancel(slurm: Slurm) -> None:
    slurm.says("scancel")
    cancel([])
    assert not slurm.calls("scancel")
    cancel([f"7_{n}" for n in range(2500)] + ["7_0"])
    asked = [call[0] for call in slurm.calls("scancel")]
    assert asked == [["7_[0-2499]"]]
    line = "scancel: error: Kill job error on job id 7: "
    slurm.says("scancel", rc=1, stderr=f"{line}Invalid job id specified\n")
    cancel(["7"])
    slurm.says("scancel", rc=1, stderr=f"{line}Invalid job id specified\n{line}Access denied\n")
    with pytest.raises(SlurmError, match="Access denied"):
        cancel(["7"])
    slurm.says("scancel", rc=1)
    with pytest.raises(SlurmError, match="said nothing"):
        cancel(["7"])


@given(st.lists(st.tuples(st.integers(1, 3), st.none() | st.integers(0, 20)), min_size=1))
def test_tasks_are_gathered_by_array_and_none_is_lost_or_added(
    given: list[tuple[int, int | None]],
) -> None:
    ids = [str(base) if task is None else f"{base}_{task}" for base, task in given]
    words = _by_array(list(dict.fromkeys(ids)))
    assert len(words) == len({base for base, _ in given})
    found = set()
    for word in words:
        base, _, tasks = word.partition("_")
        runs = (run.split("-") for run in tasks.strip("[]").split(",") if run)
        numbers = {n for run in runs for n in range(int(run[0]), int(run[-1]) + 1)}
        found |= {f"{base}_{n}" for n in numbers} if tasks else {base}
    whole = {one for one in ids if "_" not in one}
    assert found == whole | {one for one in ids if one.partition("_")[0] not in whole}


def test_available_needs_sbatch_and_a_cluster_to_send_to(
    slurm: Slurm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("slurm.commands.CONFIGURATIONS", (tmp_path / "slurm.conf",))
    monkeypatch.setenv("SLURM_CONF", "x")
    assert not available()
    slurm.says("sbatch")
    assert available()
    monkeypatch.delenv("SLURM_CONF")
    assert not available()  # Debian's packages without a cluster
    (tmp_path / "slurm.conf").write_text("")
    assert available()


def test_requeue(slurm: Slurm) -> None:
    slurm.says("scontrol")
    requeue("7_1")
    assert slurm.calls("scontrol")[0][0] == ["requeue", "7_1"]
    slurm.says("scontrol", rc=1, stderr="Invalid job id specified for job 7_1\n")
    with pytest.raises(SlurmError, match="scontrol ended with 1: Invalid job id"):
        requeue("7_1")


def test_config(slurm: Slurm) -> None:
    slurm.says(
        "scontrol",
        raw="Configuration data as of 2026-11-24T03:47:00\n"
        "AccountingStorageBackupHost = (null)\n"
        "AuthInfo                = cred_expire=5,socket=/x\n"
        "MaxArraySize            = 1001\n"
        "PreemptMode             = REQUEUE\n"
        "SLURM_VERSION           = 22.05.8\n"
        "\nCgroup Support Configuration:\nMaxArraySize            = other\n"
        "\nSlurmctld(primary) at vm is UP\n",
    )
    settings = config()
    assert settings["MaxArraySize"] == "1001" and settings["AuthInfo"] == "cred_expire=5,socket=/x"
    assert settings["AccountingStorageBackupHost"] == "" and settings["PreemptMode"] == "REQUEUE"
    slurm.says("scontrol", raw="welcome = you\n")
    with pytest.raises(SlurmError, match="welcome"):
        config()


def test_an_interruption_as_a_command_ends_is_still_one(
    slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = subprocess.Popen.communicate

    def interrupted(process: Any, *args: Any, **words: Any) -> Any:
        whole(process, *args, **words)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Queue().jobs(["1"])
