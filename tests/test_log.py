"""The log of a trial: what is read of it was written, whatever became of its end."""

from __future__ import annotations

import errno
import math
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from local_machine.errors import InputError
from trial_records import log
from trial_records.log import LogWriter

NAMES = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=20)
NUMBERS = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats())
ROWS = st.lists(st.dictionaries(NAMES, NUMBERS, max_size=4), max_size=8)


def content_of(rows: list[dict[str, Any]]) -> bytes:
    begin = log.frame("attempt", {"attempt": 1, "token": "t"})
    return begin + b"".join(log.frame("row", row) for row in rows)


def bits(value: Any) -> Any:
    return struct.pack("d", value) if isinstance(value, float) else (type(value), value)


def read(content: bytes) -> list[dict[str, Any]]:
    found = [one.value for one in log.frames(content) if one.kind == "row"]
    return [{name: bits(value) for name, value in row.items()} for row in found]


def written(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: bits(value) for name, value in row.items()} for row in rows]


@given(ROWS)
def test_what_was_logged_is_read_to_the_last_bit(rows: list[dict[str, Any]]) -> None:
    """NaN and infinities, too; of a NaN only that it is one."""
    assert [log.checked(row) for row in rows] or not rows
    again = read(content_of(rows))
    for mine, its in zip(written(rows), again, strict=True):
        assert mine.keys() == its.keys()
        for name, value in mine.items():
            if isinstance(value, bytes) and math.isnan(struct.unpack("d", value)[0]):
                assert math.isnan(struct.unpack("d", its[name])[0])
            else:
                assert its[name] == value


FINITE = st.lists(
    st.dictionaries(NAMES, st.one_of(st.integers(-9, 9), st.floats(allow_nan=False)), max_size=4),
    max_size=8,
)


@given(FINITE, st.data())
def test_any_torn_end_gives_the_rows_before_it(rows: list[dict[str, Any]], data: Any) -> None:
    content = content_of(rows)
    length = data.draw(st.integers(0, len(content)))
    rest = data.draw(st.binary(max_size=40))
    found = read(content[:length] + rest)
    assert found == written(rows)[: len(found)] or content.startswith(content[:length] + rest)
    whole = sum(one.end <= length for one in log.frames(content))
    assert len(found) >= whole - 1


@given(FINITE, st.data())
def test_any_flipped_byte_gives_no_row_that_was_not_logged(
    rows: list[dict[str, Any]], data: Any
) -> None:
    content = bytearray(content_of(rows))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    found = read(bytes(content))
    assert found == written(rows)[: len(found)]
    assert len(found) < len(rows) or not rows


@given(st.binary(max_size=300))
def test_anything_is_read_without_an_error(content: bytes) -> None:
    assert log.rows(content) == []


@given(FINITE, st.data())
def test_only_what_a_mark_is_of_is_committed(rows: list[dict[str, Any]], data: Any) -> None:
    content = content_of(rows)
    length = data.draw(st.integers(0, len(content)))
    mark = log.Mark(length, log.hashlib.sha256(content[:length]).hexdigest())
    assert log.committed(content, mark) == content[:length]
    if length:
        changed = bytearray(content)
        changed[data.draw(st.integers(0, length - 1))] ^= 1
        assert log.committed(bytes(changed), mark) is None
        assert log.committed(content[: length - 1], mark) is None


def test_several_calls_for_a_step_are_one_row(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "log", b"", 1, "t")
    for row in (
        {"epoch": 0, "loss": 1.0}, {"epoch": 0, "accuracy": 0.5}, {"epoch": 1, "loss": 0.5},
        {"epoch": 1, "step": 7, "loss": 0.4}, {"loss": 1.0}, {"loss": 1.0},
        {"epoch": 0, "loss": 2.0},
    ):  # fmt: skip
        writer.append("row", row)
    writer.close()
    assert log.values_of(log.rows((tmp_path / "log").read_bytes())) == [
        {"epoch": 0, "loss": 2.0, "accuracy": 0.5},
        {"epoch": 1, "loss": 0.5},
        {"epoch": 1, "step": 7, "loss": 0.4},
        {"loss": 1.0},
        {"loss": 1.0},
    ]


def test_rows_say_whether_they_are_committed_and_by_which_attempt(tmp_path: Path) -> None:
    path = tmp_path / "log"
    first = LogWriter(path, b"", 1, "a")
    first.append("row", {"epoch": 0})
    mark = first.mark()
    first.append("row", {"epoch": 1})
    first.saved(mark)
    first.append("row", {"epoch": 1, "late": 1})
    content = path.read_bytes()
    assert [(one.attempt, one.committed) for one in log.rows(content)] == [(1, True), (1, False)]
    begin = log.committed(content, mark)
    assert begin is not None
    second = LogWriter(path, begin, 2, "b")
    first.append("row", {"epoch": 99})  # to a file that counts no more
    second.append("row", {"epoch": 1})
    found = log.rows(path.read_bytes())
    assert [(one.values, one.attempt, one.committed) for one in found] == [
        ({"epoch": 0}, 1, True),
        ({"epoch": 1}, 2, False),
    ]
    assert log.committed(path.read_bytes(), second.mark()) == path.read_bytes()
    first.close()
    second.close()


def test_numbers_of_numpy_and_torch_are_numbers() -> None:
    given_ = {
        "a": np.float32(0.1), "b": np.int16(3), "c": np.bool_(True), "d": torch.tensor(1.5),
        "e": torch.tensor(True), "f": np.array(2.0), "g": float("nan"), "h": True,
    }  # fmt: skip
    found = log.checked(given_)
    assert {name: type(value) for name, value in found.items()} == {
        "a": float, "b": int, "c": bool, "d": float, "e": bool, "f": float, "g": float, "h": bool,
    }  # fmt: skip
    assert found["a"] == float(np.float32(0.1))


@pytest.mark.parametrize(
    "value",
    ["0.5", [1.0], None, {"a": 1}, 1j, torch.zeros(2), np.zeros(3), np.str_("x"), 2**63, object()],
)
def test_what_is_not_a_number_is_refused_by_its_name(value: object) -> None:
    with pytest.raises(InputError, match="loss"):
        log.checked({"loss": value})


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 201, "\x1b[2J"])
def test_a_name_that_no_table_can_show_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="metric is called"):
        log.checked({name: 1})


def test_a_full_disk_takes_back_half_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    writer = LogWriter(path, b"", 1, "t")
    writer.append("row", {"epoch": 0})
    write = os.write

    def half(descriptor: int, line: bytes) -> int:
        if len(line) < 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, line[: len(line) // 2])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space"):
            writer.append("row", {"epoch": 1, "something": 1})
    writer.append("row", {"epoch": 2})
    writer.close()
    assert [one.values["epoch"] for one in log.rows(path.read_bytes())] == [0, 2]


def test_a_person_can_read_it(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "log", b"", 3, "t")
    writer.append("row", {"epoch": 0, "loss": 0.25})
    writer.close()
    first, second = (tmp_path / "log").read_text().splitlines()
    assert first.endswith('attempt {"attempt": 3, "token": "t"}')
    assert second.endswith('row {"epoch": 0, "loss": 0.25}')
