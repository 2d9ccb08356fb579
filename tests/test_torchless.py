"""States that are saved without torch: every kind of value comes back, and damage is noticed."""

from __future__ import annotations

import io
import math
import sys
import zipfile
from collections import Counter, OrderedDict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_machine.errors import InputError
from sweeps.run import checkpoint_file, torchless
from sweeps.run.checkpoint_file import DamagedCheckpointError, refuse_unloadable

PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.binary() | st.binary().map(bytearray) | st.complex_numbers(allow_nan=False)
)  # fmt: skip
KEYS = st.text() | st.integers() | st.tuples(st.text(), st.integers()) | st.just("$")
STATES = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.sets(st.integers() | st.text())
        | st.dictionaries(KEYS, inner)
        | st.dictionaries(KEYS, inner).map(OrderedDict)
        | st.dictionaries(st.text(), st.integers()).map(Counter)
    ),
    max_leaves=20,
)


def again(state: Any) -> Any:
    refuse_unloadable(state)
    return checkpoint_file.decoded(io.BytesIO(torchless.encoded(state)))


def kinds(value: Any) -> Any:
    """The value with the types of all that it holds, which `==` does not tell apart."""
    if isinstance(value, dict):
        return type(value), [(kinds(key), kinds(one)) for key, one in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [kinds(one) for one in value]
    return type(value), value


@given(STATES)
def test_every_plain_state_comes_back_equal_and_of_its_kind(state: Any) -> None:
    assert kinds(again(state)) == kinds(state)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).reshape(2, 3), np.asfortranarray(np.eye(3)), np.zeros((0, 2)), np.array(1.5),
        np.float32(0.1), np.bool_(True), np.array(["a", "bc"]), np.array([b"x"]),
        np.datetime64("2026-01-02"), np.array([1], ">i4"), np.str_("x"), np.int8(-3),
    ],
    ids=repr,
)  # fmt: skip
def test_an_array_comes_back_with_its_type_and_its_order(array: Any) -> None:
    found = again({"of": [array]})["of"][0]
    assert type(found) is type(array) and found.dtype == array.dtype
    assert found.shape == array.shape and found.flags.f_contiguous == array.flags.f_contiguous
    assert np.array_equal(found, array)


def test_nan_and_the_infinities_come_back() -> None:
    found = again([math.nan, math.inf, -math.inf, -0.0])
    assert math.isnan(found[0]) and found[1:3] == [math.inf, -math.inf]
    assert math.copysign(1, found[3]) == -1


@pytest.mark.parametrize(
    "state",
    [np.array([object()]), np.ma.array([1], mask=[True]), object(), {1: lambda: 0}, [range(3)]],
    ids=["objects", "masked", "object", "function", "range"],
)
def test_what_could_not_come_back_is_refused(state: Any) -> None:
    with pytest.raises(InputError, match="cannot be saved"):
        refuse_unloadable(state)


def test_a_file_with_any_byte_changed_is_damaged_or_gives_the_same() -> None:
    state = {"weight": np.arange(4.0), "seen": {1, 2}}
    content = torchless.encoded(state)
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 0xFF
        try:
            found = checkpoint_file.decoded(io.BytesIO(changed))
        except DamagedCheckpointError:
            continue
        assert np.array_equal(found["weight"], state["weight"]) and found["seen"] == state["seen"]


def test_what_another_program_put_into_it_is_not_unpickled() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(torchless.MEMBER, '{"$": "array", "of": 0}')
        with archive.open("0.npy", "w") as file:
            np.save(file, np.array([Counter()]), allow_pickle=True)
    buffer.seek(0)
    with pytest.raises(DamagedCheckpointError):
        checkpoint_file.decoded(buffer)


def test_a_process_that_has_torch_saves_as_torch_does(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert torchless.MEMBER.encode() not in bytes(checkpoint_file.encoded({"a": torch.ones(1)}))
    monkeypatch.delitem(sys.modules, "torch")
    assert torchless.MEMBER.encode() in bytes(checkpoint_file.encoded({"a": 1}))
