"""Examples: the word of a report for what a task made predictions about."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Noun:
    one: str
    many: str
    short: str
    """Many of them, where their kind was said before."""
    accuracy: str
    sample: str
    """What is drawn at random, of an interval that is about which of them were drawn."""


TEST_IMAGES = Noun("test image", "test images", "images", "test accuracy", "test sample")
EXAMPLES = Noun("example", "examples", "examples", "accuracy", "sample")
"""Of a task of which nobody here knows what its examples are, and whether they are test data."""
