"""Processes: which machine this is, which process a number meant, and whether that one is gone.
The one way to start processes, to send them signals and to learn this machine's name.

What cannot be seen proves nothing: a process of another user, of another container, or of a machine
that has only the same name, is never taken for gone.
"""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

from local_machine.errors import printable
from local_machine.files import matching

Process = subprocess.Popen
# For a simulation to replace.
run = subprocess.run
start = subprocess.Popen
send_signal = os.kill
signal_group = os.killpg

PROC = Path("/proc")
# Of the time namespace that a machine starts with. Start times are told as the reader's has them.
_FIRST_TIME = "time:[4026531834]"


def host_name() -> str:
    return socket.gethostname()


def host() -> str:
    """This machine's name, as leases have it."""
    return printable(host_name())[:255]


@cache
def boot() -> str:
    """This boot of this machine, and the namespaces in which a process has its number and its start
    time; "/" where the system does not tell."""
    if sys.platform != "linux":
        return f"{sys.platform}/"
    try:
        boot_id = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespaces = f"{(PROC / 'self/ns/pid').readlink()}"
        time = (PROC / "self/ns/time").readlink() if (PROC / "self/ns/time").exists() else ""
    except OSError:
        return "/"
    return f"{boot_id}/{namespaces}" + (f"/{time}" if str(time) not in ("", _FIRST_TIME) else "")


@cache
def machine() -> str:
    """What tells this machine from every other of the same name, over restarts; "" where nothing
    does. Copies of a virtual machine may share their /etc/machine-id, so their network counts too.
    """
    try:
        identity = Path("/etc/machine-id").read_text().strip()
        cards = matching(Path("/sys/class/net"), "*/device")
        addresses = sorted((card.parent / "address").read_text().strip() for card in cards)
    except OSError:
        return ""
    if len(identity) != 32 or not addresses:
        return ""
    return hashlib.sha256("\n".join([identity, *addresses]).encode()).hexdigest()[:32]


def started(pid: int) -> str:
    """When the process started, which tells it from a later one of the same number; "" where there
    is none, and where that cannot be seen."""
    found = _stat(pid)
    return "" if found is None or found[0] in _DEAD else found[1]


def is_running(pid: int, since: str) -> bool:
    """Whether this is, beyond doubt, the process that started then, and runs."""
    return since != "" and started(pid) == since


def is_gone(pid: int, since: str) -> bool:
    """Whether the process that started then is, beyond doubt, none of this machine's any more.

    One that has died but was not waited for is gone.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another user's
    found = _stat(pid)
    if found is None:
        return False
    return found[0] in _DEAD or (since != "" and found[1] != since)


def owner(pid: int) -> int | None:
    """The user whose process it is; None where that cannot be seen."""
    try:
        return (PROC / str(pid)).stat().st_uid
    except OSError:
        return None


def command(pid: int) -> list[str]:
    """The words of the process's command line; none where they cannot be seen."""
    return _words(pid, "cmdline")


def variables(pid: int) -> dict[str, str]:
    """The environment that the process was started with; empty where it cannot be seen."""
    pairs = (word.partition("=") for word in _words(pid, "environ"))
    return {name: value for name, _, value in pairs}


def folder(pid: int) -> Path | None:
    """The folder that the process works in; None where that cannot be seen."""
    try:
        return (PROC / str(pid) / "cwd").readlink()
    except OSError:
        return None


def _words(pid: int, name: str) -> list[str]:
    try:
        return os.fsdecode((PROC / str(pid) / name).read_bytes()).split("\0")[:-1]
    except OSError:
        return []


# Zombies, and processes on their way out.
_DEAD = frozenset("ZXx")


def _stat(pid: int) -> tuple[str, str] | None:
    """State and start of a process; None where they cannot be seen."""
    if sys.platform != "linux":
        return _ps(pid)
    try:
        # A container may see the /proc of its host, in which our numbers are other processes'.
        if (PROC / "self").readlink().name != str(os.getpid()):
            return None
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The second field is the command in brackets and may itself hold spaces and brackets.
    fields = text.rpartition(")")[2].split()
    return (fields[0], fields[19]) if len(fields) > 19 else None


def _ps(pid: int) -> tuple[str, str] | None:
    done = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)],
        capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"},
    )  # fmt: skip
    state, _, since = done.stdout.strip().partition(" ")
    return (state[0], since.strip()) if state else None
