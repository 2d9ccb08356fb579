"""Memory: figures that were drawn before, for a report that is made again and again.

A figure is a pure function of what it is given, so that equal arguments have the same figure, and
the same bytes in each format. matplotlib takes most of the time that a report takes.
"""

from __future__ import annotations

import functools
import hashlib
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ParamSpec

from matplotlib.figure import Figure

from analysis.figures import glyphs

_P = ParamSpec("_P")


class Memory:
    """The figures of the last report, by what they were drawn from, and their bytes by format."""

    def __init__(self) -> None:
        self._figures: dict[str, Figure] = {}
        self._bytes: dict[Figure, dict[str, bytes]] = {}
        self._used: set[str] = set()

    @contextmanager
    def recalled(self) -> Iterator[None]:
        """What is drawn inside the block is recalled where it can be, and remembered."""
        token = _memory.set(self)
        try:
            yield
        finally:
            _memory.reset(token)

    def forget_unused(self) -> None:
        """Forget what was not drawn since this was last called."""
        self._figures = {key: self._figures[key] for key in self._used & self._figures.keys()}
        kept = set(self._figures.values())
        self._bytes = {one: found for one, found in self._bytes.items() if one in kept}
        self._used = set()

    def figure(self, key: str, draw: Callable[[], Figure]) -> Figure:
        self._used.add(key)
        if key not in self._figures:
            figure = draw()
            # What stands in for a name that no font can draw depends on the whole page.
            if glyphs.prepare([figure]):
                return draw()
            self._figures[key] = figure
            self._bytes[figure] = {}
        return self._figures[key]

    def bytes(self, figure: Figure, kind: str, make: Callable[[], bytes]) -> bytes:
        if figure not in self._bytes:
            return make()
        known = self._bytes[figure]
        if kind not in known:
            known[kind] = make()
        return known[kind]


_memory: ContextVar[Memory | None] = ContextVar("memory", default=None)


def remembered(draw: Callable[_P, Figure]) -> Callable[_P, Figure]:
    """The function, which draws what was drawn before only once where a memory is recalled."""

    @functools.wraps(draw)
    def drawn(*args: _P.args, **kwargs: _P.kwargs) -> Figure:
        memory = _memory.get()
        if memory is None:
            return draw(*args, **kwargs)
        given = pickle.dumps((draw.__module__, draw.__qualname__, args, kwargs))
        key = hashlib.sha256(given).hexdigest()
        return memory.figure(key, lambda: draw(*args, **kwargs))

    return drawn


def recall(figure: Figure, kind: str, make: Callable[[], bytes]) -> bytes:
    """The figure's bytes in a format, which `make` makes where they are not remembered."""
    memory = _memory.get()
    return make() if memory is None else memory.bytes(figure, kind, make)
