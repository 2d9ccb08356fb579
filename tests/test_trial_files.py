"""Schemas, atomic writing under SIGKILL and on errors, careful reading."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local_machine.errors import EXIT_IO, InputError, storage_error
from local_machine.files import write_atomic
from local_machine.json_files import read_json, write_json
from trainer.config import TrainConfig, field_types
from trainer.recipes import reported, vit_trained
from trial_records import tables, trial_files
from trial_records.tables import read_table, run_schema, write_table
from trial_records.trial_files import Failure

EPOCH: dict[str, Any] = {
    "epoch": 0,
    "lr": 0.1,
    "train_loss": 2.25,
    "train_accuracy": 0.125,
    "val_loss": 2.0,
    "val_loss_smoothed": 2.125,
    "val_accuracy": 0.25,
    "seconds": 1.5,
    "images_per_second": 100.0,
}
PREDICTION: dict[str, Any] = {"index": 3, "label": 7, "logits": [0.5, -1.25, 3.0]}
NAMES = ["epochs", "predictions", "run"]


def schema_of(name: str) -> pa.Schema:
    return {
        "epochs": tables.EPOCHS_SCHEMA,
        "predictions": tables.PREDICTIONS_SCHEMA,
        "run": run_schema(),
    }[name]


def row_of(name: str) -> dict[str, Any]:
    run = {"fingerprint": "f" * 64, "status": "done"} | TrainConfig().flat()
    return {"epochs": EPOCH, "predictions": PREDICTION, "run": run}[name]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_rows_there_and_back(tmp_path: Path, name: str) -> None:
    schema, row = schema_of(name), row_of(name)
    path = tmp_path / "table.parquet"
    write_table(path, [row, row], schema)
    table = read_table(path)
    assert table.schema.equals(schema, check_metadata=True)
    assert table.to_pylist() == [dict.fromkeys(schema.names) | row] * 2
    # A table already made, without metadata, becomes the same file.
    first = path.read_bytes()
    write_table(path, table.replace_schema_metadata(None), schema)
    assert path.read_bytes() == first
    write_table(path, [], schema)
    assert read_table(path).schema.equals(schema, check_metadata=True)


@pytest.mark.parametrize("name", NAMES)
def test_schemas_carry_their_version(name: str) -> None:
    schema = schema_of(name)
    assert schema.metadata == {b"schema_version": str(trial_files.SCHEMA_VERSION).encode()}
    assert len(set(schema.names)) == len(schema.names)


def test_run_has_a_column_for_every_field() -> None:
    schema = run_schema()
    typed = {
        bool: pa.bool_(),
        int: pa.int64(),
        float: pa.float64(),
        str: pa.string(),
    }
    # What each field holds, from values and not from annotations: several recipes, so that fields
    # that may be none are seen with a value.
    flats = [
        TrainConfig().override(
            {"data.root": "x", "data.train_limit": 100, "data.test_limit": 100, "data.size": 64,
             "data.image_column": "img", "data.label_column": "label"}
        ).flat(),
        vit_trained().flat(),
    ]  # fmt: skip
    assert schema.names[-len(flats[0]) :] == list(field_types()) == list(flats[0])
    for name, value in flats[0].items():
        assert schema.field(name).type == typed[type(value)], name
    for flat in flats:
        assert pa.Table.from_pylist([flat], schema).select(list(flat)).to_pylist() == [flat]


@pytest.mark.parametrize(
    "recipe", [TrainConfig(), reported("wrn_28_10"), vit_trained()], ids=["default", "wrn", "vit"]
)
def test_a_configuration_is_read_from_its_run(tmp_path: Path, recipe: TrainConfig) -> None:
    path = tmp_path / trial_files.RUN
    write_table(path, [{"fingerprint": "x", "status": "done", **recipe.flat()}], run_schema())
    (row,) = read_table(path).to_pylist()
    flat = {name: row[name] for name in field_types() if name != "schema_version"}
    assert TrainConfig().override(flat).fingerprint == recipe.fingerprint


def test_the_largest_integers_fit_the_columns(tmp_path: Path) -> None:
    largest = 2**63 - 1
    config = TrainConfig().override(
        dict.fromkeys(
            ["seed", "epochs", "batch_size", "data.split_seed", "data.train_limit",
             "data.test_limit", "early_stopping.patience"],
            largest,
        )
        | {"schedule.warmup_epochs": largest - 1}
    )  # fmt: skip
    write_table(tmp_path / "r", [row_of("run") | config.flat()], run_schema())
    assert read_table(tmp_path / "r").to_pylist()[0]["data.split_seed"] == largest


@pytest.mark.parametrize("row", [EPOCH | {"lr": None}, EPOCH | {"epoch": 2**31}])
def test_a_bad_row_leaves_the_old_file(tmp_path: Path, row: dict[str, Any]) -> None:
    path = tmp_path / trial_files.EPOCHS
    write_table(path, [EPOCH], tables.EPOCHS_SCHEMA)
    with pytest.raises(ValueError):
        write_table(path, [row], tables.EPOCHS_SCHEMA)
    assert read_table(path).to_pylist() == [EPOCH]
    assert names_in(tmp_path) == [trial_files.EPOCHS]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, ValueError])
def test_a_write_that_fails_midway_leaves_the_old_file(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write(file: Any) -> None:
        file.write(b"new" * 1000)
        file.flush()
        assert path.read_bytes() == b"old"
        raise error

    with pytest.raises(error):
        write_atomic(path, write)
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


def test_a_write_that_cannot_begin_says_where(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write_atomic(tmp_path / "missing" / "file", lambda file: file.write(b""))
    assert caught.value.filename == str(tmp_path / "missing" / "file")
    # Renaming over a folder: the one step left that can fail.
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomic(tmp_path / "folder", lambda file: file.write(b""))
    assert names_in(tmp_path) == ["folder"]


def test_writers_at_the_same_time_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0" * 100_000)
    stop = threading.Event()

    def write(letter: bytes) -> None:
        while not stop.is_set():
            write_atomic(path, lambda file: file.write(letter * 100_000))

    writers = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for writer in writers:
        writer.start()
    seen = [path.read_bytes() for _ in range(200)]
    stop.set()
    for writer in writers:
        writer.join()
    assert all(len(content) == 100_000 and len(set(content)) == 1 for content in seen)
    assert names_in(tmp_path) == ["file"]


REWRITER = """
import itertools, sys
from pathlib import Path
from trial_records import tables
path = Path(sys.argv[1])
first = tables.read_table(path).num_rows if path.exists() else 0
for count in itertools.count(first + 1):
    rows = [{"epoch": count, "lr": float(count)}] * count
    tables.write_table(path, rows, tables.EPOCHS_SCHEMA)
    if count == first + 1:
        print("started", flush=True)
"""


@pytest.mark.long
def test_a_reader_never_sees_half_a_file_and_sigkill_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / trial_files.EPOCHS
    moments = random.Random(0)

    def rows() -> int:
        table = read_table(path)
        count: int = table.num_rows
        assert set(table.column("epoch").to_pylist()) == {count}
        return count

    last, reads = 0, 0
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", REWRITER, str(path)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            until = time.monotonic() + moments.uniform(0.1, 0.4)
            while time.monotonic() < until:
                now = rows()
                assert now > 0 and now >= last
                last, reads = now, reads + 1
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert rows() >= last
        last = rows()
    # Otherwise the reader met few rewrites and the test says little.
    assert last > 30 and reads > 30


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, pa.Table]:
    path = tmp_path_factory.mktemp("whole") / trial_files.EPOCHS
    write_table(path, [EPOCH | {"epoch": n, "val_loss": 1 / (n + 1)} for n in range(5)],
                tables.EPOCHS_SCHEMA)  # fmt: skip
    return path, path.read_bytes(), read_table(path)


def refused(path: Path) -> InputError:
    before = path.read_bytes()
    with pytest.raises(InputError) as caught:
        read_table(path)
    assert caught.value.exit_code == EXIT_IO
    assert str(path) in caught.value.what and "\n" not in caught.value.what
    assert path.read_bytes() == before
    return caught.value


def test_a_parquet_file_cut_short_is_refused(whole: tuple[Path, bytes, pa.Table]) -> None:
    path, content, _ = whole
    for length in range(0, len(content), 37):
        path.write_bytes(content[:length])
        assert "left in place" in refused(path).help


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_byte_is_refused_or_changes_no_value(
    whole: tuple[Path, bytes, pa.Table], data: st.DataObject
) -> None:
    path, content, table = whole
    # The footer, at the end, has no checksum in Parquet's format; all before it has.
    footer = int.from_bytes(content[-8:-4], "little") + 8
    place = data.draw(st.integers(0, len(content) - 1))
    damaged = bytearray(content)
    damaged[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    try:
        found = read_table(path)
    except InputError:
        refused(path)
    else:
        assert place >= len(content) - footer or found.equals(table)


def test_other_things_in_the_files_place(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "missing.parquet")
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(InputError, match=r"folder\.parquet: it is a folder"):
        read_table(tmp_path / "folder.parquet")
    (tmp_path / "text.parquet").write_text("epoch,lr\n0,0.1\n")
    refused(tmp_path / "text.parquet")


@pytest.mark.parametrize("name", ["val_accuracy", "seconds"])
def test_epochs_of_another_type_are_refused(tmp_path: Path, name: str) -> None:
    write_table(tmp_path / trial_files.EPOCHS, [EPOCH], tables.EPOCHS_SCHEMA)
    assert tables.read_epochs(tmp_path).num_rows == 1
    table = read_table(tmp_path / trial_files.EPOCHS)
    place = table.schema.get_field_index(name)
    for other in (table.drop_columns(name), table.set_column(place, name, pa.array(["x"]))):
        pq.write_table(other, tmp_path / trial_files.EPOCHS)
        with pytest.raises(InputError, match=name):
            tables.read_epochs(tmp_path)


def test_a_run_of_another_version_or_configuration_is_refused(tmp_path: Path) -> None:
    row = {"fingerprint": "a", "status": "done"}
    write_table(tmp_path / trial_files.RUN, [row], run_schema())
    assert tables.read_run(tmp_path, "a")["status"] == "done"
    with pytest.raises(InputError, match="another configuration"):
        tables.read_run(tmp_path, "b")
    schema = run_schema().with_metadata({b"schema_version": b"99"})
    pq.write_table(read_table(tmp_path / trial_files.RUN).cast(schema), tmp_path / trial_files.RUN)
    with pytest.raises(InputError, match="version 99"):
        tables.read_run(tmp_path, "a")


def failure() -> Failure:
    return Failure("NONFINITE", "a\nb", "trace", ["last", "lines é"], 2, 1.5e9, "node1", 7)


def test_failures_there_and_back(tmp_path: Path) -> None:
    assert Failure.read(tmp_path) is None
    failure().write(tmp_path)
    assert Failure.read(tmp_path) == failure()
    assert names_in(tmp_path) == [trial_files.FAILURE]
    assert json.loads((tmp_path / trial_files.FAILURE).read_bytes())["schema_version"] == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[1]",
        b'{"cause": "X"}',
        b"3",
        b"[" * 100_000,
        b'{"cause": "ERROR", "exception": 1, "traceback": "", "log_tail": [], "attempt": 1, '
        b'"failed_at": 1.0, "host": "h"}',
        b'{"cause": "ERROR", "exception": "", "traceback": "", "log_tail": "line", "attempt": 1, '
        b'"failed_at": 1.0, "host": "h"}',
    ],
)
def test_damaged_failures_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / trial_files.FAILURE
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        Failure.read(tmp_path)
    assert str(path) in caught.value.what and caught.value.exit_code == EXIT_IO
    assert path.read_bytes() == content


def test_json_cannot_hold_what_is_no_number(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": 1}


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that even root cannot write."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(folder)], capture_output=True
    )
    if mount.returncode:
        pytest.skip(f"mounting is not permitted: {mount.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_read_only_disk_is_the_machines_trouble(read_only: Path) -> None:
    with pytest.raises(OSError) as caught:
        write_table(read_only / trial_files.EPOCHS, [EPOCH], tables.EPOCHS_SCHEMA)
    told = storage_error(caught.value)
    assert told is not None and told.exit_code == EXIT_IO
    assert str(read_only / trial_files.EPOCHS) in told.what and "Read-only" in told.what
    assert "--results" in told.help
    assert names_in(read_only) == []
