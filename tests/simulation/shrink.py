"""Shrinking: of a scenario that fails, fewer commands and faults that still do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from simulation.scenario import Scenario, without_actor
from simulation.world import Outcome, World

MOST_TRIES = 200
# So many characters of a violation say of which kind it is.
KIND = 60


def play(scenario: Scenario, *, traced: bool = False) -> Outcome:
    return World(scenario, traced=traced).play()


def shrunk(scenario: Scenario, tries: int = MOST_TRIES) -> Scenario:
    """The smallest scenario that was found to fail, in so many tries."""
    outcome = play(scenario)
    while tries > 0:
        for smaller in _smaller(scenario, outcome):
            tries -= 1
            found = play(smaller)
            if found.violations and kind_of(found) == kind_of(outcome):
                scenario, outcome = smaller, found
                break
            if tries <= 0:
                break
        else:
            return scenario
    return scenario


def kind_of(outcome: Outcome) -> str:
    """The first violation, without what differs between two of its kind."""
    return re.sub(r"[0-9a-f]{6,}|\d+(\.\d+)?", "#", outcome.violations[0])[:KIND]


def _smaller(scenario: Scenario, outcome: Outcome) -> Iterator[Scenario]:
    """One thing less, the largest first."""
    for number in reversed(range(len(scenario.actors))):
        if len(scenario.actors) > 1:
            yield without_actor(scenario, number)
    struck = outcome.struck
    if len(struck) > 3:
        half = struck[len(struck) // 2 :]
        yield replace(scenario, skipped=(*scenario.skipped, *half))
    for step in reversed(struck):
        yield replace(scenario, skipped=(*scenario.skipped, step))
    for name in ("nfs", "twins", "hides"):
        if getattr(scenario, name):
            yield replace(scenario, **{name: False})
    if scenario.slurm:
        yield replace(scenario, slurm="")
    if scenario.refused:
        yield replace(scenario, refused=frozenset())
    if scenario.hosts > 1:
        yield replace(scenario, hosts=scenario.hosts - 1)
