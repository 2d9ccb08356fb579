"""Other programs find compacted trials where they find all others: by one pattern."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from task_results import finish, trials, write_plan

from sweeps.compact import archive_writer, flat_tables
from sweeps.state.trial_store import TrialStore
from trial_records import archive
from trial_records.columns import NAMED_SCHEMA
from trial_records.trial_files import EPOCHS, RUN

PLANNED = trials()


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Six finished trials of a function's."""
    write_plan(tmp_path, PLANNED)
    for number, trial in enumerate(PLANNED):
        finish(tmp_path / "mine" / trial["name"], trial, [2.0, 1.0 + 0.1 * number])
    return tmp_path


def compact(results: Path) -> None:
    store = TrialStore(results, "mine")
    with archive_writer.held(store) as folder:
        archive_writer.gather(store, store.plans()[0].trials, folder)


def every(results: Path, name: str) -> pd.DataFrame:
    frames = map(pd.read_parquet, results.glob(f"**/{name}"))
    by = ["trial", *(["step"] if name == EPOCHS else [])]
    frame = pd.concat(frames, ignore_index=True).sort_values(by, ignore_index=True)
    return frame[sorted(frame.columns)]


@pytest.mark.parametrize("name", [RUN, EPOCHS])
def test_one_pattern_finds_all_trials_compacted_or_not(results: Path, name: str) -> None:
    before = every(results, name)
    assert {*NAMED_SCHEMA.names} <= {*before.columns}
    compact(results)
    assert not list(results.glob(f"mine/*-*/{name}"))
    pd.testing.assert_frame_equal(every(results, name), before, check_dtype=False)
    (part,) = archive.parts(results / "mine")
    # What was lost is made again.
    (flat_tables.folder_of(part) / name).unlink()
    compact(results)
    pd.testing.assert_frame_equal(every(results, name), before, check_dtype=False)
    store = TrialStore(results, "mine")
    with archive_writer.held(store):
        archive_writer.put_back(store)
    assert not (results / "mine" / archive.FOLDER).exists()
    pd.testing.assert_frame_equal(every(results, name), before)


def test_a_sweep_of_files_that_do_not_say_whose_they_are(tmp_path: Path) -> None:
    """As version 0.1 wrote them."""
    old = Path(__file__).parent / "results_of_0_1" / "undisturbed" / "small"
    names = [path.name for path in old.iterdir() if (path / RUN).exists()]
    assert len(names) == 3
    contents = {
        name: {file: (old / name / file).read_bytes() for file in (RUN, EPOCHS)} for name in names
    }
    part = tmp_path / "small" / archive.FOLDER / "0123456789abcdef.parquet"
    part.parent.mkdir(parents=True)
    flat_tables.write(part, flat_tables.decoded(part, contents.items()))
    for file in (RUN, EPOCHS):
        frame = pd.read_parquet(flat_tables.folder_of(part) / file)
        assert {*frame["trial"]} == {*names}
        assert {*frame["sweep"]} == {"small"}
        assert frame["fingerprint"].str.len().eq(64).all()


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([[1], [0.5]], pa.float64()),
        ([[1], ["a"]], pa.string()),
        ([[None], [2]], pa.int64()),
        ([[True], [2]], pa.string()),
    ],
)
def test_columns_of_several_types_have_one(values: list[list[Any]], kind: pa.DataType) -> None:
    found = flat_tables.joined([pa.table({"a": one}) for one in values])
    assert found.schema.field("a").type == kind
    assert found.num_rows == 2
