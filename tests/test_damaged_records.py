"""Whatever goes wrong with one trial's files is that trial's problem; equal values are read however
they are stored."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from results_folder import folder_of, write_plan
from test_compact import CONFIGS, POINTS, compacted, done, put_back

import sweeps.cancel
import sweeps.compact.__main__
import sweeps.status
from analysis.cifar10.task import load
from analysis.sections.provenance import provenance
from local_machine import seal
from local_machine.errors import InputError, run_command
from sweeps.compact import archive_writer
from sweeps.state.progress import look
from sweeps.state.trial_store import State, TrialStore
from sweeps.study.selection import candidates
from trial_records import archive, trial_files, values
from trial_records import tables as trial_tables

Change = Callable[[Path], Any]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Three trials that are done, as the trainer leaves them."""
    results = tmp_path / "results"
    write_plan(results, POINTS[:3])
    for number, config in enumerate(CONFIGS[:3]):
        folder = done(results, config, val_accuracy=0.5 + number / 10, flops_per_image=1.0)
        tables = {name: trial_tables.read_table(folder / name) for name in trial_tables.DIGESTS}
        schemas = (trial_tables.EPOCHS_SCHEMA, trial_tables.PREDICTIONS_SCHEMA)
        digests = {
            column: trial_tables.write_table(folder / name, tables[name], schema)
            for (name, column), schema in zip(trial_tables.DIGESTS.items(), schemas, strict=True)
        }
        trial_tables.write_run(folder, trial_tables.read_run(folder, config.fingerprint) | digests)
    return results


def rewritten(path: Path, **changes: Any) -> None:
    """As pandas does it: whatever is null is a NaN, and what we said in the metadata is gone."""
    frame = pq.read_table(path).to_pandas()
    frame.assign(**changes).to_parquet(path)


def shown(results: Path) -> tuple[list[Any], pd.DataFrame, list[str]]:
    archive._rows.cache_clear()
    store = TrialStore(results, "grid")
    (plan,) = store.plans()
    study = load(results, [])
    return look(store, plan.trials, {}), study.plans[0].runs, [p.what for p in study.problems]


# --- equal values, stored otherwise -----------------------------------------------------------


def categories(path: Path) -> None:
    frame = pq.read_table(path).to_pandas()
    for name in frame.columns:
        if isinstance(frame[name].iloc[0], str):
            frame[name] = frame[name].astype("category")
    frame.to_parquet(path)


def wide(path: Path) -> None:
    """Large strings, 64 bits, the last column first, and one more."""
    table = pq.read_table(path)
    wider = {pa.int32(): pa.int64(), pa.int16(): pa.int64(), pa.string(): pa.large_string()}
    columns = {one.name: wider.get(one.type, one.type) for one in reversed(table.schema)}
    table = table.select(list(columns)).cast(pa.schema(list(columns.items())))
    pq.write_table(table.append_column("note", pa.array(["mine"] * len(table))), path)


def indexed(path: Path) -> None:
    frame = pq.read_table(path).to_pandas()
    frame.set_index(pd.Index(range(7, 7 + len(frame)), name="row")).to_parquet(path)


def floats(path: Path) -> None:
    table = pq.read_table(path)
    numbers = [
        pa.field(one.name, pa.float64()) if pa.types.is_integer(one.type) else one
        for one in table.schema
    ]
    pq.write_table(table.cast(pa.schema(numbers)), path, compression="zstd")


@pytest.mark.long
@pytest.mark.parametrize("store", [rewritten, categories, wide, indexed, floats])
def test_equal_values_verify_however_they_are_stored(results: Path, store: Change) -> None:
    before = shown(results)
    folder = folder_of(results, POINTS[1])
    predictions = trial_tables.read_predictions(folder)
    for name in (trial_files.RUN, trial_files.EPOCHS, trial_files.PREDICTIONS):
        store(folder / name)
    after = shown(results)
    assert (after[0], after[2]) == (before[0], [])
    pd.testing.assert_frame_equal(after[1], before[1])
    assert load(results, []).sweeps[0].undigested == frozenset()
    assert trial_tables.read_predictions(folder).equals(predictions)
    assert compacted(results).added == 3
    packed = shown(results)
    assert (packed[0], packed[2]) == (before[0], [])
    pd.testing.assert_frame_equal(packed[1], before[1])


def set_run(**changes: Any) -> Change:
    return lambda folder: rewritten(folder / trial_files.RUN, **changes)


def edited(folder: Path) -> None:
    frame = pq.read_table(folder / trial_files.EPOCHS).to_pandas()
    frame.loc[1, "val_accuracy"] = 0.99
    frame.to_parquet(folder / trial_files.EPOCHS)


def swapped(folder: Path) -> None:
    """Of another trial: whole, and not this one's."""
    rows = trial_tables.read_table(folder / trial_files.EPOCHS).slice(0, 2)
    trial_tables.write_table(folder / trial_files.EPOCHS, rows, trial_tables.EPOCHS_SCHEMA)


def doubled(folder: Path) -> None:
    table = pq.read_table(folder / trial_files.RUN)
    pq.write_table(table.append_column("status", table["status"]), folder / trial_files.RUN)


def repeated(rows: int) -> Change:
    def change(folder: Path) -> None:
        table = pq.read_table(folder / trial_files.RUN)
        pq.write_table(pa.concat_tables([table] * rows) if rows else table.slice(1),
                       folder / trial_files.RUN)  # fmt: skip

    return change


def versioned(text: bytes) -> Change:
    def change(folder: Path) -> None:
        table = pq.read_table(folder / trial_files.RUN)
        pq.write_table(table.replace_schema_metadata({b"schema_version": text}),
                       folder / trial_files.RUN)  # fmt: skip

    return change


def in_place(make: Change) -> Change:
    def change(folder: Path) -> None:
        (folder / trial_files.RUN).unlink()
        make(folder / trial_files.RUN)

    return change


def garbage(length: int) -> Change:
    return lambda folder: (folder / trial_files.RUN).write_bytes(
        b"PAR1" + bytes(range(256)) * 4 + length.to_bytes(4, "little") + b"PAR1"
    )


BAD: dict[str, Change] = {
    "a figure changed": set_run(val_accuracy=0.99),
    "a figure added": set_run(peak_memory_bytes=7),
    "a text for a number": set_run(epochs_run="three"),
    "another fingerprint": set_run(fingerprint="f" * 64),
    "an epoch changed": edited,
    "epochs of another trial": swapped,
    "a column twice": doubled,
    "two rows": repeated(2),
    "no row": repeated(0),
    "a version that is not text": versioned(b"\xff\xfe\x1b[31m"),
    "a later version": versioned(b"2"),
    "a folder": in_place(Path.mkdir),
    "a FIFO": in_place(os.mkfifo),
    "a link to nowhere": in_place(lambda path: path.symlink_to("nowhere")),
    "a link to a folder": in_place(lambda path: path.symlink_to("..")),
    "a footer of garbage": garbage(1000),
    "a footer longer than the file": garbage(2**31 - 1),
    "nothing": lambda folder: (folder / trial_files.RUN).write_bytes(b""),
}


def command(app: Any, results: Path, *words: str) -> int:
    with pytest.raises(SystemExit) as end:
        run_command(app, ["grid", "--results", str(results), *words])
    return int(end.value.code or 0)


@pytest.mark.long
@pytest.mark.parametrize("name", BAD)
def test_one_bad_file_is_its_own_trials_problem(
    results: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    progress, runs, _ = shown(results)
    folder = folder_of(results, POINTS[1])
    BAD[name](folder)
    after, read, problems = shown(results)
    assert [one.problem is None for one in after] == [True, False, True]
    assert folder.name in str(after[1].problem)
    assert "\x1b" not in str(after[1].problem)
    assert (after[0], after[2]) == (progress[0], progress[2])
    # `result` numbers the results that are alike, of all.
    left = [frame.drop(1).drop(columns="result") for frame in (read, runs)]
    pd.testing.assert_frame_equal(*left, check_dtype=False)
    assert any(folder.name in one for one in problems)
    if "epoch" not in name:
        assert read["state"].tolist() == ["done", "unknown", "done"]
    # Each command goes on, and says it.
    store = TrialStore(results, "grid")
    found, left_out = candidates(store, store.standings(store.plans()[0].trials))
    assert len(found) + bool(left_out) == 1  # all seeds of one point
    assert command(sweeps.status.app, results) == 1
    assert command(sweeps.cancel.app, results) == 0
    assert command(sweeps.compact.__main__.app, results) == 1
    said = capsys.readouterr()
    assert folder.name in said.err
    assert "Traceback" not in said.err
    assert len(archive.trials(results / "grid")) == 2
    assert os.path.lexists(folder / trial_files.RUN)


@pytest.mark.long
def test_a_folder_that_may_not_be_read_is_its_own_trials_problem(results: Path) -> None:
    folder = folder_of(results, POINTS[1])
    folder.chmod(0)
    # Root reads all, unless it has no capabilities.
    drop = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []
    words = {
        "sweeps.status": ["grid"],
        "sweeps.cancel": ["grid"],
        "sweeps.compact": ["grid"],
        "analysis.report": ["--strict", "--out", str(results / "report")],
    }
    for module, more in words.items():
        line = [*drop, sys.executable, "-m", module, *more, "--results", str(results)]
        ended = subprocess.run(line, capture_output=True, text=True)
        assert ended.returncode == 1, (module, ended.stderr)
        assert folder.name in ended.stdout + ended.stderr, module
        assert "this is a bug" not in ended.stderr
    folder.chmod(0o755)
    assert len(archive.trials(results / "grid")) == 2
    assert shown(results)[0][1].problem is None


def test_a_damaged_note_of_a_lost_trial_is_its_own_problem(results: Path) -> None:
    """It is read after the question who lives, in another loop."""
    folder = folder_of(results, POINTS[1])
    (folder / trial_files.RUN).unlink()
    store = TrialStore(results, "grid")
    trials = store.plans()[0].trials
    taken = store.lease(trials[1], 1.0, "")
    assert taken is not None
    path = folder / "claim.json"
    path.write_text(path.read_text().replace(str(taken.pid), str(2**22 + 1)))
    (folder / trial_files.PRUNED).write_text("{")
    states = [one.state for one in store.standings(trials)]
    assert states == [State.DONE, State.UNKNOWN, State.DONE]


# --- files without digests --------------------------------------------------------------------


def as_before(path: Path) -> None:
    """The file as version 0.1 wrote it."""
    table = trial_tables.read_table(path)
    digests = {trial_tables.OF_ROW, *trial_tables.DIGESTS.values()}
    table = table.drop_columns(list(digests & {*table.column_names}))
    metadata = {b"schema_version": b"1"}
    path.write_bytes(trial_tables.encoded(table, metadata, "none").to_pybytes())


def test_files_from_before_are_read_and_counted(results: Path) -> None:
    before = shown(results)
    for name in (trial_files.RUN, trial_files.EPOCHS, trial_files.PREDICTIONS):
        as_before(folder_of(results, POINTS[1]) / name)
    after = shown(results)
    assert (after[0], after[2]) == (before[0], [])
    digest = trial_tables.DIGESTS[trial_files.PREDICTIONS]
    assert after[1][digest].isna().tolist() == [False, True, False]
    digests = [digest, trial_tables.OF_ROW]
    pd.testing.assert_frame_equal(after[1].drop(columns=digests), before[1].drop(columns=digests))
    study = load(results, [])
    assert study.sweeps[0].undigested == {folder_of(results, POINTS[1]).name}
    (part_,) = provenance(study).parts
    assert any(note.startswith("The files of 1 trial are from before") for note in part_.notes)
    # What is compacted now has digests from now on.
    assert compacted(results).added == 3
    assert load(results, []).sweeps[0].undigested == frozenset()


def test_a_compact_file_from_before_is_read_and_counted(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shown(results)
    monkeypatch.setattr(archive, "DIGESTS", b"something_else")
    monkeypatch.setattr(archive, "_verify", lambda *_: None)
    compacted(results)
    monkeypatch.undo()
    after = shown(results)
    assert (after[0], after[2]) == (before[0], [])
    pd.testing.assert_frame_equal(after[1], before[1])
    assert len(load(results, []).sweeps[0].undigested) == 3


# --- compact files whose names lead elsewhere ---------------------------------------------------


@pytest.mark.parametrize("name", ["../../x", "..", "a/b", "", "x" * 300, "a\0b", ".hidden"])
def test_a_compact_file_leads_nowhere_else(
    results: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = results.parent / "x"
    outside.mkdir(exist_ok=True)
    (outside / trial_files.CHECKPOINT).write_bytes(b"not ours")
    rows = [archive_writer._read(folder_of(results, POINTS[0]), trial_of(results))]
    forged(results, rows, trial=name)
    everything = {path: path.stat().st_mtime_ns for path in results.parent.rglob("*")}
    for words in (["--undo"], ["--drop-checkpoints", "--yes"]):
        assert command(sweeps.compact.__main__.app, results, *words) == 3
    said = capsys.readouterr().err
    assert "is not a valid name of a trial" in said
    assert (outside / trial_files.CHECKPOINT).read_bytes() == b"not ours"
    after = {path: path.stat().st_mtime_ns for path in results.parent.rglob("*")}
    folders = {results / "grid", results / "grid" / archive.FOLDER}  # where the lease was
    assert {p: t for p, t in after.items() if p not in folders} == {
        p: t for p, t in everything.items() if p not in folders
    }


@pytest.mark.parametrize("name", ["../x.json", "a/b.json", ".x.json"])
def test_a_file_in_a_compact_file_leads_nowhere_else(results: Path, name: str) -> None:
    row = archive_writer._read(folder_of(results, POINTS[0]), trial_of(results))
    row.files[name] = (b"{}", 0)
    forged(results, [row])
    with pytest.raises(InputError, match="is not a valid name of a file"):
        put_back(results)


def test_a_link_in_a_folders_place_is_not_followed(results: Path, tmp_path: Path) -> None:
    compacted(results)
    folder, outside = folder_of(results, POINTS[0]), tmp_path / "outside"
    folder.rename(outside)
    folder.symlink_to(outside)
    assert command(sweeps.compact.__main__.app, results, "--drop-checkpoints", "--yes") == 0
    assert (outside / trial_files.CHECKPOINT).is_file()
    assert command(sweeps.compact.__main__.app, results, "--undo") == 3
    assert [path.name for path in outside.iterdir()] == [trial_files.CHECKPOINT]


def trial_of(results: Path) -> Any:
    return TrialStore(results, "grid").plans()[0].trials[0]


def forged(results: Path, rows: list[Any], **columns: str) -> None:
    """A compact file, of valid digests, with other columns."""
    table = archive_writer._table(rows)
    for name, value in columns.items():
        place = table.column_names.index(name)
        table = table.set_column(place, name, pa.array([value] * len(table)))
    content = archive_writer._encoded(table)
    folder = results / "grid" / archive.FOLDER
    folder.mkdir()
    path = folder / "x"
    path.write_bytes(content)
    with path.open("rb") as file:
        name = archive.name_of(file)
    path.rename(folder / name)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("nowhere")])
def test_what_is_in_a_compact_files_place_is_a_damaged_one(results: Path, make: Change) -> None:
    """Otherwise its trials would be pending, and run again."""
    compacted(results)
    (path,) = archive.parts(results / "grid")
    path.unlink()
    make(path)
    archive._rows.cache_clear()
    store = TrialStore(results, "grid")
    states = {one.state for one in store.standings(store.plans()[0].trials)}
    assert states == {State.UNKNOWN}
    with pytest.raises(InputError, match="is damaged"):
        load(results, [])


# --- digests ------------------------------------------------------------------------------------

numbers = st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1))
tables = st.integers(1, 5).flatmap(
    lambda n: st.fixed_dictionaries(
        {
            "number": st.lists(numbers, min_size=n, max_size=n),
            "real": st.lists(st.one_of(st.none(), st.floats(width=32)), min_size=n, max_size=n),
            "text": st.lists(st.one_of(st.none(), st.text()), min_size=n, max_size=n),
            "yes": st.lists(st.one_of(st.none(), st.booleans()), min_size=n, max_size=n),
            "list": st.lists(
                st.lists(st.floats(-1e9, 1e9, width=32), max_size=3), min_size=n, max_size=n
            ),
        }
    )
)
NAMES = ["number", "real", "text", "yes", "list"]
KINDS = [pa.int32(), pa.float64(), pa.string(), pa.bool_(), pa.list_(pa.float32())]


def made(columns: dict[str, list[Any]], kinds: list[pa.DataType]) -> pa.Table:
    arrays = [pa.array(columns[name], kind) for name, kind in zip(NAMES, kinds, strict=True)]
    return pa.table(dict(zip(NAMES, arrays, strict=True)))


@given(tables)
def test_a_digest_is_of_values_and_not_of_how_they_are_stored(columns: dict[str, Any]) -> None:
    table = made(columns, KINDS)
    digest = values.digest(table, NAMES)
    wider = [pa.int64(), pa.float64(), pa.large_string(), pa.bool_(), pa.large_list(pa.float64())]
    other = made(columns, wider).select(NAMES[::-1]).append_column("new", table["number"])
    assert values.match(other, digest)
    if None not in columns["number"]:
        place = other.column_names.index("number")
        other = other.set_column(place, "number", other["number"].cast(pa.float64()))
        assert values.match(other, digest)
    place = other.column_names.index("text")
    coded = other.set_column(place, "text", other["text"].cast(pa.string()).dictionary_encode())
    assert values.match(coded, digest)
    nan = [np.nan if value is None else value for value in columns["real"]]
    assert values.match(table.set_column(1, "real", pa.array(nan, pa.float64())), digest)


@given(tables, st.data())
def test_a_digest_differs_where_a_value_does(columns: dict[str, Any], data: st.DataObject) -> None:
    digest = values.digest(made(columns, KINDS), NAMES)
    name = data.draw(st.sampled_from(NAMES[:4]))
    place = data.draw(st.integers(0, len(columns[name]) - 1))
    other = {"number": 7, "real": 0.5, "text": "other", "yes": True}[name]
    if columns[name][place] == other:
        other = None
    changed = {**columns, name: [*columns[name]]}
    changed[name][place] = other
    assert not values.match(made(changed, KINDS), digest)


@pytest.mark.parametrize("value", [2**53 + 1, 2**63 - 1, -(2**63)])
def test_a_digest_tells_integers_apart_that_floats_do_not(value: int) -> None:
    digest = values.digest(pa.table({"seed": [value]}), ["seed"])
    near = value - 1 if value > 0 else value + 1
    assert not values.match(pa.table({"seed": [near]}), digest)
    assert values.match(pa.table({"seed": [value]}), digest)


@given(st.binary(min_size=1, max_size=40), st.data())
def test_a_seal_holds_for_the_sealed_content_alone(before: bytes, data: st.DataObject) -> None:
    content = seal.sealed(before + b"mark:" + seal.BLANK + before, b"mark:")
    assert seal.holds(content, b"mark:")
    place = data.draw(st.integers(0, len(content) - 1))
    flipped = bytearray(content)
    flipped[place] ^= data.draw(st.integers(1, 255))
    assert not seal.holds(bytes(flipped), b"mark:")
