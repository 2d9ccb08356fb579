"""Paired comparisons against slow references, their words, and the sections made of them."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from results_folder import HOSTILE, Point, begin, fail, finish, folder_of, run, write_plan
from test_pairs import predictions

from analysis.cifar10 import ablations, architectures, weight_decay
from analysis.cifar10.task import load
from analysis.data.study import Plan, Study
from analysis.figures import compare as figures
from analysis.output.model import Part
from analysis.stats import paired, summary_tables
from analysis.stats.intervals import holm
from analysis.stats.paired import Tally, value_words
from trainer.config import TrainConfig
from trainer.recipes import ARCHITECTURES
from trainer.recipes import reported as protocol
from trial_records.tables import PREDICTIONS_SCHEMA, write_table
from trial_records.trial_files import EPOCHS, PREDICTIONS

MODEL, DECAY, MIXUP = "model.name", "optimizer.weight_decay", "augment.mixup"

IMAGES = 200


# --- results folders -------------------------------------------------------------------------


def predict(folder: Path, accuracy: float, shift: int = 0, images: int = IMAGES) -> None:
    """Predictions of which as many are right as the accuracy says; `shift` moves them around."""
    right = np.roll(np.arange(images) < round(accuracy * images), shift)
    found = predictions(right)
    rows = [
        {"index": int(i), "label": int(label), "logits": logits.tolist()}
        for i, label, logits in zip(found.index, found.labels, found.logits, strict=True)
    ]
    write_table(folder / PREDICTIONS, rows, PREDICTIONS_SCHEMA)


def launch(
    results: Path,
    axis: str,
    values: Mapping[Any, Sequence[float | None]],
    sweep: str = "grid",
    **plan: Any,
) -> Study:
    """A point a value and a trial a seed of the accuracies given; None: it never ran. The seeds
    are 42, 43, ...; validation is a point higher than test.
    """
    trials: list[tuple[Point, float | None]] = []
    for value, found in values.items():
        base = protocol(value if axis == MODEL else "resnet18")
        for seed, accuracy in enumerate(found, 42):
            trials.append((({axis: value}, base.override({axis: value, "seed": seed})), accuracy))
    write_plan(results, [point for point, _ in trials], sweep=sweep, **plan)
    for i, (point, accuracy) in enumerate(trials):
        if accuracy is not None:
            folder = folder_of(results, point, sweep)
            validation = accuracy + 0.01
            finish(
                folder, point[1], test_accuracy=accuracy, test_images=IMAGES, parameters=10**6 + i,
                val_accuracy=validation, val_accuracy_last=validation,
            )  # fmt: skip
            predict(folder, accuracy, shift=7 * i)
            (folder / EPOCHS).unlink()  # its curves are not this file's concern
    return load(results, [])


ROOMS = {MODEL: architectures, DECAY: weight_decay, MIXUP: ablations}

VALUES: dict[str, list[Any]] = {
    MODEL: ["resnet18", "vit", "dla34"],
    DECAY: [0.0, 1e-4, 1e-3],
    MIXUP: [0.0, 0.5, 1.0],
}

STEPS = (0.0, 0.005, -0.005)


def only(study: Study) -> Plan:
    (plan,) = study.plans
    return plan


def rendered(study: Study, axis: str) -> Part:
    parts: list[Part] = ROOMS[axis].parts(only(study), study)
    (part,) = parts
    return part


def frame(part: Part, end: str) -> Any:
    (table,) = [table for table in part.tables if table.name.endswith(end)]
    return table.frame


def text(part: Part) -> str:
    return "\n".join([*part.notes, *part.footnotes])


@pytest.mark.long
@pytest.mark.parametrize("axis", ROOMS)
@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_sections_render_with_any_number_of_seeds(tmp_path: Path, axis: str, seeds: int) -> None:
    levels = zip(VALUES[axis], (0.9, 0.8, 0.95), strict=True)
    values = {value: [level + step for step in STEPS[:seeds]] for value, level in levels}
    study = launch(tmp_path, axis, values)
    part = rendered(study, axis)
    pairs = frame(part, "-pairs")
    assert len(pairs) == (3 if axis == MODEL else 2)
    assert pairs["seeds"].tolist() == [seeds] * len(pairs)
    assert pairs["on seed"].tolist() == [42] * len(pairs)
    enough = seeds == 3
    assert all((f"not enough seeds ({seeds})" in said) != enough for said in pairs["over seeds"])
    assert all(said.endswith("is better") == enough for said in pairs["over seeds"])
    assert (pairs["test 95 %"] != "-").tolist() == [enough] * len(pairs)
    names = [picture.name for picture in part.pictures]
    ends = {MODEL: "models", DECAY: "decay", MIXUP: "differences"}
    assert f"grid-00000001-{ends[axis]}" in names
    for picture in part.pictures:
        picture.figure.draw_without_rendering()
    assert study.problems == []


def test_the_tests_of_a_table_are_adjusted_together(tmp_path: Path) -> None:
    study = launch(tmp_path, MODEL, {"resnet18": [0.9], "vit": [0.5], "dla34": [0.85]})
    pairs = paired.compare(paired.all_pairs(only(study)), only(study), study)
    assert [(paired.label(pair.a), paired.label(pair.b)) for pair in pairs] == [
        ("resnet18", "vit"),
        ("resnet18", "dla34"),
        ("vit", "dla34"),
    ]
    tallies = [pair.tally for pair in pairs]
    adjusted = holm([tally.p for tally in tallies if tally is not None])
    table = paired.table(pairs)
    assert table["images p"].tolist() == [f"{p:.2g}" for p in adjusted]
    for tally, row in zip(tallies, table.to_dict("records"), strict=True):
        assert tally is not None
        assert (row["only A right"], row["only B right"]) == (tally.a_alone, tally.b_alone)
        gap = (tally.a_alone - tally.b_alone) / IMAGES
        assert float(row["test A - B"]) == pytest.approx(100 * gap, abs=0.006)


def test_a_p_value_too_small_for_a_float_is_said_to_be(tmp_path: Path) -> None:
    study = launch(tmp_path, MODEL, {"resnet18": [0.9], "vit": [0.5]})
    (pair,) = paired.compare(paired.all_pairs(only(study)), only(study), study)
    far = [paired.Pair(pair.a, pair.b, pair.validation, pair.test, Tally(42, 5000, 1))]
    assert paired.table(far)["images p"].tolist() == ["1e-300"]
    assert any("1e-300" in note for note in paired.notes(far))
    assert not any("1e-300" in note for note in paired.notes([pair]))


def test_the_lowest_seed_that_both_have_predictions_of_is_tested(tmp_path: Path) -> None:
    values: dict[str, list[float | None]] = {
        "resnet18": [None, 0.9, 0.9],
        "vit": [0.5, 0.5, 0.5],
    }
    plan = only(launch(tmp_path, MODEL, values))
    study = load(tmp_path, [])
    pair = paired.table(paired.compare(paired.all_pairs(plan), plan, study))
    assert pair["on seed"].tolist() == [43]
    assert pair["seeds"].tolist() == [2]
    trial = paired.runs(plan, {MODEL: "vit"})[43]["trial"]
    (study.folder(plan, str(trial)) / PREDICTIONS).unlink()
    study = load(tmp_path, [])
    pair = paired.table(paired.compare(paired.all_pairs(plan), plan, study))
    assert pair["on seed"].tolist() == [44]


@pytest.mark.long
@pytest.mark.parametrize("damage", ["none", "other images", "damaged"])
def test_without_predictions_of_the_same_images_there_is_no_test(
    tmp_path: Path, damage: str
) -> None:
    study = launch(tmp_path, MODEL, {"resnet18": [0.9] * 3, "vit": [0.5] * 3, "dla34": [0.8] * 3})
    plan = only(study)
    for seed, found in paired.runs(plan, {MODEL: "vit"}).items():
        folder = study.folder(plan, str(found["trial"]))
        if damage == "none":
            (folder / PREDICTIONS).unlink()
        elif damage == "damaged":
            (folder / PREDICTIONS).write_bytes(b"PAR1")
        else:
            config = protocol("vit").override({"seed": seed})
            finish(folder, config, test_accuracy=0.5, test_images=IMAGES // 2)
            predict(folder, 0.5, images=IMAGES // 2)
    study = load(tmp_path, [])
    part = rendered(study, MODEL)
    pairs = frame(part, "-pairs")
    assert pairs["images p"].eq("-").tolist() == [True, False, True]
    assert pairs["these two networks"].eq("-").tolist() == [True, False, True]
    assert "images for both of: resnet18 and vit; vit and dla34." in text(part)
    assert pairs["over seeds"].tolist() == [
        "resnet18 is better", "resnet18 is better", "dla34 is better",
    ]  # fmt: skip
    # Each damaged file is a problem once, however many pairs need it.
    assert len(study.problems) == (3 if damage == "damaged" else 0)


@pytest.mark.long
@pytest.mark.parametrize("axis", ROOMS)
def test_missing_and_failed_trials_are_named(tmp_path: Path, axis: str) -> None:
    first, second, third = VALUES[axis]
    study = launch(
        tmp_path, axis, {first: [0.9, 0.91, None], second: [None] * 3, third: [0.8, None, 0.81]}
    )
    (plan,) = study.plans
    for seed, cause in ((43, "NONFINITE"), (44, "OUT_OF_MEMORY")):
        fail(study.folder(plan, str(paired.runs(plan, {axis: second})[seed]["trial"])), cause)
    begin(study.folder(plan, str(paired.runs(plan, {axis: third})[43]["trial"])))
    study = load(tmp_path, [])
    (plan,) = study.plans
    marks = paired.marks(paired.runs(plan, {axis: second}))
    assert marks == "NONFINITE: seed 43\nOUT_OF_MEMORY: seed 44\npending: seed 42"
    part = rendered(study, axis)
    pairs = frame(part, "-pairs")
    assert "no seed has both" in set(pairs["over seeds"])
    assert "not enough seeds (1)" in set(pairs["over seeds"])
    for picture in part.pictures:
        picture.figure.draw_without_rendering()


@pytest.mark.parametrize("axis", ROOMS)
def test_no_result_at_all_and_a_single_point(tmp_path: Path, axis: str) -> None:
    first, second, _ = VALUES[axis]
    part = rendered(launch(tmp_path / "none", axis, {first: [None], second: [None]}), axis)
    assert re.search("No trial has a result|no trial has a validation accuracy", text(part))
    assert not [p for p in part.pictures if not p.name.endswith("curves")]
    part = rendered(launch(tmp_path / "one", axis, {first: [0.9, 0.9, 0.8]}), axis)
    assert not [table for table in part.tables if table.name.endswith("-pairs")]
    assert not any(note.startswith(paired.SEEDS_NOTE) for note in part.footnotes)
    for picture in part.pictures:
        picture.figure.draw_without_rendering()


def test_many_flagged_seeds_are_counted_and_not_listed() -> None:
    runs = {seed: {"flags": ["EARLY_STOP"]} for seed in range(12)}
    assert paired.marks(runs) == "EARLY_STOP: 12 seeds"


def test_hostile_names_are_text_everywhere(tmp_path: Path) -> None:
    sweep = HOSTILE.replace("/", "")
    launch(tmp_path, MIXUP, {0.0: [0.9] * 3, 1.0: [0.5] * 3}, sweep, scale=HOSTILE)
    assert run("--results", tmp_path) == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert "<script>alert" not in page
    assert html.escape(sweep) in page


def test_a_figure_takes_any_name() -> None:
    rows = [figures.Row(name, [0.9, 0.8], [False, True], HOSTILE) for name in (HOSTILE, "x" * 300)]
    rows.append(figures.Row("", [], []))
    figures.accuracies(rows).draw_without_rendering()
    figures.sizes([(10, rows[0]), (10, rows[1])]).draw_without_rendering()
    figures.differences({"a": rows}, HOSTILE * 4).draw_without_rendering()


# --- architectures ---------------------------------------------------------------------------


def test_models_stand_in_the_order_of_validation_and_an_outsider_in_one_panel(
    tmp_path: Path,
) -> None:
    values = dict(zip(ARCHITECTURES, (0.95, 0.94, 0.93, 0.96, 0.92, 0.5), strict=True))
    study = launch(tmp_path, MODEL, {model: [value] * 3 for model, value in values.items()})
    part = rendered(study, MODEL)
    figure = picture(part, "-models")
    labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert labels == sorted(values, key=lambda model: -values[model])
    all_models, close = figure.axes
    assert all_models.get_xlim()[0] < 50
    assert close.get_xlim()[0] > 85
    assert "further left" in [shown.get_text() for shown in close.texts]


def test_reported_figures_far_from_what_is_measured_stay_out_of_the_close_panel(
    tmp_path: Path,
) -> None:
    part = rendered(launch(tmp_path, MODEL, {"resnet18": [0.3, 0.31], "vit": [0.31, 0.32]}), MODEL)
    wide, close = picture(part, "-models").axes
    assert wide.get_xlim()[1] > 95
    assert close.get_xlim()[1] < 35


def test_minutes_are_of_the_devices_that_ran(tmp_path: Path) -> None:
    study = launch(tmp_path, MODEL, {"resnet18": [0.9, 0.9], "vit": [None]})
    plan = only(study)
    costs = architectures.costs(plan.runs)
    assert costs.to_dict("records") == [
        {"model": "resnet18", "parameters, M": "1.000", "CPU-minutes": "0.21"},
        {"model": "vit", "parameters, M": "-", "CPU-minutes": "-"},
    ]
    many = plan.runs.assign(device="AMD EPYC, 2 threads")
    assert "CPU-minutes" in architectures.costs(many)
    gpus = plan.runs.assign(device="NVIDIA H100", world_size=4.0)
    assert architectures.costs(gpus)["GPU-minutes"].tolist() == [f"{12.34 * 4 / 60:.2f}", "-"]


def test_a_model_beside_its_reported_figures(tmp_path: Path) -> None:
    part = rendered(
        launch(tmp_path, MODEL, {"resnet18": [0.5, 0.505, 0.51], "wrn_16_4": [0.9] * 3}), MODEL
    )
    beside = frame(part, "-reported")
    assert beside["model"].tolist() == ["resnet18"]
    assert beside[summary_tables.LARGER].tolist() == ["yes"]
    assert any(note.startswith(summary_tables.LARGER) for note in part.footnotes)
    assert all("train:" not in note or "augmented images" in note for note in part.footnotes)


# --- weight decay ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("best", "words"),
    [
        (0.0, "It is the smallest of the grid, beyond which a better one may lie."),
        (1e-4, "It lies inside the grid."),
        (1e-3, "It is the largest of the grid, beyond which a better one may lie."),
    ],
)
def test_the_edge_of_the_grid_is_said(tmp_path: Path, best: float, words: str) -> None:
    values = {value: [0.9 + 0.05 * (value == best)] for value in (1e-3, 0.0, 1e-4)}
    (said,) = weight_decay.judgement(only(launch(tmp_path, DECAY, values)), "resnet18")
    assert f"validation chooses a weight decay of {best:g}, with 96.00 %" in said
    assert words in said


def test_what_seeds_do_not_tell_from_the_best_is_listed(tmp_path: Path) -> None:
    values: dict[float, list[float | None]] = {
        0.0: [0.80, 0.81, 0.82],
        1e-5: [None] * 3,
        1e-4: [0.90, 0.92, 0.94],
        1e-3: [0.93, 0.91, 0.95],
        1e-2: [0.80, None, None],
    }
    plan = only(launch(tmp_path, DECAY, values))
    (said,) = weight_decay.judgement(plan, "resnet18")
    assert "chooses a weight decay of 0.001" in said
    assert "told from it by seeds: 0; without a seed in common with it: 1e-05" in said
    assert "not told from it by seeds: 0.0001; with too few seeds to be told from it: 0.01" in said
    assert said.endswith("The reported choice is 0.001, the same.")


def test_validation_chooses_and_the_test_images_do_not(tmp_path: Path) -> None:
    study = launch(tmp_path, DECAY, {5e-4: [0.9], 1e-3: [0.8]})
    folder = study.folder(only(study), str(only(study).runs["trial"][1]))
    config = protocol("resnet18").override({DECAY: 1e-3, "seed": 42})
    finish(folder, config, val_accuracy=0.99, test_accuracy=0.8, test_images=IMAGES)
    point = weight_decay.chosen(only(load(tmp_path, [])), "resnet18")
    assert point == {DECAY: 1e-3}


def test_each_model_has_its_own_choice_and_panel(tmp_path: Path) -> None:
    trials: list[Point] = []
    for model in ("resnet18", "wrn_28_10"):
        for value in (0.0, 5e-4, 1e-3):
            config = protocol(model).override({DECAY: value})
            trials.append(({MODEL: model, DECAY: value}, config))
    write_plan(tmp_path, trials)
    for point, accuracy in zip(trials, (0.7, 0.8, 0.9, 0.7, 0.9, 0.8), strict=True):
        finish(folder_of(tmp_path, point), point[1], val_accuracy=accuracy, test_accuracy=accuracy)
    part = rendered(load(tmp_path, []), DECAY)
    assert (
        frame(part, "-pairs")["B"].tolist() == ["resnet18, 0.001"] * 2 + ["wrn_28_10, 0.0005"] * 2
    )
    figure = picture(part, "-decay")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["resnet18", "wrn_28_10"]
    # 0 has a place on the logarithmic axis, behind a break.
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == [
        "0",
        "0.0005",
        "0.001",
    ]
    assert "//" in [shown.get_text() for shown in figure.axes[0].texts]


def test_only_0_and_very_many_values_can_be_drawn(tmp_path: Path) -> None:
    for values in ([0.0], [0.0, *(10 ** (-6 + i / 2) for i in range(11))]):
        results = tmp_path / str(len(values))
        part = rendered(launch(results, DECAY, {value: [0.9] for value in values}), DECAY)
        picture(part, "-decay").draw_without_rendering()


# --- ablations -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axis", "values", "base", "why"),
    [
        ("augment.cutout", [0, 16, 12], 12, "as in the reported recipe"),
        ("augment.cutout", [16, 0], 16, "the first of the launch"),
        ("schedule.name", ["step", "cosine"], "cosine", "as in the reported recipe"),
        (MIXUP, [1.0, 0.0], 0.0, "as in the reported recipe"),
    ],
)
def test_the_baseline_is_the_reported_recipe_or_the_first(
    tmp_path: Path, axis: str, values: list[Any], base: Any, why: str
) -> None:
    study = launch(tmp_path, axis, {value: [0.9] for value in values})
    assert ablations.baseline(only(study)) == {axis: base}
    (part,) = ablations.parts(only(study), study)
    assert f"The baseline is {axis} {value_words(base)}, {why}" in text(part)
    assert set(frame(part, "-pairs")["B"]) == {value_words(base)}


def test_mixup_beside_what_was_reported_of_it(tmp_path: Path) -> None:
    values = {
        0.0: [0.9, 0.91, 0.92],
        0.2: [0.8, 0.81, 0.83],
        0.5: [0.95, 0.96, 0.975],
        1.0: [0.92, 0.9, 0.91],
        2.0: [0.5],
    }
    part = rendered(launch(tmp_path, MIXUP, values), MIXUP)
    (said,) = [note for note in part.notes if note.startswith("Reported")]
    assert "MixUp lowered accuracy" in said
    assert "0.2: agrees; 0.5: disagrees; 1: neither agrees nor disagrees" in said
    assert "(adjusted by Holm for the 3 pairs of the table that have one)" in said
    assert said.endswith("2: not enough seeds (1 of 3; one seed does not show how many would).")
    table = frame(part, "00000001")
    assert table["train images"].tolist() == ["augmented"] + ["augmented, mixed"] * 4
    assert "does not compare with the others" in text(part)


def test_stems_beside_the_reported_figure(tmp_path: Path) -> None:
    axis = "model.stem"
    trials: list[Point] = []
    for stem in ("cifar", "imagenet"):
        for seed in (42, 43, 44):
            config = protocol("dla34").override({axis: stem, "seed": seed})
            trials.append(({axis: stem}, config))
    write_plan(tmp_path, trials)
    for point, accuracy in zip(trials, (0.95, 0.951, 0.949, 0.907, 0.906, 0.909), strict=True):
        finish(folder_of(tmp_path, point), point[1], test_accuracy=accuracy)
    study = load(tmp_path, [])
    (part,) = ablations.parts(only(study), study)
    said = text(part)
    assert "90.69 % on the test images for DLA-34" in said
    assert "imagenet: agrees" in said
    assert re.search(r"cifar stem it has 95\.00 %, \+4\.31 points from .*?, more than", said)
    imagenet = r"imagenet stem it has 90\.73 %, \+0\.04 points from .*?, which seeds explain"
    assert re.search(imagenet, said)


def test_what_else_differs_between_the_points_is_said(tmp_path: Path) -> None:
    axis = "optimizer.name"
    adam = TrainConfig().override({axis: "adamw", "optimizer.lr": 1e-3})
    trials: list[Point] = [({axis: "sgd"}, TrainConfig()), ({axis: "adamw"}, adam)]
    write_plan(tmp_path, trials)
    for point in trials:
        finish(folder_of(tmp_path, point), point[1])
    study = load(tmp_path, [])
    (part,) = ablations.parts(only(study), study)
    assert "the points differ in optimizer.lr: the differences are of all that" in text(part)


def picture(part: Part, end: str) -> Figure:
    (found,) = [one for one in part.pictures if one.name.endswith(end)]
    return found.figure
