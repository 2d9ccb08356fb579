"""Runs one program, and sees to it that nothing of it outlives its supervisor.

    python -I -S keeper.py STATUS PROGRAM ARGUMENT...

stdin is a pipe from the supervisor. Each byte on it is the number of a signal for the program's
process group; its end means that the supervisor is gone, however it ended: then all that the
program started is killed. When the program has ended, what it left behind is killed too, and one
line of JSON on the descriptor STATUS says how it ended: {"code": -15, "killed": 0}.

It is a program of its own and imports nothing of the project, so that it starts in 20 ms. Slurm
sends signals to every process of a job step: this one ignores them, and so does the program for
USR2, Slurm's warning, to which only the supervisor reacts.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time

# What Slurm, a terminal or a launch may send to a whole process group.
_SENT = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)
_WARNING = signal.SIGUSR2
# How long what a program left behind may take to end by itself.
_PATIENCE_SECONDS = 1.0
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
NOT_FOUND, NOT_STARTED = 127, 126


def main(status: int, words: list[str]) -> None:
    for number in (*_SENT, _WARNING, signal.SIGCONT):
        signal.signal(number, signal.SIG_IGN)
    os.set_inheritable(status, False)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # what loses its parent becomes a child of this process
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    begun, begins = os.pipe()  # the program has none of our descriptors: its begin closes them
    pid = os.fork()
    if not pid:
        _become(words)
    os.close(begins)
    os.read(begun, 1)  # a signal that came before it is the program would be lost
    code = _wait(pid, woken)
    killed = _end_rest(_PATIENCE_SECONDS)
    with contextlib.suppress(OSError):
        os.write(status, json.dumps({"code": code, "killed": killed}).encode())


def _become(words: list[str]) -> None:
    """In the child: become the program."""
    os.setpgid(0, 0)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.set_wakeup_fd(-1)
    for number in (*_SENT, signal.SIGCONT, signal.SIGCHLD, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        os.execvp(words[0], words)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        os.write(2, f"{words[0]} cannot be started: {error.strerror}\n".encode())
        os._exit(NOT_FOUND if missing else NOT_STARTED)


def _wait(pid: int, woken: int) -> int:
    """Until the program has ended, passing signals on; its exit code, negative for a signal."""
    sources = [0, woken]
    while True:
        while (ended := _reap()) is not None:
            if ended[0] == pid:
                return os.waitstatus_to_exitcode(ended[1])
        ready, _, _ = select.select(sources, [], [])
        if woken in ready:
            os.read(woken, 4096)
        if 0 in ready:
            numbers = os.read(0, 64)
            if not numbers:
                _end_rest(0.0)
                return -signal.SIGKILL
            for number in numbers:
                with contextlib.suppress(OSError, ValueError):
                    os.killpg(pid, number)


def _reap() -> tuple[int, int] | None:
    """A child that has ended and its status; None where none has."""
    try:
        ended = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return ended if ended[0] else None


def _end_rest(seconds: float) -> int:
    """Kill what is left after so many seconds; how many processes were killed."""
    deadline, killed = time.monotonic() + seconds, set()
    while rest := _descendants():
        if time.monotonic() >= deadline:
            for pid in rest:
                killed.add(pid)
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        while _reap() is not None:
            pass
        time.sleep(0.01)
    return len(killed)


def _descendants() -> set[int]:
    """All processes below this one that have not ended; those of its own group elsewhere than on
    Linux, which alone tells."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc") if sys.platform == "linux" else ():  # noqa: PTH208
        if name.isdecimal():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                # The name of the program, in brackets, may hold spaces and brackets.
                state, parent = file.read().rpartition(b")")[2].split()[:2]
                if state not in (b"Z", b"X"):
                    parents[int(name)] = int(parent)
    found: set[int] = set()
    wanted = {os.getpid()}
    while wanted:
        wanted = {pid for pid, parent in parents.items() if parent in wanted} - found
        found |= wanted
    return found


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
