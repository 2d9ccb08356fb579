"""Claims: who holds a trial.

A claim is a file that only one process can create (by link). It is broken only when its holder's
process is gone, and then by one winner: whoever creates the dead claim's successor, a file named by
the dead claim's token. The winner alone may put the successor in claim.json's place; the slow, who
read the dead claim earlier, find the successor taken, or claim.json moved on, and step back.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from trainer import record
from trainer.errors import EXIT_IO, InputError

SCHEMA_VERSION = 1
CLAIM = "claim.json"


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
    submission: str = ""  # of the Slurm job that is to run the trial: the token in its comment
    task: int = 0  # which of the submission's array
    job: str = ""  # Slurm's id, once it is known
    started: bool = False  # whether the job itself has taken the claim over from its launch
    restarts: int = 0  # of the job, by Slurm's count
    schema_version: int = SCHEMA_VERSION

    @property
    def is_own_process(self) -> bool:
        """Whether its process is, beyond doubt, one that runs on this machine now."""
        return (
            self.host == socket.gethostname()
            and self.boot == _boot_id()
            and self.process_started != ""
            and _process_started(self.pid) == self.process_started
        )

    @property
    def has_live_process(self) -> bool:
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

    @property
    def has_died_here(self) -> bool:
        """Whether its process ran, beyond doubt, on this machine since it started, and is gone."""
        return (
            self.host == socket.gethostname()
            and self.boot == _boot_id() != "/"
            and _process_started(self.pid) != self.process_started
        )


_CLAIM = TypeAdapter(Claim)


def read(folder: Path) -> Claim | None:
    """The claim in force: claim.json, or a successor whose maker died before installing it.

    Raises InputError where the file is damaged.
    """
    claim = _read(folder / CLAIM)
    while claim is not None:
        successor = _read(_successor(folder, claim))
        if successor is None:
            break
        claim = successor
    return claim


def take(folder: Path, wanted: Claim, is_alive: Callable[[Claim], bool]) -> Claim | None:
    """Hold the trial in `folder` by the claim `wanted`; None where a living holder has it.

    Where a dead holder's claim is broken, the claim returned counts its attempt, and its death
    where it had saved nothing.
    Raises OSError where the folder cannot be written.
    """
    dead = read(folder)
    if dead is None:
        return wanted if _create(folder / CLAIM, wanted) else None
    if is_alive(dead):
        return None
    deaths = 0 if got_on(folder, dead) else 1
    if deaths and dead.launch == wanted.launch:
        deaths += dead.deaths
    claim = replace(wanted, attempt=dead.attempt + 1, deaths=deaths)
    successor = _successor(folder, dead)
    if not _create(successor, claim):
        return None
    # Nobody but us can replace the dead claim now, unless that was done before we came.
    if read(folder) != claim:
        successor.unlink(missing_ok=True)
        return None
    successor.replace(folder / CLAIM)
    # Slots of earlier claims lead nowhere now: those who made them died or step back.
    for stale in folder.glob(f".{CLAIM}.*.next"):
        if stale != _successor(folder, claim):
            stale.unlink(missing_ok=True)
    return claim


def got_on(folder: Path, claim: Claim) -> bool:
    """Whether the claim's holder saved anything; compares the file server's clock with its own."""
    try:
        return (folder / record.CHECKPOINT).stat().st_mtime > claim.claimed_at
    except FileNotFoundError:
        return False


def install(folder: Path, held: Claim, claim: Claim) -> bool:
    """Put `claim` in the place of `held`, by its holder; False where that is no longer in force."""
    if read(folder) != held:
        return False
    record.write_json(folder / CLAIM, asdict(claim))
    return True


def release(folder: Path, claim: Claim) -> None:
    """Remove the claim. One that is no longer in force is left alone."""
    path = folder / CLAIM
    if _read(path) == claim:
        path.unlink()


def _successor(folder: Path, claim: Claim) -> Path:
    return folder / f".{CLAIM}.{claim.token}.next"


def _read(path: Path) -> Claim | None:
    try:
        values = record.read_json(path)
    except FileNotFoundError:
        return None
    try:
        return _CLAIM.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"{path} is no claim: {'.'.join(map(str, first['loc']))}: {first['msg']}",
            f"see that no worker runs this trial, then remove it: {shlex.join(['rm', str(path)])}",
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
