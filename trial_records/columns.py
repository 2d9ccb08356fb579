"""The columns of a trial's Parquet files, with their types and units."""

from __future__ import annotations

import functools
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa

from trial_records.config import Configuration, declared
from trial_records.trial_files import SCHEMA_VERSION

VERSION = {b"schema_version": str(SCHEMA_VERSION).encode()}

# Epochs count from 0, as in the learning rate's formula. Accuracies are fractions in 0..1, losses
# are nats an image. Loss and accuracy in training are running means over the epoch's augmented
# images; val_loss is plain cross-entropy, val_loss_smoothed the loss that is trained on.
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

_RUN_FIELDS = [
    pa.field("fingerprint", pa.string(), nullable=False),
    pa.field("status", pa.string(), nullable=False),  # done; other outcomes add their own word
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
    # These four came later; files from before them lack them.
    pa.field("num_classes", pa.int32()),
    pa.field(
        "data_sha256", pa.string()
    ),  # of the whole data set: trainer.data.datasets.content_sha256
    # What images were normalised by, red, green, blue: without it the weights are of no use.
    pa.field("data_mean", pa.string()),
    pa.field("data_std", pa.string()),
    pa.field("parameters", pa.int64()),
    pa.field("seconds", pa.float64()),  # training and validation, over all attempts
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
    pa.field("device", pa.string()),
    pa.field("world_size", pa.int32()),
    # What made predictions.parquet and the figures of the test and plain training images.
    pa.field("evaluated_on", pa.string()),
    pa.field("evaluated_precision", pa.string()),
    # Of each device, 1/K beside K-1 other workers. Files from before it was added lack it: 1.
    pa.field("device_share", pa.float64()),
    # From here on of the attempt that finished, as it was when its process started.
    pa.field("host", pa.string()),
    pa.field("slurm_job_id", pa.string()),
    pa.field("command", pa.string()),
    pa.field("git_commit", pa.string()),
    pa.field("git_dirty", pa.bool_()),  # what runs a trial differs from the commit
    pa.field("code_sha256", pa.string()),  # of the source files of `trainer`
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


def rows_schema(rows: Sequence[Mapping[str, Any]]) -> pa.Schema:
    """Of a table of a log's rows: the columns of EPOCHS_SCHEMA where they have just those, else
    theirs, those that it knows first; any may be empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    whole = all(len(row) == len(names) for row in rows)
    if whole and set(names) == set(EPOCHS_SCHEMA.names):
        return EPOCHS_SCHEMA
    known = {field.name: field.with_nullable(True) for field in EPOCHS_SCHEMA}
    order = [*(name for name in known if name in names), *(n for n in names if n not in known)]
    fields = [known.get(name) or _field(name, [row.get(name) for row in rows]) for name in order]
    return pa.schema(fields or [known["epoch"]], metadata=VERSION)


def more_fields(row: Mapping[str, Any], schema: pa.Schema) -> list[pa.Field]:
    """For what a run's row has beside the schema's columns."""
    return [_field(name, [row[name]]) for name in row if name not in schema.names]


def _field(name: str, values: Iterable[Any]) -> pa.Field:
    """Of the narrowest type that has all of the values."""
    kinds = {type(value) for value in values} - {type(None)}
    kind = next((one for one in (str, float, int, bool) if one in kinds), str)
    return pa.field(name, _ARROW[kind])


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
    """Schema of run.parquet: the outcome, then every field of the configuration by its dotted name.

    Tuples are stored as the comma-separated text that `Configuration.override` parses.
    """
    return _run_schema(declared())


@functools.cache
def _run_schema(schemas: tuple[type[Configuration], ...]) -> pa.Schema:
    types = {name: kind for one in schemas for name, kind in one.field_types().items()}
    config = [pa.field(name, _arrow_type(kind)) for name, kind in types.items()]
    return pa.schema([*_RUN_FIELDS, *config], metadata=VERSION)
