"""Brings the tables of docs/results.md to the schemas: which columns there are, of which types.

    python docs/write_results.py

Names, their order, types and "never empty" come from the schemas. Units and sentences are written
by hand in the page, and stay; only the configuration's sentences are its fields' own. A column that
has no sentence yet gets `?`, which a test refuses.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
from pydantic import BaseModel

from trainer.config import TrainConfig
from trial_records import columns, tables
from trial_records.plan import PlanFile, PlannedTask, PlannedTrial
from trial_records.trial_files import Failure, Pruned

PAGE = Path(__file__).parent / "results.md"
UNKNOWN = "?"
NEVER_EMPTY = "never empty"
_OF_PARQUET = {
    "string": "text", "bool": "bool", "double": "float64", "int16": "int16", "int32": "int32",
    "int64": "int64", "list<element: float>": "list of float32",
}  # fmt: skip
_OF_JSON = {str: "text", int: "whole number", float: "number", bool: "bool", list: "list"}


class Row(NamedTuple):
    """A column, or a field of a JSON file, as its schema has it."""

    name: str
    kind: str
    is_never_empty: bool = False
    sentence: str | None = None
    """Of the configuration's field; else the page has it."""


def of_schema(schema: pa.Schema, without: Iterable[str] = ()) -> list[Row]:
    left_out = {*without}
    return [
        Row(field.name, _OF_PARQUET[str(field.type)], not field.nullable)
        for field in schema
        if field.name not in left_out
    ]


def of_configuration() -> list[Row]:
    kinds = {row.name: row.kind for row in of_schema(tables.run_schema())}
    return [
        Row(name, kinds[name], sentence=TrainConfig.describe(name).rstrip("."))
        for name in TrainConfig.field_types()
    ]


def of_json(kind: type) -> list[Row]:
    """Of a dataclass or a pydantic model; all fields are there, and may be null."""
    names = (
        kind.model_fields
        if issubclass(kind, BaseModel)
        else [field.name for field in dataclasses.fields(kind)]
    )
    hints = typing.get_type_hints(kind)
    return [Row(name, _json_word(hints[name])) for name in names]


def _json_word(hint: Any) -> str:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return _OF_JSON[type(inner[0])]
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_json_word(one) for one in inner if one is not types.NoneType)
    return _OF_JSON.get(origin or hint, "object")


def _of_trainer() -> list[Row]:
    return of_schema(
        tables.run_schema(), (*tables.TASK_RUN_SCHEMA.names, *TrainConfig.field_types())
    )


# The tables of four columns, by the headings above them; some have two, in this order.
TABLES: dict[str, list[Callable[[], list[Row]]]] = {
    "The first columns of each Parquet file": [lambda: of_schema(columns.NAMED_SCHEMA)],
    "run.parquet of every task": [
        lambda: of_schema(tables.TASK_RUN_SCHEMA, columns.NAMED_SCHEMA.names)
    ],
    "run.parquet of the task trainer": [_of_trainer, of_configuration],
    "epochs.parquet of the task trainer": [lambda: of_schema(tables.EPOCHS_SCHEMA)],
    "Labels and logits": [lambda: of_schema(columns.LOGITS_SCHEMA)],
    "Labels and predicted classes": [lambda: of_schema(columns.CLASSES_SCHEMA)],
    "Targets and values": [lambda: of_schema(columns.VALUES_SCHEMA)],
    "predictions.parquet of the task trainer": [lambda: of_schema(tables.PREDICTIONS_SCHEMA)],
    "failure.json": [lambda: of_json(Failure)],
    "pruned.json": [lambda: of_json(Pruned)],
    "plans/ID.json": [
        lambda: of_json(PlanFile),
        lambda: of_json(PlannedTask),
        lambda: of_json(PlannedTrial),
    ],
}
_TABLE = re.compile(
    r"^\| (?:column|field) \| type \| unit \| what it says \|\n(?:\| --- ){4}\|\n"
    r"(?P<rows>(?:\|.*\|\n)*)",
    re.MULTILINE,
)


def written(page: str) -> str:
    """The page with its tables brought to the schemas. Raises ValueError where it lacks one."""
    for title, sources in TABLES.items():
        section = re.search(rf"^##+ {re.escape(title)}\n(?:(?!^##+ ).*\n?)*", page, re.MULTILINE)
        found = list(_TABLE.finditer(section[0])) if section else []
        if section is None or len(found) != len(sources):
            raise ValueError(
                f"docs/results.md: {title!r} has {len(found)} of {len(sources)} tables"
            )
        text = section[0]
        for table, source in reversed(list(zip(found, sources, strict=True))):
            rows = "".join(_line(row, cells_of(table["rows"])) for row in source())
            text = text[: table.start("rows")] + rows + text[table.end("rows") :]
        page = page.replace(section[0], text)
    return page


def cells_of(rows: str) -> dict[str, list[str]]:
    """The cells of a table's rows, by the names in the first."""
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in rows.splitlines()]
    return {line[0].strip().strip("`"): [cell.strip() for cell in line] for line in lines}


def _line(row: Row, known: Mapping[str, list[str]]) -> str:
    _, _, unit, sentence = known.get(row.name, ["", "", "", UNKNOWN])
    sentence = sentence if row.sentence is None else row.sentence
    if row.is_never_empty and NEVER_EMPTY not in sentence:
        sentence += f"; {NEVER_EMPTY}"
    if not row.is_never_empty:
        sentence = sentence.replace(f"; {NEVER_EMPTY}", "")
    return f"| `{row.name}` | {row.kind} | {unit} | {sentence} |\n"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
    print(PAGE)
