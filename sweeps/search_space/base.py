"""SearchSpace: what every space of a search can say, with a stand-in for the Optuna trials that it
asks."""

from __future__ import annotations

import functools
import json
import math
import random
import reprlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from local_machine.errors import InputError
from sweeps.search_space.distributions import Choice, Numbers, Range, Value

# In words, before a field.
RANGE = "the range of "
# Combinations of choices that are looked at when a search is defined.
MAX_BRANCHES = 1000
Pick: TypeAlias = Callable[[str, Range], Any]


class MissingError(InputError):
    """A point has no value of a field that the space asks for."""


@dataclass(frozen=True)
class Searched:
    """A field that a search varies."""

    range: Range
    """Of all branches together."""
    when: Sequence[Mapping[str, Value]] | None
    """The choices under which a point has it; None: every point has it."""

    def to_json(self) -> dict[str, Any]:
        held = {} if self.when is None else {"when": [dict(one) for one in self.when]}
        return self.range.to_json() | held


class StandIn:
    """Answers a space as an Optuna trial would, without Optuna, and notes what it was asked."""

    number = 0

    def __init__(self, pick: Pick) -> None:
        self.params: dict[str, Any] = {}
        self.asked: dict[str, Range] = {}
        self._pick = pick

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        found: float = self._answer(name, Numbers("float", float(low), float(high), log), step)
        return found

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        return int(self._answer(name, Numbers("int", low, high, log), None if log else step))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._answer(name, Choice(tuple(choices)), None)

    def _answer(self, name: str, one: Range, step: float | None) -> Any:
        if name in self.params:
            return self.params[name]
        if isinstance(one, Numbers) and one.low > one.high:
            raise InputError(f"{name}: {one} is inverted", "give the lower end first")
        value = self._pick(name, one)
        if step is not None and isinstance(one, Numbers):
            # Not above the last step that the range holds.
            value = one.low + step * min(
                round((value - one.low) / step), math.floor((one.high - one.low) / step)
            )
        self.asked[name], self.params[name] = one, value
        return value


class Drawn(NamedTuple):
    """A point, and what was asked and answered on the way to it."""

    point: dict[str, Any]
    params: dict[str, Any]
    """The values by Optuna's names."""
    asked: dict[str, Range]


class SearchSpace(ABC):
    """What a search may try. All that it says follows from its definition alone."""

    samples: Sequence[Drawn] = ()
    """Random points to look at beside those at the ends of ranges."""
    fields: Mapping[str, Searched]
    """Those that a search varies, and whose values are the ones that Optuna chose."""

    @abstractmethod
    def suggest(self, trial: Any) -> dict[str, Any]:
        """The trial's point, its values chosen by an Optuna trial or a StandIn."""

    @abstractmethod
    def described(self) -> dict[str, str]:
        """In words that differ where two spaces do."""

    @abstractmethod
    def _field(self, name: str) -> str:
        """The field whose value Optuna knows by that name."""

    @abstractmethod
    def _opens(self, name: str) -> bool:
        """Whether another value of that choice may lead to other questions."""

    @property
    def is_flat(self) -> bool:
        """Whether every point has the same fields."""
        return len(self.always) == len(self.names)

    @functools.cached_property
    def names(self) -> list[str]:
        """Every field that a point may have, those that a function computes included."""
        return list(dict.fromkeys(key for one in self.explored for key in one.point))

    @functools.cached_property
    def always(self) -> list[str]:
        """Those that every point has."""
        return [key for key in self.names if all(key in one.point for one in self.explored)]

    @functools.cached_property
    def explored(self) -> list[Drawn]:
        """The lower ends of all ranges, then the upper ones, both in every branch; of a space that
        has no branches two points. At most MAX_BRANCHES of each."""
        found = {}
        for end in (0, -1):
            seen, start = 0, tuple[int, ...]()
            waiting = deque([start])
            while waiting and (seen := seen + 1) <= MAX_BRANCHES:
                one, more = self._ends(waiting.popleft(), end)
                waiting.extend(more)
                found[json.dumps(one.params, default=str)] = one
        return list(found.values())

    def _ends(self, way: tuple[int, ...], end: int) -> tuple[Drawn, list[tuple[int, ...]]]:
        """The point at the ends of all ranges on a way through the choices; the ways off it."""
        taken: list[int] = []
        counts: list[int] = []

        def pick(name: str, one: Range) -> Any:
            if not isinstance(one, Choice) or not self._opens(name):
                return one.ends[end]
            known, count = len(taken) < len(way), len(one.values)
            taken.append(way[len(taken)] if known else end % count)
            counts.append(count)
            return one.values[taken[-1]]

        one = self.answered(pick)
        more = [
            (*taken[:place], other)
            for place in range(len(way), len(taken))
            for other in range(counts[place])
            if other != taken[place]
        ]
        return one, more

    def answered(self, pick: Pick) -> Drawn:
        trial = StandIn(pick)
        return Drawn(self.suggest(trial), trial.params, trial.asked)

    def drawn(self, source: random.Random, fixed: Mapping[str, Any] | None = None) -> Drawn:
        """A random point, with these values by Optuna's names where it has them."""
        fixed = fixed or {}
        return self.answered(
            lambda name, one: fixed[name] if name in fixed else _random(source, one)
        )

    def at(self, values: Mapping[str, Any]) -> Drawn:
        """The point that has these values of fields, more of which do not matter. Raises
        MissingError where one is missing, and InputError where they lie outside."""

        def pick(name: str, one: Range) -> Any:
            field = self._field(name)
            if field not in values:
                raise MissingError(f"it has no {field}", f"give it a value: {one}")
            value = values[field]
            if not one.holds(value):
                raise InputError(
                    f"{field}={reprlib.repr(value)} lies outside of {one}",
                    "widen the range, or start within it",
                )
            return float(value) if isinstance(one, Numbers) and one.kind == "float" else value

        one = self.answered(pick)
        for key, value in one.point.items():
            if key in values and values[key] != value:
                raise InputError(
                    f"{key}={reprlib.repr(values[key])}, where the space has {reprlib.repr(value)}",
                    "give the values that the space can have",
                )
        return one


def readable(point: Mapping[str, Any]) -> str:
    """In a line."""
    words = [f"{key}={v if isinstance(v, str) else reprlib.repr(v)}" for key, v in point.items()]
    return ", ".join(words)[:200]


def merged(first: Range, second: Range) -> Range | None:
    """A range that holds both; None where one has numbers and the other a choice."""
    if isinstance(first, Choice) and isinstance(second, Choice):
        return Choice(tuple(dict.fromkeys([*first.values, *second.values])))
    if isinstance(first, Numbers) and isinstance(second, Numbers):
        kind = first.kind if first.kind == second.kind else "float"
        low, high = min(first.low, second.low), max(first.high, second.high)
        return Numbers(kind, low, high, first.log and second.log)
    return None


def _random(source: random.Random, one: Range) -> Any:
    if isinstance(one, Choice):
        return source.choice(one.values)
    low, high = (math.log(one.low), math.log(one.high)) if one.log else (one.low, one.high)
    value = source.uniform(low, high)
    value = math.exp(value) if one.log else value
    value = min(one.high, max(one.low, value))
    return round(value) if one.kind == "int" else value
