"""OutputLines: a program's output as the lines that a person would see of it.

Colours and other escape sequences are taken out, and so is all else that a terminal would obey. A
progress bar that overwrites itself, by a carriage return, is one line again and again.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from local_machine.terminal import printable

# A line that does not end is broken here, in bytes.
LINE_BYTES = 65_536
# The last byte may be half of "\r\n".
_END = re.compile(rb"(\r*\n|\r(?=[^\r\n]))")
# CSI, OSC and other sequences, as ECMA-48 has them.
_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])"
)


class Line(NamedTuple):
    text: str
    is_overwritten: bool
    """The next line takes its place on a terminal."""


class OutputLines:
    def __init__(self) -> None:
        self._rest = b""

    def add(self, content: bytes) -> list[Line]:
        """The lines that have ended with this."""
        content = self._rest + content
        if b"\r" in content:
            parts = _END.split(content)
            self._rest = parts.pop()
            lines = [
                Line(plain(text), end == b"\r")
                for text, end in zip(parts[::2], parts[1::2], strict=True)
            ]
        else:  # as most programs print, in a fifth of the time
            *whole, self._rest = content.split(b"\n")
            lines = [Line(plain(text), is_overwritten=False) for text in whole]
        if len(self._rest) > LINE_BYTES:
            lines += self.end()
        return lines

    def end(self) -> list[Line]:
        """What came behind the last line's end."""
        rest, self._rest = self._rest, b""
        return [Line(plain(rest), is_overwritten=False)] if rest else []


def plain(content: bytes) -> str:
    """Without what a terminal would obey; backspaces, with which progress bars go back, are
    blanks."""
    return plain_text(content.decode(errors="replace"))


def plain_text(text: str) -> str:
    """As `plain`, of text."""
    text = text.strip("\r")
    if text.isprintable():
        return text
    return printable(re.sub(r"[\b\r]+", " ", _ESCAPES.sub("", text)))
