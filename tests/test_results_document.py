"""docs/results.md names every column of a trial's files, with its type, and no other; its recipes
run."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from task_results import write_results

from sweeps.compact import archive_writer
from sweeps.state.trial_store import TrialStore
from trainer.config import TrainConfig

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "results.md").read_text()
# Of whole numbers and real ones, what says what one of them is; the configuration's say it in their
# sentences, and these are of anything.
WITHOUT_UNIT = {"seed", "lr", "schema_version", *TrainConfig.field_types()}
NUMBERS = ("int16", "int32", "int64", "float64", "number", "whole number")


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "write_results.py"))


def test_every_column_is_documented_as_its_schema_has_it(script: dict[str, Any]) -> None:
    assert script["written"](PAGE) == PAGE, "run: python docs/write_results.py"


def test_every_column_has_a_sentence_and_every_number_a_unit(script: dict[str, Any]) -> None:
    tables = list(script["_TABLE"].finditer(PAGE))
    assert len(tables) == sum(map(len, script["TABLES"].values()))
    for table in tables:
        for name, (_, kind, unit, text) in script["cells_of"](table["rows"]).items():
            assert kind not in NUMBERS or unit or name in WITHOUT_UNIT, f"{name} has no unit"
            assert len(text) > 2, f"{name} is not explained"


@pytest.mark.parametrize(
    ("before", "after", "is_restored"),
    [
        ("| `objective` | float64 |", "| `objective` | text |", True),
        ("; never empty |", " |", True),
        ("Passes over the training images", "Something else", True),
        # A sentence that was lost with its row is for a person to write.
        ("| `sweep` | text |", "| `sweeep` | text |", False),
        (
            "| `best_epoch` | int32 | epochs, from 0 | the epoch whose weights were tested |\n",
            "",
            False,
        ),
    ],
)
def test_what_differs_from_a_schema_is_corrected(
    script: dict[str, Any], before: str, after: str, is_restored: bool
) -> None:
    assert before in PAGE
    corrected = script["written"](PAGE.replace(before, after, 1))
    assert (corrected == PAGE) == is_restored
    assert (f"| {script['UNKNOWN']} |" in corrected) != is_restored


RECIPES = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with results: one sweep as it was left, and an equal one that was compacted."""
    folder = tmp_path_factory.mktemp("recipes")
    for name in ("lr", "packed"):
        write_results(folder / "results", name)
    store = TrialStore(folder / "results", "packed")
    with archive_writer.held(store) as place:
        assert archive_writer.gather(store, store.plans()[0].trials, place).added == 5
    return folder


def run(kind: str, code: str) -> pd.DataFrame:
    """What the recipe comes to."""
    if kind == "sql":
        import duckdb

        frame: pd.DataFrame = duckdb.sql(code).df()
        return frame
    names: dict[str, Any] = {}
    exec(compile(code, "docs/results.md", "exec"), names)
    table = names["table"]
    return (
        table if isinstance(table, pd.DataFrame) else pd.DataFrame(table.to_dict(as_series=False))
    )


@pytest.mark.parametrize("number", range(4))
def test_recipes_join_all_rows_of_all_trials(
    number: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    found = run(*RECIPES[number])
    assert len(found) == 2 * 5 * 3
    assert {*found["sweep"]} == {"lr", "packed"}
    by_rate = found.groupby("config.lr")["loss"].count()
    assert by_rate.to_dict() == {0.1: 2 * 3 * 2, 0.01: 2 * 2 * 2}
    assert found["best.loss"].notna().all()


def test_the_recipe_for_the_best_mean(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert len(RECIPES) == 5
    found = run(*RECIPES[4])
    assert found["seeds"].tolist() == [3, 3, 2, 2]
    assert found["mean"].is_monotonic_increasing
    assert found["mean"].tolist() == pytest.approx([1.1, 1.1, 1.35, 1.35])
