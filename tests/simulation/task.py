"""The training program that simulated trials run: a few epochs that do nothing but wait.

It stands in the place of `trainer.train.train`, and writes what that writes in the same order. Each
figure follows from trial and epoch alone, so that a reader can be held to what was written.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_machine import clock
from local_machine.files import read_file, write_atomic
from local_machine.json_files import read_json, write_json
from sweeps.spec.sweep import Trial
from trainer.config import DataConfig, TrainConfig
from trial_records import tables
from trial_records.trial_files import CHECKPOINT, CONFIG, EPOCHS, PREDICTIONS, RUN

if TYPE_CHECKING:
    from simulation.checks import Witness

CONTENT = "c0" * 32
FIELDS = {"train_loss", "train_accuracy", "val_loss", "val_loss_smoothed", "images_per_second"}


class RefusedError(ValueError):
    """The trial cannot be trained: its failure is its own."""


@functools.cache
def trials() -> tuple[Trial, ...]:
    """All that a sweep of a simulation may consist of."""
    made = []
    for seed, epochs in enumerate((2, 3, 2, 4)):
        config = TrainConfig(epochs=epochs, seed=seed, data=DataConfig(name="digits"))
        point = {"seed": seed, "epochs": epochs}
        made.append(Trial.of(f"seed{seed}-{config.fingerprint[:8]}", point, config))
    return tuple(made)


def accuracy(fingerprint: str, epoch: int) -> float:
    """The validation accuracy of an epoch."""
    digest = hashlib.sha256(f"{fingerprint} {epoch}".encode()).digest()
    return int.from_bytes(digest[:4]) / 2**32


@functools.cache
def row(fingerprint: str, epoch: int) -> dict[str, Any]:
    """Of epochs.parquet."""
    figures = {"lr": 0.1, "val_accuracy": accuracy(fingerprint, epoch), "seconds": 10.0}
    return {"epoch": epoch, **figures, **dict.fromkeys(FIELDS, 0.5)}


class Training:
    """What `train` is, for one world."""

    def __init__(self, witness: Witness, seconds: float, refuse: frozenset[str]) -> None:
        self.witness = witness
        self.seconds = seconds
        """An epoch takes."""
        self.refuse = refuse
        """The names of the trials that fail in their second epoch."""

    def __call__(
        self,
        config: TrainConfig,
        out: Path,
        on_epoch: Callable[[dict[str, Any]], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        attempt: Mapping[str, Any] | None = None,
        fence: Callable[[], None] = lambda: None,
    ) -> dict[str, Any]:
        from trainer.train import PreemptedError

        print_ = config.fingerprint
        out.mkdir(parents=True, exist_ok=True)
        for name in (CHECKPOINT, EPOCHS, PREDICTIONS, RUN):
            for part in out.glob(f".{name}.*.part"):
                part.unlink(missing_ok=True)
        if not (out / CONFIG).exists():
            write_json(out / CONFIG, config.model_dump(mode="json"))
        try:
            return tables.read_run(out, print_)
        except FileNotFoundError:
            pass
        try:
            done = int(read_json(out / CHECKPOINT)["epochs"])
        except FileNotFoundError:
            done = 0
        self.witness.loaded(out.name, done)
        for epoch in range(done, config.epochs):
            self.witness.trains(out.name, epoch)
            for _ in range(2):
                if should_stop is not None and should_stop():
                    raise PreemptedError(f"in epoch {epoch}")
                clock.sleep(self.seconds / 2)
            if out.name in self.refuse and epoch == 1:
                raise RefusedError(f"the loss of epoch {epoch} is not finite")
            fence()
            state = json.dumps({"epochs": epoch + 1, "by": dict(attempt or {})}).encode()
            write_atomic(out / CHECKPOINT, lambda file, state=state: file.write(state))
            fence()
            rows = [row(print_, one) for one in range(epoch + 1)]
            tables.write_table(out / EPOCHS, rows, tables.EPOCHS_SCHEMA)
            self.witness.saved(out.name, epoch + 1)
            if on_epoch is not None:
                on_epoch(rows[-1])
        return self._finish(config, out, attempt, fence)

    def _finish(
        self,
        config: TrainConfig,
        out: Path,
        attempt: Mapping[str, Any] | None,
        fence: Callable[[], None],
    ) -> dict[str, Any]:
        print_ = config.fingerprint
        predicted = [{"index": 0, "label": 0, "logits": [accuracy(print_, 0)]}]
        fence()
        of_predictions = tables.write_table(out / PREDICTIONS, predicted, tables.PREDICTIONS_SCHEMA)
        fence()
        rows = [row(print_, one) for one in range(config.epochs)]
        of_epochs = tables.write_table(out / EPOCHS, rows, tables.EPOCHS_SCHEMA)
        fence()
        best = max(range(config.epochs), key=lambda one: accuracy(print_, one))
        run = tables.write_run(
            out,
            dict.fromkeys(tables.run_schema().names)
            | config.flat()
            | {
                "fingerprint": print_,
                "status": "done",
                "best_epoch": best,
                "epochs_run": config.epochs,
                "stopped_early": False,
                "val_accuracy": accuracy(print_, best),
                "test_accuracy": accuracy(print_, -1),
                "data_sha256": CONTENT,
                "seconds": 10.0 * config.epochs,
                "attempts": json.dumps([dict(attempt or {})]),
                "predictions_sha256": of_predictions,
                "epochs_sha256": of_epochs,
            },
        )
        self.witness.finished(out.name, read_file(out / RUN))
        return run
