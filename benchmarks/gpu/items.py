"""What there is to run on one GPU, in order of value: trials of our sweeps, and benchmarks.

An item's minutes are those of one H100 80GB HBM3 in bf16 and a CUDA graph, predicted from what was
measured there: images a second of steps alone (ResNet-18 67,200 at batch 256, DLA-34 36,500,
WRN-28-10 11,000; ResNet-50 15,500 and the ViT 40,300 at batch 128; ResNet-34 by its FLOPs), a tenth
more for validation, half a minute of compiling for a shape that has another one's training to hide
behind, and a quarter of a minute for the start.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_machine.devices import visible_gpus
from local_machine.files import write_atomic

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"

# Of epochs in which a speed settles, behind the first, which warms up.
SPEED_EPOCHS = 6
_PART = """# The points of {sweep} that one call trains.
from dataclasses import replace

from sweeps import find

whole, kept = find({sweep!r})[1], {kept!r}
sweep = replace(
    whole,
    space=tuple(p for p in whole.space if all(p[key] in values for key, values in kept.items())),
)
"""


class LeftOutError(Exception):
    """Why an item cannot run here."""


@dataclass(frozen=True)
class Place:
    """Where items run, and what of them a caller chose."""

    work: Path
    """Results and logs, which stay on the machine between two calls."""
    scale: str = "full"
    settings: Mapping[str, str] = field(default_factory=dict)
    """Overrides of every trial, by field."""
    backend: str = "local"
    per_gpu: str | None = None
    peer: Path | None = None
    """A checkout of pytorch-cifar."""

    @property
    def results(self) -> Path:
        return self.work / "results"

    @property
    def is_small(self) -> bool:
        return self.scale != "full"

    def root(self) -> list[str]:
        """For the benchmarks, which take random images where no folder is given."""
        root = self.settings.get("data.root")
        return [] if root is None else ["--root", root]


@dataclass(frozen=True)
class Trials:
    """Some of a sweep's points, trained as the sweep's own trials."""

    sweep: str
    kept: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Which values of which axes; none: all."""
    seeds: int = 1
    workers: int = 2
    """At once on the GPU: while one compiles, the other trains."""
    weights: bool = False
    """Whether the selected weights are brought back."""

    def commands(self, place: Place) -> list[list[str]]:
        name = self.sweep
        if self.kept:
            path = place.work / "definitions" / f"{self.sweep}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            text = _PART.format(sweep=self.sweep, kept={k: list(v) for k, v in self.kept.items()})
            write_atomic(path, lambda file: file.write(text.encode()))
            name = str(path)
        words = [name, "--results", str(place.results), "--scale", place.scale]
        words += ["--on", place.backend, "--no-snapshot", "--seeds", str(self.seeds)]
        if place.backend == "local":
            words += ["--per-gpu", place.per_gpu or str(self.workers)]
        for key, value in place.settings.items():
            words += ["--set", f"{key}={value}"]
        return [[sys.executable, "-m", "sweeps.launch", *words]]


@dataclass(frozen=True)
class Item:
    """What one name stands for on the command line."""

    name: str
    minutes: float
    proves: str
    work: Trials | Callable[[Place], list[list[str]]]

    @property
    def is_benchmark(self) -> bool:
        """Whether its output is what it is run for."""
        return not isinstance(self.work, Trials)

    def commands(self, place: Place) -> list[list[str]]:
        """Raises LeftOutError where it cannot run here."""
        work = self.work
        return work.commands(place) if isinstance(work, Trials) else work(place)


def _script(name: str, *words: str) -> list[str]:
    return [sys.executable, str(BENCHMARKS / name), *words]


def _steps(place: Place) -> list[list[str]]:
    small = ("--width", "0.125", "--steps", "1") if place.is_small else ()
    models = ("--models", "resnet18", "dla34")
    return [
        _script("roofline.py", *models, "--batch", size, *small) for size in ("64", "128", "256")
    ]


def _peer(place: Place) -> list[list[str]]:
    if place.peer is None:
        raise LeftOutError("it needs --pytorch-cifar CHECKOUT")
    small = ("--width", "0.125", "--steps", "1") if place.is_small else ()
    words = ("--peer", str(place.peer), "--rounds", "2", *place.root(), *small)
    return [_script("training.py", *words, "--ours", "deterministic=true")]


def _next_trial(place: Place) -> list[list[str]]:
    small = ("--width", "0.125", "--batch", "32") if place.is_small else ()
    return [_script("startup.py", "--rounds", "2", *place.root(), *small)]


def _sharing(place: Place) -> list[list[str]]:
    """`--per-gpu auto` says on stderr how fast one, two, ... trials at once are; what it then
    launches is small."""
    words = ["nesterov", "--results", str(place.work / "sharing"), "--scale", place.scale]
    words += ["--on", "local", "--no-snapshot", "--per-gpu", "auto"]
    given = {"batch_size": "64", "epochs": "2", **place.settings}
    for key, value in given.items():
        words += ["--set", f"{key}={value}"]
    return [[sys.executable, "-m", "sweeps.launch", *words]]


def _ddp(place: Place) -> list[list[str]]:
    """One process, then a rank a GPU; on a CPU two ranks, to see that it works."""
    from trainer.recipes import reported
    from trainer.scales import scaled

    ranks = len(visible_gpus()) if visible_gpus() else 2
    if ranks < 2:
        raise LeftOutError("it needs two GPUs")
    config = reported("resnet18")
    if place.is_small:
        config = config.override(scaled([config], place.scale)[0])
    given = {"epochs": str(SPEED_EPOCHS), "early_stopping.patience": "0", **place.settings}
    config = config.override(given)
    folder = place.work / "ddp"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.json"
    write_atomic(path, lambda file: file.write(config.to_json().encode()))
    trainer = ["-m", "trainer", str(path)]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return [
        [sys.executable, *trainer, str(folder / "one")],
        [sys.executable, *torchrun, *trainer, str(folder / str(ranks))],
    ]


def _architectures(*models: str) -> Trials:
    return Trials("architectures", {"model.name": models})


def _grid(batch: int) -> Trials:
    return Trials("grid_bs_epoch", {"batch_size": [batch]})


def _strong(model: str, *kinds: bool, seeds: int = 1) -> Trials:
    kept = {"model.name": [model], "augment.trivial_augment": kinds}
    return Trials("strong", kept, seeds)


ITEMS = (
    Item(
        "resnets", 4.5, "ResNet-18 and -34 reach the reported 95.77 and 95.59 %",
        _architectures("resnet18", "resnet34"),
    ),
    Item(
        "dla_vit", 5.0, "DLA-34 behind a CIFAR stem and the ViT, reported at 90.69 and 53.48 %",
        _architectures("dla34", "vit"),
    ),
    Item(
        "wrn", 7.7, "WRN-28-10 reaches 96.45 %; its weights, for Grad-CAM and gallery",
        Trials("wrn_final", workers=1, weights=True),
    ),
    Item("resnet50", 5.5, "ResNet-50 reaches the reported 95.03 %", _architectures("resnet50")),
    Item("grid_256", 2.5, "batch 256 x 25, 50, 100 epochs on DLA-34", _grid(256)),
    Item("grid_128", 5.5, "batch 128 x 25, 50, 100: 52.11 % was reported at 100", _grid(128)),
    Item("grid_64", 7.5, "batch 64 x 25, 50, 100: the grid's nine cells are whole", _grid(64)),
    Item("steps", 4.0, "images/s and share of the roofline at batch 64, 128, 256", _steps),
    Item("peer", 4.5, "pytorch-cifar beside; the cost of deterministic kernels", _peer),
    Item("next_trial", 3.0, "a process's second trial starts in under a second", _next_trial),
    Item("sharing", 4.0, "how many trials at once a GPU takes at batch 64", _sharing),
    Item("ddp", 3.0, "images/s on two GPUs beside one", _ddp),
    Item("seeds", 3.5, "ResNet-18 over three seeds, beside which recipes are judged",
         _strong("resnet18", False, seeds=3)),
    Item("strong", 5.5, "the strong recipe on ResNet-18, three seeds",
         _strong("resnet18", False, True, seeds=3)),
    Item("muon", 6.5, "Muon beside SGD, three seeds", Trials("muon", seeds=3)),
    Item("resizing", 4.5, "images that grow from 16 pixels, three seeds",
         Trials("resizing", {"augment.first_size": [32, 16]}, 3)),
    Item("hard", 4.5, "training on the harder half of each batch, three seeds",
         Trials("hard_examples", {"hard_fraction": [1.0, 0.5]}, 3)),
    Item("norm_decay", 5.0, "no decay on norms and biases, three seeds",
         Trials("norm_decay", seeds=3)),
    Item("trivial_augment", 5.5, "TrivialAugment, three seeds", Trials("trivial_augment", seeds=3)),
    Item("ema", 5.0, "a moving average of the weights, three seeds",
         Trials("ema", {"optimizer.ema_decay": [0.0, 0.999]}, 3)),
    Item("smoothing", 5.0, "no label smoothing, three seeds",
         Trials("label_smoothing", {"label_smoothing": [0.0, 0.1]}, 3)),
    Item("norm_decay_wrn", 7.8, "no decay on norms of WRN-28-10", Trials("norm_decay_wrn")),
    Item("strong_wrn", 7.9, "the strong recipe on WRN-28-10", _strong("wrn_28_10", False, True)),
)  # fmt: skip
BY_NAME = {item.name: item for item in ITEMS}


def shown(words: Sequence[str]) -> str:
    """A command for a person, from the repository's root."""
    return shlex.join(
        ["python", *(os.path.relpath(w, ROOT) if w.startswith(str(ROOT)) else w for w in words[1:])]
    )
