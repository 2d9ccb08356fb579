"""Leases: who holds a trial.

A lease is a file that only one process can create (by link). The first is claim.json; the one that
comes after it is a file named by its token, and so on: a chain, whose end is the lease in force. It
is only ever added to, so nobody acts on what has changed since it was read: to break a lease whose
holder is gone, to take one over or to give one back is to create the file that follows it, which
one process can. Once the trial is done the chain means nothing, and is removed.

Two hosts' clocks never meet: launches are compared by identity, checkpoints by stamp, and how old a
file is by another one that was just written beside it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from local_machine import clock, processes
from local_machine.errors import EXIT_IO, InputError, printable
from local_machine.files import matching
from local_machine.json_files import read_json
from sweeps.state.access import PROBE, probe
from trial_records import rows
from trial_records.names import is_name
from trial_records.trial_files import ATTEMPT

SCHEMA_VERSION = 1
CLAIM = "claim.json"
# How the submission of a worker's leases begins, and the mark of one in the log folder.
WORKER = "worker-"
# A machine that was restarted is known by its files only once nothing was heard for so long: its
# copy under the same name, which runs, would have been heard of.
SILENT_SECONDS = 180.0
# What a person is told of: a file server may show what was written a minute late.
QUIET_SECONDS = 120.0


def _text(value: str) -> str:
    if len(value) > 300 or printable(value) != value or "\n" in value:
        raise ValueError("not a short line of text")
    return value


def _log_file(value: str) -> str:
    if value and not all(map(is_name, _text(value).split("/"))):
        raise ValueError("not a file beneath the sweep's folder")
    return value


# What others may have written: nothing of it reaches a terminal, a path or a signal unchecked.
Text = Annotated[str, AfterValidator(_text)]
LogFile = Annotated[str, AfterValidator(_log_file)]
Token = Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]{1,64}$")]
JobId = Annotated[str, Field(pattern=r"^(\d{1,20}([_+]\d{1,20})?)?$")]
Process = Annotated[int, Field(ge=1, le=2**31 - 1)]
Count = Annotated[int, Field(ge=0, le=2**63)]
Moment = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True)
class Lease:
    """Who holds a trial."""

    attempt: Count  # from 1; one more after each that failed or died, not after a hand-back
    deaths: Count  # attempts in a row that died within this launch
    launch: Moment  # the launch that the worker belongs to: its identity, only ever compared so
    log: LogFile  # the worker's log file, in the sweep's folder
    token: Token = field(default_factory=lambda: uuid.uuid4().hex)
    # Asked when a lease is made, so that a simulation can say which process makes it.
    host: Text = field(default_factory=lambda: processes.host())
    boot: Text = field(default_factory=lambda: processes.boot())
    pid: Process = field(default_factory=lambda: os.getpid())
    process_started: Text = field(default_factory=lambda: processes.started(os.getpid()))
    claimed_at: Moment = field(default_factory=clock.now)  # for people
    submission: Text = ""  # of the Slurm job that is to run the trial: the token in its comment
    task: Count = 0  # which of the submission's array
    job: JobId = ""  # Slurm's id, once it is known
    started: bool = False  # whether the job itself has taken the lease over from its launch
    restarts: Count = 0  # of the job, by Slurm's count
    # Of the job that has taken it over; "" where Slurm does not tell.
    cluster: Text = field(default_factory=lambda: os.environ.get("SLURM_CLUSTER_NAME", ""))
    machine: Text = field(default_factory=lambda: processes.machine())  # "" where nothing tells
    saved: Text | None = None  # which checkpoint was there when it was taken; "" for none
    host_gone: bool = False  # a person has said that the host is gone for good
    released: bool = False  # given back; with host_gone, by which version 0.1 goes on after it
    schema_version: int = SCHEMA_VERSION

    @property
    def is_own_process(self) -> bool:
        """Whether its process is, beyond doubt, one that runs on this machine now."""
        return self._is_of_this_boot and processes.is_running(self.pid, self.process_started)

    @property
    def has_died_here(self) -> bool:
        """Whether its process ran, beyond doubt, on this machine since it started, and is gone."""
        return self._is_of_this_boot and processes.is_gone(self.pid, self.process_started)

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is a process of which this machine cannot tell whether it lives, and of which
        Slurm knows nothing."""
        return self.submission == "" and not self._is_of_this_boot

    @property
    def is_of_earlier_boot(self) -> bool:
        """Whether this machine, by all that tells it from others, was restarted since."""
        boot, here = self.boot.partition("/")[0], processes.boot().partition("/")[0]
        same = self.host == processes.host() and self.machine == processes.machine() != ""
        return same and "" not in (boot, here) and boot != here

    @property
    def _is_of_this_boot(self) -> bool:
        return self.host == processes.host() and self.boot == processes.boot() != "/"


_CLAIM = TypeAdapter(Lease)
# What a file must say itself, since the defaults are this process's; and what 0.1 does not say.
_SAID = {"token", "host", "boot", "pid", "process_started"}
_UNSAID = {"machine": "", "cluster": ""}


def is_dead(folder: Path, lease: Lease) -> bool:
    """Whether the process that holds the folder is known to be gone."""
    if lease.host_gone or lease.has_died_here:
        return True
    if not lease.is_of_earlier_boot:
        return False
    quiet = silence(folder)
    return quiet is not None and quiet > SILENT_SECONDS


def is_held(folder: Path, mine: Lease) -> bool:
    """Whether the holder of `mine` still holds the folder. Raises InputError where the lease in
    force cannot be read."""
    now = read(folder)
    return now is not None and now.token == mine.token


def read(folder: Path) -> Lease | None:
    """The lease in force; None where there is none, or it was given back.

    Raises InputError where a file is damaged or cannot be read.
    """
    last = _last(folder)
    return None if last is None or last.released else last


def place_of(folder: Path, lease: Lease) -> Path | None:
    """The file of a lease, where that is the one in force. Raises InputError."""
    chain = _chain(folder)
    return chain[-1][0] if chain and chain[-1][1] == lease else None


def _chain(folder: Path) -> list[tuple[Path, Lease]]:
    """All leases of the folder since it was free, each with its file."""
    found: list[tuple[Path, Lease]] = []
    seen: set[str] = set()
    path = folder / CLAIM
    while (lease := _read(path)) is not None and lease.token not in seen:
        found.append((path, lease))
        seen.add(lease.token)
        path = _successor(folder, lease)
    return found


def _last(folder: Path) -> Lease | None:
    chain = _chain(folder)
    return chain[-1][1] if chain else None


def take(folder: Path, wanted: Lease, is_alive: Callable[[Lease, Path], bool]) -> Lease | None:
    """Hold the trial in `folder` by the lease `wanted`; None where a living holder has it.

    Where a dead holder's lease is broken, the lease returned counts its attempt, and its death
    where it had saved nothing.
    Raises OSError where the folder cannot be written.
    """
    last = _last(folder)
    wanted = replace(wanted, saved=checkpoint(folder))
    if last is None:
        return wanted if _create(folder / CLAIM, wanted) else None
    if last.released:
        return wanted if install(folder, last, wanted) else None
    if is_alive(last, folder):
        return None
    deaths = 0 if got_on(folder, last) else 1
    if deaths and last.launch == wanted.launch:
        deaths += last.deaths
    lease = replace(wanted, attempt=last.attempt + 1, deaths=deaths)
    return lease if install(folder, last, lease) else None


def give_up(folder: Path, held: Lease) -> bool:
    """Mark the lease as one whose host is gone, because a person says so; False where it is no
    longer in force. Its holder, should it come back, finds that it holds nothing any more."""
    try:
        return install(folder, held, replace(held, token=uuid.uuid4().hex, host_gone=True))
    except FileNotFoundError:
        return False  # its holder came to its end, and removed the folder


def install(folder: Path, held: Lease, lease: Lease) -> bool:
    """Put `lease`, which has a token of its own, after `held`; False where that is no longer in
    force. Raises OSError."""
    successor = _successor(folder, held)
    if not _create(successor, lease):
        return False
    if all(one.token != lease.token for _, one in _chain(folder)):
        # The trial was finished, and all its leases removed, since `held` was read.
        successor.unlink(missing_ok=True)
        return False
    return True


def release(folder: Path, lease: Lease) -> None:
    """Give the lease back. One that is no longer in force is left alone. Raises OSError."""
    if read(folder) != lease:
        return
    token = uuid.uuid4().hex
    try:
        install(folder, lease, replace(lease, token=token, host_gone=True, released=True))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        leave(folder, lease)  # a full disk still lets files be removed


def clear(folder: Path) -> None:
    """Remove the leases of a trial that is done: whoever still wants it sees that, once it holds
    it. Raises OSError."""
    (folder / CLAIM).unlink(missing_ok=True)
    for path in matching(folder, f".{CLAIM}.*.next"):
        path.unlink(missing_ok=True)


def leave(folder: Path, lease: Lease) -> None:
    """Give back the lease on a folder that is not a trial's, with nothing left of it. Nobody may
    say of its holder that it is gone just while it does this."""
    if read(folder) == lease:
        clear(folder)


def checkpoint(folder: Path) -> str:
    """What tells one checkpoint of a trial from the next, wherever it was moved; "" for none."""
    try:
        path = rows.checkpoint_of(folder)
        found = None if path is None else path.stat()
    except (OSError, InputError):
        found = None
    return "" if found is None else f"{found.st_mtime_ns} {found.st_size} {found.st_ino}"


def got_on(folder: Path, lease: Lease) -> bool:
    """Whether the lease's holder saved anything; of one that did not note what was there, whether
    anything is."""
    return checkpoint(folder) != (lease.saved or "")


def beat(folder: Path, lease: Lease) -> None:
    """Say that the folder's holder lives, on the file server's own clock."""
    # Gone, or unreadable: then somebody else says what is so.
    with contextlib.suppress(OSError, InputError):
        if (path := place_of(folder, lease)) is not None:
            os.utime(path)


def heard(folder: Path) -> float | None:
    """When the folder's holder was last heard of: when a file there last changed, in seconds since
    1970 on the file server's clock. Comparable with other files' times alone; None for no files."""
    times = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            # Neither is of the holder: whoever asks makes the one, whoever wants it the other.
            if entry.name.endswith(PROBE) or entry.name.startswith(ATTEMPT):
                continue
            with contextlib.suppress(OSError):
                times.append(entry.stat(follow_symlinks=False).st_mtime)
    return max(times, default=None)


def silence(folder: Path) -> float | None:
    """For how many seconds nothing was heard of the folder's holder; None where that cannot be
    told, because nothing can be written there."""
    last, now = heard(folder), probe(folder)
    return None if last is None or now is None else now.st_mtime - last


def since(heard: float | None) -> str:
    """`, nothing heard since 14:05 (2 h)`, by this machine's clock, for people alone; "" where that
    takes no time."""
    if heard is None or (seconds := clock.now() - heard) < QUIET_SECONDS:
        return ""
    form = "%H:%M" if seconds < 43200 else "%Y-%m-%d %H:%M"
    sizes = ((86400, "days"), (3600, "h"), (60, "min"))
    size, unit = next(one for one in sizes if seconds >= 2 * one[0])
    moment = time.strftime(form, time.localtime(heard))
    return f", nothing heard since {moment} ({seconds / size:.0f} {unit})"


def _successor(folder: Path, lease: Lease) -> Path:
    return folder / f".{CLAIM}.{lease.token}.next"


def _read(path: Path) -> Lease | None:
    try:
        values = read_json(path)
    except FileNotFoundError:
        return None
    try:
        if isinstance(values, dict) and (missing := sorted(_SAID - set(values))):
            problem = f"{missing[0]}: Field required"
        else:
            return _CLAIM.validate_python(_UNSAID | values if isinstance(values, dict) else values)
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    raise InputError(
        f"{path} is not a lease: {problem}",
        f"see that no worker runs this trial, then remove it: {shlex.join(['rm', str(path)])}",
        exit_code=EXIT_IO,
    )


def _create(path: Path, lease: Lease) -> bool:
    """Create the file whole, or not at all where there is one already."""
    part = path.with_name(f".{lease.token}.part")
    try:
        with part.open("w") as file:
            json.dump(asdict(lease), file)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(part, path)
        except OSError as error:
            # Over NFS the answer to a link that succeeded can get lost.
            if part.stat().st_nlink == 2:
                return True
            if isinstance(error, FileExistsError):
                return False
            raise
        return True
    finally:
        part.unlink(missing_ok=True)
