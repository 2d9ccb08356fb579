"""docs/results.md names every column of a trial's Parquet files, with its type, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest

from trainer.config import TrainConfig
from trial_records import tables
from trial_records.columns import CLASSES_SCHEMA, LOGITS_SCHEMA, NAMED_SCHEMA, VALUES_SCHEMA

DOCUMENT = (Path(__file__).parents[1] / "docs" / "results.md").read_text()
WORDS = {
    "string": "text", "bool": "bool", "double": "float64", "int16": "int16", "int32": "int32",
    "int64": "int64", "list<element: float>": "list of float32",
}  # fmt: skip
# Of whole numbers and real ones, what says what one of them is; the configuration's say it in their
# sentences, and these are of anything.
WITHOUT_UNIT = {"seed", "lr", *TrainConfig.field_types()}


def section(title: str) -> list[list[str]]:
    """The cells of each row of a section's tables of four columns."""
    (text,) = re.findall(rf"^##+ {re.escape(title)}\n(.*?)(?=^##+ |\Z)", DOCUMENT, re.M | re.S)
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line[:3] == "| `"]
    return [[cell.strip() for cell in row] for row in rows if len(row) == 4]


NAMED = section("The first columns of each Parquet file")
ANY_TASK = NAMED + section("run.parquet of every task")


@pytest.mark.parametrize(
    ("rows", "schema"),
    [
        (NAMED, NAMED_SCHEMA),
        (ANY_TASK, tables.TASK_RUN_SCHEMA),
        (section("epochs.parquet of the task trainer"), tables.EPOCHS_SCHEMA),
        (section("predictions.parquet of the task trainer"), tables.PREDICTIONS_SCHEMA),
        (section("Labels and logits"), LOGITS_SCHEMA),
        (section("Labels and predicted classes"), CLASSES_SCHEMA),
        (section("Targets and values"), VALUES_SCHEMA),
        (
            [row for row in ANY_TASK if row[0] != "`seed`"]
            + section("run.parquet of the task trainer"),
            tables.run_schema(),
        ),
    ],
    ids=[
        "named",
        "any task",
        "epochs",
        "predictions",
        "logits",
        "classes",
        "values",
        "trainer",
    ],
)
def test_every_column_is_documented_with_its_type_and_unit(
    rows: list[list[str]], schema: pa.Schema
) -> None:
    said = [(name.strip("`"), kind) for name, kind, _, _ in rows]
    assert said == [(field.name, WORDS[str(field.type)]) for field in schema]
    for (name, kind, unit, text), field in zip(rows, schema, strict=True):
        is_number = kind in ("int16", "int32", "int64", "float64")
        assert not is_number or unit or field.name in WITHOUT_UNIT, f"{name} has no unit"
        assert len(text) > 2, f"{name} is not explained"
        assert field.nullable or "never empty" in text, f"{name} is never empty"


def test_the_configurations_sentences_are_its_own() -> None:
    rows = {row[0].strip("`"): row[3] for row in section("run.parquet of the task trainer")}
    for name in TrainConfig.field_types():
        assert rows[name] == TrainConfig.describe(name).rstrip("."), name
