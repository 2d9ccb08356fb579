"""The scheduler: which simulated thread goes on, and what time it is.

A thread is a greenlet. It runs until it makes a system call (`pause`), where the seed may let
another go on, or until it waits. Time is virtual: a system call takes about a millisecond, and
where all threads wait it jumps to the first that need not wait any more.
"""

from __future__ import annotations

import _thread
import hashlib
import heapq
import itertools
import math
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from greenlet import greenlet

if TYPE_CHECKING:
    from simulation.machine.hosts import Process

# A schedule that takes more has run into a loop.
MOST_STEPS = 400_000
CALL_SECONDS = 0.001


class GoneError(BaseException):
    """Ends the Python code of a process that was killed. From then on no call has an effect."""


class EndlessError(AssertionError):
    """The schedule does not come to an end."""


class Thread:
    """A thread of a simulated process."""

    def __init__(self, process: Process, name: str, body: Callable[[], object]) -> None:
        self.process = process
        self.name = name
        self.wake = 0.0
        """When it may go on, in virtual seconds."""
        self.ready: Callable[[], bool] | None = None
        """What it waits for, if it need not wait until `wake`."""
        self.greenlet = greenlet(body)

    def __str__(self) -> str:
        return f"{self.process}{'/' * bool(self.name)}{self.name}"


class Scheduler:
    def __init__(self, seed: int, switchiness: float) -> None:
        self.now = 0.0
        self.steps = 0
        self.current: Thread | None = None
        self.threads: list[Thread] = []
        self.trace: list[str] | None = None
        """Every step, in words, where somebody wants to read them."""
        self.digest = hashlib.sha256()
        """Of all steps: two runs of a seed have the same."""
        self.on_step: Callable[[Thread, str], None] = lambda thread, what: None
        """Called at each system call, before it has its effect: here faults strike."""
        self.on_error: Callable[[Process, BaseException], None] = lambda process, error: None
        """Called where a process ends in an error that its own code does not expect."""
        self._random = Random(f"schedule {seed}")
        self._switchiness = switchiness
        self.on_enter: Callable[[Thread | None], None] = lambda thread: None
        """Called whenever another thread's code is about to run."""
        self._hub = greenlet.getcurrent()
        self._owner = _thread.get_ident()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._buried: list[Thread] = []

    @property
    def process(self) -> Process | None:
        """The process whose code runs now; None for the world that looks on."""
        return None if self.current is None else self.current.process

    def at(self, moment: float, what: Callable[[], None]) -> None:
        """Have something happen at that time, in the world."""
        heapq.heappush(self._events, (moment, next(self._count), what))

    def start(self, thread: Thread) -> None:
        thread.wake = self.now
        thread.greenlet.parent = self._hub
        self.threads.append(thread)

    def note(self, what: str) -> None:
        """Add something to the trace."""
        self.digest.update(what.encode())
        if self.trace is not None:
            self.trace.append(f"{self.now:10.3f} {what}")

    def call(self, what: str) -> None:
        """The running thread makes a system call. Raises GoneError where its process was killed."""
        thread = self.current
        if thread is None or _thread.get_ident() != self._owner:
            return  # a library's own thread, such as pyarrow's, reads for the one that waits for it
        if not thread.process.alive:
            raise GoneError
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise EndlessError(f"after {self.steps} steps at {self.now:.0f} s: {thread}: {what}")
        self.now += CALL_SECONDS
        self.note(f"{thread} {what}")
        self.on_step(thread, what)
        if self._random.random() < self._switchiness or thread.wake > self.now:
            self._yield(thread)
        self._resumed(thread)

    def wait(self, seconds: float, ready: Callable[[], bool] | None = None) -> None:
        """The running thread waits for so long, or until something is so."""
        thread = self.current
        assert thread is not None
        if not thread.process.alive:
            raise GoneError
        thread.wake, thread.ready = self.now + max(0.0, seconds), ready
        self._yield(thread)
        thread.wake, thread.ready = min(thread.wake, self.now), None
        self._resumed(thread)

    def _yield(self, thread: Thread) -> None:
        if not thread.process.burying:
            self._hub.switch()

    def _resumed(self, thread: Thread) -> None:
        if not thread.process.alive:
            raise GoneError
        thread.process.deliver_signals(thread)

    def bury(self, process: Process) -> None:
        """None of the process's threads goes on any more."""
        dead = [one for one in self.threads if one.process is process]
        self._buried += dead
        self.threads = [one for one in self.threads if one.process is not process]

    def ended(self, thread: Thread) -> None:
        if thread in self.threads:
            self.threads.remove(thread)

    def run(self, until: float = math.inf) -> None:
        """Let the threads run until none is left, or a time has come."""
        while True:
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
            if self.now >= until:
                return
            ready = [one for one in self.threads if self._may_go_on(one)]
            if ready:
                thread = ready[self._random.randrange(len(ready))]
                self.enter(thread)
                thread.greenlet.switch()
                self.enter(None)
                continue
            moments = [one.wake for one in self.threads if not one.process.stopped]
            moments += [self._events[0][0]] if self._events else []
            following = min(moments, default=math.inf)
            if following == math.inf:
                self.now = self.now if until == math.inf else until
                return
            self.now = max(self.now, min(following, until))

    def _may_go_on(self, thread: Thread) -> bool:
        if thread.process.stopped:
            return False
        return (
            thread.wake <= self.now
            or (thread.ready is not None and thread.ready())
            or thread.process.has_signal(thread)
        )

    def enter(self, thread: Thread | None) -> None:
        """From now on the thread's code runs."""
        self.current = thread
        self.on_enter(thread)

    def end(self) -> None:
        """Run the rest of the Python code of what was killed, without any effect."""
        for thread in [*self.threads, *self._buried]:
            thread.process.alive = False
            thread.process.burying = True
            self.enter(thread)
            if not thread.greenlet.dead and thread.greenlet:
                thread.greenlet.throw(GoneError)
            self.enter(None)
        self.threads, self._buried = [], []
