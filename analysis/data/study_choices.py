"""Choices: what a study chose of its sweeps and from what, as its choices.json says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from local_machine.errors import EXIT_IO, InputError, move_away
from local_machine.json_files import read_json

FILE = "choices.json"


class _Record(BaseModel):
    # Its other fields are for other readers.
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class Candidate(_Record):
    """A point that a stage could choose, and its trials, a validation accuracy (0 to 1) each."""

    point: dict[str, Any]
    trials: list[str]
    val_accuracies: list[float]
    val_images: Annotated[int, Field(ge=1)]
    within_one_standard_error: bool


class LeftOut(_Record):
    """A trial without an accuracy."""

    trial: str
    why: str


class Choice(_Record):
    """What one stage chose. Accuracies are fractions, means over a point's trials."""

    stage: str
    kind: Literal["sweep", "search"]
    chosen: dict[str, Any]
    reported: dict[str, Any]
    mean_val_accuracy: float
    best: dict[str, Any]
    best_mean_val_accuracy: float
    standard_error: float
    standard_error_of: str
    candidates: Annotated[list[Candidate], Field(min_length=1)]
    left_out: list[LeftOut]


class Choices(_Record):
    """What a study chose, a stage at a time, by one rule."""

    schema_version: Literal[1]
    study: str
    scale: str
    rule: str
    stages: list[Choice]


def read_all(results: Path, problems: list[InputError]) -> Iterator[tuple[Path, Choices]]:
    """The choices of every study in a results folder; what is damaged is added to the problems."""
    for path in sorted(results.glob(f"*/{FILE}")):
        try:
            yield path, Choices.model_validate(read_json(path))
        except InputError as problem:
            problems.append(problem)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            problems.append(
                InputError(
                    f"{path} does not say what was chosen: {where}: {first['msg']}",
                    "it was left in place; move it away, and the study's command writes it anew: "
                    + move_away(path),
                    exit_code=EXIT_IO,
                )
            )
