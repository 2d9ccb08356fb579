"""What is kept of finished trials between commands is what their files say, or it is not used; and
the table that many of them make is the one that rich would print."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results_folder import finish, folder_of, write_plan

from sweeps.cli import table
from sweeps.cli.table import console, make
from sweeps.compact import archive_writer
from sweeps.state import summary_cache
from sweeps.state.plan import LOGS
from sweeps.state.progress import look
from sweeps.state.trial_store import TrialStore
from trainer.config import TrainConfig
from trial_records import tables, trial_files

CONFIGS = [TrainConfig().override({"seed": seed, "epochs": 3}) for seed in range(3)]
POINTS: list[tuple[dict[str, Any], TrainConfig]] = [({}, config) for config in CONFIGS]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(summary_cache, "MANY", 1)
    write_plan(tmp_path, POINTS)
    for point in POINTS:
        finish(folder_of(tmp_path, point), point[1])
    (tmp_path / "grid" / LOGS).mkdir(exist_ok=True)
    return tmp_path


def looked(results: Path) -> list[dict[str, Any]]:
    """What a command shows, which then keeps it."""
    store = TrialStore(results, "grid")
    (plan,) = store.plans()
    found = [one.to_json() for one in look(store, plan.trials, {})]
    store.summaries.save()
    return found


def kept(results: Path) -> Path:
    return results / "grid" / LOGS / summary_cache.FILE


def unreadable(*_: object) -> Any:
    raise AssertionError("a file of a finished trial was read again")


def test_files_are_read_once(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = looked(results)
    assert [one["state"] for one in first] == ["done"] * 3
    monkeypatch.setattr(tables, "read_run", unreadable)
    monkeypatch.setattr(tables, "read_epochs", unreadable)
    assert looked(results) == first


def test_a_file_that_was_written_anew_is_read_anew(results: Path) -> None:
    before = looked(results)
    folder = folder_of(results, POINTS[1])
    table_ = tables.read_epochs(folder)
    tables.write_table(folder / trial_files.EPOCHS, table_.slice(0, 2), tables.EPOCHS_SCHEMA)
    after = looked(results)
    assert after[1]["epochs_done"] == 2
    assert (after[0], after[2]) == (before[0], before[2])


def test_a_trial_that_was_thrown_away_is_pending(results: Path) -> None:
    looked(results)
    for file in folder_of(results, POINTS[0]).iterdir():
        file.unlink()
    assert [one["state"] for one in looked(results)] == ["pending", "done", "done"]


def test_a_damaged_file_is_seen_where_its_stamp_differs(results: Path) -> None:
    looked(results)
    path = folder_of(results, POINTS[2]) / trial_files.RUN
    path.write_bytes(path.read_bytes()[:-9])
    assert "damaged" in str(looked(results)[2]["problem"])


def test_compacted_and_put_back_it_shows_the_same(results: Path) -> None:
    first = looked(results)
    store = TrialStore(results, "grid")
    with archive_writer.held(store) as folder:
        archive_writer.gather(store, store.plans()[0].trials, folder)
    assert looked(results) == first
    assert looked(results) == first
    with archive_writer.held(store):
        archive_writer.put_back(store)
    assert looked(results) == first


def other_version(text: str) -> str:
    return json.dumps({name: {"stamp": "1"} for name in json.loads(text)})


@pytest.mark.parametrize(
    "damage", [lambda text: text[:40], lambda text: "[]", lambda text: "", other_version]
)
def test_a_damaged_cache_is_no_harm(results: Path, damage: Callable[[str], str]) -> None:
    first = looked(results)
    kept(results).write_text(damage(kept(results).read_text()))
    assert looked(results) == first


def test_what_cannot_be_kept_is_shown_all_the_same(results: Path) -> None:
    kept(results).mkdir()
    assert [one["state"] for one in looked(results)] == ["done"] * 3


def test_few_trials_leave_no_file(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary_cache, "MANY", 4)
    looked(results)
    assert not kept(results).exists()


cells = st.text(st.characters(max_codepoint=0x17F), max_size=12)


@given(
    st.integers(1, 4).flatmap(
        lambda n: st.lists(st.lists(cells, min_size=n, max_size=n), min_size=1, max_size=5)
    )
)
def test_the_plain_table_is_richs(rows: list[list[str]]) -> None:
    columns = [f"column {number}" for number in range(len(rows[0]))]
    plain = table._plain([columns, *rows])
    if plain is not None:
        stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        console(stream).print(make(columns, rows))
        stream.seek(0)
        assert stream.read().rstrip("\n").split("\n") == plain


def test_a_terminal_of_another_alphabet_gets_richs_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding="ascii"))
    table.show(["a"], [["b"]])
    sys.stdout.flush()
    assert "| b |" in buffer.getvalue().decode("ascii")
