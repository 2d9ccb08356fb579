"""Source: what reads a program's metrics.

A source gives rows in the order in which the program wrote them, each once, and says how far it has
read, so that a later attempt goes on there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

Raw = Mapping[str, Any]
"""A row as it was read: numbers, or texts that may be numbers."""
Position = dict[str, Any]
"""How far each file was read, as JSON can hold it."""


class Source(Protocol):
    def read(self) -> Sequence[Raw]:
        """The rows that came since the last call; what its program just removes has none. Raises
        OSError."""

    def files(self) -> list[Path]:
        """The files that it reads, as they are now. Raises OSError."""

    def end(self, *, is_whole: bool) -> None:
        """Nobody writes any more, so that `read` may take a last line that has no end; `is_whole`:
        the program came to its own end, so that no line is cut off."""

    def position(self) -> Position:
        """How far `read` has come."""

    @property
    def output(self) -> Path | None:
        """The file that gets the program's output, where that is what is read: a pipe would lose
        what a worker that is killed had not read."""

    def missing(self) -> str:
        """What a person is told where it gave no row."""
