"""Points that a search's constraint allows."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from local_machine.errors import InputError
from sweeps.search_space.base import Drawn, SearchSpace
from sweeps.search_space.distributions import Choice

Allows = Callable[[Mapping[str, Any]], bool]
# Points drawn for one that is allowed; of these choices, and of any.
OF_A_BRANCH, OF_ALL = 100, 5000


def drawn(space: SearchSpace, allows: Allows, source: random.Random) -> Drawn:
    """A random point that is allowed. Raises InputError where none is found."""
    found = _drawn(space, allows, source, {}, OF_ALL)
    if found is None:
        raise InputError(
            f"where: none of {OF_ALL:,} random points of the space satisfies it",
            "give the space more such points, or correct the condition",
        )
    return found


def examples(space: SearchSpace, allows: Allows) -> Sequence[Drawn]:
    """Points at the ends of the ranges in every branch, then samples; each if it is allowed, else a
    random one of its branch that is. Raises InputError where none is allowed."""
    source, found = random.Random(0), []
    for one in [*space.explored, *space.samples]:
        if allows(one.point):
            found.append(one)
            continue
        choices = {
            name: one.params[name] for name, asked in one.asked.items() if isinstance(asked, Choice)
        }
        if (other := _drawn(space, allows, source, choices, OF_A_BRANCH)) is not None:
            found.append(other)
    return found or [drawn(space, allows, source)]


def _drawn(
    space: SearchSpace,
    allows: Allows,
    source: random.Random,
    fixed: Mapping[str, Any],
    most: int,
) -> Drawn | None:
    for _ in range(most):
        one = space.drawn(source, fixed)
        if allows(one.point):
            return one
    return None
