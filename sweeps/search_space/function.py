"""A space as a function of an Optuna trial, which returns the point (define-by-run)."""

from __future__ import annotations

import hashlib
import json
import random
import reprlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from local_machine.errors import InputError
from sweeps.search_space.base import RANGE, Drawn, Searched, SearchSpace, merged
from sweeps.search_space.distributions import Range

if TYPE_CHECKING:
    from optuna.trial import Trial as OptunaTrial

# Random points that are looked at when a search is defined.
DRAWS = 30

SpaceFunction: TypeAlias = "Callable[[OptunaTrial], Mapping[str, Any]]"


class FunctionSpace(SearchSpace):
    """A function of an Optuna trial. What it asks for is told from calling it: with every value of
    its choices, at both ends of its numbers, and at random."""

    def __init__(self, function: SpaceFunction) -> None:
        """Raises InputError where the function gives no point, and whatever it raises."""
        self.function = function
        source = random.Random(0)
        self.samples = [self.drawn(source) for _ in range(DRAWS)]
        seen = [*self.explored, *self.samples]
        self.asked: dict[str, Range] = {}
        for one in seen:
            for name, asked in one.asked.items():
                self.asked[name] = merged(self.asked.get(name, asked), asked) or asked
        self._fields: dict[str, str] = {}
        fields: dict[str, Searched] = {}
        for key in dict.fromkeys(key for one in seen for key in one.point):
            having = [one for one in seen if key in one.point]
            for name in having[0].params:
                if all(_same(one, key, name) for one in having):
                    self._fields.setdefault(name, key)
                    always = len(having) == len(seen)
                    fields[key] = Searched(self.asked[name], None if always else ())
                    break
        self.fields = fields
        if not fields:
            raise InputError(
                "space: the function returns no value that the trial suggests",
                'return {field: value}: {"lr": trial.suggest_float("lr", 1e-4, 1, log=True)}',
            )

    def suggest(self, trial: Any) -> dict[str, Any]:
        found = self.function(trial)
        if not isinstance(found, Mapping) or not all(isinstance(key, str) for key in found):
            raise InputError(
                f"space: the function returns {reprlib.repr(found)}, not a point",
                'return {field: value}: {"lr": trial.suggest_float("lr", 1e-4, 1, log=True)}',
            )
        for key, value in found.items():
            if value is not None and not isinstance(value, (str, int, float, bool)):
                raise InputError(
                    f"space: {key} is a {type(value).__name__}: {reprlib.repr(value)}",
                    "return texts, numbers or bools",
                )
        return dict(found)

    def _field(self, name: str) -> str:
        return self._fields.get(name, name)

    def _opens(self, name: str) -> bool:
        return True

    def described(self) -> dict[str, str]:
        points = json.dumps([one.point for one in self.explored])
        digest = hashlib.sha256(points.encode()).hexdigest()[:8]
        ranges = {f"{RANGE}{name}": str(one) for name, one in self.asked.items()}
        return {**ranges, "what the space's function returns": digest}


def _same(one: Drawn, key: str, name: str) -> bool:
    given = one.params.get(name)
    return name in one.params and type(given) is type(one.point[key]) and given == one.point[key]
