"""Runs without axes as they leave predictions, the reported one's among them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from results_folder import finish, name_of, write_plan
from scipy.optimize import Bounds, LinearConstraint, milp

from analysis.cifar10 import diagnostics as section
from analysis.cifar10.reported import reported
from analysis.cifar10.task import load
from analysis.data.predictions import Predictions
from analysis.data.study import Plan, Study
from analysis.output.model import Part, Table
from analysis.stats import classification
from trainer.config import TrainConfig
from trainer.recipes import reported as protocol
from trial_records.tables import PREDICTIONS_SCHEMA, write_table
from trial_records.trial_files import PREDICTIONS

STUDY = reported()["wrn_final"]

CIFAR = tuple(row["class"] for row in STUDY["per_class"])


# --- results folders ---------------------------------------------------------------------------


def table_of(
    index: Sequence[int] | NDArray[Any],
    labels: Sequence[int] | NDArray[Any],
    logits: Sequence[Sequence[float]] | NDArray[Any],
) -> pa.Table:
    values = [row if isinstance(row, list) else list(map(float, row)) for row in logits]
    columns = {
        "index": pa.array(index, pa.int32()),
        "label": pa.array(labels, pa.int16()),
        "logits": pa.array(values, PREDICTIONS_SCHEMA.field("logits").type),
    }
    return pa.table(columns, schema=PREDICTIONS_SCHEMA)


def predict(folder: Path, labels: Any, logits: Any, **outcome: Any) -> dict[str, Any]:
    """Write predictions.parquet, rows back to front; the outcome that run.parquet has of them."""
    labels, logits = np.asarray(labels), np.asarray(logits, dtype=np.float32)
    order = np.arange(len(labels))[::-1]
    folder.mkdir(parents=True, exist_ok=True)
    rows = table_of(order, labels[order], logits[order])
    write_table(folder / PREDICTIONS, rows, PREDICTIONS_SCHEMA)
    made = Predictions(
        "t", order.astype(np.int32), labels, logits, tuple(map(str, range(logits.shape[1])))
    )
    top = {f"top_{k}": classification.top_k(made, k) / len(labels) for k in (1, 3, 5)}
    return {"test_images": len(labels), "test_accuracy": top["top_1"]} | top | outcome


def launch(
    results: Path, configs: Sequence[TrainConfig], sweep: str = "final", **changes: Any
) -> list[Path]:
    """A launch without axes; its trials' folders."""
    seeds = [config.seed for config in configs]
    write_plan(results, [({}, config) for config in configs], sweep, seeds=seeds, **changes)
    return [results / sweep / name_of(config) for config in configs]


def seeded(count: int, **changes: Any) -> list[TrainConfig]:
    """The reported recipe of WRN-28-10 under so many seeds."""
    recipe = protocol("wrn_28_10").override(changes)
    return [recipe.override({"seed": 42 + i}) for i in range(count)]


def only(results: Path) -> tuple[Study, Plan]:
    study = load(results, [])
    (plan,) = study.plans
    return study, plan


def parts_of(results: Path) -> tuple[list[Part], Study]:
    study, plan = only(results)
    return section.parts(plan, study), study


def table(parts: Sequence[Part], ending: str) -> pd.DataFrame:
    (found,) = (one for part in parts for one in part.tables if one.name.endswith(ending))
    assert isinstance(found, Table)
    return found.shown


def text(parts: Sequence[Part]) -> str:
    return "\n".join(line for part in parts for line in [*part.notes, *part.footnotes])


# --- the reported run --------------------------------------------------------------------------


def reported_matrix() -> NDArray[np.int64]:
    """A confusion matrix that agrees with everything that was reported of it, by integer
    programming: the ten pairs, the recalls and the precisions exactly, and every other cell below
    the smallest reported pair.
    """
    place = {name: i for i, name in enumerate(CIFAR)}
    low, high = np.zeros((10, 10)), np.full((10, 10), min(p["count"] for p in pairs()) - 1.0)
    sums = np.zeros(10)
    for i, row in enumerate(STUDY["per_class"]):
        right = round(row["recall"] * row["support"])
        low[i, i] = high[i, i] = right
        # The one number of predictions that rounds to the reported precision.
        (sums[i],) = (n for n in range(1, 2000) if f"{right / n:.4f}" == f"{row['precision']:.4f}")
    for pair in pairs():
        cell = place[pair["label"]], place[pair["predicted"]]
        low[cell] = high[cell] = pair["count"]
    by_row, by_column = np.kron(np.eye(10), np.ones(10)), np.kron(np.ones(10), np.eye(10))
    found = milp(
        np.zeros(100),
        integrality=np.ones(100, dtype=int),
        bounds=Bounds(low.ravel(), high.ravel()),
        constraints=[LinearConstraint(by_row, 1000, 1000), LinearConstraint(by_column, sums, sums)],
    )
    assert found.success, "the reported figures contradict each other"
    matrix: NDArray[np.int64] = np.rint(found.x).astype(np.int64).reshape(10, 10)
    return matrix


def pairs() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = STUDY["confusions"]
    return found


def reported_predictions() -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Labels (10,000,) and logits (10,000, 10) with the reported top-k too: of the wrong images'
    labels, 310 stand second or third, 20 fourth or fifth, the others later.
    """
    matrix = reported_matrix()
    labels, predicted = np.repeat(np.indices((10, 10)).reshape(2, -1), matrix.ravel(), axis=1)
    within = [round(100 * STUDY[f"top_{k}"]) for k in (1, 3, 5)]
    draw = np.random.default_rng(0)
    logits = np.empty((10_000, 10), dtype=np.float32)
    wrong = 0
    for i, (label, first) in enumerate(zip(labels.tolist(), predicted.tolist(), strict=True)):
        order = [int(other) for other in draw.permutation(10) if other not in (label, first)]
        if label == first:
            order.insert(0, label)
        else:
            wrong += 1
            rank = wrong + within[0]
            order.insert(0, first)
            # Places from 0: 1 and 2 are within the first three, 3 and 4 within the first five.
            choice = (1, 2) if rank <= within[1] else (3, 4) if rank <= within[2] else (5, 9)
            order.insert(choice[wrong % 2], label)
        # How sure it is: mostly so, and less where it is wrong.
        scale = draw.gamma(4, 0.9) * (1 if label == first else 0.4)
        logits[i, order] = scale * np.linspace(1, -1, 10)
    shuffled = draw.permutation(10_000)
    return labels[shuffled], logits[shuffled]


def small(folder: Path, config: TrainConfig, validation: float, classes: int = 3) -> None:
    """A finished trial with predictions of a few images."""
    draw = np.random.default_rng(config.seed)
    labels = np.arange(30) % classes
    logits = draw.normal(size=(30, classes)) + 2 * np.eye(classes)[labels]
    names = ",".join(f"c{i}" for i in range(classes))
    outcome = predict(folder, labels, logits, classes=names, val_accuracy=validation)
    finish(folder, config, **outcome)
