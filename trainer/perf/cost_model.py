"""The trainer's cost model: what past runs, and the roofline beside them, tell of an epoch's time.

A trial that is like none before it is estimated by the roofline (trainer.perf.roofline), corrected
by what past runs took beside theirs. Where nothing has run on the device yet, the roofline alone
gives the least that it could take. Imports no torch where past runs alone can tell.
"""

from __future__ import annotations

import contextlib
import functools
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from local_machine.errors import InputError
from local_machine.installed import extras
from sweeps.task import CostModel, Values
from trainer.config import DataConfig, TrainConfig
from trainer.data.known import CIFAR10, KNOWN
from trainer.optim.schedule import FULL_SIDE
from trainer.perf import device_peaks
from trainer.perf.past_run import COLUMNS, PastRun, as_fast, data_of, run_of

if TYPE_CHECKING:
    from trainer.perf.device_runs import DeviceRuns

# The forward pass alone, of forward and backward, which are two more products each as large.
VALIDATION = 1 / 3
# No CPU trains any of these networks faster, at any width that learns.
_MOST_IMAGES_PER_SECOND = 5000


class TrainerCosts(CostModel):
    columns = COLUMNS

    def read(self, row: Values, values: Callable[[], Values]) -> PastRun | None:
        return run_of(row)

    def on(self, device: str | None, runs: Sequence[PastRun], *, on_slurm: bool) -> EpochCosts:
        from trainer.perf.device_runs import DeviceRuns

        here = DeviceRuns([run for run in runs if run.device == device], device, on_slurm)
        sides: dict[tuple[Any, ...], set[int]] = {}
        for run in runs:
            sides.setdefault(run.data, set()).add(run.side)
        return EpochCosts(here, {run.data: run.images for run in reversed(runs)}, sides)

    def measure(self, device: str) -> None:
        """The device's peaks, with as many threads as its name says."""
        if extras.missing("torch") is not None or device_peaks.cached(device) is not None:
            return
        print("measuring this machine for estimates, once: some seconds ...", file=sys.stderr)
        import torch

        from trainer.perf import roofline

        threads = re.search(r", (\d+) threads$", device)
        before = torch.get_num_threads()
        torch.set_num_threads(int(threads[1]) if threads else before)
        roofline.peaks(torch.device("cpu" if threads else "cuda"))
        torch.set_num_threads(before)

    def at_least(self, config: TrainConfig) -> float:
        return config.epochs * _images(config.data)[0] / _MOST_IMAGES_PER_SECOND


@dataclass
class EpochCosts:
    """What an epoch costs on one device: its images, and what one of them takes."""

    here: DeviceRuns
    images: dict[tuple[Any, ...], tuple[int, int]]
    """Of training and of validation, by what decides them, as past runs on any device had them."""
    sides: dict[tuple[Any, ...], set[int]]
    """Of their images, in pixels, by the same."""
    _paces: dict[Any, list[float]] = field(default_factory=dict)
    _counted: dict[DataConfig, tuple[int, int]] = field(default_factory=dict)

    def alike(self, config: TrainConfig) -> float | None:
        if not self._paces:
            for run in self.here.runs:
                asked = (run.asked_precision, *run.arithmetic[1:])
                key = (run.model, run.side, run.batch, asked)
                self._paces.setdefault(key, []).append(run.seconds_per_image)
        asked = (config.precision, config.compile, config.deterministic)
        shape = as_fast(config.model), self._side(config.data), config.batch_size, asked
        pace = self._paces.get(shape)
        if pace is None:
            return None
        if config.data not in self._counted:
            self._counted[config.data] = _images(config.data)
        train, val = self._counted[config.data]
        return statistics.median(pace) * (train + VALIDATION * val)

    def seconds(self, config: TrainConfig, ranks: int) -> tuple[float, str] | None:
        found = self.here.seconds_per_image(config, self._side(config.data), ranks)
        if found is None:
            return None
        if (key := data_of(config.data)) not in self.images:
            self.images[key] = _images(config.data)
        train, val = self.images[key]
        return (train + VALIDATION * val) * found[0], found[1]

    def _side(self, config: DataConfig) -> int:
        """As past runs had it, since to look at a folder takes long."""
        if config.size is None and len(known := self.sides.get(data_of(config), set())) == 1:
            return min(known)
        return side(config)


def _images(config: DataConfig) -> tuple[int, int]:
    """How many images are trained on and how many validated on, without looking at them."""
    if config.root is not None:
        from trainer.data.datasets import check

        # Where they are not here, or bad, that is for others to say: this is an estimate.
        with contextlib.suppress(InputError, OSError, ImportError):
            return check(config)[:2]
    images = min(KNOWN.get(config.name, CIFAR10).train_images, config.train_limit or sys.maxsize)
    val = round(images * config.val_fraction)
    return images - val, val


@functools.cache
def side(config: DataConfig) -> int:
    """Of the images, in pixels, as far as it can be told; looked for once a process."""
    if config.root is not None and config.size is None:
        from trainer.data.datasets import facts

        # Where this machine lacks Pillow, too: this is an estimate.
        with contextlib.suppress(InputError, OSError, ImportError):
            return facts(config).side
    return config.size or FULL_SIDE
