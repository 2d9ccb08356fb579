"""The past runs on one device, and what they and the roofline say of an image's seconds there."""

from __future__ import annotations

import functools
import math
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from local_machine.devices import visible_gpus
from local_machine.errors import InputError
from trainer.config import ModelConfig, TrainConfig
from trainer.perf.past_run import Arithmetic, PastRun, as_fast

if TYPE_CHECKING:
    from trainer.perf.device_peaks import DevicePeaks
    from trainer.perf.precision import Precision

# So many shapes of other models tell how far from its roofline a device is.
SHAPES = 6
Source = Literal["runs alike", "runs of the model", "runs of other models", "roofline alone"]


@dataclass
class DeviceRuns:
    """The past runs on one device, newest first, and what they say of an image's seconds."""

    runs: list[PastRun]
    device: str | None
    on_slurm: bool
    """Whether it is another machine's."""
    known: dict[Any, tuple[float, Source] | None] = field(default_factory=dict)

    def seconds_per_image(
        self, config: TrainConfig, side: int, world: int
    ) -> tuple[float, Source] | None:
        """Of one device, where images have this side (pixels); and what tells it."""
        model, batch = as_fast(config.model), math.ceil(config.batch_size / world)
        key = (model, side, batch, config.precision, config.compile, config.deterministic)
        if key not in self.known:
            self.known[key] = self._find(config, model, side, batch)
        return self.known[key]

    def _find(
        self, config: TrainConfig, model: ModelConfig, side: int, batch: int
    ) -> tuple[float, Source] | None:
        precision = self._precision(config)
        if precision is None:
            return None
        arithmetic = Arithmetic(precision, config.compile, config.deterministic)
        runs = [run for run in self.runs if run.arithmetic == arithmetic]
        shapes: dict[tuple[ModelConfig, int, int], list[PastRun]] = {}
        for run in runs:
            shapes.setdefault((run.model, run.side, run.batch), []).append(run)
        if (alike := shapes.get((model, side, batch))) is not None:
            return statistics.median(run.seconds_per_image for run in alike), "runs alike"
        of_model = [shape for shape in shapes if shape[:2] == (model, side)]
        source: Source = "runs of the model" if of_model else "runs of other models"
        # The nearest batch size, which fills the device most alike.
        of_model.sort(key=lambda shape: abs(math.log(shape[2] / batch)))
        likest = of_model[:1] or list(shapes)[:SHAPES]
        if model.is_own and not self._can_count(model, side, batch, precision):
            return None
        if not likest:
            if self.peaks is None:
                return None
            return self._best(model, side, batch, precision, captured=False), "roofline alone"
        factors = [
            statistics.median(
                run.seconds_per_image / self._best(*shape, precision, run.captured)
                for run in shapes[shape]
            )
            for shape in likest
        ]
        captured = shapes[likest[0]][0].captured
        return statistics.median(factors) * self._best(
            model, side, batch, precision, captured
        ), source

    def _can_count(self, model: ModelConfig, side: int, batch: int, precision: Precision) -> bool:
        try:
            return self._best(model, side, batch, precision, captured=False) > 0
        except InputError:
            return False

    def _best(
        self, model: ModelConfig, side: int, batch: int, precision: Precision, captured: bool
    ) -> float:
        """Seconds an image by the roofline. Where the device's peaks are not known, by arithmetic
        alone and in no unit, which is enough to compare two."""
        from trainer.perf import step_cost
        from trainer.perf.device_peaks import DevicePeaks

        # Bytes and starts take no time.
        unknown = DevicePeaks("", 1.0, 1.0, math.inf, 0.0)
        # Behind an ImageNet stem one image has no variance to normalise by.
        batch = max(2, batch)
        cost = step_cost.cached(step_cost.Step(model, precision, batch, image_size=side))
        if cost is None:
            # With torch, so only where it must be.
            from trainer.perf.roofline import count

            cost = count(model, precision, batch, image_size=side)
        return cost.seconds(self.peaks or unknown, captured=captured) / batch

    @functools.cached_property
    def peaks(self) -> DevicePeaks | None:
        from trainer.perf.device_peaks import cached

        return None if self.device is None else cached(self.device)

    def _precision(self, config: TrainConfig) -> Precision | None:
        """What the configuration computes in on this device; None where that is not known."""
        if config.precision != "auto":
            return config.precision
        used = (run.arithmetic.precision for run in self.runs if run.asked_precision == "auto")
        if (found := next(used, None)) is not None or self.on_slurm:
            return found
        if self.peaks is None:
            return None  # nor could the cost be told
        if visible_gpus():
            import torch

            from trainer.perf.precision import resolve

            return resolve("auto", torch.device("cuda"))
        from trainer.perf.cpu import has_bf16

        return "bf16" if has_bf16() else "fp32"
