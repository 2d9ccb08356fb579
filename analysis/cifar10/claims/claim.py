"""Claim: a statement of the reference study, with how trials answer it.

A claim reads the trials of the newest launch that asks its question, one whose figures compare with
the reported ones before any other. Accuracies are those of the images that the study reports them
of. `None` is said where no launch asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from analysis.cifar10.claims.evidence import Evidence
from analysis.data.study import Study

Reported = Mapping[str, Any]
# How wide the interval of one more run may be for a figure inside it to be reproduced.
POINTS, NATS, EPOCHS = 0.01, 0.05, 10


@dataclass(frozen=True)
class Claim:
    """`says` makes the statement from reported.json, `where` is the part of it that has it."""

    says: Callable[[Reported], str]
    where: str
    looks: Callable[[Study, Reported], Evidence | None]
    command: str
    """What would ask."""
