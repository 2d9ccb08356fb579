"""A space as data: ranges by field, some of them only under one value of a choice.

A field that has a range in several branches is a parameter of its own in each, for Optuna: what
suits one branch says nothing of another.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from local_machine.errors import InputError
from sweeps.search_space.base import RANGE, Drawn, Searched, SearchSpace, merged
from sweeps.search_space.distributions import Choice, Numbers, Range, Value


class RangeTree(SearchSpace):
    """Ranges by field, as data."""

    def __init__(self, ranges: Mapping[str, Range]) -> None:
        """Raises InputError where a point would have a field twice, and where a field is a number
        in one branch and a choice in another."""
        self.ranges = ranges
        self._places = list(_places(ranges, {}))
        by_field: dict[str, list[tuple[Range, dict[str, Value]]]] = {}
        for key, one, when in self._places:
            by_field.setdefault(key, []).append((one, when))
        self._shared = {key for key, places in by_field.items() if len(places) > 1}
        for key, places in by_field.items():
            for (_, first), (_, second) in itertools.combinations(places, 2):
                if key in {*first, *second} or not _exclude(first, second):
                    raise InputError(
                        f"{key} is twice in the space, and one point would have both",
                        "give it once, or in branches of one choice",
                    )
        self._fields = {self._name(key, when): key for key, _, when in self._places}
        self.fields = {
            key: Searched(
                _joined(key, [one for one, _ in places]),
                None if key in self.always else [when for _, when in places],
            )
            for key, places in by_field.items()
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RangeTree) and other.ranges == self.ranges

    __hash__ = None  # type: ignore[assignment]

    def suggest(self, trial: Any) -> dict[str, Any]:
        return self._suggested(trial, self.ranges, {})

    def _suggested(
        self, trial: Any, ranges: Mapping[str, Range], when: dict[str, Value]
    ) -> dict[str, Any]:
        point: dict[str, Any] = {}
        for key, one in ranges.items():
            point[key] = value = one.suggest(trial, self._name(key, when))
            if isinstance(one, Choice) and one.branches:
                point |= self._suggested(trial, one.branches[value], {**when, key: value})
        return point

    def _name(self, key: str, when: Mapping[str, Value]) -> str:
        return f"{key} where {_words(when)}" if key in self._shared else key

    def _field(self, name: str) -> str:
        return self._fields[name]

    @functools.cached_property
    def _branching(self) -> set[str]:
        return {
            self._name(key, when)
            for key, one, when in self._places
            if isinstance(one, Choice) and one.branches
        }

    def _opens(self, name: str) -> bool:
        return name in self._branching

    def described(self) -> dict[str, str]:
        return {
            f"{RANGE}{key}" + (f" where {_words(when)}" if when else ""): str(one)
            for key, one, when in self._places
        }

    def numbers(self) -> list[tuple[str, Range]]:
        """The fields that are no choices."""
        return [(key, one) for key, one, _ in self._places if isinstance(one, Numbers)]

    def single_ends(self) -> Iterator[dict[str, Value]]:
        """Each end of each range, each value of each choice, with the choices that lead there."""
        for key, one, when in self._places:
            for value in one.ends:
                yield {**when, key: value}

    def every(self) -> Iterator[Drawn]:
        """Every point of a space of choices."""
        for params in self._every(self.ranges, {}):
            yield self.answered(lambda name, _, known=params: known[name])  # type: ignore[misc]

    def _every(
        self, ranges: Mapping[str, Range], when: dict[str, Value]
    ) -> Iterator[dict[str, Any]]:
        """By Optuna's names."""
        if not ranges:
            yield {}
            return
        (key, one), rest = next(iter(ranges.items())), dict(list(ranges.items())[1:])
        for value in one.ends:
            under = one.branches.get(value, {}) if isinstance(one, Choice) else {}
            for inner in self._every(under, {**when, key: value}):
                for others in self._every(rest, when):
                    yield {self._name(key, when): value, **inner, **others}

    def count(self) -> int:
        """How many `every` gives."""
        return _count(self.ranges)


def _places(
    ranges: Mapping[str, Range], when: dict[str, Value]
) -> Iterator[tuple[str, Range, dict[str, Value]]]:
    """Each range with its field and the choices that lead to it."""
    for key, one in ranges.items():
        yield key, one, when
        if isinstance(one, Choice):
            for value, under in one.branches.items():
                yield from _places(under, {**when, key: value})


def _exclude(first: Mapping[str, Value], second: Mapping[str, Value]) -> bool:
    return any(key in second and second[key] != value for key, value in first.items())


def _joined(key: str, ranges: Sequence[Range]) -> Range:
    found = ranges[0]
    for one in ranges[1:]:
        both = merged(found, one)
        if both is None:
            raise InputError(
                f"{key} is {found} in one branch and {one} in another",
                "give it numbers in all of its branches, or choices in all",
            )
        found = both
    return found


def _count(ranges: Mapping[str, Range]) -> int:
    return math.prod(
        sum(_count(one.branches.get(value, {})) for value in one.ends)
        if isinstance(one, Choice)
        else len(one.ends)
        for one in ranges.values()
    )


def _words(when: Mapping[str, Value]) -> str:
    return ", ".join(f"{key}={value}" for key, value in when.items())
