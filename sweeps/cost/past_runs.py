"""Past runs: what the finished trials of a results folder tell of their cost."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from local_machine.errors import InputError
from trainer.config import DataConfig, ModelConfig
from trial_records import archive, trial_files

if TYPE_CHECKING:
    from trainer.perf.precision import Precision

# Reading a run takes half a millisecond, so of many only some are read: the newest, and others
# at random, among which every shape of a grid is likely to be.
NEWEST, OTHERS = 100, 200

_MODEL = ("model.name", "model.stem", "model.width", "model.patch", "model.dropout")
_DATA = ("data.name", "data.root", "data.val_fraction", "data.train_limit")
_COLUMNS = (
    "images_per_second", "precision_used", "step_used", "device", "world_size", "slurm_job_id",
    "device_share",
    "train_images", "val_images", "precision", "compile", "deterministic", "batch_size",
    *_MODEL, *_DATA,
)  # fmt: skip

_File = tuple[int, bytes | None]
"""When it was written, in ns; and its content, where it is compacted."""


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
    arithmetic: Arithmetic
    asked_precision: str
    captured: bool  # its steps in a graph, so that starting operations took less time
    batch: int  # a device
    seconds_per_image: float  # of one device, of which it may have had a part
    data: tuple[Any, ...]
    images: tuple[int, int]  # training, validation


def past_runs(results: Path) -> list[PastRun]:
    """Finished trials of any sweep in the folder, newest first; of many only some. A file that
    cannot be read, or tells no speed, is left out."""
    files = _files(results)
    found = sorted(((when, path) for path, (when, _) in files.items()), reverse=True)
    others = found[NEWEST:]
    # Not every n-th: a grid's axis may have n values. The same ones in every call.
    chosen = found[:NEWEST] + random.Random(0).sample(others, min(OTHERS, len(others)))
    runs = (_read(Path(path), files[path][1]) for _, path in sorted(chosen, reverse=True))
    return [run for run in runs if run is not None]


def _files(results: Path) -> dict[str, _File]:
    """Each run.parquet, by its path."""
    compacted = set(results.glob(f"*/{archive.FOLDER}/"))
    files = dict(_loose(results.glob(f"*/*/{trial_files.RUN}")))
    # What is compacted meanwhile is there now, and what is put back meanwhile in its folder.
    for sweep in {path.parent for path in compacted | set(results.glob(f"*/{archive.FOLDER}/"))}:
        files |= dict(_compacted(sweep))
        files = dict(_loose(sweep.glob(f"*/{trial_files.RUN}"))) | files
    return files


def _loose(paths: Iterable[Path]) -> Iterator[tuple[str, _File]]:
    for path in paths:
        with contextlib.suppress(OSError):
            yield str(path), (path.stat().st_mtime_ns, None)


def _compacted(sweep: Path) -> Iterator[tuple[str, _File]]:
    """The run.parquet of each compacted trial, under the path that it had."""
    column = f"files.{trial_files.RUN}"
    for part in archive.parts(sweep):
        try:
            table = archive.read(part, ["trial", column])
        except (InputError, OSError):
            continue
        files = table["files"].combine_chunks().field(trial_files.RUN)
        rows = zip(table["trial"].to_pylist(), files.to_pylist(), strict=True)
        for name, file in rows:
            yield str(sweep / name / trial_files.RUN), (file["mtime_ns"], file["bytes"])


def _read(path: Path, content: bytes | None = None) -> PastRun | None:
    """The run of a run.parquet, whose content is given where it is not in its place."""
    import pyarrow as pa

    from trial_records import tables

    try:
        found = trial_files.content(path) if content is None else content
        table = tables.checked(path, found, _COLUMNS).table
        tables.check_is_one_row(path, table)
        schema = pa.schema([one for one in tables.run_schema() if one.name in _COLUMNS])
        (row,) = tables.conform(path, table, schema).to_pylist()
        rate, world = row["images_per_second"], row["world_size"] or 1
        if not rate or not math.isfinite(rate) or rate < 0 or not row["device"]:
            return None
        return PastRun(
            device=row["device"],
            on_slurm=row["slurm_job_id"] is not None,
            model=as_fast(ModelConfig(**{key.removeprefix("model."): row[key] for key in _MODEL})),
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
    except (InputError, OSError, ValueError, LookupError, TypeError, ValidationError):
        return None


def as_fast(model: ModelConfig) -> ModelConfig:
    """The same for all models that take equal time."""
    patch = model.patch if model.name == "vit" else 4
    return model.model_copy(update={"patch": patch, "dropout": 0.1 if model.dropout else 0.0})


def data_of(config: DataConfig) -> tuple[Any, ...]:
    return (config.name, config.root, config.val_fraction, config.train_limit)
