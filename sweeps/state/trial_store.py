"""The trial store: a sweep's folder, read as plans, leases and states.

results/<sweep>/plans/<id>.json       the trials of one launch, written before anything runs
results/<sweep>/<trial>/              a trial's folder, made by its first attempt
results/<sweep>/<trial>/claim.json    the first of the leases; they are removed when it is done
results/<sweep>/<trial>/attempt-*/    what the attempt that holds it, or held it last, has so far
results/<sweep>/compact/              finished trials, many in a file; read before their folders
results/<sweep>/logs/                 what the workers said
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from local_machine.errors import EXIT_IO, InputError, move_away, nearest
from local_machine.files import matching, unreadable
from slurm.job_state import Job
from sweeps.run import attempt_folder
from sweeps.run.ends import LostTrialError
from sweeps.spec.sweep import Trial
from sweeps.state import lease as leases
from sweeps.state import unsaved
from sweeps.state.access import warn_of_writers
from sweeps.state.lease import Lease
from sweeps.state.liveness import Liveness
from sweeps.state.plan import LOGS, SEARCHES
from sweeps.state.plan_store import PlanStore
from sweeps.state.summary_cache import SummaryCache
from trial_records import archive, trial_files
from trial_records import plan as plan_files
from trial_records.config import is_of
from trial_records.names import is_name

# So often it tries to hold a trial that others want too.
_TRIES = 5


class State(StrEnum):
    """Where a trial stands."""

    PENDING = "pending"  # not begun, or handed back; may have a checkpoint
    QUEUED = "queued"  # a Slurm job that is to run it waits
    RUNNING = "running"  # an attempt holds it
    LOST = "lost"  # its attempt's process is known to be gone
    PRUNED = "pruned"  # a search wanted no more of it; its epochs so far are kept
    FAILED = "failed"  # its last attempt ended in an error; failure.json says which
    DONE = "done"
    UNKNOWN = "unknown"  # a file that would tell is damaged or cannot be read

    @property
    def is_over(self) -> bool:
        """No attempt is needed or under way."""
        return self in (State.DONE, State.PRUNED, State.FAILED)


_Of = TypeVar("_Of")


@dataclass(frozen=True)
class Standing:
    """A trial and where it stands."""

    trial: Trial
    state: State
    lease: Lease | None = None
    failure: trial_files.Failure | None = None
    pruned: trial_files.Pruned | None = None
    job: Job | None = None  # the Slurm job that holds it, or held it
    lost: str | None = None  # in words, why its holder is gone
    heard: float | None = None  # when its holder was last heard of, on the file server's clock
    problem: str | None = None  # why that is not known: a file that is damaged or cannot be read


class TrialStore(PlanStore):
    """One sweep's folder under a results folder: its plans, and where their trials stand."""

    def __init__(self, results: Path, sweep: str, liveness: Liveness | None = None) -> None:
        super().__init__(results, sweep)
        self.liveness = liveness or Liveness()
        self.summaries = SummaryCache(self.folder / LOGS)

    def settle_names(self, trials: Iterable[Trial]) -> list[Trial]:
        """The trials, each under the name by which a plan or a folder already knows its content.

        A definition that gained an axis calls the same configuration by a longer name. Raises
        InputError for a damaged compact file.
        """
        known = {
            trial.fingerprint: trial.name
            for plan in self.readable_plans()[0]
            for trial in plan.trials
        }
        try:
            folders = {entry.name for entry in os.scandir(self.folder) if entry.is_dir()}
        except (FileNotFoundError, NotADirectoryError):
            folders = set()
        except OSError as error:
            raise unreadable(self.folder, error) from None
        folders |= archive.trials(self.folder).keys()
        by_suffix: dict[str, list[str]] = {}
        for name in folders:
            by_suffix.setdefault(name[-8:], []).append(name)
        settled = []
        for trial in trials:
            name = known.get(trial.fingerprint, trial.name)
            if name not in folders:
                for other in by_suffix.get(name[-8:], []):
                    if self._holds(other, trial):
                        name = other
            settled.append(trial if name == trial.name else trial.renamed(name))
        return settled

    def _holds(self, name: str, trial: Trial) -> bool:
        """Whether the folder of that name is of the trial's configuration: its last digits say so
        where it cannot tell."""
        try:
            return is_of(trial_files.read_values(self.folder / name), trial.fingerprint)
        except FileNotFoundError:
            return False
        except InputError:
            return True

    # States

    def folder_of(self, trial: Trial) -> Path:
        return self.folder / trial.name

    def standing(self, trial: Trial) -> Standing:
        """Where the trial stands. Raises SlurmError where Slurm does not answer."""
        return self.standings([trial])[0]

    def standings(self, trials: Iterable[Trial]) -> list[Standing]:
        """Where the trials stand, with one question to Slurm for all of them."""
        trials = list(trials)
        begun = self._begun({trial.name for trial in trials})
        found = [
            self._tolerantly(one, self._from_files, one)
            if one.name in begun
            else Standing(one, State.PENDING)
            for one in trials
        ]
        self.liveness.look(one.lease for one in found if one.lease is not None)
        return [
            one if one.lease is None else self._tolerantly(one.trial, self._from_lease, one)
            for one in found
        ]

    def _begun(self, names: set[str]) -> set[str]:
        """Those of the trials that may have left anything, by one look at the whole folder."""
        try:
            without = names - set(os.listdir(self.folder))  # noqa: PTH208
            if without:
                without -= archive.trials(self.folder).keys()
            if without:
                # They may have been put back meanwhile.
                without -= set(os.listdir(self.folder))  # noqa: PTH208
        except FileNotFoundError:
            return set()
        except (OSError, InputError):
            return names  # let each of them say what it is
        return names - without

    def _tolerantly(self, trial: Trial, look: Callable[[_Of], Standing], of: _Of) -> Standing:
        """What is damaged, or cannot be read, is its own trial's problem, and no other's."""
        try:
            return look(of)
        except InputError as error:
            return Standing(trial, State.UNKNOWN, problem=error.what)
        except OSError as error:
            path = error.filename or self.folder_of(trial)
            return Standing(trial, State.UNKNOWN, problem=unreadable(path, error).what)

    def _from_files(self, trial: Trial) -> Standing:
        """What the trial's own files say; whether a lease's holder lives is not among it."""
        folder = self.folder_of(trial)
        try:
            files = {path.name for path in folder.iterdir()}
        except PermissionError as error:
            raise unreadable(folder, error) from None
        except (FileNotFoundError, NotADirectoryError):
            if not folder.is_symlink() and not folder.exists():
                return Standing(trial, State.DONE if self._is_done(folder) else State.PENDING)
            raise InputError(
                f"{folder} is not a folder, or a link to nowhere",
                f"move it away: {move_away(folder)}",
            ) from None
        if trial_files.RUN in files:
            return Standing(trial, State.DONE)
        if leases.CLAIM in files:
            if (lease := leases.read(folder)) is not None:
                return Standing(trial, State.RUNNING, lease)
            # It may have been given back while we were reading, with more files.
            files = set(os.listdir(folder))  # noqa: PTH208
            if trial_files.RUN in files:
                return Standing(trial, State.DONE)
        if self._is_done(folder):
            return Standing(trial, State.DONE)
        if trial_files.PRUNED in files:
            return Standing(trial, State.PRUNED, pruned=trial_files.Pruned.read(folder))
        failure = trial_files.Failure.read(folder) if trial_files.FAILURE in files else None
        if failure is not None:
            return Standing(trial, State.FAILED, failure=failure)
        return Standing(trial, State.PENDING)

    def _is_done(self, folder: Path) -> bool:
        """Whether the trial has its run.parquet, in its folder or in a compact file, from which it
        may come back while we look. Raises InputError where a compact file is damaged."""
        run = folder / trial_files.RUN
        return run.exists() or archive.find(folder) is not None or run.exists()

    def _from_lease(self, standing: Standing) -> Standing:
        assert standing.lease is not None
        folder = self.folder_of(standing.trial)
        job = self.liveness.job(standing.lease)
        lost, heard = None, None
        if not self.liveness.is_alive(standing.lease, folder):
            state, lost = State.LOST, self.liveness.why_lost(standing.lease)
            pruned = trial_files.Pruned.read(folder)
            if pruned is not None:
                return replace(standing, state=State.PRUNED, pruned=pruned)
        elif standing.lease.submission and (job is None or job.state.is_queued):
            state = State.QUEUED
        else:
            state = State.RUNNING
            heard = leases.heard(folder)
        return replace(standing, state=state, job=job, lost=lost, heard=heard)

    def drivers(self) -> tuple[dict[str, Lease], list[InputError]]:
        """The leases of the drivers that its searches have now, by folder; and damaged ones."""
        found, problems = {}, []
        for folder in sorted(matching(self.folder, f"{SEARCHES}/*/")):
            try:
                lease = leases.read(folder)
            except (InputError, OSError) as error:
                what = error.what if isinstance(error, InputError) else str(error)
                problems.append(InputError(what, f"ls -l {folder}", exit_code=EXIT_IO))
                continue
            if lease is not None and self.liveness.is_alive(lease, folder):
                found[f"{SEARCHES}/{folder.name}"] = lease
        return found, problems

    # Leases

    def lease(self, trial: Trial, launch: float, log: str, **job: Any) -> Lease | None:
        """Hold the trial for this process; None where it is done, or held by another.

        `job` gives submission and task where the lease is for a Slurm job to come. Creates the
        trial's folder. Raises OSError where it cannot be written.
        """
        for _ in range(_TRIES):
            held = self._lease(trial, launch, log, job)
            # Another that took the lease before us took our folder for one that was left.
            if held is None or not _is_attempt(held) or self._has_folder(trial, held):
                return held
            self.release(trial, held)
        return None

    def _lease(self, trial: Trial, launch: float, log: str, job: dict[str, Any]) -> Lease | None:
        folder = self.folder_of(trial)
        if self._is_done(folder):
            return None
        folder.mkdir(parents=True, exist_ok=True)
        failure = trial_files.Failure.read(folder)
        number = failure.attempt + 1 if failure else 1
        wanted = Lease(number, unsaved.count(folder), launch, log, **job)
        if _is_attempt(wanted):
            attempt_folder.make(folder, wanted.token)
        held = None
        try:
            held = leases.take(folder, wanted, self.liveness.is_alive)
        finally:
            if held is None:
                attempt_folder.drop(folder, wanted.token)
        if held is not None:
            # Whoever runs it now wants all of it.
            (folder / trial_files.PRUNED).unlink(missing_ok=True)
            archive.look_anew(self.folder)
        if held is not None and self._is_done(folder):
            # Between our look and our lease it was finished by its holder before us, or compacted.
            self.release(trial, held)
            return None
        return held

    def _has_folder(self, trial: Trial, lease: Lease) -> bool:
        return attempt_folder.path_of(self.folder_of(trial), lease.token).is_dir()

    def take_over(self, trial: Trial, held: Lease, own: Lease) -> Lease | None:
        """Make the lease that a launch took for this job the job's own; None where it is no longer
        in force. Raises OSError."""
        folder = self.folder_of(trial)
        attempt_folder.make(folder, own.token)
        if leases.install(folder, held, own):
            return own
        attempt_folder.drop(folder, own.token)
        return None

    def release(self, trial: Trial, lease: Lease) -> None:
        """Give the trial back. A lease that is no longer ours is left alone."""
        folder = self.folder_of(trial)
        if (folder / trial_files.RUN).exists():
            leases.clear(folder)
        else:
            leases.release(folder, lease)
        attempt_folder.drop(folder, lease.token)

    def finish(self, trial: Trial, lease: Lease) -> None:
        """The trial is done: an earlier attempt's failure no longer matters."""
        folder = self.folder_of(trial)
        (folder / trial_files.FAILURE).unlink(missing_ok=True)
        unsaved.clear(folder)
        self.release(trial, lease)

    def fail(self, trial: Trial, lease: Lease, failure: trial_files.Failure) -> None:
        """The attempt failed: say why, and within which launch, then give the trial back.

        Where another attempt holds it by now, this one's failure is not recorded.
        """
        folder = self.folder_of(trial)
        if not leases.is_held(folder, lease):
            return
        try:
            before = trial_files.Failure.read(folder)
        except InputError:
            before = None  # a damaged one gives way
        launches = [*(before.launches if before else []), lease.launch]
        try:
            files = attempt_folder.take_over(folder, lease.token)
            replace(failure, launches=launches).write(files)
            attempt_folder.publish(files, folder, [trial_files.FAILURE])
            unsaved.clear(folder)
            with contextlib.suppress(OSError):
                files.rmdir()  # where nothing else is in it
        except LostTrialError:
            pass
        self.release(trial, lease)


def _is_attempt(lease: Lease) -> bool:
    """Not one that only holds the trial until a job begins."""
    return lease.started or not lease.submission


def resolve(results: Path, name: str) -> TrialStore:
    """The store of a sweep that was launched. Raises InputError, with near names, where there is
    none, and where the results folder cannot be read."""
    warn_of_writers(results)
    known = launched(results)
    if name not in known:
        raise InputError(
            f"no sweep {name!r} in {results}",
            nearest(name, known) if known else f"launch it: python -m sweeps.launch {name}",
        )
    return TrialStore(results, name, Liveness.here())


def launched(results: Path) -> list[str]:
    """The sweeps that have a plan in the results folder, and the folders that cannot be looked
    into. Raises InputError where the results folder cannot be read."""
    return [name for name in plan_files.sweeps(results) if is_name(name)]
