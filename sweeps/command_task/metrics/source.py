"""Source: where a program's metrics are read, by a text that a definition gives.

    metrics.jsonl            JSON lines; a name may have wildcards: logs/*/metrics.jsonl
    metrics.csv              CSV with a header, as Lightning's CSVLogger writes it
    trainer_state.json       of Hugging Face's Trainer, wherever it lies in the folder
    tensorboard              event files, wherever they lie in the folder; tensorboard:runs/*
    output: epoch {epoch} loss {loss}      a pattern of the lines that it prints

A source gives rows in the order in which the program wrote them, each once, and says how far it has
read, so that a later attempt goes on there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from local_machine.errors import InputError

Raw = Mapping[str, Any]
"""A row as it was read: numbers, or texts that may be numbers."""
Position = dict[str, Any]
"""How far each file was read, as JSON can hold it."""
OUTPUT, TENSORBOARD = "output:", "tensorboard"
STATE = "trainer_state.json"


class Source(Protocol):
    def read(self) -> Sequence[Raw]:
        """The rows that came since the last call. Raises OSError."""

    def position(self) -> Position:
        """How far `read` has come."""

    def hear(self, line: str) -> None:
        """A line of the program's output."""

    def missing(self) -> str:
        """What a person is told where it gave no row."""


def source_of(text: str, folder: Path, position: Position) -> Source:
    """The source that a definition names, of a program's folder, from a position on."""
    if text.startswith(OUTPUT):
        from sweeps.command_task.metrics.output_pattern import OutputPattern

        return OutputPattern(text.removeprefix(OUTPUT).strip())
    if text.partition(":")[0] == TENSORBOARD:
        from sweeps.command_task.metrics.tensorboard_events import TensorBoardEvents

        return TensorBoardEvents(folder, text.partition(":")[2] or "**", position)
    if text.rpartition("/")[2] == STATE:
        from sweeps.command_task.metrics.trainer_state import TrainerState

        return TrainerState(folder, text if "/" in text else f"**/{STATE}")
    from sweeps.command_task.metrics.line_files import CsvFiles, JsonLines

    kind = CsvFiles if text.endswith(".csv") else JsonLines
    return kind(folder, text, position)


def check(text: str) -> None:
    """Raises InputError where the text names nothing that can be read."""
    if text.startswith(OUTPUT):
        from sweeps.command_task.metrics.output_pattern import compiled

        compiled(text.removeprefix(OUTPUT).strip())
        return
    kind, _, glob = text.partition(":")
    if kind == TENSORBOARD:
        check_tensorboard()
        text = glob or "**"
    elif text.rpartition("/")[2] != STATE and not text.endswith((".jsonl", ".ndjson", ".csv")):
        raise InputError(
            f"metrics is {text!r}, which is not a kind of file that can be read",
            "name a file in the program's folder: metrics.jsonl (JSON lines), metrics.csv, "
            f"{STATE}, tensorboard; or a pattern of its output: 'output: loss {{loss}}'",
        )
    if text.startswith("/") or ".." in text.split("/"):
        raise InputError(
            f"metrics is {text!r}, which is not in the program's folder",
            "have the program write into {folder}, or $SWEEPS_FOLDER, and name the file there",
        )


def check_tensorboard() -> None:
    from importlib.util import find_spec

    if find_spec("tensorboard") is None:
        raise InputError(
            "metrics is tensorboard, and the package tensorboard is not installed",
            "pip install tensorboard",
        )
