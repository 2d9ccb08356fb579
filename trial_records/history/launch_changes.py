"""Launches of one sweep, one after the other: which trials appeared, which vanished, which stayed.

A definition that gained or lost values launches another set of trials; what an earlier launch has
trained stays on disk, and is not part of the later one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class LaunchedTrials:
    """What one launch asked for."""

    id: str
    created: str  # UTC, ISO 8601
    setting: str  # scale and overrides, in a line
    trials: Mapping[str, str]  # names by fingerprint


@dataclass(frozen=True)
class Change:
    """A launch beside the one before it with the same scale and overrides."""

    launch: LaunchedTrials
    before: LaunchedTrials | None  # None: the first of its setting

    @property
    def kept(self) -> list[str]:
        """Trials of both."""
        return [] if self.before is None else _in(self.launch, self.before, there=True)

    @property
    def appeared(self) -> list[str]:
        return [] if self.before is None else _in(self.launch, self.before, there=False)

    @property
    def vanished(self) -> list[str]:
        """Trials of the launch before that the definition has no more."""
        return [] if self.before is None else _in(self.before, self.launch, there=False)


def changes(launches: Iterable[LaunchedTrials]) -> list[Change]:
    """The launches in the order of time, each beside the one before it of its setting: another
    scale makes other trials of every point."""
    last: dict[str, LaunchedTrials] = {}
    found = []
    for one in sorted(launches, key=lambda one: (one.created, one.id)):
        found.append(Change(one, last.get(one.setting)))
        last[one.setting] = one
    return found


def _in(one: LaunchedTrials, other: LaunchedTrials, *, there: bool) -> list[str]:
    return [name for key, name in one.trials.items() if (key in other.trials) is there]
