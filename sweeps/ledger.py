"""The ledger: a sweep's folder, read as plans, claims and states.

    results/<sweep>/plans/<id>.json       the trials of one launch, written before anything runs
    results/<sweep>/<trial>/              a trial's folder, made by its first attempt
    results/<sweep>/<trial>/claim.json    there while an attempt holds the trial
    results/<sweep>/logs/                 what the workers said

A claim is a file that only one process can create (by link). It is broken only when its holder's
process is gone, and then by one winner: whoever creates the dead claim's successor, a file named by
the dead claim's token. The winner alone may put the successor in claim.json's place; the slow, who
read the dead claim earlier, find the successor taken, or claim.json moved on, and step back.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from sweeps.sweep import NAME, Trial
from trainer import record
from trainer.config import TrainConfig
from trainer.errors import EXIT_IO, InputError, nearest

SCHEMA_VERSION = 1
CLAIM = "claim.json"
PLANS = "plans"
LOGS = "logs"
# A trial whose worker dies so often within one launch is given up until the next.
MAX_DEATHS = 3


class State(StrEnum):
    """Where a trial stands."""

    PENDING = "pending"  # not begun, or handed back; may have a checkpoint
    RUNNING = "running"  # an attempt holds it
    LOST = "lost"  # its attempt's process is gone
    FAILED = "failed"  # its last attempt ended in an error; failure.json says which
    DONE = "done"

    @property
    def is_over(self) -> bool:
        """No attempt is needed or under way."""
        return self in (State.DONE, State.FAILED)


@cache
def _boot_id() -> str:
    """This boot of this machine, and the process namespace; the latter alone where there is no
    /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return "/"


def _process_started(pid: int) -> str | None:
    """When the process started, which tells it from a later one of the same number; None if gone.

    A process that has died but not been waited for is gone.
    """
    if Path("/proc/self/stat").exists():
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        # The second field is the command in brackets and may itself hold spaces and brackets.
        fields = text.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    done = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, started = done.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else started.strip()


@dataclass(frozen=True)
class Claim:
    """Who holds a trial."""

    attempt: int  # from 1; one more after each that failed or died, not after a hand-back
    deaths: int  # attempts in a row that died within this launch
    launch: float  # the launch that the worker belongs to, seconds since 1970
    log: str  # the worker's log file, in the sweep's folder
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    host: str = field(default_factory=socket.gethostname)
    boot: str = field(default_factory=_boot_id)
    pid: int = field(default_factory=os.getpid)
    process_started: str = field(default_factory=lambda: _process_started(os.getpid()) or "")
    claimed_at: float = field(default_factory=time.time)
    schema_version: int = SCHEMA_VERSION

    @property
    def is_alive(self) -> bool:
        """False only where its process is known to be gone; on another machine nobody can tell."""
        if self.host != socket.gethostname():
            return True
        machine, _, namespace = self.boot.partition("/")
        here, _, here_namespace = _boot_id().partition("/")
        if machine != here:
            return False  # this machine has been restarted since
        if namespace != here_namespace:
            return True  # in another container, whose processes are not to be seen from here
        return _process_started(self.pid) == self.process_started


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

    @property
    def id(self) -> str:
        """8 hex digits that stand for the set of trials: the same trials are the same plan."""
        joined = "\n".join(sorted(trial.config.fingerprint for trial in self.trials))
        return hashlib.sha256(joined.encode()).hexdigest()[:8]

    @property
    def setting(self) -> str:
        """Scale and overrides in a line."""
        return " ".join([self.scale, *(f"{key}={value}" for key, value in self.overrides.items())])

    def to_json(self) -> dict[str, Any]:
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
            "trials": [trial_to_json(trial) for trial in self.trials],
        }


def trial_to_json(trial: Trial) -> dict[str, Any]:
    return {
        "name": trial.name,
        "fingerprint": trial.config.fingerprint,
        "point": dict(trial.point),
        "config": trial.config.model_dump(mode="json"),
    }


@dataclass(frozen=True)
class Standing:
    """A trial and where it stands."""

    trial: Trial
    state: State
    claim: Claim | None = None
    failure: record.Failure | None = None


class Ledger:
    """One sweep's folder under a results folder."""

    def __init__(self, results: Path, sweep: str) -> None:
        self.sweep = sweep
        self.folder = results / sweep

    # Plans

    def write_plan(self, plan: Plan) -> None:
        """Record what a launch is about to run. The same trials again leave the file as it is.

        Raises InputError where the folder cannot be written.
        """
        path = self.folder / PLANS / f"{plan.id}.json"
        if path.exists():
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            record.write_json(path, plan.to_json())
        except OSError as error:
            raise InputError(
                f"cannot write {path}: {error.strerror}",
                "free some space there, or choose a folder that you may write with --results DIR",
                exit_code=EXIT_IO,
            ) from None

    def plans(self) -> list[Plan]:
        """Every plan, oldest first. Raises InputError for a damaged one."""
        found = [self._read_plan(path) for path in sorted((self.folder / PLANS).glob("*.json"))]
        return sorted(found, key=lambda plan: (plan.created, plan.id))

    def plan(self, identity: str) -> Plan:
        """Raises InputError where there is none or it is damaged."""
        return self._read_plan(self.folder / PLANS / f"{identity}.json")

    def _read_plan(self, path: Path) -> Plan:
        try:
            values = record.read_json(path)
            trials = [
                Trial(
                    one["name"],
                    one["point"],
                    TrainConfig.from_json(json.dumps(one["config"]), where=str(path)),
                )
                for one in values["trials"]
            ]
            for trial in trials:
                if not NAME.fullmatch(trial.name):
                    raise ValueError(f"unsafe trial name {trial.name!r}")
            return Plan(
                self.sweep,
                trials,
                values["scale"],
                values["overrides"],
                values["axes"],
                values["command"],
                values["created"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path} is no plan: {type(error).__name__}: {error}",
                f"move it away and launch the sweep again: mv {path} {path}.damaged",
                exit_code=EXIT_IO,
            ) from None
        except FileNotFoundError:
            raise InputError(
                f"no plan {path}", f"launch the sweep: python -m sweeps.launch {self.sweep}"
            ) from None

    def settle_names(self, trials: Iterable[Trial]) -> list[Trial]:
        """The trials, each under the name of the folder that already holds its content.

        A definition that gained an axis calls the same configuration by a longer name.
        """
        try:
            folders = {entry.name for entry in os.scandir(self.folder) if entry.is_dir()}
        except (FileNotFoundError, NotADirectoryError):
            return list(trials)
        by_suffix: dict[str, list[str]] = {}
        for name in folders:
            by_suffix.setdefault(name[-8:], []).append(name)
        settled = []
        for trial in trials:
            name = trial.name
            if name not in folders:
                for other in by_suffix.get(name[-8:], []):
                    path = self.folder / other / record.CONFIG
                    if path.exists() and TrainConfig.from_file(path) == trial.config:
                        name = other
            settled.append(Trial(name, trial.point, trial.config))
        return settled

    # States

    def folder_of(self, trial: Trial) -> Path:
        return self.folder / trial.name

    def standing(self, trial: Trial) -> Standing:
        """Where the trial stands, from its files alone. Raises InputError for a damaged file."""
        folder = self.folder_of(trial)
        try:
            files = {path.name for path in folder.iterdir()}
        except (FileNotFoundError, NotADirectoryError):
            return Standing(trial, State.PENDING)
        if record.RUN in files:
            return Standing(trial, State.DONE)
        claim = self._claim(folder) if CLAIM in files else None
        if claim is not None:
            return Standing(trial, State.RUNNING if claim.is_alive else State.LOST, claim)
        if CLAIM in files:
            return self.standing(trial)  # it was given back while we were reading
        failure = record.Failure.read(folder) if record.FAILURE in files else None
        if failure is not None:
            return Standing(trial, State.FAILED, failure=failure)
        return Standing(trial, State.PENDING)

    def _claim(self, folder: Path) -> Claim | None:
        """The claim in force: claim.json, or a successor whose maker died before installing it."""
        claim = _read_claim(folder / CLAIM)
        while claim is not None:
            successor = _read_claim(_successor(folder, claim))
            if successor is None:
                break
            claim = successor
        return claim

    # Claims

    def claim(self, trial: Trial, launch: float, log: str) -> Claim | None:
        """Hold the trial for this process; None where it is done, or held by another.

        Creates the trial's folder. Raises OSError where it cannot be written.
        """
        folder = self.folder_of(trial)
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / record.RUN).exists():
            return None
        dead = self._claim(folder)
        if dead is None:
            failure = record.Failure.read(folder)
            claim = Claim(failure.attempt + 1 if failure else 1, 0, launch, log)
            if not _create(folder / CLAIM, claim):
                return None
        elif dead.is_alive:
            return None
        else:
            deaths = dead.deaths + 1 if dead.launch == launch else 1
            claim = Claim(dead.attempt + 1, deaths, launch, log)
            successor = _successor(folder, dead)
            if not _create(successor, claim):
                return None
            # Nobody but us can replace the dead claim now, unless that was done before we came.
            if self._claim(folder) != claim:
                successor.unlink(missing_ok=True)
                return None
            successor.replace(folder / CLAIM)
            # Slots of earlier claims lead nowhere now: those who made them died or step back.
            for stale in folder.glob(f".{CLAIM}.*.next"):
                if stale != _successor(folder, claim):
                    stale.unlink(missing_ok=True)
        if (folder / record.RUN).exists():
            self.release(trial, claim)
            return None
        return claim

    def release(self, trial: Trial, claim: Claim) -> None:
        """Give the trial back. A claim that is no longer ours is left alone."""
        path = self.folder_of(trial) / CLAIM
        if _read_claim(path) == claim:
            path.unlink()

    def finish(self, trial: Trial, claim: Claim) -> None:
        """The trial is done: an earlier attempt's failure no longer matters."""
        (self.folder_of(trial) / record.FAILURE).unlink(missing_ok=True)
        self.release(trial, claim)

    def fail(self, trial: Trial, claim: Claim, failure: record.Failure) -> None:
        """The attempt failed: say why, then give the trial back."""
        failure.write(self.folder_of(trial))
        self.release(trial, claim)


def _successor(folder: Path, claim: Claim) -> Path:
    return folder / f".{CLAIM}.{claim.token}.next"


def _read_claim(path: Path) -> Claim | None:
    try:
        return Claim(**record.read_json(path))
    except FileNotFoundError:
        return None
    except TypeError:
        raise InputError(
            f"{path} is no claim",
            f"see that no worker runs this trial, then remove it: rm {path}",
            exit_code=EXIT_IO,
        ) from None


def _create(path: Path, claim: Claim) -> bool:
    """Create the file whole, or not at all where there is one already."""
    part = path.with_name(f".{claim.token}.part")
    try:
        with part.open("w") as file:
            json.dump(asdict(claim), file)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(part, path)
        except FileExistsError:
            return False
        except OSError:
            # Over NFS the answer to a link that succeeded can get lost.
            if part.stat().st_nlink != 2:
                raise
        return True
    finally:
        part.unlink(missing_ok=True)


def resolve(results: Path, name: str) -> Ledger:
    """The ledger of a sweep that was launched. Raises InputError, with near names, where none."""
    ledger = Ledger(results, name)
    if not NAME.fullmatch(name) or not (ledger.folder / PLANS).is_dir():
        known = launched(results)
        raise InputError(
            f"no sweep {name!r} in {results}",
            nearest(name, known) if known else f"launch it: python -m sweeps.launch {name}",
        )
    return ledger


def launched(results: Path) -> list[str]:
    """The sweeps that have a plan in the results folder."""
    return sorted(path.parent.name for path in results.glob(f"*/{PLANS}"))
