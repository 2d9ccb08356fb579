"""What a report knows of the program that trained its trials. Whoever knows it hands it in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.data.study import Plan


@dataclass(frozen=True)
class KnownData:
    """A data set, known by its content, whatever it is called."""

    name: str
    """As in data.name."""
    sha256: str
    """Of the content of the whole data set, whatever a configuration leaves of it."""
    classes: tuple[str, ...]
    """Names by label."""
    train_images: int
    """Before any limit and the split into training and validation images."""
    test_images: int


@dataclass(frozen=True)
class Reported:
    """What a section may ask of a study whose figures were reported before; of none by default."""

    why_no_evidence: Callable[[Plan], list[str]] = lambda plan: []
    """In what a launch differs from that study; empty where its figures compare with it."""
    values: Callable[[str], Mapping[str, float]] = lambda field: {}
    """Of a field of the configuration, by the words that say for which models."""


@dataclass(frozen=True)
class Task:
    defaults: Mapping[str, Any]
    """Every field of today's configuration by its dotted name, and its default."""
    data_sets: tuple[KnownData, ...]
    reported: Reported = Reported()
