"""A program on a pseudo-terminal of 80 x 24, and what stands on its screen."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path

WIDTH, HEIGHT = 80, 24
_PARTS = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)")


class Terminal:
    """A context in which the program runs."""

    def __init__(self, words: Sequence[str], cwd: Path) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
        environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            words, cwd=cwd, stdin=theirs, stdout=theirs, stderr=theirs,
            env=environment | {"TERM": "xterm-256color"},
        )  # fmt: skip
        os.close(theirs)
        self.written = b""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def until(self, holds: Callable[[list[str]], bool], seconds: float = 90) -> list[str]:
        """The first screen of which that holds."""
        deadline = time.monotonic() + seconds
        while not holds(found := screen(self.written.decode(errors="replace"))):
            assert time.monotonic() < deadline, "\n".join(found)
            assert self._read() or self.process.poll() is None, "\n".join(found)
        return found

    def end(self) -> int:
        """Wait for the program, and read the rest."""
        while self._read() or self.process.poll() is None:
            pass
        return self.process.wait()

    def _read(self) -> bool:
        if not select.select([self._ours], [], [], 0.1)[0]:
            return False
        with contextlib.suppress(OSError):  # Linux's word for: the other end is closed
            self.written += (found := os.read(self._ours, 65536))
            return bool(found)
        return False


def screen(written: str) -> list[str]:
    """The lines, of what rich writes: it goes up, clears lines and writes them again."""
    lines, row = [""], 0
    for argument, command, back, down, text in _PARTS.findall(written):
        if command == "A":
            row = max(0, row - int(argument or 1))
        elif command == "K" or back:
            lines[row] = "" if command else lines[row]
        elif down:
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif text:
            lines[row] += text
    return lines
