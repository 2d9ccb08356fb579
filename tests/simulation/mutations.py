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
from local_machine.files import read_file
from sweeps.run import attempt_files, attempt_folder, checkpoint_file
from sweeps.run.attempt_files import AttemptFiles
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
        files.sync(path.parent)

    return _everywhere("write_atomic", write_atomic, *WRITERS)


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
        lease.clear(folder)

    return _everywhere("release", release, lease)


def successor_put_in_place() -> Patches:
    """Who created the successor of a lease renames it into the place of the first one."""
    real = lease.install

    def install(folder: Path, held: Lease, wanted: Lease) -> bool:
        if not real(folder, held, wanted):
            return False
        lease._successor(folder, held).replace(folder / CLAIM)
        return True

    return _everywhere("install", install, lease)


def compacted_not_asked_anew() -> Patches:
    """What NFS said of the compact files a minute ago is believed."""
    return _everywhere("look_anew", lambda sweep: None, archive)


def zombie_that_writes() -> Patches:
    """All attempts at a trial have one folder, and do not look whether they still hold it before
    they write there.

    Either defence is enough alone: without the look, an old attempt writes into a folder that no
    longer counts, and with one folder for all, the look stops it before it writes. So this mutation
    removes both at once.
    """

    def make(trial: Path, token: str) -> None:
        attempt_folder.path_of(trial, token).mkdir(exist_ok=True)

    return [
        mock.patch.object(attempt_folder, "path_of", lambda trial, token: trial / "attempt-all"),
        mock.patch.object(attempt_folder, "make", make),
        mock.patch.object(attempt_folder, "drop", lambda trial, token: None),
        mock.patch.object(Watch, "look", lambda self: None),
    ]


def checkpoint_before_its_rows() -> Patches:
    """A checkpoint is renamed before the log that it commits is on the disk."""
    return [mock.patch.object(AttemptFiles, "sync_log", lambda self: None)]


def rows_before_their_checkpoint() -> Patches:
    """Who goes on takes all rows of the log for committed."""

    def committed(self: AttemptFiles, files: Path, saved: object) -> bytes:
        return read_file(files / trial_files.LOG)

    return [mock.patch.object(AttemptFiles, "_committed", committed)]


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
        successor_put_in_place,
        compacted_not_asked_anew,
        zombie_that_writes,
        checkpoint_before_its_rows,
        rows_before_their_checkpoint,
        released_before_done,
        always_alive,
    )
}
