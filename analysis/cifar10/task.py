"""The trainer as a report knows it, and the results of its trials."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from analysis.cifar10.comparable import why_no_evidence
from analysis.cifar10.reported import field_values
from analysis.data.study import Study
from analysis.data.task import KnownData, Reported, Task
from analysis.reading import loading
from analysis.reading.standings import Standings
from trainer.config import TrainConfig
from trainer.data import known


def _known(data: known.KnownData) -> KnownData:
    return KnownData(data.name, data.sha256, data.classes, data.train_images, data.test_images)


CIFAR10 = _known(known.CIFAR10)


@functools.cache
def trainer() -> Task:
    return Task(
        TrainConfig().flat(),
        tuple(map(_known, known.KNOWN.values())),
        Reported(why_no_evidence, field_values),
    )


def load(results: Path, names: Sequence[str], standings: Standings | None = None) -> Study:
    """`loading.load` of the trainer's trials."""
    return loading.load(results, names, trainer(), standings)
