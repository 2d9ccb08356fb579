"""The training program that simulated trials run: a few epochs that do nothing but wait.

A task like anybody's: it learns from its run where it is, logs, saves and returns. Each figure
follows from seed and epoch alone, so that a reader can be held to what was written.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local_machine import clock
from sweeps.run.ends import StoppedError
from sweeps.run.handle import Run
from sweeps.spec.sweep import Trial
from sweeps.spec.task_loader import keep
from sweeps.task import Task, Values, maximize
from trial_records import tables
from trial_records.config import Configuration, Section
from trial_records.trial_files import PREDICTIONS

if TYPE_CHECKING:
    from simulation.checks import Witness


DATA = "the data's digest"


class RefusedError(ValueError):
    """The trial cannot be trained: its failure is its own."""


@dataclass(frozen=True)
class Training:
    """What training is in one world."""

    witness: Witness
    seconds: float
    """An epoch takes."""
    refuse: frozenset[str]
    """The names of the trials that fail in their second epoch."""


class Fields(Section):
    seed: int
    epochs: int


class Row(Section):
    epoch: int
    val: float


class Final(Section):
    total: float


class Columns(Configuration):
    """Of a trial's run.parquet, beside those of every task."""

    seed: int
    config: Fields
    best: Row
    last: Row
    final: Final


class Simulated(Task):
    name = "simulated"
    reference = "simulation.task:TASK"
    objective = maximize("val")
    budget = "epochs"
    seed = "seed"
    training: Training

    def parse(self, values: Values, where: str = "configuration") -> dict[str, Any]:
        return dict(values)

    def values(self, config: Any) -> dict[str, Any]:
        return dict(config)

    def override(self, config: Any, changes: Values) -> Any:
        return {**config, **changes}

    def content(self, config: Any) -> str:
        return DATA

    def train(self, config: Any, run: Run) -> Mapping[str, Any]:
        witness, seconds = self.training.witness, self.training.seconds
        name, token, seed = run.attempt.trial.name, run.attempt.token, config["seed"]
        state = run.load() or {"epochs": 0, "total": 0.0}
        witness.loaded(name, token, state["epochs"], run.loaded_rows, seed)
        for epoch in range(state["epochs"], config["epochs"]):
            witness.trains(name, token, epoch)
            for _ in range(2):
                if run.should_stop():
                    raise StoppedError  # what the last epoch saved is all there is
                clock.sleep(seconds / 2)
            if name in self.training.refuse and epoch == 1:
                raise RefusedError(f"the loss of epoch {epoch} is not finite")
            witness.logs(name, epoch + 1)
            run.log(epoch=epoch, val=value_of(seed, epoch))
            state = {"epochs": epoch + 1, "total": state["total"] + value_of(seed, epoch)}
            run.save(state, generators=False)
            witness.saved(name, token, epoch + 1)
        witness.returns(name, run.rows(), config)
        # With what a trial of the trainer has, so that another sweep may adopt it.
        digest = tables.write_table(
            run.files.open() / PREDICTIONS,
            [{"index": 0, "label": 0, "logits": [float(seed)]}],
            tables.PREDICTIONS_SCHEMA,
            run.attempt.whose,
        )
        run.record |= {"data_sha256": DATA, tables.DIGESTS[PREDICTIONS]: digest}
        return {"total": state["total"]}


TASK = Simulated()


@functools.cache
def trials() -> tuple[Trial, ...]:
    """All that a sweep of a simulation may consist of."""
    keep(TASK)
    made = []
    for seed, epochs in enumerate((2, 3, 2, 4)):
        config = {"seed": seed, "epochs": epochs}
        made.append(Trial.of("", config, config, TASK))
    return tuple(one.renamed(f"seed{one.seed}-{one.fingerprint[:8]}") for one in made)


def value_of(seed: int, epoch: int) -> float:
    """What an epoch measures."""
    digest = hashlib.sha256(f"{seed} {epoch}".encode()).digest()
    return int.from_bytes(digest[:4]) / 2**32


def rows_of(seed: int, epochs: int) -> list[dict[str, Any]]:
    """The rows of the first epochs."""
    return [{"epoch": epoch, "val": value_of(seed, epoch)} for epoch in range(epochs)]
