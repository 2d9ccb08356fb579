"""The final model beside what was reported of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from predicted_results import (
    CIFAR,
    STUDY,
    launch,
    only,
    pairs,
    parts_of,
    predict,
    reported_predictions,
    seeded,
    small,
    table,
    text,
)
from results_folder import finish, name_of, write_plan

from analysis.cifar10 import beside
from analysis.cifar10 import diagnostics as section
from analysis.cifar10.reported import reported
from analysis.cifar10.task import load
from analysis.output.model import Part, Picture
from analysis.sections.diagnostics import median
from trainer.recipes import reported as protocol

pytestmark = pytest.mark.usefixtures("no_images")


@pytest.fixture(scope="module")
def reported_run() -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    return reported_predictions()


@pytest.fixture(scope="module")
def reproduced(
    tmp_path_factory: pytest.TempPathFactory,
    reported_run: tuple[NDArray[np.int64], NDArray[np.float32]],
) -> list[Part]:
    """The section over a results folder whose median run is the reported one."""
    results = tmp_path_factory.mktemp("reproduced") / "results"
    configs = seeded(3)
    for config, folder, validation in zip(
        configs, launch(results, configs), (0.96, 0.9654, 0.97), strict=True
    ):
        outcome = {"classes": ",".join(CIFAR), "val_accuracy": validation}
        if validation == 0.9654:
            outcome |= predict(folder, *reported_run)
        finish(folder, config, **outcome)
    parts, study = parts_of(results)
    assert not study.problems
    return parts


def test_the_reported_figures_come_out_of_predictions_that_have_them(
    reproduced: list[Part],
) -> None:
    found = table(reproduced, "-classes")
    for row, figure in zip(found.to_dict("records"), STUDY["per_class"], strict=False):
        assert row["class"] == figure["class"]
        assert row["precision"] == f"{figure['precision']:.4f}"
        assert row["recall"] == f"{figure['recall']:.4f}"
        assert row["F1"] == f"{figure['f1']:.4f}"
        assert row["support"] == str(figure["support"])
    assert found["class"].tolist()[10:] == ["accuracy", "macro average", "weighted average"]
    for place, figure in ((11, STUDY["macro"]), (12, STUDY["weighted"])):
        assert found["precision"][place] == f"{figure['precision']:.4f}"
        assert found["recall"][place] == f"{figure['recall']:.4f}"
        assert found["F1"][place] == f"{figure['f1']:.4f}"
    assert found["F1"][10] == "0.9645"

    top = table(reproduced, "-top-k")
    assert top["measured"].tolist() == ["96.45", "99.55", "99.75"]
    assert top["right"][0] == "9,645 of 10,000"
    said = "9,645 of 10,000 test images are right (96.45 %), 355 are wrong."
    assert f"{said} Reported: 9,645 right, 355 wrong." in text(reproduced)

    confused = table(reproduced, "-confusions")
    assert confused[["true", "predicted", "count"]].to_dict("records") == [
        {"true": pair["label"], "predicted": pair["predicted"], "count": str(pair["count"])}
        for pair in pairs()
    ]
    assert confused["reported count"].tolist() == confused["count"].tolist()


def test_every_reported_figure_of_the_final_model_stands_beside_ours(
    reproduced: list[Part],
) -> None:
    top = table(reproduced, "00000001-reported").set_index("figure")
    row = next(one for one in reported()["architectures"] if one["model"] == "wrn_28_10")
    assert top["reported"].tolist() == [
        f"{row['train']:.2f}", f"{row['validation']:.2f}", "96.45", "99.55", "99.75",
        *(f"{STUDY[average][score]:.4f}" for average in ("macro", "weighted")
          for score in ("precision", "recall", "f1")),
    ]  # fmt: skip
    assert top["reported images"].tolist() == ["45,000", "5,000", *["10,000"] * 9]
    classes = table(reproduced, "-classes-reported")
    figures = [row[score] for row in STUDY["per_class"] for score in ("precision", "recall", "f1")]
    assert classes["reported"].tolist() == [f"{figure:.4f}" for figure in figures]
    assert classes["figure"].tolist()[9:12] == ["cat, precision", "cat, recall", "cat, F1"]
    # One of the three runs has predictions: nothing is told of the recipe.
    assert set(classes["more than seeds explain"]) == {"not enough seeds"}
    assert set(classes["difference"]) == {"+0.0000"}
    assert set(classes["these two networks"]) == {"not told apart", "-"}
    beside = table(reproduced, "-confusions-reported")
    assert beside["figure"].tolist()[0] == "dog → cat"
    assert beside["reported count"].tolist() == [str(pair["count"]) for pair in pairs()]
    assert beside["difference"].tolist() == ["+0.00"] * 10
    losses = table(reproduced, "-losses-reported")
    assert losses["reported"].tolist() == ["0.94 to 2.52", "0.94 to 0.76", "0.63"]
    assert losses["measured"].tolist() == ["0.500 to 0.500", "0.500 to 0.500", "0.500"]


def test_the_reported_run_is_drawn_whole(reproduced: list[Part]) -> None:
    names = [picture.name for part in reproduced for picture in part.pictures]
    for ending in ("-panels", "-confusion", "-confusions", "-classes", "-reliability"):
        assert sum(name.endswith(ending) for name in names) == 1
    captions = {p.name.rsplit("-", 1)[1]: p.caption for part in reproduced for p in part.pictures}
    assert "ECE" in captions["reliability"]
    assert "mean of the classes (96.45 %)" in captions["classes"]
    assert "reported one as an outline" in captions["confusions"]


def without_dogs() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels (1,000,) and logits: every dog is taken for a cat, all else is right."""
    labels = np.repeat(np.arange(10), 100)
    logits = np.eye(10)[labels]
    logits[labels == 5] = np.eye(10)[3]
    return labels, logits


def test_of_one_run_nothing_follows_about_the_recipe(tmp_path: Path) -> None:
    results = tmp_path / "results"
    (config,) = configs = seeded(1)
    (folder,) = launch(results, configs)
    outcome = predict(folder, *without_dogs())
    finish(folder, config, classes=",".join(CIFAR), **outcome)
    parts, _ = parts_of(results)
    found = pd.concat(table(parts, ending) for ending in BESIDE).set_index("figure")
    assert set(found["more than seeds explain"]) == {"not enough seeds"}
    assert set(found["seeds p"]) == {"-"}
    networks = found["these two networks"]
    told = ["test, top-1", "dog, recall", "dog → cat", "cat, precision"]
    assert networks[told].tolist() == ["told apart"] * 4
    assert networks[["frog, recall", "cat → dog"]].tolist() == ["not told apart"] * 2
    assert networks[["train", "dog, F1", "macro average, F1"]].tolist() == ["-"] * 3
    assert table(parts, "-confusions")["count"].tolist() == ["100"]
    assert "The only confusion of" in figure_of(parts, "-confusions").caption
    said = text(parts)
    assert "one run of ours stands beside one of theirs" in said
    assert "nothing follows about the recipe" in said
    assert "adjusted by Holm for all 34 figures that have one" in said


BESIDE = ("00000001-reported", "-classes-reported", "-confusions-reported")


def figure_of(parts: Sequence[Part], ending: str) -> Picture:
    (found,) = (one for part in parts for one in part.pictures if one.name.endswith(ending))
    return found


def test_over_seeds_all_figures_are_one_family(tmp_path: Path) -> None:
    results = tmp_path / "results"
    configs = seeded(4)
    for i, (config, folder) in enumerate(zip(configs, launch(results, configs), strict=True)):
        outcome = predict(folder, *without_dogs()) | {"train_accuracy": 0.97 + i / 1000}
        finish(folder, config, classes=",".join(CIFAR), **outcome)
    parts, _ = parts_of(results)
    found = pd.concat(table(parts, ending) for ending in BESIDE).set_index("figure")
    assert len(found) == 51
    larger = found["more than seeds explain"]
    assert larger[["dog, recall", "dog → cat"]].tolist() == ["yes", "yes"]
    assert larger[["train", "frog, recall"]].tolist() == ["no"] * 2
    assert "these two networks" not in found
    assert found.loc["train", "measured"] == "97.15 ± 0.13"
    said = text(parts)
    assert (
        f"Of the 51 reported figures that are compared here, {sum(larger == 'yes')} differ" in said
    )
    assert "All 51 figures of the tables of this part are one family" in said
    # As few as these have p-values under 0.05 for themselves, and none for the family.
    shares = beside.told(beside_figures(results))
    alone = beside.told([one for one in shares if one.key[1] == "top-5"])
    together = next(one for one in shares if one.key[1] == "top-5")
    assert alone[0].p is not None and together.p is not None
    assert alone[0].p <= together.p


def beside_figures(results: Path) -> list[beside.Figure]:
    study, plan = only(results)
    return beside.figures(plan, study, median(plan.runs))


@pytest.mark.long
def test_the_final_model_and_the_chosen_one_have_sections_of_their_own(tmp_path: Path) -> None:
    results = tmp_path / "results"
    (folder,) = launch(results, [protocol("resnet18")])
    small(folder, protocol("resnet18"), 0.9)
    titles = [one.title for one in section.sections(load(results, []))]
    assert titles == ["Diagnostics: the chosen model"]
    # Without a launch of its own, the model's run among the architectures stands there.
    models: list[Any] = [
        ({"model.name": name}, protocol(name)) for name in ("resnet18", "wrn_28_10")
    ]
    write_plan(results, models, "architectures")
    for _, config in models:
        small(results / "architectures" / name_of(config), config, 0.9)
    first, second = section.sections(load(results, []))
    assert first.title == "Diagnostics: wrn_28_10, the reported final model"
    assert first.parts[0].title == "architectures, full scale (00000001, wrn_28_10)"
    assert len(table(first.parts, "-seeds")) == 1
    assert "reported" in table(first.parts, "wrn_28_10-reported")
    assert second.title == "Diagnostics: the chosen model"
    # The launch of the model alone takes their place, whatever came later.
    (config,) = configs = seeded(1)
    (folder,) = launch(results, configs, "wrn_final", created="2025-01-01T00:00:00+00:00")
    small(folder, config, 0.9)
    first, second = section.sections(load(results, []))
    assert first.parts[0].title == "wrn_final, full scale (00000001)"
    assert not [part for part in first.parts if "architectures" in part.title]


def test_classes_without_images_are_said(tmp_path: Path) -> None:
    results = tmp_path / "results"
    config = protocol("resnet18")
    (folder,) = launch(results, [config])
    outcome = predict(folder, [0, 1, 1], np.eye(3)[[0, 1, 0]])
    finish(folder, config, classes="a,b,c", **outcome)
    parts, _ = parts_of(results)
    assert "are over the 2 of 3 classes that have some" in text(parts)
