"""Predictions are read whole and right, or named and left."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from predicted_results import CIFAR, launch, only, predict, reported_predictions, seeded, table_of
from results_folder import finish

from analysis.data import predictions
from analysis.data.predictions import Predictions, same_images
from local_machine.errors import EXIT_IO, InputError
from trial_records.tables import PREDICTIONS_SCHEMA, write_table
from trial_records.trial_files import PREDICTIONS

# --- reading -----------------------------------------------------------------------------------

LABELS = [0, 1, 2, 1]

LOGITS = [[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.5, 0.25, 0.0], [1.0, 1.0, 0.0]]

RUN_ROW: dict[str, Any] = {
    "trial": "t-1",
    "status": "done",
    "classes": "a,b,c",
    "data": "1" * 64,
    "test_images": 4.0,
    "test_accuracy": 0.5,
}


def test_rows_are_read_by_index_whatever_their_order(tmp_path: Path) -> None:
    rows = table_of([9, 2, 7, 5], LABELS, LOGITS)
    write_table(tmp_path / PREDICTIONS, rows, PREDICTIONS_SCHEMA)
    found = predictions.read(tmp_path, RUN_ROW)
    assert found is not None
    assert found.trial == "t-1"
    assert found.classes == ("a", "b", "c")
    assert found.index.tolist() == [2, 5, 7, 9]
    assert found.labels.tolist() == [1, 1, 2, 0]
    assert found.logits.tolist() == [LOGITS[1], LOGITS[3], LOGITS[2], LOGITS[0]]
    arrays = found.index, found.labels, found.logits, found.probabilities
    assert [str(one.dtype) for one in arrays] == ["int32", "int64", "float32", "float64"]
    # The third ties, and the lower class is ahead.
    assert found.predicted.tolist() == [1, 0, 0, 0]
    assert found.right.tolist() == [True, False, False, True]
    assert found.probabilities.sum(axis=1) == pytest.approx(np.ones(4))
    assert found.confidence[3] == pytest.approx(math.exp(2) / (math.exp(2) + math.e + 1))


def test_no_file_and_no_result_are_no_predictions(tmp_path: Path) -> None:
    assert predictions.read(tmp_path, RUN_ROW) is None
    assert predictions.read(tmp_path / "nowhere", RUN_ROW) is None
    write_table(tmp_path / PREDICTIONS, table_of(range(4), LABELS, LOGITS), PREDICTIONS_SCHEMA)
    unfinished = {"trial": "t", "status": None, "classes": None, "test_images": math.nan}
    assert predictions.read(tmp_path, unfinished) is None


def of_version(version: bytes | None) -> Callable[[pa.Table], pa.Table]:
    metadata = {} if version is None else {b"schema_version": version}
    return lambda rows: rows.replace_schema_metadata(metadata)


def rows_with(**columns: Any) -> Callable[[pa.Table], pa.Table]:
    given: dict[str, Any] = {"index": [0, 1, 2, 3], "labels": LABELS, "logits": LOGITS} | columns
    return lambda _: table_of(**given)


BAD: dict[str, tuple[Callable[[pa.Table], pa.Table], dict[str, Any], str]] = {
    "other version": (of_version(b"2"), {}, "schema version 2"),
    "a column missing": (lambda rows: rows.drop_columns(["label"]), {}, "columns"),
    "another type": (
        lambda rows: rows.set_column(0, "index", rows["index"].cast(pa.string())),
        {},
        "columns",
    ),
    "an index twice": (rows_with(index=[0, 1, 1, 3]), {}, "twice"),
    "a negative index": (rows_with(index=[0, 1, -1, 3]), {}, "negative"),
    "too few rows": (lambda rows: rows.slice(1), {}, "has 3 rows, and run.parquet says 4"),
    "no rows": (lambda rows: rows.slice(4), {}, "has 0 rows"),
    "a label too high": (rows_with(labels=[0, 1, 2, 3]), {}, "labels"),
    "a label below 0": (rows_with(labels=[0, 1, 2, -1]), {}, "labels"),
    "other classes": (lambda rows: rows, {"classes": "a,b"}, "the logits of 2 classes"),
    "no classes": (lambda rows: rows, {"classes": None}, "the logits of 0 classes"),
    "ragged logits": (rows_with(logits=[[1.0, 2.0], *LOGITS[1:]]), {}, "the logits of 3 classes"),
    "a NaN": (rows_with(logits=[[math.nan, 2.0, 0.0], *LOGITS[1:]]), {}, "not finite"),
    "an infinity": (rows_with(logits=[[math.inf, 2.0, 0.0], *LOGITS[1:]]), {}, "not finite"),
    "a logit missing": (rows_with(logits=[[None, 2.0, 0.0], *LOGITS[1:]]), {}, "missing"),
    "another run": (lambda rows: rows, {"test_accuracy": 0.75}, "another run: 2 of 4"),
    "no accuracy": (lambda rows: rows, {"test_accuracy": math.nan}, "another run: 2 of 4"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_does_not_fit_is_named_and_left(tmp_path: Path, case: str) -> None:
    change, row, what = BAD[case]
    path = tmp_path / PREDICTIONS
    pq.write_table(change(table_of(range(4), LABELS, LOGITS)), path)
    _is_refused(path, RUN_ROW | row, what)


REWRITTEN: dict[str, Callable[[pa.Table], pa.Table]] = {
    "no version": of_version(None),
    "a column more": lambda rows: rows.append_column("x", rows["index"]),
    "a wider type": lambda rows: rows.set_column(0, "index", rows["index"].cast(pa.int64())),
}


@pytest.mark.parametrize("case", REWRITTEN)
def test_equal_values_are_read_however_they_are_stored(tmp_path: Path, case: str) -> None:
    pq.write_table(REWRITTEN[case](table_of(range(4), LABELS, LOGITS)), tmp_path / PREDICTIONS)
    found = predictions.read(tmp_path, RUN_ROW)
    assert found is not None
    assert found.labels.tolist() == LABELS
    np.testing.assert_array_equal(found.logits, np.array(LOGITS, np.float32))


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "empty", "folder"])
def test_a_damaged_file_is_named_and_left(tmp_path: Path, damage: str) -> None:
    path = tmp_path / PREDICTIONS
    write_table(path, table_of(range(4), LABELS, LOGITS), PREDICTIONS_SCHEMA)
    data = path.read_bytes()
    # A byte of the first page's values.
    flipped = data[:40] + bytes([data[40] ^ 0xFF]) + data[41:]
    if damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(
            {"cut": data[:-9], "flipped": flipped, "text": b"PAR1 no PAR1", "empty": b""}[damage]
        )
    _is_refused(path, RUN_ROW, "")


def _is_refused(path: Path, row: Mapping[str, Any], what: str) -> None:
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(InputError) as refused:
        predictions.read(path.parent, row)
    assert str(path) in refused.value.what
    assert what in refused.value.what
    assert refused.value.help
    assert refused.value.exit_code == EXIT_IO
    assert (path.read_bytes() if path.is_file() else None) == before


def test_same_images_are_the_same_index_and_labels() -> None:
    def made(index: list[int], labels: list[int]) -> Predictions:
        logits = np.zeros((len(index), 3), dtype=np.float32)
        return Predictions("t", np.array(index, np.int32), np.array(labels), logits, ("a",) * 3)

    one = made([0, 1], [2, 1])
    assert same_images(one, made([0, 1], [2, 1]))
    assert not same_images(one, made([0, 2], [2, 1]))
    assert not same_images(one, made([0, 1], [2, 2]))
    assert not same_images(one, made([0], [2]))


def test_a_study_reads_each_file_once_and_another_study_reads_it_anew(tmp_path: Path) -> None:
    results = tmp_path / "results"
    (config,) = configs = seeded(1)
    (folder,) = launch(results, configs)
    outcome = predict(folder, [0, 1], [[1.0, 0.0], [1.0, 0.0]])
    finish(folder, config, classes="a,b", **outcome)
    study, plan = only(results)
    run: Any = plan.runs.iloc[0].to_dict()
    first = predictions.of(study, plan, run)
    assert first is not None
    (folder / PREDICTIONS).write_bytes(b"damaged since")
    assert predictions.of(study, plan, run) is first

    study, plan = only(results)
    assert predictions.of(study, plan, run) is None
    assert predictions.of(study, plan, run) is None
    assert [problem.what for problem in study.problems] == [
        f"{folder / PREDICTIONS} is damaged: Parquet magic bytes not found in footer. Either the "
        "file is corrupted or this is not a parquet file."
    ]


def test_sixty_full_files_are_read_in_well_under_three_seconds(
    tmp_path: Path,
) -> None:
    outcome = predict(tmp_path, *reported_predictions())
    row = RUN_ROW | outcome | {"classes": ",".join(CIFAR)}
    began = time.perf_counter()
    for _ in range(60):
        assert predictions.read(tmp_path, row) is not None
    assert time.perf_counter() - began < 3
