"""The edges of our code to the machine, replaced by the simulation: clock, processes, signals,
threads, chance, Slurm's commands, and what would train."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sys
import types
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

from local_machine import clock, files, processes, signals
from simulation.machine import hosts
from simulation.machine.calls import Calls
from simulation.machine.filesystem import ROOT
from simulation.machine.hosts import Process
from simulation.machine.scheduler import GoneError, Scheduler, Thread
from sweeps.compact import archive_writer
from sweeps.state import lease_watch, trial_store
from trial_records import archive

# 2026-01-01, from which virtual time counts.
START = 1_767_225_600.0


class Edges:
    """What our code finds in the place of the machine, as the process that runs sees it."""

    def __init__(
        self,
        scheduler: Scheduler,
        calls: Calls,
        seed: int,
        start: Callable[..., hosts.Child],
    ) -> None:
        self.scheduler = scheduler
        self.calls = calls
        self._random = Random(f"uuid {seed}")
        self._start = start

    @property
    def process(self) -> Process:
        return self.calls.process

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        real_kill, real_pid, real_exit, nowhere = os.kill, os.getpid, os._exit, Nowhere()
        before = os.environ

        def kill(pid: int, number: int) -> None:
            if self.scheduler.current is None:
                real_kill(pid, number)
                return
            hosts.kill(self.scheduler, self.process, pid, number)

        def enter(thread: Thread | None) -> None:
            os.environ = before if thread is None else thread.process.environment  # type: ignore[assignment]  # noqa: B003

        def getpid() -> int:
            return real_pid() if self.scheduler.current is None else self.process.pid

        def exit_(code: int) -> None:
            if self.scheduler.current is None:
                real_exit(code)
            self.process.end(code)
            raise GoneError

        with contextlib.ExitStack() as stack:

            def put(where: Any, **what: Any) -> None:
                for name, value in what.items():
                    stack.enter_context(mock.patch.object(where, name, value))

            put(os, kill=kill, getpid=getpid, _exit=exit_)
            put(shutil, _use_fd_functions=False)  # which open files beneath an open folder
            put(uuid, uuid4=self._uuid)
            put(
                sys, stdout=nowhere, stderr=nowhere, unraisablehook=lambda _: None
            )  # buffers of the dead
            # Some modules hold the functions themselves, which ask this.
            told = {"time": self._now, "monotonic": self._monotonic, "sleep": self._sleep}
            put(clock, now=self._now, sleep=self._sleep, time=types.SimpleNamespace(**told))
            put(clock, monotonic=self._monotonic, perf_counter=self._monotonic)
            put(
                processes,
                host_name=lambda: self.process.host.name,
                boot=lambda: self.process.host.boot,
                machine=lambda: self.process.host.machine,
                owner=self._owner,
                command=lambda pid: self._of(pid, lambda one: one.words, []),
                variables=lambda pid: self._of(pid, lambda one: one.first_environment, {}),
                folder=lambda pid: self._of(pid, lambda one: Path(ROOT), None),
                start=self._start,
                send_signal=kill,
                _stat=self._stat,
            )
            put(signals, handle=self._handle, handler_of=self._handler_of, alarm=self._alarm)
            # Part files are named by process and thread.
            put(files, threading=types.SimpleNamespace(get_ident=self._thread_number))
            shim = types.SimpleNamespace(Thread=self._thread, Event=lambda: Event(self.scheduler))
            put(lease_watch, threading=shim)
            put(archive_writer, ThreadPoolExecutor=OneByOne)
            # What a module remembers, each process remembers for itself.
            put(archive, _rows=self._remembered(archive._rows.__wrapped__))
            put(archive, _kept_column=self._remembered(archive._kept_column.__wrapped__))
            put(trial_store, warn_of_writers=lambda folder: None)
            self.scheduler.on_enter = enter
            yield
            os.environ = before  # noqa: B003

    def _uuid(self) -> uuid.UUID:
        return uuid.UUID(bytes=self._random.randbytes(16), version=4)

    def _now(self) -> float:
        return START + self.scheduler.now + self.process.host.offset

    def _monotonic(self) -> float:
        return self.scheduler.now

    def _sleep(self, seconds: float) -> None:
        self.scheduler.call(f"sleep {seconds:.4g}")
        self.scheduler.wait(seconds)

    def _of(self, pid: int, tell: Callable[[Process], Any], nothing: Any) -> Any:
        found = self.process.host.processes.get(pid)
        return nothing if found is None or not self._sees(found) else tell(found)

    def _sees(self, other: Process) -> bool:
        return not self.process.host.hides or other is self.process

    def _owner(self, pid: int) -> int | None:
        owner: int | None = self._of(pid, lambda one: os.geteuid(), None)
        return owner

    def _stat(self, pid: int) -> tuple[str, str] | None:
        def tell(one: Process) -> tuple[str, str]:
            return ("S" if one.alive else "Z", one.started)

        found: tuple[str, str] | None = self._of(pid, tell, None)
        return found

    def _handle(self, number: int, handler: Any) -> None:
        self.process.handlers[number] = handler

    def _handler_of(self, number: int) -> Any:
        return self.process.handlers.get(number)

    def _alarm(self, seconds: float, again: float = 0.0) -> None:
        process = self.process
        process.alarm = (self.scheduler.now + seconds, again) if seconds else None
        if seconds:
            # Wakes a world in which everybody waits for longer.
            self.scheduler.at(self.scheduler.now + seconds, lambda: None)

    def _thread_number(self) -> int:
        """Addresses in memory, which no two processes share but by chance."""
        thread, process = self.scheduler.current, self.process
        name = f"{process.host.machine} {process.pid} {process.started} {thread and thread.name}"
        return zlib.crc32(name.encode())

    def _thread(self, target: Callable[[], None], name: str, daemon: bool) -> Any:
        assert daemon
        start = functools.partial(self.process.thread, name, target)
        return types.SimpleNamespace(start=start)

    def _remembered(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            key = (function, given)
            if key not in self.process.memory:
                self.process.memory[key] = function(*given)
            return self.process.memory[key]

        return call


class Event:
    """As threading.Event."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def wait(self, timeout: float) -> bool:
        self._scheduler.wait(timeout, lambda: self._is_set)
        return self._is_set


class OneByOne:
    """As ThreadPoolExecutor."""

    def __enter__(self) -> OneByOne:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def map(self, function: Callable[[Any], Any], values: Any) -> Any:
        return map(function, values)


class Nowhere:
    """A stream whose words nobody reads."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        return

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        raise OSError("no file")
