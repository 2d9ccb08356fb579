"""Queue: what Slurm says of jobs, through one throttled squeue and at most one sacct for all.

queue = Queue()
for id, job in queue.jobs(["1201_0", "1201_1", "1300"]).items():
    print(id, "unknown to Slurm" if job is None else job.state)
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from local_machine import clock
from slurm.commands import (
    ID,
    SECONDS,
    _batches,
    _check_id,
    _failed,
    _garbage,
    _MissingError,
    run_slurm,
)
from slurm.job_state import Job, JobState

# fmt: off
SQUEUE_COLUMNS = (
    "JobArrayID", "State", "Reason", "exit_code", "RestartCnt", "NodeList", "StartTime", "EndTime",
    "TimeLimit", "Name", "Comment", "SubmitTime",
)
SACCT_COLUMNS = (
    "JobID", "State", "ExitCode", "UID", "NodeList", "Start", "End", "TimelimitRaw", "JobName",
    "Comment",
)
# 12, 12_3, 12+1 (a part of a heterogeneous job), 12_[1,4-9:2%5], cut short 12_[1,4...]; with a
# step: 12.batch.
ROW = re.compile(r"(\d+)(?:_\d+|\+\d+|_\[([0-9,:-]*)(\.\.\.)?(?:%\d+)?\]?)?(\.\w+)?", re.ASCII)
TASKS = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?", re.ASCII)


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
        clock: Callable[[], float] = clock.monotonic,
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
        """Ask again at the next question, however soon it comes: after submitting or cancelling."""
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


def _separator() -> str:
    """Drawn again for each question, so that no name or comment can hold it.

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
