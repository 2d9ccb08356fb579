"""Which finished trials are run again: resumed ones first, spread over the points of the sweep."""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from typing import TypeVar

from sweeps.state.progress import Progress

T = TypeVar("T")


def in_order(done: Iterable[Progress], verified: Collection[str]) -> list[Progress]:
    """The trials in the order in which they are worth a rerun; `verified` are the fingerprints of
    those that had one, which come after the others of their kind."""
    kinds: dict[tuple[bool, bool], list[Progress]] = {}
    for one in done:
        is_old = one.trial.fingerprint in verified
        kinds.setdefault((one.attempts < 2, is_old), []).append(one)
    return [one for kind in sorted(kinds) for one in _over_points(kinds[kind])]


def _over_points(trials: Iterable[Progress]) -> Iterator[Progress]:
    """One of each point, the points far from each other first; then the next one of each."""
    points: dict[Hashable, list[Progress]] = {}
    for one in trials:
        points.setdefault(json.dumps(dict(one.trial.point), default=str), []).append(one)
    ordered = spread(list(points.values()))
    for number in range(max(map(len, ordered), default=0)):
        yield from (seeds[number] for seeds in ordered if number < len(seeds))


def spread(items: Sequence[T]) -> list[T]:
    """The items so that the first ones, however many, lie far apart: the first, the middle, the
    quarters (van der Corput 1935)."""
    digits = max(1, (len(items) - 1).bit_length())
    places = sorted(range(len(items)), key=lambda place: f"{place:0{digits}b}"[::-1])
    return [items[place] for place in places]
