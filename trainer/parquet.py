"""A trial's Parquet files: their schemas, and how they are written and carefully read.

Their names, and where each stands in a trial's life, are in record.py. Imports no torch.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from trainer.config import field_types
from trainer.errors import EXIT_IO, InputError
from trainer.record import (
    EPOCHS,
    RUN,
    SCHEMA_VERSION,
    content,
    unusable,
    write_atomic,
)

_VERSION = {b"schema_version": str(SCHEMA_VERSION).encode()}

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
    metadata=_VERSION,
)

# index: the image's place in the data set's test set, from 0. logits: fp32, one a class.
PREDICTIONS_SCHEMA = pa.schema(
    [
        pa.field("index", pa.int32(), nullable=False),
        pa.field("label", pa.int16(), nullable=False),
        pa.field("logits", pa.list_(pa.field("element", pa.float32())), nullable=False),
    ],
    metadata=_VERSION,
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
    pa.field("top_3", pa.float64()),
    pa.field("top_5", pa.float64()),
    pa.field("train_images", pa.int32()),
    pa.field("val_images", pa.int32()),
    pa.field("test_images", pa.int32()),
    pa.field("split_sha256", pa.string()),  # of the training and validation indices
    pa.field("classes", pa.string()),  # names by label, comma-separated
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


@functools.cache
def run_schema() -> pa.Schema:
    """Schema of run.parquet: the outcome, then every field of TrainConfig under its dotted name.

    Tuples are stored as the comma-separated text that `TrainConfig.override` parses.
    """
    config = [pa.field(name, _arrow_type(kind)) for name, kind in field_types().items()]
    return pa.schema([*_RUN_FIELDS, *config], metadata=_VERSION)


def write_table(
    path: Path, rows: Iterable[Mapping[str, Any]] | pa.Table, schema: pa.Schema
) -> None:
    """Write rows atomically as one Parquet file. Raises OSError; for a bad row, ValueError."""
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows), schema=schema)
    # Of a few short columns compression saves nothing.
    file_content = encoded(table.cast(schema), schema.metadata, compression="none")
    write_atomic(path, lambda file: file.write(file_content))


def encoded(
    table: pa.Table, metadata: Mapping[Any, Any], compression: Literal["none", "zstd"]
) -> pa.Buffer:
    """The table as a Parquet file's content."""
    buffer = pa.BufferOutputStream()
    with pq.ParquetWriter(
        buffer,
        table.schema,
        compression=compression,
        # Arrow's own copy of the schema is half of a run.parquet: a report on 10,000 trials reads
        # it 10,000 times.
        store_schema=False,
        write_page_checksum=True,
        # They help files of many rows; here they would be most of the bytes.
        use_dictionary=False,
        write_statistics=False,
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(metadata)
    return buffer.getvalue()


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A Parquet file, or those of some columns that it has. Raises InputError where the file is
    damaged or cannot be read, FileNotFoundError where there is none.

    The file is left in place.
    """
    return parse_table(path, content(path), columns)


def parse_table(path: Path, content: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """The table of a file's content, as `read_table` gives it. Raises InputError, which names the
    path, where it is damaged."""
    try:
        source = pa.BufferReader(content)
        # Threads and read-ahead cost more than a small file that is in memory already.
        with pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=False) as file:
            return file.read(None if columns is None else list(columns), use_threads=False)
    # ValueError: names in the footer that are no UTF-8.
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> InputError:
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return unusable(path, f"is damaged: {first}")


def read_epochs(folder: Path) -> pa.Table:
    """A trial's epochs.parquet. Raises as `read_table` does, also where a column is missing or of
    another type."""
    path = folder / EPOCHS
    table = read_table(path)
    for field in EPOCHS_SCHEMA:
        found = table.schema.field(field.name).type if field.name in table.column_names else None
        if found != field.type:
            what = "has no column" if found is None else f"has {found} and not {field.type} in"
            raise unusable(path, f"{what} {field.name}")
    return table


def read_run(
    folder: Path, fingerprint: str, columns: Sequence[str] | None = None
) -> dict[str, Any]:
    """The one row of a finished trial's run.parquet, or of some of its columns, those that it has;
    `fingerprint` must be among them.

    Raises as `read_table` does, also where it is of another version or of another configuration
    than the fingerprint's.
    """
    path = folder / RUN
    table = read_table(path, columns)
    check_run(path, table, fingerprint)
    row: dict[str, Any] = table.to_pylist()[0]
    return row


def check_run(path: Path, table: pa.Table, fingerprint: str) -> None:
    """Raises InputError where a run.parquet is of another version or configuration, or not one
    row."""
    check_version(path, table.schema.metadata)
    if table.num_rows != 1:
        raise unusable(path, f"is damaged: it has {table.num_rows} rows, not one")
    known = "fingerprint" in table.column_names
    if not known or table["fingerprint"][0].as_py() != fingerprint:
        raise unusable(path, "is of another configuration than its folder's")


def check_version(path: Path, metadata: Mapping[bytes, bytes] | None) -> None:
    """Raises InputError where the Parquet file's metadata name another version than ours."""
    version = (metadata or {}).get(b"schema_version", b"none").decode()
    if version != str(SCHEMA_VERSION):
        raise InputError(
            f"{path} has schema version {version}, this program reads {SCHEMA_VERSION}",
            "use the program's version that wrote it",
            exit_code=EXIT_IO,
        )
