"""How near to a device's best are real training steps, and does the roofline tell their price?

    python benchmarks/roofline.py [--models resnet18 vit] [--width 0.25] [--batch 128]

For each model: the best time an image of a training step by the roofline (counted arithmetic and
memory traffic, the device's measured peaks), the time that the trainer's own step takes,
augmentation and optimizer included, model FLOP/s, and their part of the measured peak. The device
is measured first, and kept where `sweeps.launch --dry-run` finds it. The last line is the spread
of measured / best over the models, by which another model's price would be wrong. With one thread
(OMP_NUM_THREADS=1) a step's seconds are of the processor, so that the machine need not be idle.

Last measured on two processors of an AMD EPYC without bf16 (AVX2), torch 2.14.1, nothing else
running, as by default (width 0.25, batch 64): 199 GFLOP/s and 26.6 GB/s; measured / best 1.31
(ResNet-34) to 1.53 (ViT), median 1.47, from -11 to +4 % of it; 39 % (ResNet-50) to 62 % (ResNet-34)
of peak. One NVIDIA H100 80GB HBM3: 795 TFLOP/s in bf16, 2.96 TB/s; steps of ResNet-18 at batches of
64, 128 and 256 and of WRN-28-10 at 256, measured one by one: 1.27 times the best, from -2 to +7 %.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from trainer import distributed, models
from trainer.augment.batch import Augmenter, draw
from trainer.config import TrainConfig
from trainer.data import datasets
from trainer.distributed import Group
from trainer.optim.optimizers import make_optimizer
from trainer.perf import roofline
from trainer.perf.precision import resolve
from trainer.recipes import ARCHITECTURES, reported
from trainer.step import Step, StepKind

CLASSES = len(datasets.CIFAR10)


def step_seconds(config: TrainConfig, steps: int, group: Group) -> tuple[float, StepKind]:
    """The fastest of the steps, after two that are not counted; and how they ran."""
    device, batch = group.device, config.batch_size
    precision = resolve(config.precision, device)
    torch.manual_seed(0)
    network = models.build(config.model, CLASSES).to(device).to(memory_format=torch.channels_last)
    images = torch.randint(0, 256, (batch, datasets.SIDE, datasets.SIDE, 3), dtype=torch.uint8)
    augmenter = Augmenter(
        images, torch.randint(0, CLASSES, (batch,)), datasets.CIFAR10_MEAN, datasets.CIFAR10_STD,
        config.augment, device, torch.bfloat16 if precision == "bf16" else torch.float32,
    )  # fmt: skip
    optimizer = make_optimizer(network, config.optimizer)
    step = Step(network, optimizer, augmenter, config, precision, group, None, {batch})
    draws = draw(config.augment, batch, datasets.SIDE, 0, 0, device)
    network.train()
    step.prepare(draws)
    step.start_epoch(draws, 0.0, 0)
    seconds = []
    # What else runs on a processor takes none of its own time from one thread.
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    for _ in range(steps + 2):
        start = clock()
        step(draws.order, 1, 1 / batch, config.optimizer.lr)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(clock() - start)
    return min(seconds[2:]), step.kind


def main() -> None:
    large = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=ARCHITECTURES, metavar="MODEL")
    parser.add_argument("--width", type=float, default=1.0 if large else 0.25)
    parser.add_argument("--batch", type=int, default=128 if large else 64)
    parser.add_argument("--steps", type=int, default=30 if large else 3)
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto")
    parser.add_argument("--compile", choices=("auto", "on", "off"), default="auto")
    options = parser.parse_args()
    with distributed.join() as group:
        compare(options, group)


def compare(options: argparse.Namespace, group: Group) -> None:
    device = group.device
    precision = resolve(options.precision, device)
    torch.backends.cudnn.benchmark = True

    peaks = roofline.peaks(device, again=True)
    peak = peaks.flops_per_second(precision)
    print(
        f"{peaks.device}, torch {torch.__version__}: {peak / 1e9:,.0f} GFLOP/s in {precision}, "
        f"{peaks.bytes_per_second / 1e9:,.1f} GB/s, {peaks.seconds_per_op * 1e6:.1f} us an "
        f"operation; width {options.width:g}, batch {options.batch}"
    )
    print(
        f"{'model':10} {'MFLOP':>9} {'MB':>7} {'best us':>9} {'measured':>9} {'ratio':>6} "
        f"{'GFLOP/s':>9} {'of peak':>8}"
    )
    ratios = []
    for name in options.models:
        config = reported(name).override(
            {
                "model.width": options.width,
                "batch_size": options.batch,
                "precision": options.precision,
                "compile": options.compile,
            }
        )
        measured, kind = step_seconds(config, options.steps, group)
        cost = roofline.count(config.model, precision, options.batch)
        best = cost.seconds(peaks, captured=kind == "graph")
        rate = cost.flops_per_image * options.batch / measured
        ratios.append(measured / best)
        print(
            f"{name:10} {cost.flops_per_image / 1e6:9,.1f} {cost.bytes_per_image / 1e6:7.2f} "
            f"{best / options.batch * 1e6:9,.1f} {measured / options.batch * 1e6:9,.1f} "
            f"{ratios[-1]:6.2f} {rate / 1e9:9,.1f} {rate / peak:8.1%}  {kind}"
        )
    middle = statistics.median(ratios)
    print(
        f"measured / best: median {middle:.2f}, from {min(ratios) / middle - 1:+.0%} to "
        f"{max(ratios) / middle - 1:+.0%} of it"
    )


if __name__ == "__main__":
    main()
