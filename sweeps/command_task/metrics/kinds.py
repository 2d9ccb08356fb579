"""Which source a definition's text names.

metrics.jsonl            JSON lines; a name may have wildcards: logs/*/metrics.jsonl
metrics.csv              CSV with a header, as Lightning's CSVLogger writes it
trainer_state.json       of Hugging Face's Trainer, wherever it lies in the folder
tensorboard              event files, wherever they lie in the folder; tensorboard:runs/*
output: epoch {epoch} loss {loss}      a pattern of the lines that it prints; or a list of them
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from local_machine.errors import InputError
from sweeps.command_task.metrics.line_files import CsvFiles, JsonLines
from sweeps.command_task.metrics.output_pattern import OutputPattern, compiled
from sweeps.command_task.metrics.source import Position, Source
from sweeps.command_task.metrics.tensorboard_events import TensorBoardEvents
from sweeps.command_task.metrics.trainer_state import TrainerState

OUTPUT, TENSORBOARD, STATE = "output:", "tensorboard", "trainer_state.json"


def texts_of(metrics: Any) -> list[str]:
    """What a definition gives, a text or several. Raises InputError."""
    texts = [metrics] if isinstance(metrics, str) else metrics
    is_list = isinstance(texts, list | tuple) and texts
    if not is_list or not all(isinstance(text, str) and text for text in texts):
        raise InputError(
            f"metrics is {metrics!r}",
            'give a text: metrics="metrics.jsonl"; or a list of patterns of its output: '
            'metrics=["output: epoch {epoch}", "output: val loss {loss}"]',
        )
    return list(texts)


def source_of(
    metrics: str | Sequence[str],
    folder: Path,
    position: Position,
    step: str | None = None,
) -> Source:
    """The source that a definition names, of a program's folder, from a position on; `step` is
    what the program calls its step."""
    texts = texts_of(metrics)
    text = texts[0]
    if text.startswith(OUTPUT):
        patterns = [one.removeprefix(OUTPUT).strip() for one in texts]
        return OutputPattern(patterns, folder, position, step)
    if text.partition(":")[0] == TENSORBOARD:
        return TensorBoardEvents(folder, text.partition(":")[2] or "**", position)
    if text.rpartition("/")[2] == STATE:
        return TrainerState(folder, text if "/" in text else f"**/{STATE}")
    kind = CsvFiles if text.endswith(".csv") else JsonLines
    return kind(folder, text, position)


def check(metrics: str | Sequence[str]) -> None:
    """Raises InputError where it names nothing that can be read."""
    texts = texts_of(metrics)
    for text in texts:
        if len(texts) > 1 and not text.startswith(OUTPUT):
            raise InputError(
                f"metrics is a list, and {text!r} is not a pattern of the output",
                "name one file, which may have wildcards; or begin each text with `output: `",
            )
        _check(text)


def _check(text: str) -> None:
    if text.startswith(OUTPUT):
        compiled(text.removeprefix(OUTPUT).strip())
        return
    kind, _, glob = text.partition(":")
    if kind == TENSORBOARD:
        _check_tensorboard()
        text = glob or "**"
    elif text.rpartition("/")[2] != STATE and not text.endswith((".jsonl", ".ndjson", ".csv")):
        raise InputError(
            f"metrics is {text!r}, which is not a kind of file that can be read",
            "name a file in the program's folder: metrics.jsonl (JSON lines), metrics.csv, "
            f"{STATE}, tensorboard; or a pattern of its output: 'output: loss {{loss}}'",
        )
    if not is_in_folder(text):
        raise InputError(
            f"metrics is {text!r}, which is not in the program's folder",
            "have the program write into {folder}, or $SWEEPS_FOLDER, and name the file there",
        )


def is_in_folder(glob: str) -> bool:
    """Whether it is a pattern of paths that cannot lead out of a folder."""
    try:
        list(Path("/nowhere").glob(glob))
    except (ValueError, NotImplementedError, IndexError):
        return False
    return not glob.startswith("/") and ".." not in glob.split("/") and "\0" not in glob


def _check_tensorboard() -> None:
    if find_spec("tensorboard") is None:
        raise InputError(
            "metrics is tensorboard, and the package tensorboard is not installed",
            "pip install tensorboard",
        )
