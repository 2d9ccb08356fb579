"""The price of trials: device-hours of training, predicted before they are spent.

A trial that is like none before it is priced by the roofline (trainer.perf.roofline), corrected by
what past runs in the results folder took beside theirs. A price is of training and validation, as
run.parquet's `seconds` is: a worker's start-up, compilation and the evaluation at a trial's end
come on top. All epochs that are left count, so that where trials may stop early the price is an
upper bound. Where nothing has run on the device yet, the roofline alone is the best that it could
do. Imports no torch where past runs alone can tell.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import random
import statistics
import sys
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import ValidationError

from local_machine.errors import InputError
from local_machine.files import read_file
from sweeps.devices import device_here, visible_gpus
from sweeps.spec.backend_name import BackendName
from sweeps.state.progress import Progress
from sweeps.state.trial_store import State
from trainer.config import DataConfig, ModelConfig, TrainConfig
from trainer.data.known import KNOWN
from trial_records import archive, trial_files

if TYPE_CHECKING:
    from trainer.perf.device_peaks import DevicePeaks
    from trainer.perf.precision import Precision

# Reading a run takes half a millisecond, so of many only some are read: the newest, and others
# at random, among which every shape of a grid is likely to be.
NEWEST, OTHERS = 100, 200
# So many shapes of other models tell how far from its roofline a device is.
SHAPES = 6
# The forward pass alone, of forward and backward, which are two more products each as large.
VALIDATION = 1 / 3
Source = Literal["runs alike", "runs of the model", "runs of other models", "roofline alone"]

_MODEL = ("model.name", "model.stem", "model.width", "model.patch", "model.dropout")
_DATA = ("data.name", "data.root", "data.val_fraction", "data.train_limit")
_COLUMNS = (
    "images_per_second", "precision_used", "step_used", "device", "world_size", "slurm_job_id",
    "device_share",
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
    """What a finished trial tells of its price."""

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


@dataclass(frozen=True)
class CostEstimate:
    """What is left of some trials costs, in hours of one device; a price of 0 has no source."""

    device: str | None
    """What they are to run on; None where nobody can tell."""
    hours: list[float | None]
    """Of each trial; None where it is not known."""
    sources: list[Source | None]

    @property
    def total(self) -> float | None:
        """None where a part is not known."""
        known = [hours for hours in self.hours if hours is not None]
        return sum(known) if len(known) == len(self.hours) else None

    @property
    def unit(self) -> str:
        on_cpu = self.device is not None and self.device.endswith(" threads")
        return "device-hours" if on_cpu else "GPU-hours"

    def line(self) -> str:
        """In a few words."""
        if self.total is None:
            unknown = f"price of {self.hours.count(None)} of {len(self.hours)} trials not known"
            if self.device is None:
                return f"{unknown}: nothing has run here on Slurm yet"
            return f"{unknown}: nothing like them has run yet on {self.device}"
        sources = list(dict.fromkeys(source for source in self.sources if source))
        by = f" by {' and '.join(sources)}" if sources else ""
        return f"about {self.total:.3g} {self.unit} on {self.device or 'any device'}{by}"

    def check_budget(self, sweep: str, budget: float) -> None:
        """Raises InputError where the price is above the budget, in hours, or not known."""
        if self.total is None:
            raise InputError(
                f"{sweep}: {self.line()}, and --budget-gpu-hours is {budget:g}",
                "run one of its trials first (a config.json is a sweep of one trial: python -m "
                "sweeps.launch CONFIG.json), or, to run on this machine, measure it: "
                "python benchmarks/roofline.py",
            )
        if self.total > budget:
            raise InputError(
                f"{sweep} takes {self.line()}, more than --budget-gpu-hours {budget:g}",
                f"allow it: --budget-gpu-hours {math.ceil(self.total)}, or ask for less: fewer "
                "--seeds, --set epochs=N, --scale smoke; --dry-run shows every trial's part",
            )


def estimate_cost(
    results: Path,
    progress: Sequence[Progress],
    where: BackendName,
    workers: int | None = None,
    world: int = 1,
) -> CostEstimate:
    """What is left of the trials costs where they are to run, `world` devices a trial.

    On Slurm the device is that of the newest run which Slurm had in the results folder. Reads only
    some of many past runs, and none where nothing is left to do.
    """
    epochs = [_epochs_left(one) for one in progress]
    if not any(epochs):
        return CostEstimate(None, [0.0] * len(epochs), [None] * len(epochs))
    runs = past_runs(results)
    device = _device(runs, where, workers, sum(count > 0 for count in epochs))
    book = _Book([run for run in runs if run.device == device], device, where)
    images = {run.data: run.images for run in reversed(runs)}
    for one in progress:
        data = one.trial.config.data
        if _data(data) not in images:
            images[_data(data)] = _images(data)
    hours: list[float | None] = []
    sources: list[Source | None] = []
    for one, left in zip(progress, epochs, strict=True):
        found = book.seconds_per_image(one.trial.config, world) if left else None
        train, val = images[_data(one.trial.config.data)]
        if found is None:
            hours.append(None if left else 0.0)
        else:
            hours.append(left * (train + VALIDATION * val) * found[0] / 3600)
        sources.append(found[1] if found else None)
    return CostEstimate(device, hours, sources)


def _device(runs: list[PastRun], where: BackendName, workers: int | None, left: int) -> str | None:
    """What so many trials are to run on; None where nobody can tell."""
    if where is BackendName.SLURM:
        return next((run.device for run in runs if run.on_slurm), None)
    at_once = min(workers or len(visible_gpus()) or 1, left)
    return device_here(1 if where is BackendName.DEBUG else at_once)


def seconds_alike(
    results: Path, progress: Sequence[Progress], where: BackendName, workers: int | None
) -> dict[str, float]:
    """What is left of the trials takes so many seconds, by name, of those that past runs alike on
    the device tell of. Imports no torch."""
    runs = past_runs(results)
    if not runs:
        return {}
    device = _device(runs, where, workers, sum(_epochs_left(one) > 0 for one in progress))
    paces: dict[Any, list[float]] = {}
    for run in runs:
        if run.device == device:
            asked = (run.asked_precision, *run.arithmetic[1:])
            paces.setdefault((run.model, run.batch, asked), []).append(run.seconds_per_image)
    found = {}
    images_of = functools.cache(_images)
    for one in progress:
        if one.trial.problem is not None:
            continue
        config = one.trial.config
        asked = (config.precision, config.compile, config.deterministic)
        pace = paces.get((_as_fast(config.model), config.batch_size, asked))
        if pace is not None and (left := _epochs_left(one)):
            train, val = images_of(config.data)
            images = left * (train + VALIDATION * val)
            found[one.trial.name] = statistics.median(pace) * images
    return found


def _epochs_left(progress: Progress) -> int:
    """A launch goes on with failed trials and pruned ones, too."""
    done = progress.state is State.DONE
    return 0 if done else max(0, (progress.trial.epochs or 0) - progress.epochs_done)


def tally(progress: Iterable[Progress]) -> tuple[float, float | None]:
    """Hours of a device that the trials have had, and those that are left by their own pace.

    A trial without an epoch yet is taken to go as those of its model and batch size do; None where
    there is none. One that has no result does not say how many devices it has, or what part of one:
    it is taken to have as many as those that do, on average. Reads nothing.
    """
    progress = list(progress)
    told = [one.devices for one in progress if one.devices]
    usual = statistics.mean(told) if told else 1.0
    paces: dict[Hashable, list[float]] = {}
    for one in progress:
        if one.seconds_per_epoch is not None:
            device_seconds = one.seconds_per_epoch * (one.devices or usual)
            paces.setdefault(_pace(one), []).append(device_seconds)
    spent, left = 0.0, 0.0
    known = True
    for one in progress:
        seconds = one.seconds_per_epoch
        if seconds is not None:
            seconds *= usual if one.devices is None else one.devices
        spent += one.epochs_done * (seconds or 0.0)
        if one.epochs_left:
            if seconds is None and (alike := paces.get(_pace(one))):
                seconds = statistics.mean(alike)
            known = known and seconds is not None
            left += one.epochs_left * (seconds or 0.0)
    return spent / 3600, left / 3600 if known else None


def _pace(one: Progress) -> Hashable:
    """The same for trials of one model and batch size, as they are stored."""
    return json.dumps([one.trial.stored("model"), one.trial.stored("batch_size")])


def past_runs(results: Path) -> list[PastRun]:
    """Finished trials of any sweep in the folder, newest first; of many only some. A file that
    cannot be read, or tells no speed, is left out."""
    files: dict[str, tuple[int, bytes | None]] = {}  # when each was written, and what is in it
    for path in results.glob(f"*/*/{trial_files.RUN}"):
        with contextlib.suppress(OSError):
            files[str(path)] = path.stat().st_mtime_ns, None
    # After the folders, so that what is compacted meanwhile is here, and what is in both one run.
    for sweep in results.glob(f"*/{archive.FOLDER}/"):
        files |= _compacted(sweep.parent)
    found = sorted(((when, path) for path, (when, _) in files.items()), reverse=True)
    others = found[NEWEST:]
    # Not every n-th: a grid's axis may have n values. The same ones in every call.
    chosen = found[:NEWEST] + random.Random(0).sample(others, min(OTHERS, len(others)))
    runs = (_read(Path(path), files[path][1]) for _, path in sorted(chosen, reverse=True))
    return [run for run in runs if run is not None]


def _compacted(sweep: Path) -> Iterator[tuple[str, tuple[int, bytes]]]:
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
        found = read_file(path) if content is None else content
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
            model=_as_fast(ModelConfig(**{key.removeprefix("model."): row[key] for key in _MODEL})),
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


def _as_fast(model: ModelConfig) -> ModelConfig:
    """The same for all models that take equal time."""
    patch = model.patch if model.name == "vit" else 4
    return model.model_copy(update={"patch": patch, "dropout": 0.1 if model.dropout else 0.0})


def _data(config: DataConfig) -> tuple[Any, ...]:
    return (config.name, config.root, config.val_fraction, config.train_limit)


def _images(config: DataConfig) -> tuple[int, int]:
    """How many images are trained on and how many validated on, without looking at them."""
    if config.root is not None:
        from trainer.data.datasets import check

        # Where they are not here, or bad, that is for others to say: a price is a guess.
        with contextlib.suppress(InputError, OSError):
            return check(config)[:2]
    images = min(KNOWN[config.name].train_images, config.train_limit or sys.maxsize)
    val = round(images * config.val_fraction)
    return images - val, val


@dataclass
class _Book:
    """The past runs on one device, newest first, and what they say of a step's price."""

    runs: list[PastRun]
    device: str | None
    where: BackendName
    known: dict[Any, tuple[float, Source] | None] = field(default_factory=dict)

    def seconds_per_image(self, config: TrainConfig, world: int) -> tuple[float, Source] | None:
        """Of one device; and what tells it."""
        model, batch = _as_fast(config.model), math.ceil(config.batch_size / world)
        key = (model, batch, config.precision, config.compile, config.deterministic)
        if key not in self.known:
            self.known[key] = self._find(config, model, batch)
        return self.known[key]

    def _find(
        self, config: TrainConfig, model: ModelConfig, batch: int
    ) -> tuple[float, Source] | None:
        precision = self._precision(config)
        if precision is None:
            return None
        arithmetic = Arithmetic(precision, config.compile, config.deterministic)
        runs = [run for run in self.runs if run.arithmetic == arithmetic]
        shapes: dict[tuple[ModelConfig, int], list[PastRun]] = {}
        for run in runs:
            shapes.setdefault((run.model, run.batch), []).append(run)
        if (alike := shapes.get((model, batch))) is not None:
            return statistics.median(run.seconds_per_image for run in alike), "runs alike"
        of_model = [shape for shape in shapes if shape[0] == model]
        source: Source = "runs of the model" if of_model else "runs of other models"
        # The nearest batch size, which fills the device most alike.
        of_model.sort(key=lambda shape: abs(math.log(shape[1] / batch)))
        likest = of_model[:1] or list(shapes)[:SHAPES]
        if not likest:
            if self.peaks is None:
                return None
            return self._best(model, batch, precision, captured=False), "roofline alone"
        factors = [
            statistics.median(
                run.seconds_per_image / self._best(*shape, precision, run.captured)
                for run in shapes[shape]
            )
            for shape in likest
        ]
        captured = shapes[likest[0]][0].captured
        return statistics.median(factors) * self._best(model, batch, precision, captured), source

    def _best(self, model: ModelConfig, batch: int, precision: Precision, captured: bool) -> float:
        """Seconds an image by the roofline. Where the device's peaks are not known, by arithmetic
        alone and in no unit, which is enough to compare two."""
        from trainer.perf import step_cost
        from trainer.perf.device_peaks import DevicePeaks

        # Bytes and starts take no time.
        unknown = DevicePeaks("", 1.0, 1.0, math.inf, 0.0)
        # Behind an ImageNet stem one image has no variance to normalise by.
        batch = max(2, batch)
        cost = step_cost.cached(step_cost.Step(model, precision, batch))
        if cost is None:
            # With torch, so only where it must be.
            from trainer.perf.roofline import count

            cost = count(model, precision, batch)
        return cost.seconds(self.peaks or unknown, captured=captured) / batch

    @functools.cached_property
    def peaks(self) -> DevicePeaks | None:
        from trainer.perf.device_peaks import cached

        return None if self.device is None else cached(self.device)

    def _precision(self, config: TrainConfig) -> Precision | None:
        """What the configuration computes in on this device; None where nobody can tell."""
        if config.precision != "auto":
            return config.precision
        used = (run.arithmetic.precision for run in self.runs if run.asked_precision == "auto")
        if (found := next(used, None)) is not None or self.where is BackendName.SLURM:
            return found
        if self.peaks is None:
            return None  # nor could a price be told
        if visible_gpus():
            import torch

            from trainer.perf.precision import resolve

            return resolve("auto", torch.device("cuda"))
        from trainer.perf.cpu import has_bf16

        return "bf16" if has_bf16() else "fp32"
