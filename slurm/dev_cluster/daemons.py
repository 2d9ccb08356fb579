"""The processes of a development cluster: started, found again and ended.

A daemon is found again by its pid and its start time, kept in a file; and everything that belongs
to a cluster by what it carries in its environment: daemons a mark, jobs the cluster's SLURM_CONF
with the name of a node. No process is ever looked up by its name.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from local_machine import clock, processes
from local_machine.errors import SlurmError
from local_machine.files import read_regular

MARK = "SLURM_DEV_CLUSTER"
PROC = Path("/proc")
SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")
POLL_SECONDS = 0.02
# SIGKILL ends a process at once, unless it is stuck in the kernel.
KILL_SECONDS = 10.0
TERM_SECONDS = 10.0


@dataclass
class Daemon:
    """One daemon of the cluster in `folder`, running or not.

    `ready` says whether it answers; it is asked only after a start.
    """

    name: str
    command: list[str]
    folder: Path
    ready: Callable[[], bool]
    # Set in the process that started it, which alone can collect its end.
    _child: processes.Process[bytes] | None = field(default=None, repr=False)

    @property
    def output(self) -> Path:
        """What it prints: the end of it says why it ended. Its log is the file beside it."""
        return self.folder / "log" / f"{self.name}.out"

    @property
    def _file(self) -> Path:
        return self.folder / "run" / f"{self.name}.pid"

    def pid(self) -> int | None:
        """None where it does not run."""
        if self._child is not None:
            self._child.poll()  # else it stays a zombie for as long as we live
        try:
            pid, started = (int(word) for word in read_regular(self._file).split())
        except (FileNotFoundError, ValueError):
            return None
        return pid if start_ticks(pid) == started else None

    def start(self) -> None:
        """Start it, unless it runs; do not wait until it answers."""
        if self.pid() is not None:
            return
        with self.output.open("ab") as output:
            self._child = processes.start(
                self.command,
                cwd=self.folder,
                env=environment(self.folder),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                umask=0o022,
            )
        self._file.write_text(f"{self._child.pid} {start_ticks(self._child.pid) or 0}\n")

    def wait_ready(self, deadline: float) -> None:
        """Wait until it answers.

        Raises SlurmError, with the end of its log, when it ends or `deadline` (clock.monotonic)
        passes.
        """
        while self.pid() is not None:
            if self.ready():
                return
            if clock.monotonic() > deadline:
                raise SlurmError(f"{self.name} does not answer{self._last_words()}", self._help())
            clock.sleep(POLL_SECONDS)
        raise SlurmError(f"{self.name} ended at its start{self._last_words()}", self._help())

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal and wait for its end: ten seconds at most, and then kill it."""
        deadline = clock.monotonic() + TERM_SECONDS
        while (pid := self.pid()) is not None:
            with contextlib.suppress(ProcessLookupError):
                processes.send_signal(pid, number)
            while self.pid() is not None and clock.monotonic() < deadline:
                clock.sleep(POLL_SECONDS)
            number, deadline = signal.SIGKILL, clock.monotonic() + KILL_SECONDS
        self._file.unlink(missing_ok=True)

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            if lines := read_regular(self.output).decode(errors="replace").strip().splitlines():
                return ": " + " | ".join(lines[-3:])
        return ""

    def _help(self) -> str:
        return f"read {self.output}; `up` again starts from nothing"


def environment(folder: Path) -> dict[str, str]:
    """What daemons and administrators' commands see: nothing of a job or cluster around us."""
    conf = folder / "etc" / "slurm.conf"
    return {"PATH": system_path(), "SLURM_CONF": str(conf), MARK: str(folder)}


def system_path() -> str:
    """$PATH, and where Debian keeps daemons: an ordinary user's does not look there."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *SBIN])


def end_all(folder: Path) -> None:
    """Kill every process of the cluster in `folder`: daemons, steps, and what jobs left behind.

    Raises SlurmError where one survives.
    """
    deadline = clock.monotonic() + KILL_SECONDS
    while pids := pids_in(folder):
        if clock.monotonic() > deadline:
            raise SlurmError(
                f"cannot kill {', '.join(map(str, pids))} of the cluster in {folder}",
                "they wait for the kernel (`ps -o pid,stat,wchan,args`): once gone, `down` again",
            )
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                processes.send_signal(pid, signal.SIGKILL)
        clock.sleep(POLL_SECONDS)


def pids_in(folder: Path) -> list[int]:
    """The pids of all that belongs to the cluster in `folder`, except our own.

    Those that carry its marks and their descendants; a shell in which SLURM_CONF was exported, or
    one of salloc's, does not count.
    """
    daemon = f"{MARK}={folder}".encode()
    conf = f"SLURM_CONF={folder}/etc/slurm.conf".encode()
    children: dict[int, list[int]] = {}
    found: list[int] = []
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        pid = int(entry.name)
        if (stat := _stat(pid)) is None:
            continue
        children.setdefault(int(stat[1]), []).append(pid)
        try:
            words = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        # Only what slurmd started knows the name of its node.
        in_job = conf in words and any(word.startswith(b"SLURMD_NODENAME=") for word in words)
        if daemon in words or in_job:
            found.append(pid)
    for pid in found:  # grows as we go
        found += [child for child in children.get(pid, []) if child not in found]
    return [pid for pid in found if pid != os.getpid()]


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since the machine did; None where there is none."""
    stat = _stat(pid)
    return None if stat is None else int(stat[19])


def _stat(pid: int) -> list[str] | None:
    """/proc/PID/stat from its third field on (state, parent, ...); None for one that is over."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The second field is the program's name, in parentheses, and may hold anything.
    words = text.rpartition(")")[2].split()
    return None if words[0] in "ZX" else words
