"""Mutations: faults put into our own code, one at a time, which the simulation has to find.

A simulation that finds none of them proves nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO
from unittest import mock

from local_machine import files, json_files
from sweeps.run import attempt_files, checkpoint_file
from sweeps.state import lease
from sweeps.state import lease as leases
from sweeps.state.lease import CLAIM, Lease
from sweeps.state.lease_watch import Watch
from sweeps.state.liveness import Liveness
from sweeps.state.trial_store import TrialStore
from trial_records import archive, log, tables, trial_files

WRITERS = (files, json_files, tables, log, attempt_files, checkpoint_file)

Patches = list[AbstractContextManager[Any]]


def _everywhere(name: str, mutated: object, *modules: object) -> Patches:
    return [mock.patch.object(module, name, mutated) for module in modules]


def rename_without_fsync() -> Patches:
    """What is renamed may be empty after a power cut."""

    def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        with part.open("wb") as file:
            write(file)
        part.replace(path)
        files_sync(path.parent)

    return _everywhere("write_atomic", write_atomic, *WRITERS)


def files_sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def rename_not_kept() -> Patches:
    """A power cut may undo the rename of what was called saved."""

    def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        with part.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)

    return _everywhere("write_atomic", write_atomic, *WRITERS)


def lease_broken_without_proof() -> Patches:
    """A holder of which nothing was heard for three minutes counts as gone."""

    def is_dead(folder: Path, held: Lease) -> bool:
        quiet = leases.silence(folder)
        return held.has_died_here or (quiet is not None and quiet > leases.SILENT_SECONDS)

    return _everywhere("is_dead", is_dead, lease)


def process_number_is_proof() -> Patches:
    """A process that cannot be seen counts as gone."""

    def has_died_here(self: Lease) -> bool:
        from local_machine import processes

        return processes.started(self.pid) != self.process_started

    return [mock.patch.object(Lease, "has_died_here", property(has_died_here))]


def token_not_compared() -> Patches:
    """Whoever gives a lease back removes whichever is there."""

    def release(folder: Path, held: Lease) -> None:
        (folder / CLAIM).unlink(missing_ok=True)

    return _everywhere("release", release, lease)


def successor_not_read_again() -> Patches:
    """Who created the successor of a dead lease does not look whether it still is the one."""

    def succeed(folder: Path, dead: Lease, wanted: Lease) -> bool:
        successor = folder / f".{CLAIM}.{dead.token}.next"
        if not lease._create(successor, wanted):
            return False
        successor.replace(folder / CLAIM)
        return True

    return _everywhere("_succeed", succeed, lease)


def compacted_not_asked_anew() -> Patches:
    """What NFS said of the compact files a minute ago is believed."""
    return _everywhere("look_anew", lambda sweep: None, archive)


def zombie_that_writes() -> Patches:
    """An attempt does not look whether it still holds its trial before it writes."""
    return [mock.patch.object(Watch, "look", lambda self: None)]


def released_before_done() -> Patches:
    """A worker gives its trial back without having removed it from those that are open."""

    def finish(self: TrialStore, trial: Any, held: Lease) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self.folder_of(trial) / trial_files.RUN).unlink()
        self.release(trial, held)

    return [mock.patch.object(TrialStore, "finish", finish)]


def always_alive() -> Patches:
    """No holder ever counts as gone."""
    return [mock.patch.object(Liveness, "is_alive", lambda self, held, folder: True)]


MUTATIONS: dict[str, Callable[[], Patches]] = {
    one.__name__: one
    for one in (
        rename_without_fsync,
        rename_not_kept,
        lease_broken_without_proof,
        process_number_is_proof,
        token_not_compared,
        successor_not_read_again,
        compacted_not_asked_anew,
        zombie_that_writes,
        released_before_done,
        always_alive,
    )
}
