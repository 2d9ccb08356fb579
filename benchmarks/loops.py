"""The training loops by kind, ours and the peers', each told of every step: what trial.py starts.

Ours is `python -m trainer` with the two callbacks that a sweep's worker gives to `train`; a peer is
its own loop, watched where it tells its user of a step and stopped from inside once it was timed.
"""

from __future__ import annotations

import contextlib
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from trial import Contender, on_cuda, synchronize

# CIFAR-10's training images, of which ours holds a tenth out.
TRAIN_IMAGES, VAL_FRACTION = 50_000, 0.1


class Timed(BaseException):
    """All that was asked for is measured."""


class Clock:
    """Told of every step's end, or of the first one and of the rate."""

    def __init__(self, result: Path, contender: Contender) -> None:
        self.result, self.contender = result, contender
        self.ticks, self.first_step, self.started = 0, 0.0, 0.0

    def tick(self) -> None:
        steps = self.contender.steps
        # More than a DataLoader with two workers has ready before its first batch is asked for.
        warm = 20 if on_cuda() else 5
        self.ticks += 1
        if self.ticks == 1:
            self.first()
        if self.ticks == warm:
            synchronize()
            self.started = time.perf_counter()
        elif self.ticks == warm + steps:
            synchronize()
            self.end(steps * self.contender.batch / (time.perf_counter() - self.started))

    def first(self) -> None:
        synchronize()
        self.first_step = time.time()
        if not self.contender.steps:
            self.end(0.0)

    def end(self, rate: float) -> NoReturn:
        self.result.write_text(json.dumps({"first_step": self.first_step, "rate": rate}))
        raise Timed


def ours(contender: Contender, clock: Clock, root: Path, arrays: Path) -> None:
    """The rate is the median over the epochs after the first, as epochs.parquet has them: draws,
    augmentation, every step and the short last batch, without the evaluation between."""
    import runpy

    from trainer import process_cache
    from trainer.recipes import reported

    wanted = math.ceil(contender.steps * contender.batch / (1 - VAL_FRACTION))
    limited = 0 < wanted < TRAIN_IMAGES
    warm_epochs, timed_epochs = 1, 5 if on_cuda() else 1
    changes: dict[str, Any] = {
        "data.root": str(root),
        "data.val_fraction": VAL_FRACTION,
        "data.train_limit": max(wanted, 100) if limited else None,
        "epochs": warm_epochs + timed_epochs,
        "early_stopping.patience": 0,
        "batch_size": contender.batch,
        "model.width": contender.width,
    }
    options = dict(option.split("=", 1) for option in contender.options)
    config = reported(contender.model).override(changes | options)
    path = Path.cwd() / "config.json"
    path.write_text(config.to_json())
    # As `python -m trainer` and a worker do; here the import is ours, to wrap what it brings.
    process_cache.read_ahead(config.data)
    import trainer.alone as alone

    train, rates, asked = alone.train_alone, [], 0

    def on_epoch(row: dict[str, Any]) -> None:
        rates.append(row["images_per_second"])
        if len(rates) == config.epochs:
            clock.end(statistics.median(rates[warm_epochs:]))

    def should_stop() -> bool:
        # Asked before every step: the second time the first step is over.
        nonlocal asked
        asked += 1
        if asked == 2:
            clock.first()
        return False

    def watched(config: Any, out: Path, *_: Any) -> Any:
        return train(config, out, on_epoch, should_stop)

    vars(alone)["train_alone"] = watched
    sys.argv = ["trainer", str(path), str(Path.cwd() / "out")]
    runpy.run_module("trainer", run_name="__main__")


def import_torch(contender: Contender, clock: Clock, root: Path, arrays: Path) -> None:
    import torch  # noqa: F401

    clock.first()


def pytorch_cifar(contender: Contender, clock: Clock, root: Path, arrays: Path) -> None:
    """Its `train`, epoch after epoch; a step is over when its progress bar has moved."""
    import peers

    names = peers.pytorch_cifar(
        Path(contender.checkout), arrays, contender.model, contender.batch, contender.width
    )
    if contender.options or contender.loader:
        names["net"] = peers.Tuned(names["net"], contender.options)
    if contender.loader:
        loader = peers.airbench_loader(Path(contender.loader), arrays, contender.batch)
        names["trainloader"] = loader
    progress_bar = names["progress_bar"]

    def watched(*words: Any) -> None:
        progress_bar(*words)
        clock.tick()

    names["progress_bar"] = watched
    epoch = 0
    while True:
        names["train"](epoch)
        epoch += 1


def wide(contender: Contender, clock: Clock, root: Path, arrays: Path) -> None:
    """Its `main`; a step is over when it has noted how long the batch took."""
    import peers

    script = peers.wide(Path(contender.checkout), arrays)
    _, layers, widen = contender.model.split("_")

    average_meter: Any = script.AverageMeter

    class Meter(average_meter):  # type: ignore[misc]
        def update(self, value: float, count: int | None = None) -> None:
            super().update(value, count or 1)
            if count is None:  # of its three meters only the time's is updated so
                clock.tick()

    script.AverageMeter = Meter
    # What comes between two epochs is not training, and its meters are not a step's.
    script.validate = lambda *_: 0.0
    script.save_checkpoint = lambda *_: None
    if contender.options:
        network = script.WideResNet
        script.WideResNet = lambda *words, **named: peers.Tuned(
            network(*words, **named), contender.options
        )
    sys.argv = ["train.py", "--layers", layers, "--widen-factor", widen, "--droprate", "0.3"]
    sys.argv += ["--batch-size", str(contender.batch)]
    script.main()


def timm(contender: Contender, clock: Clock, root: Path, arrays: Path) -> None:
    import timm_loop

    timm_loop.run(contender.model, contender.batch, contender.options, arrays, clock.tick)


KINDS: dict[str, Callable[[Contender, Clock, Path, Path], None]] = {
    "ours": ours,
    "torch": import_torch,
    "pytorch-cifar": pytorch_cifar,
    "wide": wide,
    "timm": timm,
}


def main() -> None:
    result, root, arrays, task = sys.argv[1:]
    contender = Contender(**json.loads(task))
    with contextlib.suppress(Timed):
        KINDS[contender.kind](contender, Clock(Path(result), contender), Path(root), Path(arrays))


if __name__ == "__main__":
    main()
