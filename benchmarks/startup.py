"""How long from nothing to the end of the first training step, and from one trial to the next?

    python benchmarks/startup.py [--peer CHECKOUT_OF_PYTORCH_CIFAR] [--root FOLDER_OF_CIFAR10]
        [--batch 128] [--width 0.25] [--rounds 5]

A fresh process each time, in turns: `import torch` and no more; pytorch-cifar's main.py as shipped
(peers.py says what is changed); ours, `python -m trainer` on all images, decoded before, as they
are for every trial of a sweep but the first. What our step compiles is thrown away after each
round; the contender "with its cache" keeps it, as the workers of a sweep do. The peer's images are
arrays read in one piece, which spares it the pickles and checksums of torchvision's CIFAR10.

A worker runs trial after trial: of the second of a shape the time from the call of train() to the
beginning of its first step is shown, which is all that the step itself does not take.

Last measured on two processors of an AMD EPYC without bf16 (AVX2), torch 2.14.1, nothing else
running, --root --width 0.25, five rounds: the import 1.90 s, ours 3.21 s, the peer 4.67 s: ours is
1.35 x as fast (1.16 to 1.88) and takes 1.6 of the import; another day, three rounds, 2.01, 3.24 and
5.20 s: 1.61 x (1.40 to 1.94), 1.6 of the import, and 21 ms from trial to trial. No GPU was tried.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from images import Images, prepared
from rounds import alternate, machine, show
from trial import REPOSITORY, Contender, measure, on_cuda

NEXT = """
import sys, time
from pathlib import Path
from trainer.recipes import reported
from trainer.alone import train_alone as train
from sweeps.run.ends import StoppedError
root, batch, width, out = sys.argv[1:]
for seed in range(2):
    config = reported("resnet18").override({
        "seed": seed, "data.root": root, "batch_size": int(batch), "model.width": float(width),
    })
    asked = []
    def should_stop():
        asked.append(time.perf_counter())
        return len(asked) == 2
    called = time.perf_counter()
    try:
        train(config, Path(out, str(seed)), should_stop=should_stop)
    except StoppedError:
        pass
print(asked[0] - called)
"""


def next_trial(images: Images, batch: int, width: float) -> float:
    """Seconds from the call of train() to the first step of a process's second trial."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", NEXT, images.root, str(batch), str(width), folder],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="checkout of kuangliu/pytorch-cifar; none: no peer")
    parser.add_argument("--root", help="CIFAR-10 as Parquet or class folders; none: random images")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    ours = Contender("ours", batch=options.batch, width=options.width)
    with prepared(options.root) as images, tempfile.TemporaryDirectory() as compiled:
        runs = {
            "import torch": functools.partial(measure, Contender("torch"), images),
            "ours": functools.partial(measure, ours, images),
        }
        if options.peer:
            peer = dataclasses.replace(
                ours, kind="pytorch-cifar", checkout=str(Path(options.peer).resolve())
            )
            runs["pytorch-cifar"] = functools.partial(measure, peer, images)
        if on_cuda():
            runs["ours, with its cache"] = functools.partial(measure, ours, images, Path(compiled))
            runs["ours, with its cache"]()
        samples = alternate(runs, options.rounds)
        after = [next_trial(images, options.batch, options.width) for _ in range(options.rounds)]
    seconds = {name: [sample.first_step for sample in own] for name, own in samples.items()}
    print(f"{machine()}\nresnet18, batch {options.batch}, width {options.width}")
    what = "process start to the end of the first step"
    if options.peer:
        show(f"{what}, beside the peer", seconds, "pytorch-cifar", "s")
    show(f"{what}, beside the import", seconds, "import torch", "s")
    print(
        "\nsecond trial of a process, train() to its first step: "
        f"{1000 * statistics.median(after):.0f} ms "
        f"({1000 * min(after):.0f} to {1000 * max(after):.0f})"
    )


if __name__ == "__main__":
    main()
