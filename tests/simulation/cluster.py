"""A simulated Slurm: a controller that queues, starts, requeues and forgets jobs, and its accounts.

`slurm_commands` is how our code talks to it. The controller may take a node for dead whose
processes live on, lose its latest jobs and give their numbers again, or not answer.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from simulation.machine.hosts import Host, Process
from simulation.machine.scheduler import Scheduler

# For how long squeue still shows what has ended (MinJobAge), and Slurm's KillWait.
KEPT_SECONDS = 300.0
KILL_SECONDS = 30.0
WARNED_SECONDS = 90.0
NAME = "sim"


@dataclass
class Job:
    """A job, or a task of an array."""

    number: int
    array: int | None
    task: int
    name: str
    comment: str
    words: tuple[str, ...]
    seconds: float
    """Its time limit."""
    submitted: float
    state: str = "PENDING"
    code: int = 0
    """As wait() gives it."""
    restarts: int = 0
    start: float | None = None
    end: float | None = None
    host: Host | None = None
    process: Process | None = None
    after: str = ""
    """The state that it gets when its process has ended; "" for what the exit code says."""
    forgotten: bool = False
    history: list[tuple[float, str, int]] = field(default_factory=list)
    """When which state began, with which code, for the accounts."""

    @property
    def id(self) -> str:
        return str(self.number) if self.array is None else f"{self.array}_{self.task}"

    @property
    def base(self) -> str:
        return self.id.partition("_")[0]


class Cluster:
    def __init__(
        self,
        scheduler: Scheduler,
        nodes: Sequence[Host],
        seed: int,
        start: Callable[[Host, Job], Process],
        *,
        accounts: str,
    ) -> None:
        """`start` makes the process of a job on a host; `accounts` is "on", "late" or "off"."""
        self.scheduler = scheduler
        self.nodes = nodes
        self.accounts = accounts
        self.jobs: list[Job] = []
        self.away = -1.0
        """Until when the controller does not answer."""
        self._start_process = start
        self._random = Random(f"cluster {seed}")
        self._next = 1

    @property
    def now(self) -> float:
        return self.scheduler.now

    def submit(
        self, name: str, comment: str, words: tuple[str, ...], tasks: int, seconds: float
    ) -> list[Job]:
        first = self._next
        self._next += tasks
        made = []
        for task in range(tasks):
            array = first if tasks > 1 else None
            job = Job(first + task, array, task, name, comment, words, seconds, self.now)
            self._becomes(job, "PENDING")
            self._soon(job)
            made.append(job)
        self.jobs += made
        return made

    def _becomes(self, job: Job, state: str) -> None:
        job.state = state
        job.history.append((self.now, state, job.code))
        self.scheduler.note(f"job {job.id} is {state}")

    def _soon(self, job: Job) -> None:
        """Start the job before long."""
        waits = self._random.choice((1.0, 5.0, 60.0)) * self._random.uniform(0.2, 2.0)
        self.scheduler.at(self.now + waits, lambda: self._try(job))

    def _try(self, job: Job) -> None:
        if job.state != "PENDING" or job.forgotten:
            return
        free = [node for node in self.nodes if node.up]
        if not free or self.away > self.now:
            self._soon(job)
            return
        job.host, job.start, job.end = self._random.choice(free), self.now, None
        job.after, job.code = "", 0
        self._becomes(job, "RUNNING")
        process = job.process = self._start_process(job.host, job)
        process.on_end.append(lambda: self._ended(job, process))
        self.scheduler.at(
            self.now + max(1.0, job.seconds - WARNED_SECONDS),
            lambda: self._signal(job, process, signal.SIGUSR2),
        )
        self.scheduler.at(self.now + job.seconds, lambda: self._stop(job, process, "TIMEOUT"))

    def _signal(self, job: Job, process: Process, number: int) -> None:
        if job.process is process and job.state == "RUNNING":
            process.send(number)

    def _stop(self, job: Job, process: Process | None, after: str) -> None:
        """End what a running job runs; then the job gets the state."""
        if process is None or job.process is not process or not process.alive:
            return
        if job.state == "RUNNING":
            job.after = after
            self._becomes(job, "COMPLETING")
        process.send(signal.SIGCONT)
        process.send(signal.SIGTERM)
        self.scheduler.at(self.now + KILL_SECONDS, lambda: process.send(signal.SIGKILL))

    def _ended(self, job: Job, process: Process) -> None:
        """A process of the job has ended: what the controller makes of it, once it hears of it."""
        if job.process is not process:
            return  # of a start that the controller has given up
        code = process.code or 0
        job.code = -code if code < 0 else code << 8
        if not process.host.up:
            return  # nobody tells of it: see `node_lost`
        if job.state == "RUNNING":
            self._becomes(job, "COMPLETING")
        waits = self._random.uniform(0.1, 3.0)
        self.scheduler.at(self.now + waits, lambda: self._over(job, process))

    def _over(self, job: Job, process: Process) -> None:
        if job.process is not process or job.state != "COMPLETING":
            return
        job.end = self.now
        if job.after == "PENDING":
            self._again(job)
            return
        state = job.after or ("COMPLETED" if job.code == 0 else "FAILED")
        self._becomes(job, state)

    def _again(self, job: Job) -> None:
        """Back into the queue."""
        job.restarts += 1
        job.process, job.submitted = None, self.now
        self._becomes(job, "PENDING")
        self._soon(job)

    # What users ask for

    def cancel(self, job: Job) -> None:
        if job.state == "PENDING":
            job.end = self.now
            self._becomes(job, "CANCELLED")
        elif job.state == "RUNNING":
            self._stop(job, job.process, "CANCELLED")
        elif job.state == "COMPLETING":
            job.after = "CANCELLED"

    def requeue(self, job: Job) -> bool:
        if job.state != "RUNNING":
            return False
        self._stop(job, job.process, "PENDING")
        return True

    def find(self, one: str) -> list[Job]:
        """The jobs that an id names; the latest where a number was given twice."""
        known = [job for job in self.jobs if not job.forgotten]
        exact = [job for job in known if job.id == one]
        return exact[-1:] or [job for job in known if job.base == one]

    # What goes wrong

    def preempt(self, random: Random) -> None:
        running = [job for job in self.jobs if job.state == "RUNNING"]
        if running:
            job = random.choice(running)
            self._stop(job, job.process, "PENDING")

    def node_lost(self, host: Host, random: Random) -> None:
        """The controller takes a node for dead: its jobs start again elsewhere. What runs there
        runs on until the node's own daemon hears of it."""
        for job in self.jobs:
            if job.host is host and job.state in ("RUNNING", "COMPLETING") and job.process:
                old = job.process
                self._becomes(job, "NODE_FAIL")
                lives = 10 ** random.uniform(0, 3)
                self.scheduler.at(self.now + lives, lambda old=old: old.send(signal.SIGKILL))
                if job.after in ("", "PENDING"):
                    self._again(job)
                else:
                    job.end, job.process = self.now, None
                    self._becomes(job, job.after)

    def node_crashed(self, host: Host, random: Random) -> None:
        """A node is down, which the controller notices some time later."""
        waits = random.uniform(10, 300)
        boots = host.boots

        def notice() -> None:
            lost = [
                job for job in self.jobs
                if job.host is host and job.process is not None and not job.process.alive
                and job.state in ("RUNNING", "COMPLETING") and host.boots >= boots
            ]  # fmt: skip
            for job in lost:
                job.code = 0
                if job.after in ("", "PENDING"):
                    self._becomes(job, "NODE_FAIL")
                    self._again(job)
                else:
                    job.end, job.process = self.now, None
                    self._becomes(job, job.after)

        self.scheduler.at(self.now + waits, notice)

    def forget_latest(self, random: Random) -> None:
        """The controller comes back with an older state: it knows nothing of its latest jobs, ends
        what runs of them, and gives their numbers again."""
        since = self.now - 10 ** random.uniform(0, 2.5)
        lost = [job for job in self.jobs if job.history[0][0] > since and not job.forgotten]
        for job in lost:
            job.forgotten = True
            self.scheduler.note(f"job {job.id} is forgotten")
            if job.process is not None:
                job.process.send(signal.SIGKILL)
        if lost:
            self._next = min(job.array or job.number for job in lost)

    def go_away(self, random: Random) -> None:
        self.away = self.now + 10 ** random.uniform(0, 2.5)
