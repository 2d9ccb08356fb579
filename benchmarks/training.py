"""How fast is ResNet-18 trained, beside pytorch-cifar?

    python benchmarks/training.py --peer CHECKOUT [--root FOLDER_OF_CIFAR10] [--model dla34]
        [--batch 128] [--steps N] [--rounds 5] [--width 0.25]
        [--variants channels_last channels_last+bf16 channels_last+bf16+compile]
        [--ours precision=fp32 compile=on]

CHECKOUT is https://github.com/kuangliu/pytorch-cifar. Each contender is a process of its own
(trial.py), in turns; three figures of each: time from the start of the process to the end of the
first optimizer step, what compiling adds to it, and images/s once warm.

The peer is its own main.py, executed: its ResNet18 (dla34: its DLA), transforms, DataLoader with
two workers that it starts over in each epoch, SGD, and a progress bar that reads loss and accuracy
after each step. Changed are the line that names the model, the batch size, its loop over epochs,
and CIFAR10 (peers.py). --variants adds what its users add by hand. --width narrows both networks.

Ours is `python -m trainer` with the reported protocol, which also cuts out squares and smooths
labels; --ours adds contenders with other settings, KEY=VALUE[,KEY=VALUE] each.

Compiling is timed with an empty cache in the first round, with what that left in the others.

Last measured on two processors of an AMD EPYC without bf16 (AVX2), torch 2.14.1, nothing else
running, --root, ResNet-18, two runs of three rounds: ours 37.2 and 34.8 images/s, the peer 29.8 and
24.2, 1.20 x in both (1.18 to 1.53); with compile=on 33.8, 1.28 x (1.13 to 1.47), and 72 s of
compiling, 12 with its cache. The aim, twice the peer, was set on a processor with bf16: in fp32
the processor's measured peak of 199 GFLOP/s bounds a ResNet-18 at 60 images/s.

On one NVIDIA H100 80GB HBM3, torch 2.11, random images, batch 128, one round: ours 51,819 images/s,
the peer 6,727, 7.7 x. On another machine of that kind the peer made 8,277 and 9,378, to which ours
is 5.5 to 6.3 x: its two loaders wait for processor cores, of which no two machines have equal ones.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from images import prepared
from rounds import alternate, machine, show
from trial import Contender, measure, on_cuda


def title(run: Contender) -> str:
    return ", ".join([run.kind, *run.options])


def uncompiled(run: Contender) -> Contender:
    """The same contender without compiling; itself where it does not compile."""
    options = tuple(word for word in run.options if word not in ("compile", "compile=on"))
    # Ours compiles by itself where there is a GPU.
    if run.kind == "ours" and on_cuda() and "compile=off" not in options:
        options += ("compile=off",)
    return dataclasses.replace(run, options=options)


def contenders(
    ours: Contender, peer: Contender, settings: Sequence[str], variants: Sequence[str]
) -> dict[str, Contender]:
    """By title; what compiles comes with its like that does not."""
    wanted = [ours, *(replaced(ours, words.split(",")) for words in settings)]
    wanted += [peer, *(replaced(peer, words.split("+")) for words in variants)]
    return {title(run): run for one in wanted for run in (uncompiled(one), one)}


def replaced(run: Contender, options: list[str]) -> Contender:
    return dataclasses.replace(run, options=tuple(options))


def compare(runs: dict[str, Contender], base: str, root: str | None, rounds: int) -> None:
    """Measure them in turns and print the three figures, beside those of `base`."""
    with prepared(root) as images, tempfile.TemporaryDirectory() as compiled:
        samples = alternate(
            {
                name: functools.partial(measure, run, images, Path(compiled))
                for name, run in runs.items()
            },
            rounds,
        )
    run = runs[base]
    print(f"{machine()}\n{run.model}, batch {run.batch}, width {run.width}, {run.steps} steps")
    first = {name: [sample.first_step for sample in own] for name, own in samples.items()}
    rates = {name: [sample.rate for sample in own] for name, own in samples.items()}
    show("once warm", rates, base, "images/s")
    show("process start to first step", first, base, "s")
    for name, run in runs.items():
        plain = title(uncompiled(run))
        if plain != name:
            added = [mine - other for mine, other in zip(first[name], first[plain], strict=True)]
            again = f"{statistics.median(added[1:]):.1f} s" if added[1:] else "not measured"
            print(f"compiling {name}: {added[0]:.1f} s, with its cache {again}")


def arguments(description: str, model: str, steps: int) -> argparse.ArgumentParser:
    """What every comparison of trainings takes; `steps` are those timed on a CPU."""
    steps = 350 if on_cuda() else steps  # at batch 128, an epoch of 45,000
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--root", help="CIFAR-10 as Parquet or class folders; none: random images")
    parser.add_argument("--model", default=model)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=steps, help="to be timed, at least 1")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--variants", nargs="*", default=[], metavar="OPTION+OPTION")
    parser.add_argument("--ours", nargs="*", default=[], metavar="KEY=VALUE,KEY=VALUE")
    return parser


def main() -> None:
    parser = arguments(__doc__, model="resnet18", steps=10)
    parser.add_argument("--peer", required=True, help="checkout of kuangliu/pytorch-cifar")
    parser.add_argument("--width", type=float, default=1.0)
    options = parser.parse_args()
    ours = Contender(
        "ours", model=options.model, batch=options.batch, width=options.width, steps=options.steps
    )
    peer = dataclasses.replace(
        ours, kind="pytorch-cifar", checkout=str(Path(options.peer).resolve())
    )
    runs = contenders(ours, peer, options.ours, options.variants)
    compare(runs, "pytorch-cifar", options.root, options.rounds)


if __name__ == "__main__":
    main()
