"""Spaces: grid, zipped, chain."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_machine.errors import InputError
from sweeps.spec.grid import axes_of, chain, grid, zipped

axes = st.dictionaries(
    st.text("abc.", min_size=1, max_size=4),
    st.lists(st.integers(), min_size=1, max_size=4, unique=True),
    min_size=1,
    max_size=4,
)


@given(axes)
def test_grid_has_every_combination_once(values: dict[str, list[int]]) -> None:
    points = grid(values)
    assert len(points) == math.prod(len(axis) for axis in values.values())
    assert len({tuple(point.items()) for point in points}) == len(points)
    for point in points:
        assert list(point) == list(values)
        assert all(point[key] in axis for key, axis in values.items())


def test_the_last_axis_varies_fastest() -> None:
    assert grid({"a": [1, 2], "b": [3, 4]}) == (
        {"a": 1, "b": 3},
        {"a": 1, "b": 4},
        {"a": 2, "b": 3},
        {"a": 2, "b": 4},
    )


@given(axes)
def test_zipped_is_the_columns_side_by_side(values: dict[str, list[int]]) -> None:
    if len({len(axis) for axis in values.values()}) > 1:
        with pytest.raises(InputError, match="differ in length"):
            zipped(values)
        return
    points = zipped(values)
    for key, axis in values.items():
        assert [point[key] for point in points] == axis


@given(axes, axes)
def test_chain_keeps_both_in_order(
    first: dict[str, list[int]], second: dict[str, list[int]]
) -> None:
    points = chain(grid(first), grid(second))
    assert points == grid(first) + grid(second)
    assert axes_of(points) == list(dict.fromkeys([*first, *second]))


@pytest.mark.parametrize("make", [grid, zipped])
@pytest.mark.parametrize("values", [{}, {"a": []}, {"a": [1], "b": []}, {"a": "text"}, {"a": 5}])
def test_an_axis_without_values_is_refused(make: Any, values: Any) -> None:
    with pytest.raises(InputError):
        make(values)
