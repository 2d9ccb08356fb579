"""Oddities of the reported study: what this report's trials say about each of them.

Each paragraph names its launch; where none speaks to the oddity, the command that would is given.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator

from analysis.cifar10.comparable import is_studys
from analysis.cifar10.final_model import is_of_the_model
from analysis.cifar10.reported import reported
from analysis.data.study import Plan, Study
from analysis.output.model import Part, Section
from analysis.sections import wording
from analysis.sections.routing import WEIGHT_DECAY, Kind, kind
from analysis.stats import seed_values
from analysis.stats.intervals import MIN_SEEDS, binomial_error
from analysis.stats.seed_values import between, by_seed, family, judged
from analysis.text import words
from analysis.text.numbers import count, percent

STEM, CUTOUT = "model.stem", "augment.cutout"
# What can pull a cell down; a trial that has not run, or that the cluster lost, says nothing.
_TELLING = {"EARLY_STOP", "DIVERGED", "NONFINITE", "OUTLIER"}


def discrepancies(study: Study) -> Section:
    parts, spoken = [], 0
    for oddity, (title, speak, command) in zip(reported()["oddities"], _SPEAKERS, strict=True):
        said = [
            f"{wording.title(plan)}{_at_scale(plan)}: {sentence}"
            for plan in study.plans
            for sentence in speak(plan)
        ]
        spoken += bool(said)
        if not said:
            said = [f"No trial of this report speaks to it. To ask: {command}"]
        parts.append(Part(title, [f"{oddity['what']} (Reported in: {oddity['where']}.)", *said]))
    finding = f"{count(len(parts), 'oddity', 'oddities')}; trials here speak to {spoken}."
    return Section("Oddities of the reported study", parts, finding)


def _at_scale(plan: Plan) -> str:
    """Figures at another size show a direction at best, and on other images not even that."""
    if not is_studys(plan.runs):
        return " (no evidence: another data set)"
    return "" if plan.scale == "full" else " (no evidence at this scale)"


def _mean(values: dict[int, float]) -> str:
    """A mean over seeds, with the spread where there is one."""
    found, seeds = list(values.values()), count(len(values), "seed")
    deviation = f" ± {percent(statistics.stdev(found))}" if len(found) > 1 else ""
    return f"{percent(statistics.fmean(found))} %{deviation} ({seeds})"


# --- one for each oddity, in the order of reported.json -----------------------------------------


def _epochs(plan: Plan) -> Iterator[str]:
    if kind(plan) is not Kind.GRID:
        return
    rows = sorted({point["epochs"] for point in seed_values.points(plan)})
    printed = reported()["grid_bs_epoch"]["epochs_printed"][0]
    what = "has both rows" if {20, 25} <= set(rows) else f"has the rows {', '.join(map(str, rows))}"
    yield (
        f"the grid {what}. The reported figures of the first row stand beside 25 epochs, as the "
        f"text has it; with {printed} they would be those of a shorter training."
    )


def _low_cells(plan: Plan) -> Iterator[str]:
    if kind(plan) is not Kind.GRID:
        return
    figures = {
        (c["batch_size"], c["epochs"]): c["test"] for c in reported()["grid_bs_epoch"]["cells"]
    }
    for size, epochs in ((128, 100), (256, 25)):
        point = {"batch_size": size, "epochs": epochs}
        tests = by_seed(plan, point, "test_accuracy")
        if not tests:
            continue
        codes = _codes(plan, point)
        flagged = f"flagged {codes}" if codes else "without a flag"
        said = f"batch {size} x {epochs} epochs has {_mean(tests)} on the test images, {flagged}"
        said += f"; reported: {figures[size, epochs]:.2f} %. "
        if codes:
            yield said + "What is flagged here as well may be what happened there."
        else:
            yield (
                said + "By the rules of the flags nothing out of the ordinary happened to it here."
            )


def _codes(plan: Plan, point: seed_values.Point) -> str:
    codes = {code for found in seed_values.at(plan, point)["flags"] for code in found}
    return ", ".join(sorted(codes & _TELLING))


def _decay(plan: Plan) -> Iterator[str]:
    if WEIGHT_DECAY not in plan.axes:
        return
    models = [str(model) for model in plan.runs["model.name"].unique()]
    gaps = family(
        [
            between(plan, here | {WEIGHT_DECAY: 1e-3}, here | {WEIGHT_DECAY: 5e-4})
            for here in ({"model.name": model} for model in models)
        ]
    )
    for model, gap in zip(models, gaps, strict=True):
        if gap is not None:
            yield (f"{model}: 0.001 minus 0.0005 is {gap} on the validation images: {judged(gap)}.")


def _cutout(plan: Plan) -> Iterator[str]:
    if plan.axes != [CUTOUT]:
        return
    gap = between(plan, {CUTOUT: 16}, {CUTOUT: 12})
    if gap is not None:
        yield (
            f"with {words.values(plan.runs['model.name'])}, length 16 minus 12 is {gap} on the "
            f"validation images: {judged(gap)}."
        )


def _stem(plan: Plan) -> Iterator[str]:
    if plan.axes == [STEM]:
        stems = [{STEM: stem} for stem in ("cifar", "imagenet")]
        sides = [by_seed(plan, stem, "test_accuracy") for stem in stems]
        gap = between(plan, stems[0], stems[1], "test_accuracy")
        if gap is not None:
            yield (
                f"{words.values(plan.runs['model.name'])} has {_mean(sides[0])} on the test "
                f"images behind a stem for 32x32 images and {_mean(sides[1])} behind "
                f"ImageNet's: {gap}, {judged(gap)}."
            )
    elif kind(plan) is Kind.ARCHITECTURES:
        tests = by_seed(plan, {"model.name": "dla34", STEM: "cifar"}, "test_accuracy")
        if tests:
            yield f"DLA-34 behind a stem for 32x32 images has {_mean(tests)} on the test images."


def _vit(plan: Plan) -> Iterator[str]:
    for optimizer in ("sgd", "adamw"):
        point = {"model.name": "vit", "optimizer.name": optimizer}
        train = by_seed(plan, point, "train_accuracy_clean")
        tests = by_seed(plan, point, "test_accuracy")
        if train and tests:
            patch = words.values(plan.runs.loc[plan.runs["model.name"] == "vit", "model.patch"])
            yield (
                f"a ViT with patches of {patch} pixels under {optimizer} fits {_mean(train)} of "
                f"its plain training images and has {_mean(tests)} on the test images."
            )


def _ranking(plan: Plan) -> Iterator[str]:
    if kind(plan) is not Kind.ARCHITECTURES:
        return
    ends = []
    for model in plan.runs["model.name"].unique():
        found = by_seed(plan, {"model.name": model})
        if found:
            ends.append((statistics.fmean(found.values()), model, found))
    if len(ends) < 2:
        return
    ends.sort(key=lambda one: -one[0])
    (first, best, _), (second, next_best, _) = ends[:2]
    images = int(plan.runs["val_images"].max())
    error = math.hypot(binomial_error(first, images), binomial_error(second, images))
    spreads = [statistics.stdev(found.values()) for _, _, found in ends if len(found) >= MIN_SEEDS]
    said = (
        f"the first two by validation, {best} and {next_best}, are {percent(first - second)} "
        f"points apart, where {images:,} validation images leave a standard error of "
        f"{percent(error)} points on the difference of two independent samples"
    )
    if spreads:
        said += (
            ", and the standard deviation over seeds, of the models in their middle, is "
            f"{percent(statistics.median(spreads))} points"
        )
    else:
        said += f", and no model has the {MIN_SEEDS} seeds that tell how much a seed moves it"
    yield said + "."


def _best_epoch(plan: Plan) -> Iterator[str]:
    if not is_of_the_model(plan):
        return
    done = plan.runs[plan.runs["val_accuracy"].notna() & plan.runs["same_data"]]
    for _, run in done.iterrows():
        yield (
            f"seed {run['seed']}: the best epoch is number {int(run['best_epoch']) + 1} of "
            f"{int(run['epochs_run'])}, with {percent(run['val_accuracy'])} % on validation; the "
            f"last one has {percent(run['val_accuracy_last'])} %."
        )


Speaker = Callable[[Plan], Iterator[str]]
_SPEAKERS: list[tuple[str, Speaker, str]] = [
    ("Epochs 25 or 20", _epochs, "python -m sweeps.launch grid_bs_epoch"),
    ("Two low cells", _low_cells, "python -m sweeps.launch grid_bs_epoch --seeds 5"),
    ("Two weight decays", _decay, "python -m sweeps.launch weight_decay --seeds 3"),
    ("Two lengths of cutout", _cutout, "python -m sweeps.launch cutout --seeds 3"),
    ("DLA-34 and its stem", _stem, "python -m sweeps.launch stem --seeds 3"),
    ("The ViT", _vit, "python -m sweeps.launch vit_recipe --seeds 3"),
    ("A ranking by single runs", _ranking, "python -m sweeps.launch architectures --seeds 3"),
    ("The best epoch", _best_epoch, "python -m sweeps.launch wrn_final --seeds 3"),
]
