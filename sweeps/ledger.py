"""The ledger: a sweep's folder, read as plans, claims and states.

results/<sweep>/plans/<id>.json       the trials of one launch, written before anything runs
results/<sweep>/<trial>/              a trial's folder, made by its first attempt
results/<sweep>/<trial>/claim.json    there while an attempt holds the trial
results/<sweep>/compact/              finished trials, many in a file; read before their folders
results/<sweep>/logs/                 what the workers said
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from slurm.queue import Job
from sweeps import claim as claims
from sweeps.claim import Claim
from sweeps.scheduler import Scheduler
from sweeps.seen import Seen
from sweeps.sweep import Trial
from trainer import compact, record
from trainer.config import TrainConfig
from trainer.errors import EXIT_IO, InputError, move_away, nearest

SCHEMA_VERSION = 1
PLANS = "plans"
LOGS = "logs"
SEARCHES = "searches"


class State(StrEnum):
    """Where a trial stands."""

    PENDING = "pending"  # not begun, or handed back; may have a checkpoint
    QUEUED = "queued"  # a Slurm job that is to run it waits
    RUNNING = "running"  # an attempt holds it
    LOST = "lost"  # its attempt's process is gone
    PRUNED = "pruned"  # a search wanted no more of it; its epochs so far are kept
    FAILED = "failed"  # its last attempt ended in an error; failure.json says which
    DONE = "done"
    UNKNOWN = "unknown"  # a file that would tell is damaged

    @property
    def is_over(self) -> bool:
        """No attempt is needed or under way."""
        return self in (State.DONE, State.PRUNED, State.FAILED)


@dataclass(frozen=True)
class Plan:
    """The trials of one launch, as it was asked for."""

    sweep: str
    trials: list[Trial]
    scale: str
    overrides: Mapping[str, Any]
    axes: list[str]
    command: str
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    search: Mapping[str, Any] | None = None
    """What a search says of itself where its trials are these; then the plan grows."""
    search_id: str = ""

    @functools.cached_property
    def id(self) -> str:
        """8 hex digits: the search's, or what stands for the set of trials, so that the same trials
        are the same plan."""
        if self.search_id:
            return self.search_id
        joined = "\n".join(sorted(trial.config.fingerprint for trial in self.trials))
        return hashlib.sha256(joined.encode()).hexdigest()[:8]

    @property
    def setting(self) -> str:
        """Scale and overrides in a line."""
        words = ["search"] if self.search is not None else []
        words += [self.scale, *(f"{key}={value}" for key, value in self.overrides.items())]
        return " ".join(words)

    def head(self) -> dict[str, Any]:
        """What its file says beside the trials."""
        return {
            "schema_version": SCHEMA_VERSION,
            "sweep": self.sweep,
            "id": self.id,
            "scale": self.scale,
            "overrides": dict(self.overrides),
            "axes": self.axes,
            "seeds": sorted({trial.config.seed for trial in self.trials}),
            "created": self.created,
            "command": self.command,
            **({"search": dict(self.search)} if self.search is not None else {}),
        }


def trial_to_json(trial: Trial) -> dict[str, Any]:
    return {
        "name": trial.name,
        "fingerprint": trial.config.fingerprint,
        "point": dict(trial.point),
        "config": trial.config.model_dump(mode="json"),
    }


def _safe_name(name: str) -> str:
    if not record.is_name(name) or name in (PLANS, LOGS, SEARCHES, compact.FOLDER):
        raise ValueError(f"{name!r} is no name of a trial")
    return name


class _TrialFile(BaseModel):
    model_config = ConfigDict(strict=True)
    name: Annotated[str, AfterValidator(_safe_name)]
    point: dict[str, Any]
    config: TrainConfig


class _PlanFile(BaseModel):
    """What a plan's file must hold. Its other fields are for other readers."""

    model_config = ConfigDict(strict=True)
    schema_version: Literal[1]
    id: str
    search: dict[str, Any] | None = None
    scale: str
    overrides: dict[str, Any]
    axes: list[str]
    created: str
    command: str
    trials: Annotated[list[_TrialFile], Field(min_length=1)]


class _NamedTrial(BaseModel):
    model_config = ConfigDict(strict=True)
    name: Annotated[str, AfterValidator(_safe_name)]
    fingerprint: str


class _NamesFile(BaseModel):
    """What of a plan's file tells the names that it gave."""

    model_config = ConfigDict(strict=True)
    schema_version: Literal[1]
    created: str
    trials: list[_NamedTrial]


_File = TypeVar("_File", _PlanFile, _NamesFile)


@dataclass(frozen=True)
class Standing:
    """A trial and where it stands."""

    trial: Trial
    state: State
    claim: Claim | None = None
    failure: record.Failure | None = None
    pruned: record.Pruned | None = None
    job: Job | None = None  # the Slurm job that holds it, or held it
    problem: str | None = None  # why nobody can tell: a damaged file, by name


class Ledger:
    """One sweep's folder under a results folder."""

    def __init__(self, results: Path, sweep: str, scheduler: Scheduler | None = None) -> None:
        self.sweep = sweep
        self.folder = results / sweep
        self.scheduler = scheduler or Scheduler()
        self.seen = Seen(self.folder / LOGS)

    # Plans

    def write_plan(self, plan: Plan) -> None:
        """Record what a launch is about to run. The same trials again leave the file as it is.

        Raises InputError where the folder cannot be written.
        """
        path = self.folder / PLANS / f"{plan.id}.json"
        if path.exists():
            return
        try:
            self.rewrite_plan(plan, (json.dumps(trial_to_json(trial)) for trial in plan.trials))
        except OSError as error:
            raise InputError(
                f"cannot write {path}: {error.strerror}",
                "free some space there, or choose a folder that you may write with --results DIR",
                exit_code=EXIT_IO,
            ) from None

    def rewrite_plan(self, plan: Plan, trials: Iterable[str]) -> None:
        """Write a search's plan anew: it has more trials now, each given as `trial_to_json` has it,
        in JSON. To encode a thousand again for each one that is added would take longer than all
        else.

        Raises OSError as writing does.
        """
        path = self.folder / PLANS / f"{plan.id}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        head = json.dumps(plan.head(), allow_nan=False).removesuffix("}")
        text = f'{head}, "trials": [{", ".join(trials)}]}}'
        record.write_atomic(path, lambda file: file.write(text.encode()))

    def plans(self) -> list[Plan]:
        """Every plan, oldest first. Raises InputError for a damaged one."""
        found, problems = self.readable_plans()
        for problem in problems:
            raise problem
        return found

    def readable_plans(self) -> tuple[list[Plan], list[InputError]]:
        """Every plan that can be read, oldest first, and what is wrong with the others."""
        found, problems = [], []
        for path in sorted((self.folder / PLANS).glob("*.json")):
            try:
                found.append(self._read_plan(path))
            except InputError as problem:
                problems.append(problem)
        return sorted(found, key=lambda plan: (plan.created, plan.id)), problems

    def plan(self, identity: str) -> Plan:
        """Raises InputError where there is none or it is damaged."""
        return self._read_plan(self.folder / PLANS / f"{identity}.json")

    def _read_plan(self, path: Path) -> Plan:
        values = self._parse(path, _PlanFile)
        return Plan(
            self.sweep,
            [Trial(one.name, one.point, one.config) for one in values.trials],
            values.scale,
            values.overrides,
            values.axes,
            values.command,
            values.created,
            values.search,
            values.id if values.search is not None else "",
        )

    def _parse(self, path: Path, kind: type[_File]) -> _File:
        """Raises InputError where there is no such plan, or it is damaged."""
        try:
            return kind.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise InputError(
                f"no plan {path}", f"launch the sweep: python -m sweeps.launch {self.sweep}"
            ) from None
        except OSError as error:
            problem = f"cannot read {path}: {error.strerror}"
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            problem = f"{path} is no plan: {where}{': ' if where else ''}{first['msg']}"
        raise InputError(
            problem,
            f"move it away and launch the sweep again: {move_away(path)}",
            exit_code=EXIT_IO,
        )

    def _names(self) -> dict[str, str]:
        """The name that the newest plan gave to each configuration, by fingerprint.

        As the plans have them: to read and hash 10,000 configurations takes most of a second, and
        whoever runs one of them does.
        """
        paths = sorted((self.folder / PLANS).glob("*.json"))
        files = [(path.stem, self._parse(path, _NamesFile)) for path in paths]
        files.sort(key=lambda one: (one[1].created, one[0]))
        return {trial.fingerprint: trial.name for _, file in files for trial in file.trials}

    def settle_names(self, trials: Iterable[Trial]) -> list[Trial]:
        """The trials, each under the name by which a plan or a folder already knows its content.

        A definition that gained an axis calls the same configuration by a longer name. Raises
        InputError for a damaged plan or compact file.
        """
        known = self._names()
        try:
            folders = {entry.name for entry in os.scandir(self.folder) if entry.is_dir()}
        except (FileNotFoundError, NotADirectoryError):
            folders = set()
        folders |= compact.trials(self.folder).keys()
        by_suffix: dict[str, list[str]] = {}
        for name in folders:
            by_suffix.setdefault(name[-8:], []).append(name)
        settled = []
        for trial in trials:
            name = known.get(trial.config.fingerprint, trial.name)
            if name not in folders:
                for other in by_suffix.get(name[-8:], []):
                    try:
                        if record.read_config(self.folder / other) == trial.config:
                            name = other
                    except FileNotFoundError:
                        continue
                    except InputError:
                        name = other  # as its name says; its own standing tells what is wrong
            settled.append(Trial(name, trial.point, trial.config))
        return settled

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
            _tolerantly(self._from_files, one) if one.trial.name in begun else one
            for one in (Standing(trial, State.PENDING) for trial in trials)
        ]
        self.scheduler.look(one.claim for one in found if one.claim is not None)
        return [one if one.claim is None else _tolerantly(self._from_claim, one) for one in found]

    def _begun(self, names: set[str]) -> set[str]:
        """Those of the trials that may have left anything, by one look at the whole folder."""
        try:
            without = names - set(os.listdir(self.folder))  # noqa: PTH208
            if without:
                without -= compact.trials(self.folder).keys()
            if without:
                # They may have been put back meanwhile.
                without -= set(os.listdir(self.folder))  # noqa: PTH208
        except FileNotFoundError:
            return set()
        except (OSError, InputError):
            return names  # let each of them say what it is
        return names - without

    def _from_files(self, standing: Standing) -> Standing:
        """What the trial's own files say; whether a claim's holder lives is not among it."""
        trial = standing.trial
        folder = self.folder_of(trial)
        try:
            files = {path.name for path in folder.iterdir()}
        except (FileNotFoundError, NotADirectoryError):
            if not folder.is_symlink() and not folder.exists():
                return Standing(trial, State.DONE if self._is_done(folder) else State.PENDING)
            raise InputError(
                f"{folder} is no folder, or a link to nowhere", f"move it away: {move_away(folder)}"
            ) from None
        if record.RUN in files:
            return Standing(trial, State.DONE)
        if claims.CLAIM in files:
            claim = claims.read(folder)
            # Where it was given back while we were reading, look again.
            return Standing(trial, State.RUNNING, claim) if claim else self._from_files(standing)
        if self._is_done(folder):
            return Standing(trial, State.DONE)
        if record.PRUNED in files:
            return Standing(trial, State.PRUNED, pruned=record.Pruned.read(folder))
        failure = record.Failure.read(folder) if record.FAILURE in files else None
        if failure is not None:
            return Standing(trial, State.FAILED, failure=failure)
        return Standing(trial, State.PENDING)

    def _is_done(self, folder: Path) -> bool:
        """Whether the trial has its run.parquet, in its folder or in a compact file, from which it
        may come back while we look. Raises InputError where a compact file is damaged."""
        run = folder / record.RUN
        return run.exists() or compact.find(folder) is not None or run.exists()

    def _from_claim(self, standing: Standing) -> Standing:
        assert standing.claim is not None
        job = self.scheduler.job(standing.claim)
        if not self.scheduler.is_alive(standing.claim):
            state = State.LOST
            if (self.folder_of(standing.trial) / record.PRUNED).exists():
                pruned = record.Pruned.read(self.folder_of(standing.trial))
                return replace(standing, state=State.PRUNED, pruned=pruned)
        elif standing.claim.submission and (job is None or job.state.is_queued):
            state = State.QUEUED
        else:
            state = State.RUNNING
        return replace(standing, state=state, job=job)

    def drivers(self) -> tuple[dict[str, Claim], list[InputError]]:
        """The claims of the drivers that its searches have now, by folder; and damaged ones."""
        found, problems = {}, []
        for folder in sorted(self.folder.glob(f"{SEARCHES}/*/")):
            try:
                claim = claims.read(folder)
            except (InputError, OSError) as error:
                what = error.what if isinstance(error, InputError) else str(error)
                problems.append(InputError(what, f"ls -l {folder}", exit_code=EXIT_IO))
                continue
            if claim is not None and self.scheduler.is_alive(claim):
                found[f"{SEARCHES}/{folder.name}"] = claim
        return found, problems

    # Claims

    def claim(self, trial: Trial, launch: float, log: str, **job: Any) -> Claim | None:
        """Hold the trial for this process; None where it is done, or held by another.

        `job` gives submission and task where the claim is for a Slurm job to come. Creates the
        trial's folder. Raises OSError where it cannot be written.
        """
        folder = self.folder_of(trial)
        if self._is_done(folder):
            return None
        folder.mkdir(parents=True, exist_ok=True)
        failure = record.Failure.read(folder)
        wanted = Claim(failure.attempt + 1 if failure else 1, 0, launch, log, **job)
        held = claims.take(folder, wanted, self.scheduler.is_alive)
        if held is not None:
            # Whoever runs it now wants all of it.
            (folder / record.PRUNED).unlink(missing_ok=True)
        if held is not None and self._is_done(folder):
            # Its holder before us finished it between our look and our claim.
            claims.release(folder, held)
            return None
        return held

    def release(self, trial: Trial, claim: Claim) -> None:
        """Give the trial back. A claim that is no longer ours is left alone."""
        claims.release(self.folder_of(trial), claim)

    def finish(self, trial: Trial, claim: Claim) -> None:
        """The trial is done: an earlier attempt's failure no longer matters."""
        (self.folder_of(trial) / record.FAILURE).unlink(missing_ok=True)
        self.release(trial, claim)

    def fail(self, trial: Trial, claim: Claim, failure: record.Failure) -> None:
        """The attempt failed: say why, then give the trial back."""
        failure.write(self.folder_of(trial))
        self.release(trial, claim)


def _tolerantly(look: Callable[[Standing], Standing], standing: Standing) -> Standing:
    """What can't be read of a trial is its own problem, and no other trial's."""
    try:
        return look(standing)
    except InputError as error:
        problem = error.what
    except OSError as error:
        where = error.filename or standing.trial.name
        problem = f"cannot read {where}: {error.strerror or error}"
    return replace(standing, state=State.UNKNOWN, problem=problem)


def resolve(results: Path, name: str) -> Ledger:
    """The ledger of a sweep that was launched. Raises InputError, with near names, where none."""
    ledger = Ledger(results, name, Scheduler.here())
    if not record.is_name(name) or not (ledger.folder / PLANS).is_dir():
        known = launched(results)
        raise InputError(
            f"no sweep {name!r} in {results}",
            nearest(name, known) if known else f"launch it: python -m sweeps.launch {name}",
        )
    return ledger


def launched(results: Path) -> list[str]:
    """The sweeps that have a plan in the results folder."""
    names = (path.parent.name for path in results.glob(f"*/{PLANS}"))
    return sorted(name for name in names if record.is_name(name))
