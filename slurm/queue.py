"""Queue: what Slurm says of jobs, through one throttled squeue and at most one sacct for all.

queue = Queue()
for id, job in queue.jobs(["1201_0", "1201_1", "1300"]).items():
    print(id, "unknown to Slurm" if job is None else job.state)
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from slurm import environment
from slurm.environment import Child
from trial_records.errors import SlurmError

SECONDS = 30.0
"""How long a command of Slurm may take."""
# fmt: off
SQUEUE_COLUMNS = (
    "JobArrayID", "State", "Reason", "exit_code", "RestartCnt", "NodeList", "StartTime", "EndTime",
    "TimeLimit", "Name", "Comment", "SubmitTime",
)
SACCT_COLUMNS = (
    "JobID", "State", "ExitCode", "UID", "NodeList", "Start", "End", "TimelimitRaw", "JobName",
    "Comment",
)
# fmt: on
CONFIGURATIONS = (Path("/etc/slurm/slurm.conf"), Path("/run/slurm/conf/slurm.conf"))
"""Where Slurm looks for its configuration, and where it keeps one that it was sent."""
MANY = 1000
"""Ids on one command line; a single word of it may have 128 KiB."""

ID = re.compile(r"(\d+)(?:_\d+|\+\d+)?", re.ASCII)
# 12, 12_3, 12+1 (a part of a heterogeneous job), 12_[1,4-9:2%5], cut short 12_[1,4...]; with a
# step: 12.batch.
ROW = re.compile(r"(\d+)(?:_\d+|\+\d+|_\[([0-9,:-]*)(\.\.\.)?(?:%\d+)?\]?)?(\.\w+)?", re.ASCII)
TASKS = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?", re.ASCII)


class JobState(StrEnum):
    """Slurm's states, and the flags that it shows in their place (its job_state_codes page).

    A word that is not among them makes a state too, shown as it is, and alive: what we do not
    understand must not end a job in our books.
    """

    BOOT_FAIL = "BOOT_FAIL"
    CANCELLED = "CANCELLED"
    COMPLETED = "COMPLETED"
    COMPLETING = "COMPLETING"
    CONFIGURING = "CONFIGURING"
    DEADLINE = "DEADLINE"
    EXPEDITING = "EXPEDITING"
    FAILED = "FAILED"
    LAUNCH_FAILED = "LAUNCH_FAILED"
    NODE_FAIL = "NODE_FAIL"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    PENDING = "PENDING"
    POWER_UP_NODE = "POWER_UP_NODE"
    PREEMPTED = "PREEMPTED"
    RECONFIG_FAIL = "RECONFIG_FAIL"
    REQUEUED = "REQUEUED"
    REQUEUE_FED = "REQUEUE_FED"
    REQUEUE_HOLD = "REQUEUE_HOLD"
    RESIZING = "RESIZING"
    RESV_DEL_HOLD = "RESV_DEL_HOLD"
    REVOKED = "REVOKED"
    RUNNING = "RUNNING"
    SIGNALING = "SIGNALING"
    SPECIAL_EXIT = "SPECIAL_EXIT"
    STAGE_OUT = "STAGE_OUT"
    STOPPED = "STOPPED"
    SUSPENDED = "SUSPENDED"
    TIMEOUT = "TIMEOUT"
    UNKNOWN = "UNKNOWN"
    UPDATE_DB = "UPDATE_DB"

    @classmethod
    def _missing_(cls, value: object) -> JobState:
        state = str.__new__(cls, str(value))
        state._name_, state._value_ = "UNKNOWN", str(value)
        return state

    @property
    def is_queued(self) -> bool:
        """Waits for nodes: pending, held, or on its way back into the queue."""
        return self in QUEUED

    @property
    def is_running(self) -> bool:
        """Holds nodes, whether or not its processes run at this moment."""
        return self in RUNNING

    @property
    def is_over(self) -> bool:
        """Ended, and Slurm will not start it again by itself."""
        return self in OVER

    @property
    def is_alive(self) -> bool:
        """May still run."""
        return not self.is_over


# LAUNCH_FAILED and RECONFIG_FAIL are flags that stand until the job is requeued or gets its last
# state. REVOKED says that a federated job runs on another cluster. None of them is an end.
QUEUED = frozenset(
    {
        JobState.EXPEDITING,
        JobState.LAUNCH_FAILED,
        JobState.PENDING,
        JobState.RECONFIG_FAIL,
        JobState.REQUEUED,
        JobState.REQUEUE_FED,
        JobState.REQUEUE_HOLD,
        JobState.RESV_DEL_HOLD,
        JobState.SPECIAL_EXIT,
    }
)
RUNNING = frozenset(
    {
        JobState.COMPLETING,
        JobState.CONFIGURING,
        JobState.POWER_UP_NODE,
        JobState.RESIZING,
        JobState.RUNNING,
        JobState.SIGNALING,
        JobState.STAGE_OUT,
        JobState.STOPPED,
        JobState.SUSPENDED,
        JobState.UPDATE_DB,
    }
)
OVER = frozenset(
    {
        JobState.BOOT_FAIL,
        JobState.CANCELLED,
        JobState.COMPLETED,
        JobState.DEADLINE,
        JobState.FAILED,
        JobState.NODE_FAIL,
        JobState.OUT_OF_MEMORY,
        JobState.PREEMPTED,
        JobState.TIMEOUT,
    }
)


@dataclass(frozen=True)
class Job:
    """A job, or one task of an array, as Slurm last told of it."""

    id: str
    """As "123", as "123_4" in an array, as "123+1" in a heterogeneous job."""
    state: JobState
    reason: str = ""
    """Why it waits or how it failed, in Slurm's word; empty from accounting."""
    comment: str = ""
    """Empty from accounting, unless the cluster keeps comments (AccountingStoreFlags)."""
    name: str = ""
    exit_code: int | None = None
    """What its batch script ended with; None while it is alive."""
    signal: int | None = None
    """The signal that ended it, 0 for none; None while it is alive."""
    restarts: int | None = None
    """How often it was requeued; None from accounting."""
    nodes: str = ""
    """Slurm's expression, such as "n[1-2]"; empty before it has any."""
    start: float | None = None
    """When it started or is expected to, in seconds since 1970."""
    end: float | None = None
    """When it ended, or must."""
    minutes: int | None = None
    """Its time limit; None for none."""
    submitted: float | None = None
    """When it was sent, or put back into the queue; None from accounting."""


class Queue:
    """The scheduler's answers about jobs, asked for at most once in `min_seconds`.

    One squeue tells of all of this user's jobs; one sacct tells of those that squeue has forgotten
    (it does after MinJobAge, 300 s). How a job ended is asked once. A second squeue looks for ids
    that may be other users' jobs: their accounts say so, or there are no accounts of them.

    Every method raises SlurmError where a command is missing, fails, hangs or prints what is no
    answer; nothing is then taken for gone.
    """

    def __init__(
        self,
        *,
        min_seconds: float = 15,
        timeout: float = SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.min_seconds = min_seconds
        self.timeout = timeout
        self.clock = clock
        self.accounting = True
        """False once sacct has been seen to be missing or to keep nothing."""
        self._asked: float | None = None
        self._mine = _Answer()
        self._ended: dict[str, Job] = {}
        # What else was asked since the last squeue; None where nothing is known.
        self._rest: dict[str, Job | None] = {}

    @property
    def note(self) -> str:
        """What a reader of the answers has to know; empty where there is nothing."""
        if self.accounting:
            return ""
        return (
            "this cluster keeps no accounts (sacct): how a job ended that squeue no longer shows "
            "cannot be known"
        )

    def jobs(self, ids: Iterable[str]) -> dict[str, Job | None]:
        """The job of each id; None where Slurm knows no such job any more.

        An array's own id stands for its liveliest task, a heterogeneous job's for its liveliest
        part. An id that was never asked for is asked for at once, so that no job is called gone by
        an answer that is older than the job. Another user's job is seen where the cluster shows it.
        """
        wanted = list(dict.fromkeys(ids))
        for one in wanted:
            _check_id(one)
        if not wanted:
            return {}
        if self._stale() or not all(self._is_known(one) for one in wanted):
            self._ask()
        missing = [one for one in wanted if not self._is_known(one)]
        if missing:
            theirs = self._ask_accounts(missing) if self.accounting else missing
            if theirs:
                self._ask_others(theirs)
        return {one: self._known(one) for one in wanted}

    def mine(self) -> list[Job]:
        """This user's jobs in the queue, with those that ended within MinJobAge (300 s)."""
        if self._stale():
            self._ask()
        return list(self._mine.rows)

    def forget(self) -> None:
        """Ask anew at the next question, however soon it comes: after submitting, or cancelling."""
        self._asked = None

    def _stale(self) -> bool:
        return self._asked is None or self.clock() - self._asked >= self.min_seconds

    def _is_known(self, one: str) -> bool:
        return self._known(one) is not None or one in self._rest

    def _known(self, one: str) -> Job | None:
        # The queue goes first: a job that was requeued has an end in the accounts too.
        return self._mine.find(one) or self._ended.get(one) or self._rest.get(one)

    def _ask(self) -> None:
        mine = self._squeue("--user", str(os.getuid()))
        # Without accounts, what squeue shows for some minutes after the end is all there will be.
        for job in self._mine.rows:
            if job.state.is_over:
                self._ended[job.id] = job
        self._mine, self._rest, self._asked = mine, {}, self.clock()

    def _ask_others(self, ids: list[str]) -> None:
        """Jobs that may be another user's: the queue knows better than the accounts, again."""
        found = _Answer()
        for batch in _batches(_bases(ids)):
            for job in self._squeue("--jobs", ",".join(batch)).rows:
                found.add(job)
        for one in ids:
            self._rest[one] = found.find(one) or self._rest.get(one)

    def _squeue(self, *which: str) -> _Answer:
        separator = _separator()
        # Width 0 cuts nothing short. Ended jobs and hidden partitions are wanted too.
        columns = ",".join(f"{column}:0{separator}" for column in SQUEUE_COLUMNS)
        command = ["squeue", "--noheader", "--all", "--array", "--states=all", *which]
        done = run_slurm([*command, "--Format", columns], self.timeout)
        if done.returncode and "Invalid job id" not in done.stderr:
            raise _failed("squeue", done)
        answer = _Answer()
        for row in _rows("squeue", done.stdout, separator, len(SQUEUE_COLUMNS)):
            one, state, reason, code, restarts, nodes, start, end, limit, name, comment, sent = row
            answer.add(
                replace(
                    _job("squeue", one, state, code),
                    reason="" if reason == "None" else reason,
                    restarts=int(restarts) if restarts.isdecimal() else None,
                    nodes=nodes,
                    start=_time(start),
                    end=_time(end),
                    minutes=_minutes(limit),
                    name=name,
                    comment="" if comment == "(null)" else comment,
                    submitted=_time(sent),
                )
            )
        return answer

    def _ask_accounts(self, ids: list[str]) -> list[str]:
        """How jobs ended that squeue no longer shows; the ids that may be another user's.

        An id without an account is one of them: accounts come some seconds late.
        """
        separator = _separator()
        found, ours = _Answer(), set()
        for batch in _batches(_bases(ids)):
            command = ["sacct", "--allocations", "--noheader", "--parsable"]
            command += ["--delimiter", separator, "--format", ",".join(SACCT_COLUMNS)]
            try:
                done = run_slurm([*command, "--jobs", ",".join(batch)], self.timeout)
            except _MissingError:
                self.accounting = False
                return ids
            if "accounting storage is disabled" in (done.stderr + done.stdout).lower():
                self.accounting = False
                return ids
            if done.returncode:
                raise _failed("sacct", done)
            for row in _rows("sacct", done.stdout, separator, len(SACCT_COLUMNS)):
                one, state, code, user, nodes, start, end, limit, name, comment = row
                if (match := ROW.fullmatch(one)) and match[4]:
                    continue
                job = replace(
                    _job("sacct", one, state, code),
                    nodes="" if nodes == "None assigned" else nodes,
                    start=_time(start),
                    end=_time(end),
                    minutes=int(limit) if limit.isdecimal() else None,
                    name=name,
                    comment=comment,
                )
                if user == str(os.getuid()):
                    ours |= set(_bases([one]))
                    if job.state.is_alive:
                        # squeue has just shown all of ours that live: this account is late, or
                        # was never closed (a "runaway" job).
                        continue
                found.add(job)
        for one in ids:
            known = self._rest[one] = found.find(one)
            if known is not None and known.state.is_over and _bases([one])[0] in ours:
                self._ended[one] = known
        return [one for one in ids if _bases([one])[0] not in ours]


def cancel(ids: Iterable[str], *, timeout: float = SECONDS) -> None:
    """Cancel jobs, tasks or whole arrays; those that have ended already are no error.

    Raises SlurmError as Queue does.
    """
    wanted = list(dict.fromkeys(ids))
    for one in wanted:
        _check_id(one)
    for batch in _batches(wanted):
        done = run_slurm(["scancel", *batch], timeout)
        words = [line for line in done.stderr.splitlines() if line.strip()]
        ended = ("Invalid job id", "already completing or completed")
        if done.returncode and not (
            words and all(any(word in line for word in ended) for line in words)
        ):
            raise _failed("scancel", done)


def requeue(id: str, *, timeout: float = SECONDS) -> None:
    """Put a job back into the queue. Raises SlurmError as Queue does, and where it is unknown."""
    _check_id(id)
    done = run_slurm(["scontrol", "requeue", id], timeout)
    if done.returncode:
        raise _failed("scontrol", done)


def describe(id: str, *, name: str, comment: str, timeout: float = SECONDS) -> None:
    """Give a job, or one task of an array, a name and a comment of its own.

    Raises SlurmError where Slurm refuses.
    """
    _check_id(id)
    command = ["scontrol", "update", f"JobId={id}", f"JobName={name}", f"Comment={comment}"]
    done = run_slurm(command, timeout)
    if done.returncode:
        raise _failed("scontrol update", done)


def config(*, timeout: float = SECONDS) -> dict[str, str]:
    """Slurm's configuration, such as MaxArraySize, PreemptMode, JobRequeue, SLURM_VERSION.

    Values are Slurm's own text; "" where it has none. Raises SlurmError as Queue does.
    """
    done = run_slurm(["scontrol", "show", "config"], timeout)
    if done.returncode:
        raise _failed("scontrol", done)
    pairs = (line.partition("=") for line in done.stdout.splitlines() if "=" in line)
    settings: dict[str, str] = {}
    for key, _, value in pairs:
        # The sections on plugins come last and must not hide Slurm's own settings.
        settings.setdefault(key.strip(), "" if value.strip() == "(null)" else value.strip())
    if "SLURM_VERSION" not in settings:
        raise _garbage("scontrol", (done.stdout.splitlines() or [""])[0])
    return settings


def available() -> bool:
    """Whether jobs can be submitted from here: sbatch is installed and knows of a cluster."""
    configured = "SLURM_CONF" in os.environ or any(path.exists() for path in CONFIGURATIONS)
    return configured and shutil.which("sbatch") is not None


class _MissingError(SlurmError):
    """The command is not on the PATH."""


class _Answer:
    """The rows of one answer, found by id."""

    def __init__(self) -> None:
        self.rows: list[Job] = []
        self._by_id: dict[str, Job] = {}
        self._by_base: dict[str, list[Job]] = {}
        self._ranges: dict[str, list[tuple[list[range], bool, Job]]] = {}

    def add(self, job: Job) -> None:
        match = ROW.fullmatch(job.id)
        assert match is not None, job.id
        base, tasks, cut, _ = match.groups()
        self.rows.append(job)
        self._by_base.setdefault(base, []).append(job)
        if tasks is None:
            self._by_id[job.id] = job  # of two, as after a requeue, the later row is the newer one
        else:
            # A list that was cut short may end inside a number, whose rest is then unknown too.
            ranges = _ranges(tasks.rpartition(",")[0] if cut else tasks)
            self._ranges.setdefault(base, []).append((ranges, bool(cut), job))

    def find(self, id: str) -> Job | None:
        if (job := self._by_id.get(id)) is not None:
            return job
        base, _, task = id.partition("_")
        if not task:
            family = self._by_base.get(id, [])
            return max(family, key=_liveliness, default=None)
        rows = self._ranges.get(base, [])
        for ranges, _, job in rows:
            if any(int(task) in tasks for tasks in ranges):
                return replace(job, id=id)
        # It may stand in the part that was cut off: better alive by mistake than gone.
        return next((replace(job, id=id) for _, cut, job in rows if cut), None)


def _liveliness(job: Job) -> tuple[bool, bool]:
    return job.state.is_alive, job.state.is_running


def _ranges(tasks: str) -> list[range]:
    """Tasks such as "1,4-9:2" as ranges, which take no room however long they are."""
    found = []
    for part in filter(None, tasks.split(",")):
        if (match := TASKS.fullmatch(part)) is None:
            raise _garbage("squeue", tasks)
        first, last, step = match.groups()
        found.append(range(int(first), int(last or first) + 1, max(1, int(step or 1))))
    return found


def _bases(ids: list[str]) -> list[str]:
    return list(dict.fromkeys(match[1] for one in ids if (match := ID.match(one))))


def _batches(ids: list[str]) -> Iterator[list[str]]:
    return (ids[at : at + MANY] for at in range(0, len(ids), MANY))


def _check_id(id: str) -> None:
    if not ID.fullmatch(id):
        raise SlurmError(f"{id!r} is no job id", "a job id is 123, or 123_4 for a task of an array")


def _separator() -> str:
    """Drawn anew for each question, so that no name or comment can hold it.

    It begins with no digit, which squeue would take for a width.
    """
    return "\x1f" + secrets.token_hex(6) + "\x1e"


def _rows(command: str, text: str, separator: str, width: int) -> Iterator[list[str]]:
    """The rows of an answer in which every field is followed by the separator.

    Fields may have line breaks, in which case the lines of the answer are not its rows.
    """
    cells = text.split(separator)
    rest = cells.pop()
    for at in range(0, len(cells), width):
        row = cells[at : at + width]
        # Between rows stands a line break and, where several clusters are asked, a heading.
        *between, row[0] = row[0].split("\n")
        for line in between:
            if line.strip() and not line.startswith("CLUSTER: "):
                raise _garbage(command, line)
        if len(row) < width or not ROW.fullmatch(row[0]):
            raise _garbage(command, " ".join(row))
        yield row
    for line in rest.splitlines():
        if line.strip() and not line.startswith("CLUSTER: "):
            raise _garbage(command, line)


def _job(command: str, id: str, state: str, code: str) -> Job:
    # "CANCELLED by 1000" names the user; sacct cuts a word with "+" where its column is narrow.
    word = state.split(" ", 1)[0].rstrip("+")
    if not word:
        raise _garbage(command, f"{id} {state}")
    known = JobState(word)
    if known.is_alive:
        return Job(id, known)
    if match := re.fullmatch(r"(\d+):(\d+)", code, re.ASCII):
        return Job(id, known, exit_code=int(match[1]), signal=int(match[2]))
    if code.isdecimal():  # squeue gives the status that wait() gave
        return Job(id, known, exit_code=int(code) >> 8, signal=int(code) & 0x7F)
    return Job(id, known)


def _time(text: str) -> float | None:
    return float(text) if text.isdecimal() else None


def _minutes(text: str) -> int | None:
    """squeue's [[DAYS-]HOURS:]MINUTES:SECONDS."""
    match = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):)?(\d+):\d+", text, re.ASCII)
    if match is None:
        return None
    days, hours, minutes = (int(part or 0) for part in match.groups())
    return (days * 24 + hours) * 60 + minutes


def run_slurm(
    command: list[str], timeout: float = SECONDS, child: Child = Child.SLURM
) -> subprocess.CompletedProcess[str]:
    """A command of Slurm, in an environment that changes nothing of what it does or prints.

    Raises SlurmError where it is missing, cannot be run or gives no answer.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment.built(child),
            process_group=0,
        )
    except FileNotFoundError:
        raise _MissingError(
            f"no Slurm here: {command[0]} is not on the PATH",
            "load the cluster's Slurm, or try one on this machine: python -m slurm.dev_cluster up",
        ) from None
    except OSError as error:
        raise SlurmError(
            f"{command[0]} cannot be run: {error.strerror}", "see what `which` says it is"
        ) from None
    try:
        out, err = process.communicate(timeout=timeout)
    except BaseException as error:
        # The whole group: a cluster's wrapper around the command has children that hold our pipes.
        # It may have ended by itself just now: that must not take the interruption's place.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        raise SlurmError(
            f"{command[0]} gave no answer in {timeout:g} s",
            "the controller may be busy or away (scontrol ping): try again in a minute",
        ) from None
    # Not by Popen, which would also change the line breaks inside of names.
    texts = (raw.decode("utf-8", "backslashreplace") for raw in (out, err))
    return subprocess.CompletedProcess(command, process.returncode, *texts)


def _failed(command: str, done: subprocess.CompletedProcess[str]) -> SlurmError:
    words = _plain(done.stderr or done.stdout) or "it said nothing"
    if "configuration source" in words:
        advice = "export SLURM_CONF=FILE, the slurm.conf of the cluster"
    else:
        advice = f"these are Slurm's words; try `{command}` by hand, or again in a minute"
    return SlurmError(f"{command} ended with {done.returncode}: {words}", advice)


def _garbage(command: str, line: str) -> SlurmError:
    return SlurmError(
        f"{command} printed a line that is no answer: {_plain(line)!r}",
        f"try `{command}` by hand: a wrapper around it may print words of its own",
    )


def _plain(text: str) -> str:
    """One short line for an error: the last words, which say why, and nothing that a terminal
    obeys."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    line = "; ".join([line for line in lines if line][-3:])
    return "".join(char if char.isprintable() else "?" for char in line)[:300]
