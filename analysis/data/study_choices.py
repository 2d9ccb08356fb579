"""Choices: what a study chose of its sweeps and from what, as its choices.json says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from local_machine.errors import EXIT_IO, InputError, move_away
from local_machine.files import matching
from local_machine.json_files import read_json
from trial_records.config import TRAINER

FILE = "choices.json"


class _Record(BaseModel):
    # Its other fields are for other readers.
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class Candidate(_Record):
    """A point that a stage could choose, and its trials, a value each; of the trainer a validation
    accuracy (0 to 1)."""

    point: dict[str, Any]
    trials: list[str]
    values: list[float] = Field(validation_alias=AliasChoices("values", "val_accuracies"))
    val_images: Annotated[int, Field(ge=1)] | None = None
    within_one_standard_error: bool


class LeftOut(_Record):
    """A trial without a value."""

    trial: str
    why: str


class Choice(_Record):
    """What one stage chose, by means over a point's trials; accuracies are fractions."""

    task: str = TRAINER
    """Which trained its trials."""
    metric: str = "validation accuracy"
    direction: Literal["maximize", "minimize"] = "maximize"
    stage: str
    kind: Literal["sweep", "search"]
    chosen: dict[str, Any]
    reported: dict[str, Any]
    mean: float = Field(validation_alias=AliasChoices("mean", "mean_val_accuracy"))
    best: dict[str, Any]
    best_mean: float = Field(validation_alias=AliasChoices("best_mean", "best_mean_val_accuracy"))
    standard_error: float | None
    standard_error_of: str
    candidates: Annotated[list[Candidate], Field(min_length=1)]
    left_out: list[LeftOut]

    @property
    def is_trainers(self) -> bool:
        """Whether values are accuracies of the task that comes with the project."""
        return self.task == TRAINER

    @property
    def sign(self) -> int:
        """By which a better value is the greater one."""
        return 1 if self.direction == "maximize" else -1


class Choices(_Record):
    """What a study chose, a stage at a time, by one rule."""

    schema_version: Literal[1]
    study: str
    scale: str
    rule: str
    stages: list[Choice]


def read_all(results: Path, problems: list[InputError]) -> Iterator[tuple[Path, Choices]]:
    """The choices of every study in a results folder; what is damaged is added to the problems."""
    for path in sorted(matching(results, f"*/{FILE}")):
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
                    "it was left in place; move it away, and the study's command writes it again: "
                    + move_away(path),
                    exit_code=EXIT_IO,
                )
            )
