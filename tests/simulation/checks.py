"""What must hold, whatever happens: the witness sees every file that is put in place, and every
word that a reader is told."""

from __future__ import annotations

import json
import math
import posixpath
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from simulation.machine.filesystem import FileServer, Node
from simulation.machine.hosts import Process
from simulation.machine.scheduler import Scheduler
from simulation.task import accuracy, trials
from sweeps.state.lease import CLAIM, WORKER
from sweeps.state.progress import Progress
from sweeps.state.trial_store import State
from trial_records import archive
from trial_records.trial_files import CHECKPOINT, EPOCHS, FAILURE, PREDICTIONS, RUN

RECORDS = (CHECKPOINT, EPOCHS, PREDICTIONS, RUN, FAILURE)


class ViolationError(AssertionError):
    """What must hold does not."""


@dataclass
class Seen:
    """What the witness knows of one trial of one sweep."""

    committed: int = 0
    """Epochs of which a save came back."""
    written: int = 0
    """Epochs that were ever put in place."""
    run: bytes | None = None
    """run.parquet, once its writing came back."""
    looked: dict[Process, int] = field(default_factory=dict)
    """How many files each process put in place since it last saw that it holds the trial."""
    done_at: float = math.inf
    late: int = 0
    """How many files were put in place by processes that had lost the trial."""


class Witness:
    def __init__(
        self, scheduler: Scheduler, server: FileServer, results: str, *, strict: bool
    ) -> None:
        """`strict`: also the one file counts whose writing had begun when a trial was lost."""
        self._strict = strict
        self._scheduler = scheduler
        self._server = server
        self._results = results
        self._seen: dict[tuple[str, str], Seen] = {}
        self.violations: list[str] = []
        self.living: Callable[[], Iterable[Process]] = lambda: ()
        """All processes that live."""
        self.is_given_up: Callable[[Process], bool] = lambda process: False
        """Whether Slurm no longer knows that the process lives."""
        self._leases: dict[Node, dict[str, Any]] = {}
        server.on_change = self._changed

    def violated(self, what: str) -> None:
        self._scheduler.note(f"VIOLATION {what}")
        self.violations.append(f"at {self._scheduler.now:.3f} s: {what}")

    def of(self, sweep: str, trial: str) -> Seen:
        return self._seen.setdefault((sweep, trial), Seen())

    def all(self) -> dict[tuple[str, str], Seen]:
        return self._seen

    def _here(self, trial: str) -> tuple[str, Seen]:
        """The sweep that the running process works on, and what is known of its trial."""
        process = self._scheduler.process
        assert process is not None
        sweep = process.memory["sweep"]
        return sweep, self.of(sweep, trial)

    def folder(self, sweep: str, trial: str) -> Node | None:
        return self._server.find(f"{self._results}/{sweep}/{trial}")

    # What training tells

    def loaded(self, trial: str, epochs: int) -> None:
        sweep, seen = self._here(trial)
        if epochs < seen.committed and self.holder(sweep, trial) is self._scheduler.process:
            self.violated(f"{sweep}/{trial}: epoch {epochs} was loaded of {seen.committed}")

    def trains(self, trial: str, epoch: int) -> None:
        sweep, seen = self._here(trial)
        if seen.run is not None and self.holder(sweep, trial) is self._scheduler.process:
            self.violated(f"{sweep}/{trial} is done, and epoch {epoch} of it is trained again")

    def saved(self, trial: str, epochs: int) -> None:
        sweep, seen = self._here(trial)
        if self.holder(sweep, trial) is self._scheduler.process:
            seen.committed = max(seen.committed, epochs)

    def finished(self, trial: str, run: bytes) -> None:
        sweep, seen = self._here(trial)
        if seen.run is None and self.holder(sweep, trial) is self._scheduler.process:
            seen.run, seen.done_at = run, self._scheduler.now

    def looked(self, trial: str) -> None:
        """The running process has just seen that it holds the trial."""
        sweep, seen = self._here(trial)
        process = self._scheduler.process
        assert process is not None
        if self.holder(sweep, trial) is process:
            seen.looked[process] = 0

    # Leases

    def lease(self, folder: Node) -> dict[str, Any] | None:
        """The lease that is in force, in truth."""
        node = folder.names.get(CLAIM)
        found: dict[str, Any] | None = None
        while node is not None:
            found = json.loads(bytes(node.data))
            node = folder.names.get(f".{CLAIM}.{found['token']}.next")
        return found

    def holder(self, sweep: str, trial: str) -> Process | None:
        """The living process that holds the trial in truth."""
        folder = self.folder(sweep, trial)
        lease = None if folder is None else self.lease(folder)
        if lease is None or lease["host_gone"]:
            return None
        return next((one for one in self.living() if is_of(one, lease)), None)

    def _lease_changed(self, folder: Node, where: str) -> None:
        """Another lease is in force, or none: whose was the one before?"""
        before, now = self._leases.get(folder), self.lease(folder)
        if now is None:
            self._leases.pop(folder, None)
        else:
            self._leases[folder] = now
        doer = self._scheduler.process
        if before is None or before["host_gone"] or doer is None:
            return
        if now is not None and (now["host_gone"] or start_of(now) == start_of(before)):
            return  # a person said so; or a note in the same lease
        if before["submission"] and not before["started"]:
            return  # of a job to come, of which only Slurm knows whether it does
        holder = next((one for one in self.living() if is_of(one, before)), None)
        if holder is None or holder is doer or self.is_given_up(holder):
            return
        what = "was removed" if now is None else "was taken"
        self.violated(f"{where}: the lease of {holder}, which lives, {what} by {doer}")

    # Files

    def _changed(self, folder: Node, name: str, node: Node | None) -> None:
        if name == CHECKPOINT and node is None:
            self._taken_away(folder)
        is_lease = name == CLAIM or (name.startswith(f".{CLAIM}.") and name.endswith(".next"))
        if not is_lease and (name not in RECORDS or node is None):
            return
        for sweep in ("a", "b"):
            for trial in (*(one.name for one in trials()), archive.FOLDER):
                if self.folder(sweep, trial) is folder:
                    if is_lease:
                        self._lease_changed(folder, posixpath.join(sweep, trial))
                    elif node is not None:
                        self._put(sweep, trial, name, node)

    def _taken_away(self, folder: Node) -> None:
        """A checkpoint has lost its name: where a person wants a trial from the beginning."""
        process = self._scheduler.process
        for (sweep, trial), seen in self._seen.items():
            is_fresh = process is not None and "sweeps.retry" in process.words
            if is_fresh and self.folder(sweep, trial) is folder:
                seen.committed = 0

    def _put(self, sweep: str, trial: str, name: str, node: Node) -> None:
        """A process has put a record of a trial in place."""
        process, seen = self._scheduler.process, self.of(sweep, trial)
        assert process is not None
        where, content = posixpath.join(sweep, trial, name), bytes(node.data)
        epochs = epochs_of(content) if name == CHECKPOINT else 0
        restores = "sweeps.compact" in process.words
        is_late = not restores and self.holder(sweep, trial) is not process
        seen.looked[process] = seen.looked.get(process, 0 if not is_late else 1) + 1
        if is_late:
            seen.late += 1
            if seen.looked[process] > 1 or self._strict:
                self.violated(f"{process} put {where} in place, which it does not hold")
            if name == CHECKPOINT:
                # What the one late file undoes is not held against the store: see lease_watch.
                seen.committed = min(seen.committed, epochs)
            if name == RUN and seen.run is not None:
                seen.run = content
        if name == RUN and seen.run is not None and content != seen.run:
            self.violated(f"{where}: a finished trial was rewritten")
        if name == CHECKPOINT:
            seen.written = max(seen.written, epochs)
            if epochs < seen.committed and seen.run is None:
                self.violated(f"{where}: epoch {epochs} is in the place of {seen.committed}")

    def check_kept(self, is_compacted: Callable[[str, str], bool]) -> None:
        """After a power cut, and at the end: what was committed is there."""
        for (sweep, trial), seen in self._seen.items():
            folder = self.folder(sweep, trial)
            names = {} if folder is None else folder.names
            if seen.run is not None:
                run = names.get(RUN)
                if run is None and is_compacted(sweep, trial):
                    continue
                if run is None or bytes(run.data) != seen.run:
                    self.violated(f"{sweep}/{trial} was finished, and its run is lost")
            elif seen.committed:
                node = names.get(CHECKPOINT)
                left = 0 if node is None else epochs_of(bytes(node.data))
                if left < seen.committed:
                    self.violated(f"{sweep}/{trial}: {left} epochs are left of {seen.committed}")

    def is_excused(self, sweep: str, trial: str) -> bool:
        """Whether a process that had lost the trial put its one late file in place, which may be of
        other epochs than the rest: what lease_watch.py says cannot be helped."""
        return self.of(sweep, trial).late > 0 and not self._strict

    # Readers

    def told(
        self, sweep: str, progress: list[Progress], since: float, *, may_be_late: bool
    ) -> None:
        """A reader was told how the trials stand."""
        for one in progress:
            name, seen = one.trial.name, self.of(sweep, one.trial.name)
            if self.is_excused(sweep, name):
                continue
            if one.problem is not None or one.state is State.UNKNOWN:
                self.violated(f"a reader was told of {sweep}/{name}: {one.problem}")
                continue
            best = [accuracy(one.trial.fingerprint, epoch) for epoch in range(one.epochs_done)]
            if one.best_val_accuracy != max(best, default=None):
                self.violated(f"a reader was told what nobody wrote of {sweep}/{name}")
            if one.epochs_done > seen.written and one.state is not State.DONE:
                self.violated(f"a reader was told of {one.epochs_done} epochs of {sweep}/{name}")
            if one.state is not State.DONE and since > seen.done_at and not may_be_late:
                self.violated(
                    f"a reader was told that {sweep}/{name}, which is done, is {one.state}"
                )


def is_of(process: Process, lease: dict[str, Any]) -> bool:
    """Whether the process holds the lease."""
    if lease["job"] and not lease["submission"].startswith(WORKER):
        # A launch may note the job's number late, in its own lease.
        return process.alive and process.memory.get("job") == (lease["job"], lease["restarts"])
    return (
        process.alive
        and lease["pid"] == process.pid
        and lease["boot"] == process.host.boot
        and lease["process_started"] in ("", process.started)
    )


def start_of(lease: dict[str, Any]) -> tuple[object, ...]:
    """Which start of which job holds it, or which token."""
    if not lease["submission"] or lease["submission"].startswith(WORKER):
        return (lease["token"],)
    return lease["submission"], lease["task"]


def epochs_of(content: bytes) -> int:
    try:
        return int(json.loads(content)["epochs"])
    except (ValueError, KeyError):
        return 0
