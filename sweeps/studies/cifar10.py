"""The CIFAR-10 study: what the reference study chose by hand, chosen on validation by rule.

    python -m sweeps.study cifar10 --dry-run
    python -m sweeps.study cifar10
    python -m sweeps.study cifar10 --scale cpu --stop-after 2                 # two core-hours of it
    python -m sweeps.study cifar10 --scale smoke --set data.name=digits       # minutes

The grid chooses batch size and epochs, searches choose weight decay for ResNet-18 (and all others)
and for WRN-28-10, the architectures are compared with these, the best is trained over seeds that
chose nothing, and so is WRN-28-10, which the reported diagnostics are of; ablations follow on
ResNet-18. The discrepancies take nothing that was chosen: they ask what happened to
the reported runs, under the reported settings.

At cpu scale all images are trained on, by narrow networks, and what is compared has three seeds.
WRN-28-10 and the ViT have one seed there, and stand in no comparison of architectures: they show
that the pipeline works. ResNet-50 has no part there.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from sweeps import Point, Scale, Search, SoFar, Stage, Study, Sweep, find_search, taking
from trainer.config import TrainConfig
from trainer.recipes import ARCHITECTURES, reported

# Forty trials are to end in ten minutes, where a sweep at smoke scale may take two.
SMOKE_IMAGES = 300
# As many as --seeds gives at most, so that no stage before has trained one of the final seeds.
FRESH = 1000
# At cpu scale: what is compared over seeds, and, as few trials tell where to look in four decades,
# the values that the searches try.
COMPARED = ("resnet18", "resnet34", "dla34")
DECAYS = (1e-3, 5e-4, 1e-4, 2e-3, 5e-3, 1e-5)
DECAYS_WRN = (5e-4, 1e-3)


def images(so_far: SoFar) -> dict[str, int]:
    return {"data.train_limit": SMOKE_IMAGES} if so_far.scale is Scale.SMOKE else {}


def training(so_far: SoFar) -> dict[str, object]:
    return {**images(so_far), **so_far["grid_bs_epoch"]}


def recipe(model: str, so_far: SoFar) -> TrainConfig:
    decay = "weight_decay_wrn" if model.startswith("wrn") else "weight_decay"
    return reported(model).override({**training(so_far), **so_far[decay]})


def grid(so_far: SoFar) -> Sweep:
    return taking("grid_bs_epoch", images(so_far))


def weight_decay(so_far: SoFar) -> Search:
    return search("weight_decay", so_far, DECAYS, full=12, smoke=3)


def weight_decay_wrn(so_far: SoFar) -> Search:
    return search("weight_decay_wrn", so_far, DECAYS_WRN, full=8, smoke=2)


def search(name: str, so_far: SoFar, at_cpu: Sequence[float], full: int, smoke: int) -> Search:
    found = find_search(name)[1]
    base = found.base.override(training(so_far))
    trials = so_far.at(full=full, cpu=len(at_cpu), smoke=smoke)
    if so_far.scale is Scale.CPU:
        found = replace(found, start=[{"optimizer.weight_decay": value} for value in at_cpu])
    # Trials of a few epochs leave nothing to prune, and whole ones do not depend on timing.
    pruner = found.pruner if so_far.scale is Scale.FULL else "none"
    return replace(found, base=base, trials=trials, pruner=pruner)


def architectures(so_far: SoFar) -> Sweep:
    def base(point: Point) -> TrainConfig:
        return recipe(point["model.name"], so_far)

    names = COMPARED if so_far.scale is Scale.CPU else ARCHITECTURES
    made = only(taking("architectures", {}), "model.name", names)
    return replace(made, base=base, seeds=so_far.at(full=3, cpu=3, smoke=1))


def final(so_far: SoFar) -> Sweep:
    seeds = so_far.at(full=5, cpu=3, smoke=3)
    return trained_afresh(so_far["architectures"]["model.name"], so_far, seeds)


def wrn_final(so_far: SoFar) -> Sweep:
    """Whatever was chosen. Where it is WRN-28-10, these are the trials of `final`."""
    return trained_afresh("wrn_28_10", so_far, so_far.at(full=5, cpu=1, smoke=3))


def trained_afresh(model: str, so_far: SoFar, seeds: int) -> Sweep:
    return Sweep(base=recipe(model, so_far), seeds=seeds, seed_offset=FRESH)


def ablation(name: str, axis: str, *at_cpu: object) -> Stage:
    """A stage on ResNet-18 with what was chosen; at cpu scale with these values alone."""

    def make(so_far: SoFar) -> Sweep:
        made = taking(name, {**training(so_far), **so_far["weight_decay"]})
        if so_far.scale is Scale.CPU:
            made = only(made, axis, at_cpu)
        return replace(made, seeds=so_far.at(full=3, cpu=3, smoke=1))

    return Stage(name, make)


def only(sweep: Sweep, axis: str, values: Collection[object]) -> Sweep:
    """The points with one of these values, which the sweep all has."""
    return replace(sweep, space=tuple(point for point in sweep.space if point[axis] in values))


def discrepancy(name: str, full: int = 3, cpu: int = 3) -> Stage:
    def make(so_far: SoFar) -> Sweep:
        return replace(taking(name, images(so_far)), seeds=so_far.at(full=full, cpu=cpu, smoke=1))

    return Stage(name, make)


study = Study(
    Stage("grid_bs_epoch", grid, reported={"batch_size": 256, "epochs": 100}),
    Stage("weight_decay", weight_decay, reported={"optimizer.weight_decay": 1e-3}),
    Stage("weight_decay_wrn", weight_decay_wrn, reported={"optimizer.weight_decay": 5e-4}),
    Stage("architectures", architectures, reported={"model.name": "wrn_28_10"}),
    Stage("final", final),
    Stage("wrn_final", wrn_final),
    ablation("mixup", "augment.mixup", 0.0, 0.2, 1.0),
    ablation("cutout", "augment.cutout", 0, 12),
    ablation("schedules", "schedule.name", "cosine", "step", "multi_step"),
    discrepancy("stem"),
    discrepancy("vit_recipe", cpu=1),
    discrepancy("early_stopping", full=5),
)
