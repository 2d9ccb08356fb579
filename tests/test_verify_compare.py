"""How two runs of one trial are compared, which trials are chosen, and what may be said after."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_machine.errors import InputError
from sweeps.function_task import FunctionTask
from sweeps.spec.sweep import Trial
from sweeps.state.progress import Progress
from sweeps.state.trial_store import Standing, State
from sweeps.task import minimize
from sweeps.verify.choice import in_order, spread
from sweeps.verify.compare import Compared, Records, compare
from trainer.task import task as trainer
from trial_records import verified
from trial_records.trial_files import EPOCHS, PREDICTIONS, RUN
from trial_records.verified import Verification, exactness, setting_of

ROWS = [{"epoch": 0, "loss": 2.0, "seconds": 1.5}, {"epoch": 1, "loss": 1.0, "seconds": 1.6}]
TOLERANCE = 0.05


def records(rows: list[dict[str, Any]] = ROWS, logits: float = 3.0, **run: Any) -> Records:
    row = {"status": "done", "objective": 1.0, "best.seconds": 1.6, "best_epoch": 1, "host": "a"}
    tables = {
        EPOCHS: pa.Table.from_pylist(rows),
        RUN: pa.Table.from_pylist([{**row, **run}]),
        PREDICTIONS: pa.table({"index": [0, 1], "logits": [[0.5, -1.0], [logits, 9.0]]}),
    }
    return Records(tables)


def compared(other: Records, tolerance: float | None = None, **how: bool) -> Compared:
    same = how.get("is_same_code", True)
    return compare(records(), other, ("seconds",), tolerance, is_same_code=same)


def test_time_and_provenance_are_left_out_and_said_so() -> None:
    rows = [{**row, "seconds": 9.0} for row in ROWS]
    found = compared(records(rows, host="b", **{"best.seconds": 9.0}))
    assert (found.outcome, found.difference, found.largest) == ("equal", None, 0.0)
    assert found.left_out == ["epochs.parquet: seconds", "run.parquet: best.seconds"]
    assert found.columns == 2 + 3 + 2


@pytest.mark.parametrize(
    ("loss", "text"), [(math.nextafter(1.0, 2), "1.0000000000000002"), (math.nan, "nan")]
)
def test_the_last_bit_of_one_value_differs(loss: float, text: str) -> None:
    found = compared(records([ROWS[0], {**ROWS[1], "loss": loss}]))
    assert found.outcome == "differs" and found.difference is not None
    assert found.difference.words == f"epochs.parquet, row 1, loss: recorded 1.0, rerun {text}"


def test_not_a_number_is_equal_to_itself_and_the_zeros_are_two() -> None:
    for one, other, outcome in ((math.nan, math.nan, "equal"), (0.0, -0.0, "differs")):
        tables = [records([{"loss": value}]) for value in (one, other)]
        assert compare(*tables, (), None, is_same_code=True).outcome == outcome


def test_rows_and_columns_that_are_missing_or_new_differ() -> None:
    short = compared(records(ROWS[:1])).difference
    assert short is not None and (short.recorded, short.rerun) == ("2 rows", "1 rows")
    gone = compared(records([{"epoch": 0}, {"epoch": 1}]), TOLERANCE)
    assert gone.outcome == "differs" and gone.difference is not None
    assert gone.difference.rerun == "no column"
    more = records([{**row, "extra": 1.0} for row in ROWS])
    assert compared(more).outcome == "differs"
    assert compared(more, is_same_code=False).outcome == "equal"  # later code logs more


def test_within_the_tolerance_it_is_close() -> None:
    near = records([ROWS[0], {**ROWS[1], "loss": 1.09}], logits=4.0, best_epoch=0)
    assert compared(near).outcome == "differs"
    found = compared(near, TOLERANCE)
    # 0.09 of 2; single predictions and the best epoch follow from it.
    assert found.outcome == "close" and found.difference is not None
    assert found.difference.column == "loss" and found.difference.share == pytest.approx(0.045)
    far = compared(records([ROWS[0], {**ROWS[1], "loss": 1.11}], best_epoch=0), TOLERANCE)
    assert far.outcome == "differs" and far.difference is not None
    assert far.difference.column == "loss"
    assert compared(records(status="another"), TOLERANCE).outcome == "differs"
    assert compared(records(objective=None), TOLERANCE).outcome == "differs"


def test_a_prediction_is_named_by_its_place() -> None:
    found = compared(records(logits=3.5))
    assert found.difference is not None
    assert found.difference.words == (
        "predictions.parquet, row 1, logits: recorded 3.0 (value 0), rerun 3.5 (value 0)"
    )
    assert found.largest == pytest.approx(0.5 / 9)


# --- which are chosen -----------------------------------------------------------------------


@given(st.integers(0, 200))
def test_the_first_of_the_order_lie_far_apart(count: int) -> None:
    order = spread(range(count))
    assert sorted(order) == list(range(count))
    for first in (2, 4, 8):
        if count >= 2 * first:
            chosen = sorted(order[:first])
            gaps = [b - a for a, b in zip(chosen, [*chosen[1:], count], strict=True)]
            assert max(gaps) <= 2 * count / first


def test_resumed_trials_come_first_then_every_point_once() -> None:
    def one(lr: float, seed: int, attempts: int = 1) -> Progress:
        trial = Trial(f"{lr}-{seed}", {"lr": lr}, {}, f"{lr}-{seed}")
        return Progress(Standing(trial, State.DONE), attempts=attempts)

    done = [one(lr, seed) for lr in (0.1, 0.2, 0.3, 0.4) for seed in (0, 1)]
    done += [one(0.5, 0, attempts=3)]
    names = [progress.trial.name for progress in in_order(done, {"0.1-0"})]
    assert names[0] == "0.5-0"
    assert {name[:3] for name in names[1:5]} == {"0.1", "0.2", "0.3", "0.4"}
    assert names[-1] == "0.1-0"  # it was verified before


# --- what may be said -----------------------------------------------------------------------

RUN_SHA, SETTING = "a" * 64, "one machine"
NOTE = Verification(
    trial="t", fingerprint="f", run=RUN_SHA, outcome="equal", is_declared=True, attempts=2,
    setting=SETTING, setting_here=SETTING, recorded={"code_sha256": "c"},
    rerun={"code_sha256": "c"}, tolerance=None, largest=0.0, difference=None, columns=3,
    left_out=[], seconds=1.0,
    verified_at="2026-11-30T07:00:00+00:00",
)  # fmt: skip


def said(*notes: Verification, attempts: int = 2, fingerprint: str = "f") -> tuple[str, str]:
    found: dict[str, list[Verification]] = {}
    for one in notes:
        found.setdefault(one.fingerprint, []).append(one)
    word, words, *_ = exactness(found, fingerprint, RUN_SHA, attempts, SETTING)
    return word, words


def test_exact_is_said_only_where_it_is_declared_and_was_found() -> None:
    assert said() == ("unverified", "resumed, not verified")
    assert said(attempts=1) == ("", "")
    assert said(NOTE) == ("exact", "resumed, exact: rerun bit for bit on 2026-11-30")
    assert said(NOTE, attempts=1) == ("", "rerun bit for bit on 2026-11-30")
    word, words = said(replace(NOTE, is_declared=False))
    assert word == "unverified" and words.endswith("its task does not declare exactness")
    elsewhere = {"code_sha256": "d", "device": "GPU"}
    close = replace(
        NOTE, outcome="close", tolerance=TOLERANCE, setting_here="another", rerun=elsewhere
    )
    assert said(close) == (
        "unverified",
        "resumed; rerun within 5 % on 2026-11-30 by other code on another device or other versions",
    )
    # Of a run that was trained again since, it says nothing.
    assert said(replace(NOTE, run="b" * 64))[0] == "exact"  # but as any other trial alike
    assert said(replace(NOTE, run="b" * 64, attempts=1))[0] == "unverified"


def test_one_that_differs_stands() -> None:
    differs = replace(NOTE, outcome="differs", verified_at="2026-11-29T07:00:00+00:00")
    assert said(differs, NOTE)[0] == "unverified"
    # But not a rerun elsewhere against one on the trial's own machine.
    assert said(replace(differs, setting_here="another"), NOTE)[0] == "exact"


def test_others_speak_for_a_trial_only_by_the_same_code_on_such_a_machine() -> None:
    assert said(NOTE, fingerprint="other") == (
        "exact",
        "resumed, exact: 1 trial alike was verified",
    )
    for change in (
        {"attempts": 1}, {"is_declared": False}, {"setting": "x"}, {"setting_here": "x"},
    ):  # fmt: skip
        assert said(replace(NOTE, **change), fingerprint="other")[0] == "unverified", change
    differs = replace(NOTE, fingerprint="third", outcome="differs")
    assert said(NOTE, differs, fingerprint="other")[0] == "unverified"


def test_attempts_of_different_code_have_no_setting() -> None:
    one = '{"code_sha256": "c", "device": "cpu"}'
    assert setting_of({"attempts": f"[{one}, {one}]", "world_size": 1}) is not None
    other = one.replace('"c"', '"d"')
    for text in (f"[{one}, {other}]", '[{"device": "cpu"}]', "[]", "no JSON", None, math.nan):
        assert setting_of({"attempts": text, "world_size": 1}) is None
    whole, real = ({"attempts": f"[{one}]", "world_size": ranks} for ranks in (1, 1.0))
    assert setting_of(whole) == setting_of(real)


def test_records_are_added_and_never_changed(tmp_path: Path) -> None:
    assert verified.read(tmp_path) == ({}, [])
    later = replace(NOTE, verified_at="2026-11-30T08:00:00+00:00")
    paths = [later.write(tmp_path, "1"), NOTE.write(tmp_path, "2")]
    assert verified.read(tmp_path) == ({"f": [NOTE, later]}, [])
    (tmp_path / verified.FOLDER / ".t.3.json.1-1.part").write_text("half")
    paths[0].write_text(paths[0].read_text()[:-20])
    found, problems = verified.read(tmp_path)
    assert found == {"f": [NOTE]}
    (problem,) = problems
    assert str(paths[0]) in problem.what


# --- what a task declares -------------------------------------------------------------------


def trains(config: Any, run: Any) -> None: ...


def test_a_function_declares_by_attributes_which_workers_see(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def declared() -> tuple[bool, Any]:
        made = FunctionTask.of(trains, {"seed": 0}, minimize("loss"))
        again = FunctionTask(trains, None, made.planned)  # as a plan's reader makes it
        assert (again.is_exact, again.timings) == (made.is_exact, made.timings)
        return again.is_exact, again.timings

    assert declared() == (False, ())
    monkeypatch.setattr(trains, "is_exact", True, raising=False)
    monkeypatch.setattr(trains, "timings", ["seconds", "wait"], raising=False)
    assert declared() == (True, ("seconds", "wait"))
    monkeypatch.setattr(trains, "timings", "seconds")
    assert declared() == (True, ("seconds",))
    monkeypatch.setattr(trains, "timings", 3)
    with pytest.raises(InputError, match="timings is a int"):
        declared()
    assert trainer.is_exact and "seconds" in trainer.timings
