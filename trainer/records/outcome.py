"""The row of run.parquet that a trial ends with: trial_records/columns.py says what is in it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

import torch

from sweeps.run.class_names import join
from trainer.config import TrainConfig
from trainer.data.datasets import Dataset
from trainer.evaluate import Evaluation
from trainer.optim.schedule import side_at
from trainer.perf.device import peak_memory_bytes
from trainer.provenance import MACHINE, provenance, trained_by
from trainer.records.history import History, Row
from trainer.step import StepKind

# What of a row is a figure of how well it did.
METRICS = (
    "best_epoch", "epochs_run", "train_accuracy", "train_accuracy_clean", "train_accuracy_last",
    "val_accuracy", "val_accuracy_last", "val_loss", "test_accuracy", "test_loss", "top_1",
    "top_3", "top_5", "seconds", "images_per_second",
)  # fmt: skip


def outcome(
    config: TrainConfig,
    data: Dataset,
    history: History,
    clean: Evaluation,
    test: Evaluation,
    *,
    step_used: StepKind,
    parameters: int,
    final: Row,
    device: torch.device,
) -> Row:
    """`clean` is of the plain training images, `test` of the test images, both by the best weights;
    `final` are the test images' values by metrics of a person's own; the history's last attempt is
    this one. The digests of the other files are still to come."""
    return {
        "objective": history.rows[history.best_epoch]["val_accuracy"],
        "objective_metric": "val_accuracy",
        "objective_direction": "maximize",
        "objective_reduction": "best",
        **_accuracies(config, history, clean, test, len(data.classes)),
        **_own_metrics(history, final),
        **_identity(data),
        "parameters": parameters,
        "peak_memory_bytes": peak_memory_bytes(device),
        "step_used": step_used,
        **_pace(config, data, history, device),
        **provenance(device, history.attempts),
        **config.flat(),
    }


def _accuracies(
    config: TrainConfig, history: History, clean: Evaluation, test: Evaluation, classes: int
) -> Row:
    rows, best = history.rows, history.rows[history.best_epoch]
    return {
        "best_epoch": history.best_epoch,
        "epochs_run": len(rows),
        "stopped_early": len(rows) < config.epochs,
        "train_accuracy": best["train_accuracy"],
        "train_accuracy_clean": clean.top(1),
        "train_accuracy_last": rows[-1]["train_accuracy"],
        "val_accuracy": best["val_accuracy"],
        "val_accuracy_last": rows[-1]["val_accuracy"],
        "val_loss": best["val_loss"],
        "test_accuracy": test.top(1),
        "test_loss": test.loss,
        "top_1": test.top(1),
        # Of no more classes than that, every image would be right.
        "top_3": test.top(3) if classes > 3 else None,
        "top_5": test.top(5) if classes > 5 else None,
    }


def _own_metrics(history: History, final: Row) -> Row:
    """As a task of a person's own has them: of the epoch that was tested, of the last, and what the
    trial ended with."""
    rows = {"best": history.rows[history.best_epoch], "last": history.rows[-1], "final": final}
    return {f"{when}.{name}": row[name] for when, row in rows.items() for name in final}


def _identity(data: Dataset) -> Row:
    """What images the record is of."""
    return {
        "train_images": len(data.train_labels),
        "val_images": len(data.val_labels),
        "test_images": len(data.test_labels),
        "split_sha256": data.split_sha256,
        "classes": join(data.classes),
        "num_classes": len(data.classes),
        "image_size": data.side,
        "data_sha256": data.sha256,
        "data_mean": ",".join(map(str, data.mean)),
        "data_std": ",".join(map(str, data.std)),
    }


def _pace(config: TrainConfig, data: Dataset, history: History, device: torch.device) -> Row:
    """How fast which machine trained it; how near to its peak is known of this machine alone."""
    # A quarter of a second that no first step waits for.
    from trainer.perf.roofline import utilisation

    trained, alike = trained_by(history.attempts, len(history.rows))
    size = data.train_images.shape[1]
    whole = [epoch for epoch in alike if side_at(config, epoch, size) == size]
    pace = statistics.median(history.rows[epoch]["images_per_second"] for epoch in whole or alike)
    here: Mapping[str, Any] = history.attempts[-1]
    # The arithmetic that is counted is that of whole images, each of which is trained on.
    is_counted = bool(whole) and config.hard_fraction == 1
    used = (
        utilisation(
            config.model, len(data.classes), size, here["precision"], device, pace,
            here["world_size"],
        )
        if is_counted and all(trained.get(key) == here[key] for key in MACHINE)
        else {}
    )  # fmt: skip
    return {
        "seconds": sum(row["seconds"] for row in history.rows),
        "images_per_second": pace,
        **used,
        "precision_used": trained.get("precision"),
        "device": trained.get("device"),
        "world_size": trained.get("world_size"),
    }
