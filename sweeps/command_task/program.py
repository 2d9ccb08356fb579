"""Program: one process of a user's program, its output and its end."""

from __future__ import annotations

import collections
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

import local_machine
from local_machine import clock, processes
from local_machine.secrets import masked
from sweeps.command_task import leftovers
from sweeps.command_task.metrics.output_bound import KEPT_BYTES
from sweeps.command_task.metrics.output_lines import Line, OutputLines

# What a log gets of an attempt's output, in bytes: its begin, and at the end its last lines.
SHOWN_BYTES, TAIL_LINES = KEPT_BYTES, 200
# How often a log gets a line that the next one overwrites: the state of a progress bar.
_BAR_SECONDS = 10.0
# How often a file of output is looked at.
_LOOK_SECONDS = 0.1
# The environment variable by which the processes of one start are found: those of a later attempt
# have the same folder.
_OWN = "SWEEPS_PROGRAM"
_KEEPER = Path(local_machine.__file__).with_name("keeper.py")


class Program:
    """A running program, under a keeper that ends all of it when this process ends."""

    def __init__(
        self,
        words: Sequence[str],
        env: Mapping[str, str],
        directory: Path,
        output: Path | None = None,
    ) -> None:
        """`output` is a file to which it prints, by itself, instead of into a pipe. Raises
        OSError."""
        self._last: collections.deque[str] = collections.deque(maxlen=TAIL_LINES)
        self.killed = 0
        """How many processes it left behind, which were killed."""
        self.followed = 0
        """How far its file of output was read for the log."""
        self._output = output
        self._id = uuid.uuid4().hex
        self._bytes = 0
        self._bar_at = -_BAR_SECONDS
        told, tell = os.pipe()
        with ExitStack() as stack:
            stack.callback(os.close, tell)
            into: int | IO[bytes] = subprocess.PIPE
            if output is not None:
                into = stack.enter_context(output.open("ab"))
                _end_line(output)
                self._begin = output.stat().st_size  # of what this program prints
            self._keeper: processes.Process[bytes] = processes.start(
                [sys.executable, "-I", "-S", str(_KEEPER), str(tell), *words],
                stdin=subprocess.PIPE, stdout=into, stderr=subprocess.STDOUT,
                env={**env, _OWN: self._id}, pass_fds=(tell,), start_new_session=True,
                cwd=directory,
            )  # fmt: skip
        self._told = told
        self._code: int | None = None
        self._is_over = threading.Event()
        self._listener = threading.Thread(target=self._listen, name="output", daemon=True)
        self._listener.start()

    @property
    def tail(self) -> list[str]:
        """The last lines that it printed."""
        return [masked(line) for line in self._last]

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        if self._code is None and self._keeper.poll() is not None:
            self._finish()
        return self._code

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it and to what it started."""
        assert self._keeper.stdin is not None
        with suppress(OSError):
            self._keeper.stdin.write(bytes([number]))
            self._keeper.stdin.flush()

    def kill(self) -> None:
        """End all of it now, and wait for that."""
        assert self._keeper.stdin is not None
        with suppress(OSError):
            self._keeper.stdin.close()
        self._keeper.wait()
        if self._code is None:
            self._finish()

    def _finish(self) -> None:
        if self._keeper.returncode:
            # Somebody killed it, which ended the program, and not what that had started.
            leftovers.kill_by(_OWN, self._id)
        self._is_over.set()
        self._listener.join()
        if self._output is not None:
            with suppress(OSError):
                _end_line(self._output)
        with os.fdopen(self._told, "rb") as file:
            said = file.read()
        # A keeper that was killed says nothing.
        told: dict[str, Any] = json.loads(said) if said else {"code": -signal.SIGKILL, "killed": 0}
        self._code, self.killed = told["code"], told["killed"]
        left_out = self._bytes - SHOWN_BYTES
        if left_out > 0:
            _write([f"[{left_out / 2**20:,.0f} MiB of its output are left out; it ends:]"])
            _write(list(self._last))

    def _listen(self) -> None:
        lines = OutputLines()
        for content in self._piped() if self._output is None else self._followed(self._output):
            self._take(lines.add(content))
        self._take(lines.end())

    def _piped(self) -> Iterator[bytes]:
        assert self._keeper.stdout is not None
        while content := os.read(self._keeper.stdout.fileno(), 65_536):
            yield content

    def _followed(self, output: Path) -> Iterator[bytes]:
        """What comes to the file until all that could write to it has ended."""
        with suppress(OSError), output.open("rb") as file:
            file.seek(self._begin)
            while True:
                is_over = self._is_over.is_set()
                while content := file.read(65_536):
                    yield content
                    self.followed = file.tell()
                if is_over:
                    return
                self._is_over.wait(_LOOK_SECONDS)

    def _take(self, lines: Sequence[Line]) -> None:
        shown = [line.text for line in lines if not line.is_overwritten or self._is_bar_due()]
        self._last.extend(shown)
        self._bytes += sum(len(line) + 1 for line in shown)
        if self._bytes <= SHOWN_BYTES:
            _write(shown)

    def _is_bar_due(self) -> bool:
        if clock.monotonic() - self._bar_at < _BAR_SECONDS:
            return False
        self._bar_at = clock.monotonic()
        return True


def _end_line(path: Path) -> None:
    """A line that does not end, as a killed program leaves it, ends here. Raises OSError."""
    with path.open("ab+") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) not in b"\r\n":
                file.write(b"\n")


def _write(lines: Sequence[str]) -> None:
    """Into the worker's log."""
    with suppress(OSError, ValueError):
        sys.stderr.write("".join(f"{masked(line)}\n" for line in lines))
        sys.stderr.flush()
