"""The files of a task that is not the project's: their columns, their digests, careful reading."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_machine.errors import EXIT_USAGE, InputError
from trainer.config import TrainConfig
from trial_records import tables
from trial_records.config import content_of, fingerprint_of
from trial_records.metrics import (
    NAMED,
    best_row,
    check_metric_name,
    configured,
    measured,
    whose,
)
from trial_records.trial_files import EPOCHS, PREDICTIONS, RUN

VALUES = {"lr": 0.1, "sizes": [64, 32], "model": {"name": "größe", "limit": None, "deep": True}}
FINGERPRINT = fingerprint_of(content_of(VALUES, "mine"))
NAN = math.nan
ROWS: list[dict[str, Any]] = [
    {"epoch": 0, "loss": 2.0, "lr": 0.1, "acc": 0.25},
    {"epoch": 1, "loss": NAN, "lr": 0.1, "acc": 0.75, "note": "warm"},
    {"epoch": 2, "loss": 1, "lr": 0.05, "acc": 0.75, "grad norm/p95": 3},
    {"epoch": 3, "loss": 1.5},
]


def trial_in(results: Path) -> Path:
    folder = results / "sweep" / f"lr0.1-{FINGERPRINT[:8]}"
    folder.mkdir(parents=True)
    return folder


def write(folder: Path, rows: list[dict[str, Any]], returned: dict[str, Any]) -> dict[str, Any]:
    names = whose(folder, FINGERPRINT, "mine")
    return tables.write_run(
        folder,
        {
            **names,
            "status": "done",
            "seed": 7,
            "seconds": 1.5,
            **configured(VALUES),
            **measured(rows, returned, "acc", "maximize", "best"),
            tables.DIGESTS[EPOCHS]: tables.write_rows(folder / EPOCHS, rows, names),
        },
    )


def same(one: Any, other: Any) -> bool:
    """Equal, of one type, or both NaN."""
    return type(one) is type(other) and (one == other or (one != one and other != other))


def test_a_run_has_its_identity_its_configuration_and_its_metrics(tmp_path: Path) -> None:
    folder = trial_in(tmp_path)
    written = write(folder, ROWS, {"test acc": 0.5, "steps": 12, "ok": True, "device": "mine"})
    row = tables.read_run(folder, FINGERPRINT)
    assert repr(row) == repr(written)
    assert [row[name] for name in NAMED] == ["mine", "sweep", folder.name, FINGERPRINT]
    expected = {
        "seed": 7, "seconds": 1.5, "device": None, "objective": 0.75,
        "objective_metric": "acc", "objective_direction": "maximize", "objective_reduction": "best",
        "config.lr": 0.1, "config.sizes": "64,32", "config.model.name": "größe",
        "config.model.limit": None, "config.model.deep": True,
        "best.epoch": 1, "best.acc": 0.75, "best.note": "warm",
        "last.epoch": 3, "last.acc": 0.75, "last.lr": 0.05, "last.grad norm/p95": 3,
        "final.test acc": 0.5, "final.steps": 12, "final.ok": True, "final.device": "mine",
    }  # fmt: skip
    for name, value in expected.items():
        assert same(row[name], value), name
    assert math.isnan(row["best.loss"]) and row["last.loss"] == 1.5
    assert "best_epoch" not in row and "optimizer.lr" not in row
    some = tables.read_run(folder, FINGERPRINT, ["fingerprint", "best.acc", "gone"])
    assert some == {"fingerprint": FINGERPRINT, "best.acc": 0.75, "gone": None}
    with pytest.raises(InputError, match="another configuration"):
        tables.read_run(folder, "0" * 64)


def test_epochs_are_what_was_logged(tmp_path: Path) -> None:
    folder = trial_in(tmp_path)
    digest = write(folder, ROWS, {})[tables.DIGESTS[EPOCHS]]
    assert tables.read_table(folder / EPOCHS).column_names[:6] == [*NAMED, "epoch", "loss"]
    table = tables.read_epochs(folder, digest)
    assert {one.name: str(one.type) for one in table.schema} == {
        "epoch": "int64", "loss": "double", "lr": "double", "acc": "double", "note": "string",
        "grad norm/p95": "int64",
    }  # fmt: skip
    assert table["acc"].to_pylist() == [0.25, 0.75, 0.75, None]
    assert table["loss"].null_count == 0 and math.isnan(table["loss"].to_pylist()[1])
    assert table["note"].to_pylist() == [None, "warm", None, None]


def test_a_step_comes_first(tmp_path: Path) -> None:
    rows = [{"loss": 1.0, "step": 10, "epoch": 0}, {"loss": 1.0, "step": 20}]
    tables.write_rows(tmp_path / EPOCHS, rows, whose(tmp_path, FINGERPRINT, "mine"))
    table = tables.read_epochs(tmp_path)
    assert table.column_names == ["epoch", "step", "loss"]
    assert table["epoch"].to_pylist() == [0, None]


@pytest.mark.parametrize("rows", [[], [{"loss": None}]])
def test_a_task_may_log_nothing(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    digest = tables.write_rows(tmp_path / EPOCHS, rows, whose(tmp_path, FINGERPRINT, "mine"))
    table = tables.read_epochs(tmp_path, digest)
    assert table.num_rows == len(rows)


values = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
)  # fmt: skip
names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=5).filter(
    lambda name: name.lower() not in NAMED
)


@given(st.data(), names, st.integers(1, 4))
def test_a_column_has_the_narrowest_type_of_its_values(
    data: st.DataObject, name: str, count: int
) -> None:
    """Of one type, all come back as they were; else as the least type that all of them have."""
    check_metric_name(name)
    kind = data.draw(st.sampled_from([bool, int, float, str, None]))
    some = values if kind is None else values.filter(lambda v: v is None or type(v) is kind)
    column = data.draw(st.lists(some, min_size=count, max_size=count))
    (array,) = tables.by_value([{name: value} for value in column], [name])
    assert [value is None for value in array.to_pylist()] == [value is None for value in column]
    kinds = {type(value) for value in column} - {type(None)}
    for before, after in zip(column, array.to_pylist(), strict=True):
        if len(kinds) == 1:
            assert same(before, after)
        elif before is not None:
            least = str if str in kinds else float if float in kinds else int
            assert same(after, least(before))


def test_numbers_of_other_libraries_are_numbers() -> None:
    np = pytest.importorskip("numpy")
    (array,) = tables.by_value([{"x": np.float64(0.5)}], ["x"])
    assert array.to_pylist() == [0.5]
    (array,) = tables.by_value([{"x": 2**70}], ["x"])
    assert array.to_pylist() == [2.0**70]


@pytest.mark.long
@pytest.mark.parametrize("name", [EPOCHS, RUN])
def test_each_changed_byte_is_noticed(tmp_path: Path, name: str) -> None:
    folder = trial_in(tmp_path)
    run = write(folder, ROWS, {"test": 1.0})
    content = (folder / name).read_bytes()

    def read() -> str:
        """A column without any value but NaN may go missing: for a digest that is not a value."""
        if name == RUN:
            rows = [tables.read_run(folder, FINGERPRINT)]
        else:
            rows = tables.read_epochs(folder, run[tables.DIGESTS[EPOCHS]]).to_pylist()
        return repr([{k: v for k, v in row.items() if v is not None and v == v} for row in rows])

    right = read()
    for place in range(0, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        (folder / name).write_bytes(changed)
        try:
            assert read() == right
        except InputError as error:
            assert name in error.what


def test_a_rewrite_with_equal_values_still_verifies(tmp_path: Path) -> None:
    folder = trial_in(tmp_path)
    run = write(folder, ROWS, {})
    for name in (EPOCHS, RUN):
        frame = pq.read_table(folder / name).to_pandas()
        pq.write_table(pa.Table.from_pandas(frame), folder / name)
    digest = run[tables.DIGESTS[EPOCHS]]
    assert tables.read_epochs(folder, digest).num_rows == len(ROWS)
    assert tables.read_run(folder, FINGERPRINT)["best.acc"] == 0.75
    frame = pq.read_table(folder / EPOCHS).to_pandas()
    frame.loc[0, "acc"] = 0.26
    pq.write_table(pa.Table.from_pandas(frame), folder / EPOCHS)
    with pytest.raises(InputError, match="not those that were written"):
        tables.read_epochs(folder, digest)


def test_a_column_that_no_digest_covers_is_not_shown(tmp_path: Path) -> None:
    folder = trial_in(tmp_path)
    run = write(folder, ROWS, {})
    for name in (EPOCHS, RUN):
        table = pq.read_table(folder / name)
        added = pa.array([0.5] * table.num_rows)
        pq.write_table(table.append_column("best.fake", added), folder / name)
    assert "best.fake" not in tables.read_run(folder, FINGERPRINT)
    epochs = tables.read_epochs(folder, run[tables.DIGESTS[EPOCHS]])
    assert "best.fake" not in epochs.column_names and epochs.num_rows == len(ROWS)


def test_the_trainers_files_say_whose_they_are_and_are_read_as_before(tmp_path: Path) -> None:
    config, folder = TrainConfig(), tmp_path / "grid" / "t"
    folder.mkdir(parents=True)
    names = whose(folder, config.fingerprint, "trainer")
    epoch = dict.fromkeys(tables.EPOCHS_SCHEMA.names, 0.5) | {"epoch": 0}
    prediction = {"index": 3, "label": 7, "logits": [0.5, -1.25]}
    run = names | {
        "status": "done",
        **config.flat(),
        "epochs_sha256": tables.write_rows(folder / EPOCHS, [epoch], names),
        "predictions_sha256": tables.write_table(
            folder / PREDICTIONS, [prediction], tables.PREDICTIONS_SCHEMA, names
        ),
    }
    row = tables.write_run(folder, run)
    assert set(row) == set(tables.run_schema().names)
    assert tables.read_run(folder, config.fingerprint) == row
    for name in (EPOCHS, PREDICTIONS, RUN):
        table = tables.read_table(folder / name)
        assert {one: table[one][0].as_py() for one in NAMED} == names
    epochs = tables.read_epochs(folder, row["epochs_sha256"])
    assert epochs.schema.equals(tables.EPOCHS_SCHEMA) and epochs.to_pylist() == [epoch]
    assert tables.read_predictions(folder).to_pylist() == [prediction]
    # A run that does not say its task is the trainer's.
    assert (
        tables.write_run(folder, {**config.flat(), "fingerprint": "f", "status": "done"})["task"]
        == "trainer"
    )


def test_equal_predictions_have_one_digest_whosever_they_are(tmp_path: Path) -> None:
    """By it a report flags the trials of two seeds that came to the same."""
    digests = set()
    for name, logit in (("a", 0.5), ("b", 0.5), ("c", 0.25)):
        folder = tmp_path / "grid" / name
        folder.mkdir(parents=True)
        path, names = folder / PREDICTIONS, whose(folder, name, "trainer")
        rows = [{"index": 3, "label": 7, "logits": [logit, -1.25]}]
        digests.add(tables.write_table(path, rows, tables.PREDICTIONS_SCHEMA, names))
    assert len(digests) == 2


def test_a_folder_may_be_named_from_within(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sweep" / "trial").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "sweep")
    assert whose(Path("trial"), "f", "mine") == dict(
        zip(NAMED, ("mine", "sweep", "trial", "f"), strict=True)
    )


@pytest.mark.parametrize(
    ("direction", "column", "place"),
    [
        ("maximize", [0.1, 0.3, 0.3], 1),
        ("minimize", [3, 1, 2], 1),
        ("maximize", [NAN, -math.inf], 1),
        ("minimize", [NAN, math.inf], 1),
        ("maximize", [NAN, NAN], 0),
        ("maximize", [None, 0.5, "x"], 1),
        ("maximize", [None, "x"], None),
        ("maximize", [], None),
    ],
)
def test_the_best_row(direction: str, column: list[Any], place: int | None) -> None:
    rows = [{"m": value, "row": row} for row, value in enumerate(column)]
    assert best_row(rows, "m", direction).get("row") == place


@pytest.mark.parametrize(
    ("reduction", "objective"), [("best", 0.75), ("last", 0.5), ("final", 0.25), ("final", None)]
)
def test_an_objective_is_reduced_as_it_says(reduction: Any, objective: float | None) -> None:
    rows = [{"acc": 0.75}, {"acc": 0.5}, {"loss": 1.0}]
    returned = None if objective is None else {"acc": 0.25}
    assert measured(rows, returned, "acc", "maximize", reduction)["objective"] == objective


@pytest.mark.parametrize(
    "name",
    ["", "a\x1b[2J", "a\nb", "a\tb", "\u202eabc", "\udcff", "x" * 201, *NAMED, "Task", 5, None],
)
def test_hostile_names_of_metrics_are_refused(name: Any) -> None:
    with pytest.raises(InputError) as caught:
        check_metric_name(name)
    assert caught.value.exit_code == EXIT_USAGE
    assert caught.value.what.isprintable() and caught.value.help


@pytest.mark.parametrize("name", ["val/acc", "größe", "a b", "<b>", "x" * 200, "epoch", "status"])
def test_other_names_of_metrics_are_fine(name: str) -> None:
    check_metric_name(name)
