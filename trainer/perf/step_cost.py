"""Cost: the arithmetic and memory traffic of one training step, kept in the cache.

Imports no torch. trainer.perf.roofline counts it, which takes torch and its compiler some seconds.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import TypeAdapter, ValidationError

from local_machine import json_files, origin
from local_machine.code import packages, references
from local_machine.errors import InputError
from local_machine.files import matching
from local_machine.private_folder import cache_file
from trainer.config import ModelConfig, OptimizerConfig
from trainer.data import datasets
from trainer.perf.device_peaks import DevicePeaks

# What a kernel of a recorded step takes beside arithmetic and memory. With it, 20 steps of the six
# models at batches of 64 to 256 on an H100 and an H200 take 1.3 to 1.4 times what the roofline
# says, each within 15 % of that; without, a batch of 64 is 50 % off.
_RECORDED_OP_SECONDS = 2.5e-6


class Op(NamedTuple):
    """One operation that touches memory: a kernel, where nothing fuses it with another."""

    name: str
    flops: int
    """Of convolutions and matrix products, 2 a multiply-add; those of other operations are not
    counted, since memory bounds them everywhere."""
    bytes: int
    """Its inputs and outputs, each once."""
    precision: Literal["bf16", "fp32"]


@dataclass(frozen=True)
class Cost:
    """One training step of `batch` images on one device, counted: forward, loss, backward.

    The augmentation of the images is not among it.
    """

    batch: int
    forward: tuple[Op, ...]
    backward: tuple[Op, ...]
    parameters: int
    optimizer_bytes: int
    """Read and written once a step, whatever the batch."""

    @property
    def flops_per_image(self) -> float:
        return sum(op.flops for op in self.forward + self.backward) / self.batch

    @property
    def bytes_per_image(self) -> float:
        """Without the optimizer's."""
        return sum(op.bytes for op in self.forward + self.backward) / self.batch

    def seconds(self, peaks: DevicePeaks, *, captured: bool = False) -> float:
        """The best time of the step: each operation as fast as arithmetic and memory let it, and
        its start, which takes less where the step is `captured` in a graph."""
        ops = self.forward + self.backward
        best = sum(
            max(op.flops / peaks.flops_per_second(op.precision), op.bytes / peaks.bytes_per_second)
            for op in ops
        )
        start = _RECORDED_OP_SECONDS if captured else peaks.seconds_per_op
        optimizer = self.optimizer_bytes / peaks.bytes_per_second
        return best + optimizer + (len(ops) + 1) * start


@dataclass(frozen=True)
class Step:
    """What a cost is of."""

    model: ModelConfig
    precision: Literal["bf16", "fp32"]
    batch: int
    optimizer: OptimizerConfig = OptimizerConfig()  # noqa: RUF009 - frozen
    classes: int = len(datasets.CIFAR10)
    image_size: int = datasets.SIDE


_COST = TypeAdapter(Cost)


def cached(step: Step) -> Cost | None:
    """What was counted of the step before, by this code and this torch. None where that cannot be
    read, too."""
    try:
        return _COST.validate_python(json_files.read_json(_file(step)))
    except (OSError, InputError, ValidationError):
        return None


def store(step: Step, cost: Cost) -> None:
    """Keep it, where the cache can be written."""
    value = _COST.dump_python(cost, mode="json")
    with contextlib.suppress(OSError):
        path = _file(step)
        path.parent.mkdir(parents=True, exist_ok=True)
        json_files.write_sealed_json(path, value)


def _file(step: Step) -> Path:
    what = {
        **asdict(step),
        "model": step.model.model_dump(mode="json"),
        "optimizer": step.optimizer.model_dump(mode="json"),
    }
    code: list[str | None] = [metadata.version("torch"), _code()]
    if step.model.is_own:
        code.append(_own_code(step.model.name))
    return cache_file("cost", [what, *code])


@functools.cache
def _own_code(name: str) -> str | None:
    """Changes with a person's own network, or with the version of what has it."""
    place = references.code_of(name)
    if place is None or references.is_installed(place):
        return packages.digest()
    return origin.hash_of(place)


@functools.cache
def _code() -> str:
    """Changes with whatever counts, or is counted."""
    here = Path(__file__).parent
    models = sorted(matching(here.parent / "models", "*.py"))
    files = [here / "step_cost.py", here / "roofline.py", *models]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
