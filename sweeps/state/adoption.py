"""Adopt: take over what another sweep of the same results folder has trained already.

A trial is its configuration: trained twice on the same images it gives the same figures, which cost
twice and confirm nothing of each other. The records are copied, each by writing aside and renaming,
run.parquet last, while this process holds the trial; so a copy that is killed is lost as an attempt
is, and begun again. Its `shared_from` names the trial whose training the records are of, and what
they say of machine, code and time is that training's. Each copied table says whose it is now.

Only what is verified is taken: files with digests that hold, of these very images (data_sha256).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_machine.errors import InputError, storage_error
from local_machine.files import read_file, write_atomic
from sweeps.run import attempt_folder
from sweeps.run.attempt_files import see_config, settle
from sweeps.run.ends import LostTrialError
from sweeps.spec.sweep import Trial
from sweeps.spec.task_loader import load
from sweeps.state.lease import Lease
from sweeps.state.trial_store import TrialStore
from trial_records import archive, metrics, trial_files
from trial_records import plan as plan_files
from trial_records.config import is_of
from trial_records.names import is_name

if TYPE_CHECKING:
    import pyarrow as pa

_COPIED = (trial_files.EPOCHS, trial_files.PREDICTIONS)
# How the columns of a person's own metrics begin.
_OWN = ("best.", "last.", metrics.FINAL)


@dataclass(frozen=True)
class _Found:
    """A finished trial of another sweep: its folder, its run's row, and its other tables."""

    folder: Path
    run: dict[str, Any]
    tables: dict[str, pa.Table]


def adopt(store: TrialStore, trials: Iterable[Trial], launch: float) -> set[str]:
    """Take over those of the trials that another sweep has finished; their names.

    A trial that somebody holds is left to them, and what cannot be read is trained. Raises
    InputError where the folder cannot be written.
    """
    wanted = {trial.fingerprint: trial for trial in trials}
    content = _contents()
    taken = set()
    for fingerprint, folders in _alike(store, wanted).items():
        trial = wanted[fingerprint]
        for folder in folders:
            found = _read(folder, trial, content)
            if found is not None and _take_over(store, trial, found, launch):
                taken.add(trial.name)
                break
    return taken


def _alike(store: TrialStore, wanted: Iterable[str]) -> dict[str, list[Path]]:
    """For each fingerprint, the folders of other sweeps' trials whose names end in its digits."""
    by_digits = {fingerprint[:8]: fingerprint for fingerprint in wanted}
    found: dict[str, list[Path]] = {}
    results = store.folder.parent
    for sweep in plan_files.sweeps(results) if by_digits else []:
        if sweep == store.sweep:
            continue
        for name in sorted(_names(results / sweep)):
            fingerprint = by_digits.get(name[-8:])
            if fingerprint is not None and is_name(name):
                found.setdefault(fingerprint, []).append(results / sweep / name)
    return found


def _names(sweep: Path) -> Iterator[str]:
    """Of the trials in a sweep's folder; none where it cannot be read."""
    try:
        yield from {*os.listdir(sweep), *archive.trials(sweep)}  # noqa: PTH208
    except (OSError, InputError):
        return


def _contents() -> Callable[[Trial], str | None]:
    """The digest of the data that a trial would train on, looked up once for trials alike."""
    known: dict[Hashable, str | None] = {}

    def content(trial: Trial) -> str | None:
        task = load(trial.task)
        key = (task.reference, task.affinity(trial.values))
        if key not in known:
            known[key] = task.content(trial.config)
        return known[key]

    return content


def _read(folder: Path, trial: Trial, content: Callable[[Trial], str | None]) -> _Found | None:
    """The records of a folder, where they are this trial's, whole and verified, and of the images
    that the trial would train on."""
    # pyarrow takes a quarter of a second, and seldom is there anything to read.
    from trial_records import tables

    path = folder / trial_files.RUN
    try:
        found = tables.checked(path, trial_files.content(path))
        more = {*found.table.column_names} - {*tables.run_schema().names}
        if not found.by_digest or not all(name.startswith(_OWN) for name in more):
            return None  # of a later version, of which something would be lost
        run = tables.read_run(folder, trial.fingerprint)
        if run["status"] != "done" or run["data_sha256"] != content(trial):
            return None
        files = {}
        for name in _COPIED:
            digest, content_ = run[tables.DIGESTS[name]], trial_files.content(folder / name)
            file = tables.checked(folder / name, content_, digest=digest)
            if digest is None or not file.by_digest:
                return None
            files[name] = file.table
    except (FileNotFoundError, InputError):
        return None
    return _Found(folder, run, files)


def _take_over(store: TrialStore, trial: Trial, found: _Found, launch: float) -> bool:
    """Whether the trial is done by it. Raises InputError where the folder cannot be written."""
    folder = store.folder_of(trial)
    try:
        lease = _lease(store, trial, launch)
        if lease is None:
            return False
        try:
            _copy(folder, lease.token, trial, found)
        except LostTrialError:
            store.release(trial, lease)
            return False
        except BaseException:
            store.release(trial, lease)
            raise
        store.finish(trial, lease)
    except OSError as error:
        raise storage_error(error) or error from None
    return True


def _lease(store: TrialStore, trial: Trial, launch: float) -> Lease | None:
    """None where the trial is not to be had: held, damaged, or with another one in its folder."""
    try:
        if not is_of(trial_files.read_values(store.folder_of(trial)), trial.fingerprint):
            return None
    except FileNotFoundError:
        pass  # it has not begun
    except InputError:
        return None
    try:
        return store.lease(trial, launch, log="")
    except InputError:
        return None


def _copy(folder: Path, token: str, trial: Trial, found: _Found) -> None:
    from trial_records import tables

    see_config(folder, trial.fingerprint, trial.to_json())
    place = attempt_folder.take_over(folder, token)
    settle(folder, place, trial.to_json())
    checkpoint: bytes | None = None
    with contextlib.suppress(FileNotFoundError, InputError):
        checkpoint = read_file(found.folder / trial_files.CHECKPOINT)
    whose = metrics.whose(folder, trial.fingerprint, trial.task.name)
    names = [*found.tables, trial_files.RUN]
    with attempt_folder.guarded(place):
        digests = {
            tables.DIGESTS[name]: tables.write_copy(place / name, table, whose)
            for name, table in found.tables.items()
        }
        if checkpoint is not None:
            names.insert(0, trial_files.CHECKPOINT)
            weights = checkpoint
            write_atomic(place / trial_files.CHECKPOINT, lambda file: file.write(weights))
        elif (folder / trial_files.CHECKPOINT).exists():
            # An earlier attempt's would pass for the weights that were tested.
            (folder / trial_files.CHECKPOINT).rename(place / f"{trial_files.CHECKPOINT}.earlier")
        origin = found.run["shared_from"] or f"{found.folder.parent.name}/{found.folder.name}"
        tables.write_run(place, {**found.run, **whose, **digests, "shared_from": origin})
    attempt_folder.publish(place, folder, names)
    attempt_folder.remove(folder, token)
