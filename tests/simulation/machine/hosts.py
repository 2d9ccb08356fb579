"""Hosts and their processes: numbers, boots, signals, parents and children, how each ends."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from simulation.machine.filesystem import Node
from simulation.machine.mount import Mount
from simulation.machine.scheduler import GoneError, Scheduler, Thread

Body = Callable[[], int | None]


@dataclass
class Open:
    """A file that a process has open."""

    process: Process
    node: Node
    path: str
    writes: bool
    appends: bool
    at: int = 0


@dataclass
class Host:
    """A machine. Two may share a name; `machine` tells them apart."""

    name: str
    machine: str
    mount: Mount
    offset: float = 0.0
    """By how many seconds its clock is wrong."""
    hides: bool = False
    """Whether a process sees no others (hidepid)."""
    boots: int = 1
    up: bool = True
    processes: dict[int, Process] = field(default_factory=dict)
    first_number: int = 100
    disk: dict[str, float] = field(default_factory=dict)
    """Until when it is `full`, `readonly`, or gives `eio`."""
    disturbed: float = -1.0
    """Until when a reader here may have met an error of the disk."""

    @property
    def boot(self) -> str:
        return f"boot-{self.machine}-{self.boots}/pid:[4026531836]"

    def disk_error(self, writes: bool, now: float) -> int:
        for word, code, all_calls in (
            ("full", errno.ENOSPC, False),
            ("readonly", errno.EROFS, False),
            ("eio", errno.EIO, True),
        ):
            if self.disk.get(word, -1.0) > now and (writes or all_calls):
                return code
        return 0

    def number(self) -> int:
        """For a new process: the lowest that is free, so that numbers soon come again. Where a
        process sees no others they do not, since nobody could ever say then that the one before is
        gone; `retry --host-gone` is for that."""
        found = next(n for n in itertools.count(self.first_number) if n not in self.processes)
        if self.hides:
            self.first_number = found + 1
        return found


class Process:
    """A process of a host. `body` is what it runs; what that returns is its exit code."""

    def __init__(
        self,
        scheduler: Scheduler,
        host: Host,
        words: Sequence[str],
        body: Body,
        environment: Mapping[str, str],
        parent: Process | None = None,
    ) -> None:
        self.scheduler = scheduler
        self.host = host
        self.words = list(words)
        self.environment = dict(environment)
        self.first_environment = dict(environment)
        self.parent = parent
        self.pid = host.number()
        self.started = f"{scheduler.now:.3f}"
        self.alive = True
        self.burying = False
        self.stopped = False
        self.code: int | None = None
        """What it ended with, as subprocess has it."""
        self.error: BaseException | None = None
        """What it ended in that its own code does not expect."""
        self.files: dict[int, Open] = {}
        self.handlers: dict[int, Any] = {}
        self.pending: list[int] = []
        self.alarm: tuple[float, float] | None = None
        self.dies_with_parent = False
        # What modules of it remember.
        self.memory: dict[Any, Any] = {}
        if parent is not None:
            self.memory["sweep"] = parent.memory["sweep"]
        self.on_end: list[Callable[[], None]] = []
        host.processes[self.pid] = self
        self._main = Thread(self, "", lambda: self._run(body))
        scheduler.start(self._main)

    @classmethod
    def of_world(cls, mount: Mount) -> Process:
        """Who looks on: no thread, no number that another has."""
        made = object.__new__(cls)
        made.host = Host("world", "world", mount)
        made.pid, made.alive, made.stopped, made.started = 1, True, False, "0"
        made.environment, made.memory, made.files, made.words = {}, {}, {}, []
        return made

    def __str__(self) -> str:
        commands = ("sweeps.", "analysis.")
        word = next((one for one in self.words if one.startswith(commands)), self.words[0])
        return f"{self.host.machine}:{self.pid} {word.rpartition('.')[2]}"

    def _run(self, body: Body) -> None:
        try:
            code = body() or 0
        except GoneError:
            return
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException as error:  # its own code did not expect it
            if self.burying or not self.alive:
                return
            self.error, code = error, 1
            self.scheduler.on_error(self, error)
        if self.alive:
            self.end(code)

    def thread(self, name: str, body: Callable[[], object]) -> Thread:
        """Start another thread of the process."""

        def run() -> None:
            try:
                body()
            except GoneError:
                return
            except BaseException as error:
                if self.alive:
                    self.error = error
                    self.scheduler.on_error(self, error)
            self.scheduler.ended(made)

        made = Thread(self, name, run)
        self.scheduler.start(made)
        return made

    def end(self, code: int) -> None:
        """The process is no more. Its parent may still ask how it ended."""
        if not self.alive:
            return
        self.alive, self.code = False, code
        self.scheduler.note(f"{self} ended with {code}")
        self.scheduler.bury(self)
        self.files.clear()
        if self.parent is None or not self.parent.alive:
            self.reap()
        for child in list(self.host.processes.values()):
            if child.parent is self:
                if not child.alive:
                    child.reap()
                elif child.dies_with_parent:
                    child.send(signal.SIGTERM)
        for call in self.on_end:
            call()

    def reap(self) -> None:
        if self.host.processes.get(self.pid) is self:
            del self.host.processes[self.pid]

    # Signals

    def send(self, number: int) -> None:
        if not self.alive or number == 0:
            return
        if number == signal.SIGKILL:
            self.end(-signal.SIGKILL)
        elif number == signal.SIGSTOP:
            self.stopped = True
        elif number == signal.SIGCONT:
            self.stopped = False
        else:
            handler = self.handlers.get(number, signal.SIG_DFL)
            if handler == signal.SIG_DFL:
                self.end(-number)
            elif handler != signal.SIG_IGN:
                self.pending.append(number)

    def has_signal(self, thread: Thread) -> bool:
        due = self.alarm is not None and self.alarm[0] <= self.scheduler.now
        return thread is self._main and (bool(self.pending) or due)

    def deliver_signals(self, thread: Thread) -> None:
        """As Python does it: the main thread runs the handlers, when it comes back from a call."""
        if thread is not self._main:
            return
        if self.alarm is not None and self.alarm[0] <= self.scheduler.now:
            again = self.alarm[1]
            self.alarm = (self.scheduler.now + again, again) if again else None
            self.pending.append(signal.SIGALRM)
        while self.pending:
            number = self.pending.pop(0)
            handler = self.handlers.get(number)
            if callable(handler):
                handler(number, None)
            if not self.alive:
                raise GoneError


def boot(host: Host) -> None:
    host.up = True
    host.boots += 1
    host.mount.forget()


def crash(host: Host, random: Random) -> None:
    """The host loses power: its processes, and what they had written and not yet synced."""
    host.up = False
    for process in list(host.processes.values()):
        for one in list(process.files.values()):
            if one.writes:
                host.mount.server.tear(one.node, random)
        process.end(-signal.SIGKILL)
    host.processes.clear()


class Child:
    """As subprocess.Popen, of a process that a process started."""

    def __init__(self, process: Process, scheduler: Scheduler) -> None:
        self._process = process
        self._scheduler = scheduler
        self.pid = process.pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        self._scheduler.call(f"poll {self.pid}")
        if self.returncode is None and not self._process.alive:
            self.returncode = self._process.code
            self._process.reap()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        seconds = float("inf") if timeout is None else timeout
        self._scheduler.wait(seconds, lambda: not self._process.alive)
        if self.poll() is None:
            raise subprocess.TimeoutExpired(self._process.words, seconds)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        self._scheduler.call(f"signal {number} to {self.pid}")
        self._process.send(number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def kill(scheduler: Scheduler, sender: Process, pid: int, number: int) -> None:
    """As os.kill."""
    process = sender.host.processes.get(pid)
    if process is None:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
    if number:
        scheduler.call(f"signal {number} to {pid}")
        process.send(number)
