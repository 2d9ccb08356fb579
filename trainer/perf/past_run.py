"""A past run of the trainer: what a finished trial tells of its cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from trainer.config import DataConfig, ModelConfig

if TYPE_CHECKING:
    from trainer.perf.precision import Precision

_MODEL = ("model.name", "model.stem", "model.width", "model.patch", "model.dropout")
_DATA = ("data.name", "data.root", "data.val_fraction", "data.train_limit")
COLUMNS = (
    "images_per_second", "precision_used", "step_used", "device", "world_size", "slurm_job_id",
    "device_share", "hard_fraction", "image_size",
    "train_images", "val_images", "precision", "compile", "deterministic", "batch_size",
    *_MODEL, *_DATA,
)  # fmt: skip


class Arithmetic(NamedTuple):
    """What of a configuration decides how fast a device computes, beside model and batch."""

    precision: Precision
    compile: str
    deterministic: bool


@dataclass(frozen=True)
class PastRun:
    """What a finished trial tells of its cost."""

    device: str
    on_slurm: bool
    model: ModelConfig
    side: int  # of its images, in pixels
    arithmetic: Arithmetic
    asked_precision: str
    captured: bool  # its steps in a graph, so that starting operations took less time
    batch: int  # a device
    seconds_per_image: float  # of one device, of which it may have had a part
    data: tuple[Any, ...]
    images: tuple[int, int]  # training, validation


def run_of(row: Mapping[str, Any]) -> PastRun | None:
    """The run of a row of run.parquet; None where it tells no speed. Raises ValueError, LookupError
    or TypeError where the row is none of the trainer's."""
    rate, world = row["images_per_second"], row["world_size"] or 1
    if not rate or not math.isfinite(rate) or rate < 0 or not row["device"]:
        return None
    # Of a trial that trains on some of its images, that of others does not follow.
    if (row.get("hard_fraction") or 1.0) < 1:
        return None
    try:
        model = ModelConfig(**{key.removeprefix("model."): row[key] for key in _MODEL})
    except ValidationError as error:
        raise ValueError(str(error)) from None
    return PastRun(
        device=row["device"],
        on_slurm=row["slurm_job_id"] is not None,
        model=as_fast(model),
        # Before it was recorded all images had 32 pixels.
        side=row.get("image_size") or 32,
        arithmetic=Arithmetic(
            row["precision_used"], row.get("compile") or "auto", bool(row.get("deterministic"))
        ),
        asked_precision=row["precision"],
        captured=row.get("step_used") == "graph",
        batch=math.ceil(row["batch_size"] / world),
        seconds_per_image=world * (row.get("device_share") or 1.0) / rate,
        data=tuple(row[key] for key in _DATA),
        images=(row["train_images"], row["val_images"]),
    )


def as_fast(model: ModelConfig) -> ModelConfig:
    """The same for all models that take equal time."""
    patch = model.patch if model.name == "vit" else 4
    return model.model_copy(update={"patch": patch, "dropout": 0.1 if model.dropout else 0.0})


def data_of(config: DataConfig) -> tuple[Any, ...]:
    return (config.name, config.root, config.val_fraction, config.train_limit)
