"""Spaces: the points that a sweep visits, each a set of overrides by dotted key.

grid({"batch_size": [64, 128], "epochs": [25, 50]})        # every combination: 4 points
zipped({"batch_size": [64, 128], "optimizer.lr": [0.05, 0.1]})   # side by side: 2 points
chain(grid(...), zipped(...))                              # one after the other
"""

from __future__ import annotations

import itertools
import math
import reprlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from local_machine.errors import InputError

Point = Mapping[str, Any]
Space = tuple[Point, ...]

# Of a sweep, in all: ten times what has ever been tried.
MAX_TRIALS = 1_000_000


def grid(axes: Mapping[str, Sequence[Any]]) -> Space:
    """Every combination of the axes' values; the last axis varies fastest.

    Raises InputError where an axis has no values, and for more than MAX_TRIALS points.
    """
    values = _axes(axes)
    check_count(math.prod(len(axis) for axis in values.values()), "the grid's points")
    return tuple(
        dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())
    )


def zipped(axes: Mapping[str, Sequence[Any]]) -> Space:
    """The axes' values side by side: as many points as each axis has values.

    Raises InputError where the axes differ in length or have no values.
    """
    values = _axes(axes)
    lengths = {key: len(axis) for key, axis in values.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(
            f"zipped axes differ in length: {lengths}", "give each axis the same number of values"
        )
    return tuple(
        dict(zip(values, point, strict=True)) for point in zip(*values.values(), strict=True)
    )


def chain(*spaces: Space) -> Space:
    """The points of one space after those of another. Raises InputError for what is not a space."""
    for space in spaces:
        if not isinstance(space, Sequence) or isinstance(space, str):
            raise InputError(
                f"chain got a {type(space).__name__}, not a space",
                "chain(grid({...}), grid({...}))",
            )
    check_count(sum(map(len, spaces)), "the chain's points")
    return tuple(itertools.chain.from_iterable(spaces))


def check_count(count: int, what: str) -> None:
    """Raises InputError for more trials than a sweep may have."""
    if count > MAX_TRIALS:
        raise InputError(
            f"{what}: more than the {MAX_TRIALS:,} trials that a sweep may have",
            "give fewer values or seeds, or make several sweeps of it",
        )


def axes_of(space: Space) -> list[str]:
    """The keys that any point sets, in the order in which they first appear."""
    return list(dict.fromkeys(key for point in space for key in point))


def _axes(axes: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    if not isinstance(axes, Mapping):
        raise InputError(
            f"the axes are a {type(axes).__name__}", 'give a mapping, as in grid({"epochs": [25]})'
        )
    if not axes:
        raise InputError(
            "an empty grid: it has no axes", 'write at least one, as in grid({"epochs": [25, 50]})'
        )
    values: dict[str, list[Any]] = {}
    for key, axis in axes.items():
        if isinstance(axis, str) or not isinstance(axis, Sequence):
            raise InputError(
                f"axis {key!r} is {reprlib.repr(axis)}, not a list",
                f'write a list: {{"{key}": [{reprlib.repr(axis)}]}}',
            )
        try:
            count = len(axis)
        except OverflowError:
            count = sys.maxsize  # of a range that is longer than len() can say
        check_count(count, f"the values of axis {key!r}")
        values[key] = list(axis)
        if not values[key]:
            raise InputError(
                f"an empty grid: axis {key!r} has no values", f'give it some: {{"{key}": [...]}}'
            )
    return values
