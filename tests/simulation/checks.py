"""What must hold, whatever happens: the witness sees every file that is put in place, and every
word that a reader is told."""

from __future__ import annotations

import json
import math
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from simulation.machine.filesystem import FileServer, Node
from simulation.machine.hosts import Process
from simulation.machine.scheduler import Scheduler
from simulation.readers import Told
from simulation.task import rows_of, trials, value_of
from sweeps.run.checkpoint_file import ZIP_END
from sweeps.state.lease import CLAIM, WORKER
from trial_records import archive, log
from trial_records.log import Mark
from trial_records.trial_files import (
    ATTEMPT,
    CHECKPOINT,
    CONFIG,
    EPOCHS,
    FAILURE,
    FILES,
    LOG,
    RUN,
)

RECORDS = (CHECKPOINT, CONFIG, EPOCHS, RUN, FAILURE)


class ViolationError(AssertionError):
    """What must hold does not."""


@dataclass
class Seen:
    """What the witness knows of one trial of one sweep."""

    committed: int = 0
    """Epochs of which a save came back."""
    logged: int = 0
    """Epochs that were ever logged."""
    run: bytes | None = None
    """run.parquet, once its writing came back."""
    done_at: float = math.inf
    compacted_at: float = 0.0
    put_back_at: float = 0.0
    trained: int = 0
    """Epochs that were begun, again or not."""
    loads: int = 0
    """Attempts that began or went on."""
    forgone: int = 0
    """Epochs that were saved, and that a person wanted to be trained again."""


class Witness:
    def __init__(self, scheduler: Scheduler, server: FileServer, results: str) -> None:
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
        self._makers: dict[str, Process] = {}
        """Who made the private folder of a token."""
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

    def counts(self, sweep: str, trial: str, token: str) -> bool:
        """Whether what the attempt writes counts: no other one has taken its files over."""
        folder = self.folder(sweep, trial)
        private = None if folder is None else folder.names.get(ATTEMPT + token)
        return private is not None and FILES in private.names

    # What training tells

    def loaded(
        self, trial: str, token: str, epochs: int, rows: list[Mapping[str, Any]], seed: int
    ) -> None:
        sweep, seen = self._here(trial)
        seen.loads += 1
        if epochs < seen.committed and self.counts(sweep, trial, token):
            self.violated(f"{sweep}/{trial}: epoch {epochs} was loaded of {seen.committed}")
        if rows != rows_of(seed, epochs):
            self.violated(f"{sweep}/{trial}: epoch {epochs} was loaded with the rows {rows}")

    def trains(self, trial: str, token: str, epoch: int) -> None:
        sweep, seen = self._here(trial)
        seen.trained += 1
        if seen.run is not None and self.counts(sweep, trial, token):
            self.violated(f"{sweep}/{trial} is done, and epoch {epoch} of it is trained again")

    def logs(self, trial: str, epochs: int) -> None:
        _, seen = self._here(trial)
        seen.logged = max(seen.logged, epochs)

    def saved(self, trial: str, token: str, epochs: int) -> None:
        sweep, seen = self._here(trial)
        is_held = self.holder(sweep, trial) is self._scheduler.process
        if is_held or self.counts(sweep, trial, token):
            seen.committed = max(seen.committed, epochs)

    def returns(self, trial: str, rows: list[Mapping[str, Any]], config: Mapping[str, Any]) -> None:
        sweep, seen = self._here(trial)
        epochs = config["epochs"]
        if rows != rows_of(config["seed"], epochs):
            self.violated(f"{sweep}/{trial} returned with the rows {rows}")
        if seen.trained > epochs + seen.forgone + seen.loads - 1:
            self.violated(
                f"{sweep}/{trial}: {seen.trained} epochs were begun for {epochs}, by {seen.loads}"
            )

    def finished(self, trial: str, run: bytes) -> None:
        _, seen = self._here(trial)
        if seen.run is None:
            seen.run, seen.done_at = run, self._scheduler.now

    # Leases

    def lease(self, folder: Node) -> dict[str, Any] | None:
        """The lease that is in force, in truth."""
        node = folder.names.get(CLAIM)
        found: dict[str, Any] | None = None
        while node is not None:
            found = json.loads(bytes(node.data))
            node = folder.names.get(f".{CLAIM}.{found['token']}.next")
        return None if found is None or found["released"] else found

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
        process = self._scheduler.process
        if name.startswith(ATTEMPT) and node is not None and process is not None:
            self._makers.setdefault(name.removeprefix(ATTEMPT), process)
        is_lease = name == CLAIM or (name.startswith(f".{CLAIM}.") and name.endswith(".next"))
        if not is_lease and name not in RECORDS:
            return
        for sweep in ("a", "b"):
            for trial in (*(one.name for one in trials()), archive.FOLDER):
                where = self.folder(sweep, trial)
                if where is folder and is_lease:
                    self._lease_changed(folder, posixpath.join(sweep, trial))
                elif where is folder or (where is not None and folder in files_in(where)):
                    self._record_changed(sweep, trial, name, node, is_public=where is folder)

    def _record_changed(
        self, sweep: str, trial: str, name: str, node: Node | None, *, is_public: bool
    ) -> None:
        process, seen = self._scheduler.process, self.of(sweep, trial)
        assert process is not None
        where = posixpath.join(sweep, trial, name)
        restores = "sweeps.compact" in process.words
        if restores and name == RUN and node is None:
            seen.compacted_at = self._scheduler.now
        elif restores and name == RUN:
            seen.put_back_at = self._scheduler.now
        if node is None:
            if name == CHECKPOINT and "sweeps.retry" in process.words:
                # A person wants the trial from the beginning.
                seen.forgone, seen.committed = seen.forgone + seen.logged, 0
            return
        content = bytes(node.data)
        if not restores and not self._may_write(sweep, trial, process):
            self.violated(f"{process} put {where} in place, which it does not hold")
        if name == RUN and is_public and seen.run is not None and content != seen.run:
            self.violated(f"{where}: a finished trial was rewritten")
        if name == CHECKPOINT and (epochs := epochs_of(content)) < seen.committed:
            self.violated(f"{where}: epoch {epochs} is in the place of {seen.committed}")

    def _may_write(self, sweep: str, trial: str, process: Process) -> bool:
        """Whether the process holds the trial, or held it and nobody has taken its files over."""
        own = [token for token, maker in self._makers.items() if maker is process]
        counts = any(self.counts(sweep, trial, token) for token in own)
        return counts or self.holder(sweep, trial) is process

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
                left = 0 if folder is None else saved_in(folder)
                if left < seen.committed:
                    self.violated(f"{sweep}/{trial}: {left} epochs are left of {seen.committed}")

    # Readers

    def told(self, sweep: str, trials: list[Told], since: float, late: float) -> None:
        """A reader that began then was told how the trials stand; what is older than `late` seconds
        it knows, whatever NFS says."""
        for one in trials:
            name, seen = one.name, self.of(sweep, one.name)
            if one.problem is not None:
                self.violated(f"a reader was told of {sweep}/{name}: {one.problem}")
                continue
            best = [value_of(one.seed, epoch) for epoch in range(one.epochs)]
            if one.best != max(best, default=None):
                self.violated(f"a reader was told what nobody wrote of {sweep}/{name}")
            if one.epochs > seen.logged and not one.is_done:
                self.violated(f"a reader was told of {one.epochs} epochs of {sweep}/{name}")
            moved = max(seen.put_back_at, 0.0 if one.follows else seen.compacted_at)
            known_at = max(seen.done_at, moved) + late if late else seen.done_at
            if since > known_at and not one.is_done:
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


def files_in(folder: Node) -> Iterator[Node]:
    """The folders of the attempts' files of a trial."""
    for name, node in folder.names.items():
        if name.startswith(ATTEMPT) and FILES in node.names:
            yield node.names[FILES]


def saved_in(folder: Node) -> int:
    """The epochs of a trial's checkpoint, where its log is the one that it commits."""
    for files in files_in(folder):
        node = files.names.get(CHECKPOINT)
        if node is not None:
            content = bytes(node.data)
            written = files.names.get(LOG)
            is_whole = written is not None and is_committed(bytes(written.data), content)
            return epochs_of(content) if is_whole else 0
    node = folder.names.get(CHECKPOINT)
    return 0 if node is None else epochs_of(bytes(node.data))


def is_committed(written: bytes, checkpoint: bytes) -> bool:
    try:
        mark = Mark(*json.loads(checkpoint.removesuffix(ZIP_END))["log"])
    except ValueError:
        return False
    return log.committed(written, mark) is not None


def epochs_of(checkpoint: bytes) -> int:
    try:
        return int(json.loads(checkpoint.removesuffix(ZIP_END))["state"]["epochs"])
    except (ValueError, KeyError):
        return 0
