"""The space of what a definition gives."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping

from local_machine.errors import InputError
from sweeps.search_space.base import SearchSpace
from sweeps.search_space.distributions import Choice, Numbers, Range
from sweeps.search_space.function import FunctionSpace, SpaceFunction
from sweeps.search_space.tree import RangeTree


def space_of(given: Mapping[str, Range] | SpaceFunction) -> SearchSpace:
    """Raises InputError for what is not a valid space."""
    if callable(given):
        return FunctionSpace(given)
    if not isinstance(given, Mapping) or not given:
        raise InputError(
            "an empty space: the search varies nothing",
            'give it a field: space={"optimizer.weight_decay": log_uniform(1e-5, 1e-2)}',
        )
    for key, values in given.items():
        if not isinstance(key, str):
            raise InputError(f"{reprlib.repr(key)} is not a field", 'name it: "optimizer.lr"')
        if not isinstance(values, (Numbers, Choice)):
            raise InputError(
                f"{key}: {reprlib.repr(values)} is not a range",
                "make it with log_uniform, choice, ...",
            )
    return RangeTree(given)
