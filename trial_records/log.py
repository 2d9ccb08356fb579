"""The log of a trial: what its attempts measured, written at once, a line for each call.

    41 5c2f90ab row {"epoch": 3, "val_accuracy": 0.91}

A line has the length and the CRC-32 of what follows, then its kind: `attempt` begins an attempt,
`row` is what it measured, `saved` says how many bytes a checkpoint has committed, `rewind` that a
program went back: all rows of later steps count no more. A reader takes every whole line up to the
first that is not. An attempt that goes on from a checkpoint first cuts the log to what that has
committed, so all rows before an `attempt` are committed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from local_machine import clock
from local_machine.errors import InputError
from local_machine.files import write_atomic
from trial_records.metrics import STEPS, check_metric_name

Number = int | float | bool
Values = dict[str, Number]

_FRAME = re.compile(rb"(0|[1-9]\d{0,8}) ([0-9a-f]{8}) ([a-z]+) ")


class Mark(NamedTuple):
    """A place in a log, and the digest of all before it."""

    bytes: int
    sha256: str


START = Mark(0, hashlib.sha256().hexdigest())


@dataclass(frozen=True)
class Row:
    """A row of a log: what one step measured."""

    values: Values
    attempt: int  # 0 where that is not known
    committed: bool
    """Whether a checkpoint has it; else an attempt says it, and may take it back."""


class Frame(NamedTuple):
    kind: str
    value: dict[str, Any]
    end: int  # where the next one begins


def frame(kind: str, value: Mapping[str, Any]) -> bytes:
    body = f"{kind} {json.dumps(value)}".encode()
    return b"%d %08x %s\n" % (len(body), zlib.crc32(body), body)


def frames(content: bytes) -> Iterator[Frame]:
    """All whole frames up to the first bad one. Raises nothing."""
    place = 0
    while (head := _FRAME.match(content, place)) is not None:
        begin = head.start(3)
        end = begin + int(head[1])
        body = content[begin:end]
        if content[end : end + 1] != b"\n" or zlib.crc32(body) != int(head[2], 16):
            return
        try:
            value = json.loads(body[len(head[3]) + 1 :])
        except (ValueError, RecursionError):
            return
        if not isinstance(value, dict):
            return
        place = end + 1
        yield Frame(head[3].decode(), value, place)


def committed(content: bytes, mark: Mark) -> bytes | None:
    """The log up to the mark; None where it is not what the mark is of."""
    begin = content[: mark.bytes]
    is_it = len(begin) == mark.bytes and hashlib.sha256(begin).hexdigest() == mark.sha256
    return begin if is_it else None


def rows(content: bytes) -> list[Row]:
    """The rows of a log, one for each step, in the order in which the steps came."""
    found: list[tuple[Values, int, int]] = []  # with their attempts and ends
    attempt = saved = 0
    for kind, value, end in frames(content):
        if kind == "attempt":
            number = value.get("attempt")
            attempt, saved = number if isinstance(number, int) else 0, end
        elif kind == "saved" and isinstance(value.get("bytes"), int):
            saved = max(saved, min(value["bytes"], end))
        elif kind == "rewind":
            found = [one for one in found if not _is_behind(one[0], value)]
        elif kind == "row" and all(isinstance(one, Number) for one in value.values()):
            found.append((value, attempt, end))
    merged: dict[Any, Row] = {}
    for number, (values, of, end) in enumerate(found):
        step = _step(values, number)
        old = merged.get(step, Row({}, of, True))
        merged[step] = Row(old.values | values, of, old.committed and end <= saved)
    return list(merged.values())


def _is_behind(values: Values, step: Mapping[str, Any]) -> bool:
    """Whether a row is of a later step than the one that a program went back to."""
    for name, place in step.items():
        own = values.get(name)
        if isinstance(own, int | float) and isinstance(place, int | float) and own > place:
            return True
    return False


def attempts(content: bytes) -> list[dict[str, Any]]:
    """What each attempt said of itself when it began, and its `seconds` up to its last save."""
    found: list[dict[str, Any]] = []
    for kind, value, _ in frames(content):
        if kind == "attempt":
            found.append(value)
        elif kind == "saved" and found and isinstance(value.get("seconds"), int | float):
            found[-1]["seconds"] = value["seconds"]
    return found


def _step(values: Values, number: int) -> Any:
    named = tuple(values.get(name) for name in STEPS)
    return number if named == (None, None) else named


def checked(values: Mapping[str, Any]) -> Values:
    """The values as numbers of Python. Raises InputError for what is not a number, by its name."""
    for name in values:
        check_metric_name(name)
    return {name: _number(name, value) for name, value in values.items()}


def _number(name: str, value: Any) -> Number:
    """Scalars of numpy and torch, too."""
    given = value
    if not isinstance(value, Number) and hasattr(value, "item"):
        # Of many values it is an error, which each library calls by another name.
        with suppress(ValueError, RuntimeError, TypeError):
            value = value.item()
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, int):
        raise InputError(f"the metric {name!r} is {value:e}", "log it as a float")
    kind = type(given).__name__
    raise InputError(
        f"the metric {name!r} is not a number but of type {kind}",
        "log one number (int, float, bool, or a scalar of numpy or torch) under each name; "
        "leave out what has no value",
    )


class LogWriter:
    """Writes the log of a trial, for one attempt: on from `begin`, what is committed of it."""

    def __init__(
        self,
        path: Path,
        begin: bytes,
        attempt: int,
        token: str,
        facts: Mapping[str, Any] = MappingProxyType({}),
        began: float | None = None,
    ) -> None:
        """`facts` is what the attempt says of itself beside; `began` when it did, by the monotonic
        clock, where that is not now. Raises OSError. A process that still has the old file open
        writes to nothing."""
        content = begin + frame("attempt", {**facts, "attempt": attempt, "token": token})
        self._began = clock.monotonic() if began is None else began
        write_atomic(path, lambda file: file.write(content))
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._digest = hashlib.sha256(content)
        self._end = len(content)
        # A checkpoint may be written in another thread than the rows.
        self._lock = threading.Lock()

    def append(self, kind: str, value: Mapping[str, Any]) -> None:
        """Raises OSError; the log then is as it was."""
        line = frame(kind, value)
        with self._lock:
            written = 0
            try:
                while written < len(line):
                    written += os.write(self._descriptor, line[written:])
            except OSError:
                os.ftruncate(self._descriptor, self._end)
                raise
            self._digest.update(line)
            self._end += len(line)

    def mark(self) -> Mark:
        """Where it ends now."""
        with self._lock:
            return Mark(self._end, self._digest.hexdigest())

    def sync(self) -> None:
        """All that was written is on the disk. Raises OSError."""
        os.fsync(self._descriptor)

    def saved(self, mark: Mark) -> None:
        """Tell readers what a checkpoint has committed. It is committed, whether they hear of it
        or not."""
        with suppress(OSError):
            self.append("saved", {"bytes": mark.bytes, "seconds": self.seconds})

    @property
    def seconds(self) -> float:
        """How long the attempt has run by now."""
        return clock.monotonic() - self._began

    def close(self) -> None:
        os.close(self._descriptor)


def values_of(found: Iterable[Row]) -> list[Values]:
    return [one.values for one in found]
