"""Faults: what strikes, and at which step.

All follow from the seed and the number of the step, so that leaving one out changes no other.
"""

from __future__ import annotations

import signal
from collections.abc import Collection
from random import Random
from typing import TYPE_CHECKING

from simulation.machine import hosts
from simulation.machine.hosts import Host, Process
from simulation.machine.scheduler import GoneError, Thread

if TYPE_CHECKING:
    from simulation.world import World

PROCESS = ("kill", "kill_any", "term", "stop", "stop_at_rename", "slow")
HOST = ("crash", "power")
DISK = ("full", "readonly", "eio", "lost_answer")
SLURM = ("preempt", "node_lost", "forget", "away")
KINDS = (*PROCESS, *HOST, *DISK, *SLURM)
# A fault happens, on average, once in so many steps at most.
OFTEN = 20


class Faults:
    def __init__(
        self, world: World, seed: int, kinds: Collection[str], most: int, skipped: Collection[int]
    ) -> None:
        """At most `most` faults of these kinds; those at the steps `skipped` are left out."""
        self._world = world
        self._seed = seed
        self._kinds = sorted(kinds)
        self._skipped = frozenset(skipped)
        self.struck: list[int] = []
        """The steps at which one struck."""
        self.over = False
        random = Random(f"faults {seed}")
        mean = OFTEN * 2 ** random.uniform(0, 4.5)
        self._steps: set[int] = set()
        step = 0
        for _ in range(most):
            step += 1 + int(random.expovariate(1 / mean))
            self._steps.add(step)
        self._losing: Process | None = None
        self._stops_at_rename = False

    def at(self, thread: Thread, what: str) -> None:
        """Called at each step."""
        step = self._world.scheduler.steps
        if self._stops_at_rename and what.startswith("rename") and not self.over:
            self._stops_at_rename = False
            self._world.scheduler.note(f"stopped at {what}")
            self._stop_for(thread, thread.process, Random(f"rename {self._seed} {step}"))
        if step not in self._steps or step in self._skipped or self.over or not self._kinds:
            return
        random = Random(f"fault {self._seed} {step}")
        kind = random.choice(self._kinds)
        self.struck.append(step)
        self._world.scheduler.note(f"FAULT {kind} at step {step} in {thread} {what}")
        getattr(self, f"_{kind}")(thread, random)
        if not thread.process.alive:
            raise GoneError

    def _any(self, random: Random) -> Process:
        processes = [one for host in self._world.hosts for one in host.processes.values()]
        return random.choice([one for one in processes if one.alive])

    def _kill(self, thread: Thread, random: Random) -> None:
        thread.process.send(signal.SIGKILL)

    def _kill_any(self, thread: Thread, random: Random) -> None:
        self._any(random).send(signal.SIGKILL)

    def _term(self, thread: Thread, random: Random) -> None:
        self._any(random).send(random.choice((signal.SIGTERM, signal.SIGINT)))

    def _stop(self, thread: Thread, random: Random) -> None:
        self._stop_for(thread, random.choice((thread.process, self._any(random))), random)

    def _stop_at_rename(self, thread: Thread, random: Random) -> None:
        """The next process that is about to put a file in place is stopped right before that."""
        self._stops_at_rename = True

    def _stop_for(self, thread: Thread, process: Process, random: Random) -> None:
        process.send(signal.SIGSTOP)
        seconds = 10 ** random.uniform(0, 3.5)
        scheduler = self._world.scheduler
        scheduler.at(scheduler.now + seconds, lambda: process.send(signal.SIGCONT))
        if process is thread.process:
            thread.wake = scheduler.now + CALL_GOES_ON

    def _slow(self, thread: Thread, random: Random) -> None:
        thread.wake = self._world.scheduler.now + 10 ** random.uniform(-1, 2.7)

    def _crash(self, thread: Thread, random: Random) -> None:
        self._down(random.choice((thread.process.host, random.choice(self._world.hosts))), random)

    def _down(self, host: Host, random: Random) -> None:
        hosts.crash(host, random)
        if self._world.cluster is not None:
            self._world.cluster.node_crashed(host, random)
        scheduler = self._world.scheduler
        scheduler.at(scheduler.now + random.uniform(30, 900), lambda: self._world.boot(host))

    def _power(self, thread: Thread, random: Random) -> None:
        for host in self._world.hosts:
            self._down(host, random)
        self._world.server.cut_power(random)
        self._world.check_kept()

    def _spell(self, word: str, thread: Thread, random: Random) -> None:
        host, now = thread.process.host, self._world.scheduler.now
        everywhere = random.random() < 0.5
        for one in self._world.hosts if everywhere else [host]:
            one.disk[word] = now + 10 ** random.uniform(-1, 2)
            one.disturbed = max(one.disturbed, one.disk[word])

    def _full(self, thread: Thread, random: Random) -> None:
        self._spell("full", thread, random)

    def _readonly(self, thread: Thread, random: Random) -> None:
        self._spell("readonly", thread, random)

    def _eio(self, thread: Thread, random: Random) -> None:
        self._spell("eio", thread, random)

    def _preempt(self, thread: Thread, random: Random) -> None:
        if self._world.cluster is not None:
            self._world.cluster.preempt(random)

    def _node_lost(self, thread: Thread, random: Random) -> None:
        if self._world.cluster is not None:
            self._world.cluster.node_lost(random.choice(self._world.hosts), random)

    def _forget(self, thread: Thread, random: Random) -> None:
        if self._world.cluster is not None:
            self._world.cluster.forget_latest(random)

    def _away(self, thread: Thread, random: Random) -> None:
        if self._world.cluster is not None:
            self._world.cluster.go_away(random)

    def _lost_answer(self, thread: Thread, random: Random) -> None:
        self._losing = thread.process

    def loses(self, process: Process, what: str) -> bool:
        """Whether the answer to this call of the process gets lost."""
        if self._losing is not process:
            return False
        self._losing = None
        process.host.disturbed = max(process.host.disturbed, self._world.scheduler.now)
        process.memory["lost_answer"] = what
        return True


CALL_GOES_ON = 1e-6
