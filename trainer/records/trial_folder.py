"""TrialFolder: one trial's folder, as its training opens, resumes and fills it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from local_machine.errors import EXIT_IO, InputError
from local_machine.files import read_file, set_aside, write_atomic
from trainer import checkpoint
from trainer.config import TrainConfig
from trainer.data.datasets import Dataset
from trainer.distributed import Group
from trainer.records.history import Row
from trial_records import tables
from trial_records.config import is_of
from trial_records.trial_files import (
    CHECKPOINT,
    CONFIG,
    EPOCHS,
    PREDICTIONS,
    RUN,
    parse_values,
)

log = logging.getLogger("trainer")

# Of a checkpoint: what images its trial began on.
_CONTENT = "data_sha256"


@dataclass(frozen=True)
class TrialFolder:
    """The order of writing is what makes a kill harmless: docs/architecture.md, Exactness."""

    path: Path
    config: TrainConfig
    fence: Callable[[], None]
    """Called right before each file that is put in place; raises where this attempt may not."""

    def open(self) -> Row | None:
        """Make the folder, or see that it is this trial's; its run's row if it is finished.

        Raises InputError where it cannot be made, or holds another trial.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise InputError(
                f"cannot make the folder {self.path}: {error.strerror}",
                "give a folder, or a new name",
            ) from None
        # A writer that was killed left its part, and nobody else writes these while we do.
        for name in (CHECKPOINT, EPOCHS, PREDICTIONS, RUN):
            for part in self.path.glob(f".{name}.*.part"):
                part.unlink(missing_ok=True)
        path = self.path / CONFIG
        if not path.exists():
            write_atomic(path, lambda file: file.write(self.config.to_json().encode()))
        elif not is_of(parse_values(path, read_file(path)), self.config.fingerprint):
            raise InputError(
                f"{self.path} holds another trial: its {CONFIG} differs from the one given",
                "give a folder of its own to each trial",
                exit_code=EXIT_IO,
            )
        try:
            return tables.read_run(self.path, self.config.fingerprint)
        except FileNotFoundError:
            return None

    def resume(self, data: Dataset, group: Group) -> dict[str, Any] | None:
        """The checkpoint's state on every rank; None to start anew.

        A damaged checkpoint is set aside under another name and the trial starts from nothing.
        Raises InputError where it began on other images than `data`.
        """
        path, state = self.path / CHECKPOINT, None
        if group.is_main:
            try:
                state = checkpoint.load(path, self.config.fingerprint)
            except checkpoint.DamagedCheckpointError as error:
                aside = set_aside(path, "damaged")
                log.warning(
                    "%s is damaged (%s): kept as %s, the trial starts anew", path, error, aside.name
                )
        if group.world > 1 and group.broadcast(state is not None) and not group.is_main:
            state = checkpoint.load(path, self.config.fingerprint)
            if state is None:
                raise InputError(
                    f"rank {group.rank} does not see {path}, which rank 0 resumes from",
                    "put the results on a filesystem that all nodes share",
                    exit_code=EXIT_IO,
                )
        if state is not None:
            data.check_same(state.get(_CONTENT), path)
        return state

    def save(self, state: dict[str, Any], data: Dataset) -> None:
        """Write how far training has come. Raises OSError."""
        # The checkpoint first: epochs.parquet can be rewritten from it, not it from that.
        self.fence()
        whole = {**state, _CONTENT: data.sha256}
        checkpoint.save(self.path / CHECKPOINT, whole, self.config.fingerprint)
        if state["rows"]:
            self.fence()
            tables.write_table(self.path / EPOCHS, state["rows"], tables.EPOCHS_SCHEMA)

    def finish(self, run: Row, epochs: list[Row], data: Dataset, logits: torch.Tensor) -> Row:
        """Write the records of a finished trial, last of all run.parquet, whose presence means
        done; its row. `logits` (n, classes) are of the test images. Raises OSError."""
        predictions = [
            {"index": index, "label": label, "logits": values}
            for index, label, values in zip(
                data.test_index.tolist(), data.test_labels.tolist(), logits.tolist(), strict=True
            )
        ]
        self.fence()
        digests = {
            "predictions_sha256": tables.write_table(
                self.path / PREDICTIONS, predictions, tables.PREDICTIONS_SCHEMA
            )
        }
        self.fence()
        digests["epochs_sha256"] = tables.write_table(
            self.path / EPOCHS, epochs, tables.EPOCHS_SCHEMA
        )
        self.fence()
        return tables.write_run(self.path, run | digests)
