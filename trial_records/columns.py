"""The columns of a trial's Parquet files, with their types and units; docs/results.md says more.

Of the project's trainer they are listed here. Of any other task those that every run has are; the
rest follows from its configuration and its metrics, each typed by its values.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa

from trial_records.config import Configuration, declared
from trial_records.metrics import NAMED
from trial_records.trial_files import SCHEMA_VERSION

VERSION = {b"schema_version": str(SCHEMA_VERSION).encode()}

# Epochs count from 0. Accuracies are fractions, losses nats an image; in training both are running
# means over augmented images. val_loss is plain cross-entropy, val_loss_smoothed is smoothed.
EPOCHS_SCHEMA = pa.schema(
    [
        pa.field("epoch", pa.int32(), nullable=False),
        pa.field("lr", pa.float64(), nullable=False),  # of the epoch's first step
        pa.field("train_loss", pa.float64()),
        pa.field("train_accuracy", pa.float64()),
        pa.field("val_loss", pa.float64()),
        pa.field("val_loss_smoothed", pa.float64()),
        pa.field("val_accuracy", pa.float64()),
        pa.field("seconds", pa.float64()),
        pa.field("images_per_second", pa.float64()),
    ],
    metadata=VERSION,
)

# index: the image's place in the data set's test set, from 0. logits: fp32, one a class.
PREDICTIONS_SCHEMA = pa.schema(
    [
        pa.field("index", pa.int32(), nullable=False),
        pa.field("label", pa.int16(), nullable=False),
        pa.field("logits", pa.list_(pa.field("element", pa.float32())), nullable=False),
    ],
    metadata=VERSION,
)

# Of any other task: examples in the order in which it gave them; a label is a place among the names
# in the run's column `classes`.
_EXAMPLE = PREDICTIONS_SCHEMA.field("index")
_LABEL, _PREDICTED = (pa.field(one, pa.int32(), nullable=False) for one in ("label", "predicted"))
LOGITS_SCHEMA = pa.schema([_EXAMPLE, _LABEL, PREDICTIONS_SCHEMA.field("logits")], VERSION)
CLASSES_SCHEMA = pa.schema([_EXAMPLE, _LABEL, _PREDICTED], VERSION)
VALUES_SCHEMA = pa.schema(
    [_EXAMPLE, *(pa.field(one, pa.float64(), nullable=False) for one in ("target", "value"))],
    VERSION,
)


def predictions_schema(names: Collection[str]) -> pa.Schema:
    """Of a task other than the trainer, by the columns that a file has."""
    if "target" in names:
        return VALUES_SCHEMA
    return CLASSES_SCHEMA if "predicted" in names else LOGITS_SCHEMA


# Of the run of any task. Each file of a trial begins with the first four.
_ANY_TASK = [
    pa.field("task", pa.string()),  # none in files from before there were tasks: the trainer
    pa.field("sweep", pa.string()),  # the name of the folder above the trial's
    pa.field("trial", pa.string()),  # the name of the trial's folder
    pa.field("fingerprint", pa.string(), nullable=False),
    pa.field("status", pa.string(), nullable=False),  # done; other outcomes add their own word
    # By which the task's trials are compared; metrics.py says how it is made.
    pa.field("objective", pa.float64()),
    pa.field("objective_metric", pa.string()),
    pa.field("objective_direction", pa.string()),
    pa.field("objective_reduction", pa.string()),
    pa.field("seconds", pa.float64()),  # training and validation, over all attempts
    # Of the last attempt that trained.
    pa.field("device", pa.string()),
    pa.field("world_size", pa.int32()),
    # From here on of the attempt that finished, as it was when its process started.
    pa.field("host", pa.string()),
    pa.field("slurm_job_id", pa.string()),
    pa.field("command", pa.string()),
    pa.field("git_commit", pa.string()),
    pa.field("git_dirty", pa.bool_()),  # what runs a trial differs from the commit
    pa.field("code_sha256", pa.string()),  # of the source files of the task
    pa.field("snapshot_sha256", pa.string()),  # code/SHA256.tar.gz of the sweep's folder
    pa.field("packages_sha256", pa.string()),  # code/packages-SHA256.json
    pa.field("torch_version", pa.string()),
    pa.field("python_version", pa.string()),
    # JSON, an object an attempt that added to the result: origin.py and train.py say what is in it.
    pa.field("attempts", pa.string()),
    pa.field("finished_at", pa.string()),  # UTC, ISO 8601
    # SWEEP/TRIAL, whose training the whole record is of; null where the trial itself was trained.
    pa.field("shared_from", pa.string()),
    # Digests as values.py makes them: of the row without this column, and of the other files.
    pa.field("row_sha256", pa.string()),
    pa.field("epochs_sha256", pa.string()),
    pa.field("predictions_sha256", pa.string()),
]
_SEED = pa.field("seed", pa.int64())  # of the trainer's runs it is a field of the configuration

_TRAINER = [
    pa.field("best_epoch", pa.int32()),  # from 0: the epoch whose weights were tested
    pa.field("epochs_run", pa.int32()),
    pa.field("stopped_early", pa.bool_()),
    pa.field("train_accuracy", pa.float64()),  # running, augmented images, best epoch
    pa.field("train_accuracy_clean", pa.float64()),  # plain training images, tested weights
    pa.field("train_accuracy_last", pa.float64()),  # running, last epoch
    pa.field("val_accuracy", pa.float64()),  # best epoch
    pa.field("val_accuracy_last", pa.float64()),
    pa.field("val_loss", pa.float64()),  # best epoch, no smoothing
    pa.field("test_accuracy", pa.float64()),
    pa.field("test_loss", pa.float64()),
    pa.field("top_1", pa.float64()),
    pa.field("top_3", pa.float64()),  # null where there are no more classes than that
    pa.field("top_5", pa.float64()),
    pa.field("train_images", pa.int32()),
    pa.field("val_images", pa.int32()),
    pa.field("test_images", pa.int32()),
    pa.field("split_sha256", pa.string()),  # of the training and validation indices
    pa.field("classes", pa.string()),  # names by label, one line of CSV
    # These five came later; files from before them lack them.
    pa.field("num_classes", pa.int32()),
    pa.field("image_size", pa.int32()),  # side of the images in pixels; before it was added: 32
    pa.field("data_sha256", pa.string()),  # of all images: trainer.data.datasets.content_sha256
    # What images were normalised by, red, green, blue: without it the weights are of no use.
    pa.field("data_mean", pa.string()),
    pa.field("data_std", pa.string()),
    pa.field("parameters", pa.int64()),
    # Training, median over the epochs on `device`, in precision_used, on so many ranks.
    pa.field("images_per_second", pa.float64()),
    # Of the device during the last attempt; on a CPU, of the whole process meanwhile.
    pa.field("peak_memory_bytes", pa.int64()),
    pa.field("flops_per_image", pa.float64()),  # of a training step, 2 a multiply-add
    pa.field("flops_per_second", pa.float64()),  # flops_per_image * images_per_second
    pa.field("peak_flops_per_second", pa.float64()),  # all devices' measured peak in precision_used
    # Of the last attempt that trained.
    pa.field("precision_used", pa.string()),
    pa.field("step_used", pa.string()),  # eager, compiled or graph
    # What made predictions.parquet and the figures of the test and plain training images.
    pa.field("evaluated_on", pa.string()),
    pa.field("evaluated_precision", pa.string()),
    # Of each device, 1/K beside K-1 other workers. Files from before it was added lack it: 1.
    pa.field("device_share", pa.float64()),
]


_ARROW = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}


def _arrow_type(kind: Any) -> pa.DataType:
    """The column type of a configuration field's annotation."""
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return pa.string()
    if origin is Literal:
        return _ARROW[type(options[0])]
    if options:  # Annotated[T, ...] or T | None
        return _arrow_type(next(option for option in options if option is not type(None)))
    return _ARROW[kind]


def run_schema() -> pa.Schema:
    """Schema of the trainer's run.parquet: the outcome, then every field of the configuration by
    its dotted name.

    Tuples are stored as the comma-separated text that `Configuration.override` parses.
    """
    return _run_schema(declared())


@functools.cache
def _run_schema(schemas: tuple[type[Configuration], ...]) -> pa.Schema:
    types = {name: kind for one in schemas for name, kind in one.field_types().items()}
    config = [pa.field(name, _arrow_type(kind)) for name, kind in types.items()]
    return pa.schema([*_ANY_TASK, *_TRAINER, *config], metadata=VERSION)


TASK_RUN_SCHEMA = pa.schema([*_ANY_TASK, _SEED], metadata=VERSION)
"""The columns that the run.parquet of any other task begins with."""

NAMED_SCHEMA = pa.schema(_ANY_TASK[: len(NAMED)], metadata=VERSION)
"""The columns by which every file says whose it is."""


def by_value(rows: Sequence[Mapping[str, Any]], names: Iterable[str]) -> list[pa.Array]:
    """Columns of the rows, each of the narrowest type that has all of its values: bool, int64,
    float64 or text. A key that a row lacks is null; NaN is NaN."""
    return [_typed([row.get(name) for row in rows]) for name in names]


def _typed(values: list[Any]) -> pa.Array:
    given = [value for value in values if value is not None]
    if not given:
        return pa.nulls(len(values))  # in another file there may be values, of any type
    kind = _kind(given)
    return pa.array([None if value is None else kind(value) for value in values], _ARROW[kind])


def _kind(values: Sequence[Any]) -> type:
    if all(isinstance(value, bool) for value in values):
        return bool
    if all(isinstance(value, int) and -(2**63) <= value < 2**63 for value in values):
        return int
    return float if all(isinstance(value, int | float) for value in values) else str
