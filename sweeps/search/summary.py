"""The finding: what a search came to, how flat its optimum is, and what failed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from sweeps.search.optuna_journal import FROM, Journal, cause_of
from sweeps.search_space.base import Searched
from sweeps.search_space.distributions import Numbers
from sweeps.task import Objective


@dataclass(frozen=True)
class SearchSummary:
    """A search's told trials, and what they say."""

    search: str
    """Its id."""
    told: list[FrozenTrial]
    complete: list[FrozenTrial]
    """The trials that trained to a value, the best first."""
    points: dict[int, dict[str, Any]]
    """Of the told trials, by number: the values of the fields that each has."""
    given: int
    """How many of them it was told of by --from."""
    refused: int
    """How many points the search's `where` refused."""
    space: Mapping[str, Searched]
    config: Path
    """The file that holds the best configuration."""
    goal: Objective
    is_trainers: bool
    """Whether values are accuracies on validation images, whose chance is known."""

    @classmethod
    def of(cls, search: str, journal: Journal, config: Path) -> SearchSummary:
        definition, told = journal.search, journal.told()
        return cls(
            search, told, journal.complete(), {one.number: journal.point_of(one) for one in told},
            journal.given, journal.refused, definition.searched.fields, config, definition.goal,
            definition.is_trainers,
        )  # fmt: skip

    @property
    def states(self) -> dict[str, int]:
        return dict(sorted(Counter(one.state.name.lower() for one in self.told).items()))

    @property
    def causes(self) -> list[tuple[str, int]]:
        """Why trials failed, the most frequent first."""
        return Counter(filter(None, map(cause_of, self.told))).most_common()

    @property
    def standard_error(self) -> float | None:
        """Of the best trial's accuracy, on its validation images (binomial); None for another
        metric, of which it is not known, and without a best trial."""
        if not self.is_trainers or not self.complete:
            return None
        best = self.complete[0]
        value = min(1.0, max(0.0, best.value or 0.0))
        return math.sqrt(value * (1 - value) / best.user_attrs.get("val_images", 1))

    @property
    def flat(self) -> dict[str, tuple[float, float]]:
        """For each numeric field the range of values among the trials that come within one standard
        error of the best."""
        error = self.standard_error
        if error is None:
            return {}
        best, *others = self.complete
        bar = (best.value or 0.0) - error
        near = [best, *(one for one in others if (one.value or 0.0) >= bar)]
        points = [self.points[one.number] for one in near]
        return {
            key: (min(found), max(found))
            for key, one in self.space.items()
            if isinstance(one.range, Numbers)
            and (found := [point[key] for point in points if key in point])
        }

    def lines(self) -> list[str]:
        """For a person."""
        words = ", ".join(f"{count} {state}" for state, count in self.states.items())
        lines = [f"{len(self.told)} trials: {words}"]
        if self.given:
            lines.append(f"{self.given} of them: given by --from")
        if self.refused:
            lines.append(f"{self.refused} points beside them did not satisfy `where`")
        lines += [f"{count} of them: {cause}" for cause, count in self.causes]
        if not self.complete:
            return [*lines, "no trial was complete: nothing is best"]
        best = self.complete[0]
        shown = ", ".join(
            f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in self.points[best.number].items()
        )
        if self.standard_error is None:
            return [*lines, f"best: {shown}: {self.goal.metric} {best.value or 0:.4g}"]
        lines.append(f"best: {shown}: validation {100 * (best.value or 0):.2f} %")
        error = f"{100 * self.standard_error:.2f} points"
        return lines + [
            f"within one standard error of it ({error}): {key} from {low:g} to {high:g}"
            for key, (low, high) in self.flat.items()
        ]

    def to_json(self) -> dict[str, Any]:
        best = self.complete[0] if self.complete else None
        return {
            "schema_version": 1,
            "search": self.search,
            "counts": self.states,
            "given": self.given,
            "refused": self.refused,
            "metric": self.goal.metric,
            "direction": self.goal.direction,
            "best": best
            and {
                "number": best.number,
                "value": best.value,
                "params": self.points[best.number],
                "trial": best.user_attrs["trial"],
                "config": str(self.config),
            },
            "standard_error": self.standard_error,
            "within_one_standard_error": {key: list(ends) for key, ends in self.flat.items()},
            "trials": [
                {
                    "number": one.number,
                    "state": one.state.name.lower(),
                    "value": one.value,
                    "params": self.points[one.number],
                    "trial": one.user_attrs.get("trial"),
                    "from": one.user_attrs.get(FROM),
                    "cause": cause_of(one) or None,
                }
                for one in self.told
            ],
        }
