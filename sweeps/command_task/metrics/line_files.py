"""Metrics in text files that grow by lines: JSON lines and CSV."""

from __future__ import annotations

import csv
import json
import logging
import re
import sys
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_machine.files import matching
from sweeps.command_task.metrics.source import Position, Raw
from trial_records.fields.sections import leaves

log = logging.getLogger("sweeps.command_task")

# A cell may hold a text of any length, such as a list in JSON; what is not a number is left out.
csv.field_size_limit(sys.maxsize)

# What is compared to see that a file is still the one that was read so far.
_EDGE = 4096


@dataclass
class _Read:
    """How far a file was read."""

    offset: int = 0
    begin: int = 0  # the CRC-32 of its first bytes, and of the last ones before the offset
    end: int = 0
    stamp: tuple[int, int] = (-1, -1)  # size and time of the last look, in this process


class LineFiles(ABC):
    """Files of a folder by a name that may have wildcards, in the order of their names. A file that
    was written again is read from its beginning."""

    def __init__(self, folder: Path, glob: str, position: Position) -> None:
        self._folder, self._glob = folder, glob
        self._is_over = self._is_whole = False
        self._files = {name: _Read(*given) for name, given in position.items()}
        self._seen = False

    @abstractmethod
    def parsed(self, name: str, lines: list[str], head: str) -> list[Raw]:
        """Rows of whole lines of a file whose first line is `head`, which is not among them."""

    has_head = False
    takes_unended = False
    """Whether a last line that has no end is one, once nobody writes any more."""

    ends: tuple[bytes, ...] = (b"\n",)
    """What ends a line that is read; one that has not ended is read later."""
    output: Path | None = None

    def files(self) -> list[Path]:
        return [path for path in sorted(matching(self._folder, self._glob)) if path.is_file()]

    def read(self) -> Sequence[Raw]:
        found: list[Raw] = []
        with suppress(FileNotFoundError):
            for path in self.files():
                self._seen = True
                with suppress(FileNotFoundError):
                    found += self._read(path)
        return found

    def end(self, *, is_whole: bool) -> None:
        self._is_over, self._is_whole = True, is_whole
        for state in self._files.values():
            state.stamp = (-1, -1)

    def _read(self, path: Path) -> list[Raw]:
        name = str(path.relative_to(self._folder))
        state = self._files.setdefault(name, _Read())
        stat = path.stat()
        if state.stamp == (stat.st_size, stat.st_mtime_ns):
            return []
        with path.open("rb") as file:
            if state.offset and not _is_same(file, state):
                state.offset = 0
            head = file.readline() if self.has_head else b""
            if self.has_head and not head.endswith(b"\n"):
                return []
            file.seek(max(state.offset, len(head)))
            content = file.read()
            whole = content[: max(map(content.rfind, self.ends)) + 1]
            if self._is_over and len(whole) < len(content):
                if self.takes_unended or self._is_whole:
                    whole = content
                else:
                    log.warning("%s: its last line has no end, and is left out", path)
            offset = max(state.offset, len(head)) + len(whole)
            file.seek(0)
            begin = zlib.crc32(file.read(min(_EDGE, offset)))
            file.seek(max(0, offset - _EDGE))
            end = zlib.crc32(file.read(min(_EDGE, offset)))
        stamp = (stat.st_size, stat.st_mtime_ns)
        self._files[name] = _Read(offset, begin, end, stamp)
        return self.parsed(name, _lines(_text(whole)), _text(head).rstrip("\r\n"))

    def position(self) -> Position:
        return {name: [one.offset, one.begin, one.end] for name, one in self._files.items()}

    def missing(self) -> str:
        where = self._folder / self._glob
        return f"{where} has no row" if self._seen else f"{where} never appeared"


def _is_same(file: Any, state: _Read) -> bool:
    edge = min(_EDGE, state.offset)
    begin = file.read(edge)
    file.seek(state.offset - edge)
    end = file.read(edge)
    file.seek(0)
    return (
        len(begin) == len(end) == edge
        and zlib.crc32(begin) == state.begin
        and zlib.crc32(end) == state.end
    )


def _lines(text: str) -> list[str]:
    """Only what ends a line in a file: a text may hold what Unicode takes for one, too."""
    lines = re.split(r"\r\n|\n|\r", text)
    return lines if lines[-1] else lines[:-1]


def _text(content: bytes) -> str:
    return content.decode(errors="replace")


class JsonLines(LineFiles):
    """An object a line; what is nested gets dotted names. A line that is not one, as a killed
    program leaves it, is skipped."""

    takes_unended = True  # where it is cut, it is not JSON

    def parsed(self, name: str, lines: list[str], head: str) -> list[Raw]:
        found: list[Raw] = []
        for line in lines:
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                found.append(leaves(value))
        return found


class CsvFiles(LineFiles):
    """With a header line; an empty cell has no value. A row that is too short, as a killed program
    leaves it, is skipped."""

    has_head = True

    def parsed(self, name: str, lines: list[str], head: str) -> list[Raw]:
        columns = next(csv.reader([head]), [])
        rows = csv.reader(lines)
        return [
            {key: cell for key, cell in zip(columns, row, strict=True) if cell.strip()}
            for row in rows
            if len(row) == len(columns) and row != columns
        ]
