"""What the report says of one point of a sweep: its seeds, and one run's predictions."""

from __future__ import annotations

import math
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from results_folder import HOSTILE, begin, fail, finish, name_of, write_plan
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.stats import binomtest
from sklearn import metrics

from analysis.cifar10 import beside
from analysis.cifar10.reported import reported
from analysis.cifar10.task import load
from analysis.data import predictions
from analysis.data.predictions import Predictions, same_images
from analysis.data.study import Plan, Study
from analysis.figures import diagnostics as figures
from analysis.figures.style import STYLE, png
from analysis.output.model import Part, Picture, Section, Table
from analysis.output.page import Page
from analysis.sections import diagnostics as section
from analysis.sections import one_run
from analysis.stats import classification
from local_machine.errors import EXIT_IO, InputError
from trainer.config import TrainConfig
from trainer.recipes import reported as protocol
from trial_records.tables import EPOCHS_SCHEMA, PREDICTIONS_SCHEMA, write_table
from trial_records.trial_files import EPOCHS, PREDICTIONS

STUDY = reported()["wrn_final"]
CIFAR = tuple(row["class"] for row in STUDY["per_class"])


@pytest.fixture(scope="module", autouse=True)
def no_images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whatever data are decoded on this machine, they are not those of these made-up trials."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEPS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


# --- results folders ---------------------------------------------------------------------------


def table_of(
    index: Sequence[int] | NDArray[Any],
    labels: Sequence[int] | NDArray[Any],
    logits: Sequence[Sequence[float]] | NDArray[Any],
) -> pa.Table:
    values = [row if isinstance(row, list) else list(map(float, row)) for row in logits]
    columns = {
        "index": pa.array(index, pa.int32()),
        "label": pa.array(labels, pa.int16()),
        "logits": pa.array(values, PREDICTIONS_SCHEMA.field("logits").type),
    }
    return pa.table(columns, schema=PREDICTIONS_SCHEMA)


def predict(folder: Path, labels: Any, logits: Any, **outcome: Any) -> dict[str, Any]:
    """Write predictions.parquet, rows back to front; the outcome that run.parquet has of them."""
    labels, logits = np.asarray(labels), np.asarray(logits, dtype=np.float32)
    order = np.arange(len(labels))[::-1]
    folder.mkdir(parents=True, exist_ok=True)
    rows = table_of(order, labels[order], logits[order])
    write_table(folder / PREDICTIONS, rows, PREDICTIONS_SCHEMA)
    made = Predictions(
        "t", order.astype(np.int32), labels, logits, tuple(map(str, range(logits.shape[1])))
    )
    top = {f"top_{k}": classification.top_k(made, k) / len(labels) for k in (1, 3, 5)}
    return {"test_images": len(labels), "test_accuracy": top["top_1"]} | top | outcome


def launch(
    results: Path, configs: Sequence[TrainConfig], sweep: str = "final", **changes: Any
) -> list[Path]:
    """A launch without axes; its trials' folders."""
    seeds = [config.seed for config in configs]
    write_plan(results, [({}, config) for config in configs], sweep, seeds=seeds, **changes)
    return [results / sweep / name_of(config) for config in configs]


def seeded(count: int, **changes: Any) -> list[TrainConfig]:
    """The reported recipe of WRN-28-10 under so many seeds."""
    recipe = protocol("wrn_28_10").override(changes)
    return [recipe.override({"seed": 42 + i}) for i in range(count)]


def only(results: Path) -> tuple[Study, Plan]:
    study = load(results, [])
    (plan,) = study.plans
    return study, plan


def parts_of(results: Path) -> tuple[list[Part], Study]:
    study, plan = only(results)
    return section.parts(plan, study), study


def table(parts: Sequence[Part], ending: str) -> pd.DataFrame:
    (found,) = (one for part in parts for one in part.tables if one.name.endswith(ending))
    assert isinstance(found, Table)
    return found.shown


def text(parts: Sequence[Part]) -> str:
    return "\n".join(line for part in parts for line in [*part.notes, *part.footnotes])


# --- the reported run --------------------------------------------------------------------------


def reported_matrix() -> NDArray[np.int64]:
    """A confusion matrix that agrees with everything that was reported of it, by integer
    programming: the ten pairs, the recalls and the precisions exactly, and every other cell below
    the smallest reported pair.
    """
    place = {name: i for i, name in enumerate(CIFAR)}
    low, high = np.zeros((10, 10)), np.full((10, 10), min(p["count"] for p in pairs()) - 1.0)
    sums = np.zeros(10)
    for i, row in enumerate(STUDY["per_class"]):
        right = round(row["recall"] * row["support"])
        low[i, i] = high[i, i] = right
        # The one number of predictions that rounds to the reported precision.
        (sums[i],) = (n for n in range(1, 2000) if f"{right / n:.4f}" == f"{row['precision']:.4f}")
    for pair in pairs():
        cell = place[pair["label"]], place[pair["predicted"]]
        low[cell] = high[cell] = pair["count"]
    by_row, by_column = np.kron(np.eye(10), np.ones(10)), np.kron(np.ones(10), np.eye(10))
    found = milp(
        np.zeros(100),
        integrality=np.ones(100, dtype=int),
        bounds=Bounds(low.ravel(), high.ravel()),
        constraints=[LinearConstraint(by_row, 1000, 1000), LinearConstraint(by_column, sums, sums)],
    )
    assert found.success, "the reported figures contradict each other"
    matrix: NDArray[np.int64] = np.rint(found.x).astype(np.int64).reshape(10, 10)
    return matrix


def pairs() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = STUDY["confusions"]
    return found


def reported_predictions() -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Labels (10,000,) and logits (10,000, 10) with the reported top-k too: of the wrong images'
    labels, 310 stand second or third, 20 fourth or fifth, the others later.
    """
    matrix = reported_matrix()
    labels, predicted = np.repeat(np.indices((10, 10)).reshape(2, -1), matrix.ravel(), axis=1)
    within = [round(100 * STUDY[f"top_{k}"]) for k in (1, 3, 5)]
    draw = np.random.default_rng(0)
    logits = np.empty((10_000, 10), dtype=np.float32)
    wrong = 0
    for i, (label, first) in enumerate(zip(labels.tolist(), predicted.tolist(), strict=True)):
        order = [int(other) for other in draw.permutation(10) if other not in (label, first)]
        if label == first:
            order.insert(0, label)
        else:
            wrong += 1
            rank = wrong + within[0]
            order.insert(0, first)
            # Places from 0: 1 and 2 are within the first three, 3 and 4 within the first five.
            choice = (1, 2) if rank <= within[1] else (3, 4) if rank <= within[2] else (5, 9)
            order.insert(choice[wrong % 2], label)
        # How sure it is: mostly so, and less where it is wrong.
        scale = draw.gamma(4, 0.9) * (1 if label == first else 0.4)
        logits[i, order] = scale * np.linspace(1, -1, 10)
    shuffled = draw.permutation(10_000)
    return labels[shuffled], logits[shuffled]


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
    return beside.figures(plan, study, section.median(plan.runs))


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


def test_classes_without_images_are_in_no_average() -> None:
    labels = np.array([0, 0, 1, 1])
    logits = np.eye(4, dtype=np.float32)[[0, 0, 1, 2]]
    found = Predictions("t", np.arange(4, dtype=np.int32), labels, logits, tuple("abcd"))
    scores = classification.scores(found).set_index("class")
    assert scores.loc["macro average", ["precision", "recall", "f1"]].tolist() == pytest.approx(
        [1.0, 0.75, (1 + 2 / 3) / 2]
    )
    shown = one_run.classes(classification.scores(found)).set_index("class")
    for name in "cd":
        assert shown.loc[name].tolist() == ["-", "-", "-", 0]
    assert shown.loc["b", "recall"] == "0.5000"


def test_classes_without_images_are_said(tmp_path: Path) -> None:
    results = tmp_path / "results"
    config = protocol("resnet18")
    (folder,) = launch(results, [config])
    outcome = predict(folder, [0, 1, 1], np.eye(3)[[0, 1, 0]])
    finish(folder, config, classes="a,b,c", **outcome)
    parts, _ = parts_of(results)
    assert "are over the 2 of 3 classes that have some" in text(parts)


# --- metrics -----------------------------------------------------------------------------------


@st.composite
def some(draw: st.DrawFn) -> Predictions:
    """Few values, so that logits tie and classes are empty or never predicted."""
    classes = draw(st.integers(2, 6))
    n = draw(st.integers(1, 30))
    row = st.lists(st.sampled_from([-3.5, -1.0, 0.0, 0.25, 2.0]), min_size=classes)
    logits = draw(st.lists(row.map(lambda v: v[:classes]), min_size=n, max_size=n))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n))
    return Predictions(
        "t",
        np.arange(n, dtype=np.int32),
        np.array(labels, dtype=np.int64),
        np.array(logits, dtype=np.float32),
        tuple("abcdef"[:classes]),
    )


@settings(max_examples=40, deadline=None)
@given(some())
def test_scores_are_those_of_scikit_learn(found: Predictions) -> None:
    present = np.unique(found.labels)
    names = [found.classes[i] for i in present]
    report: Any = metrics.classification_report(
        found.labels,
        found.predicted,
        labels=present,
        target_names=names,
        output_dict=True,
        zero_division=0,
    )
    rows = classification.scores(found).set_index("class")
    theirs_of = {name: name for name in names}
    theirs_of |= {f"{word} average": f"{word} avg" for word in ("macro", "weighted")}
    for name, other in theirs_of.items():
        theirs = report[other]
        ours = rows[rows.index == name].to_numpy().tolist()[0]
        assert ours == pytest.approx(
            [theirs["precision"], theirs["recall"], theirs["f1-score"], theirs["support"]]
        )
    assert rows.loc["accuracy", "f1"] == metrics.accuracy_score(found.labels, found.predicted)
    assert rows["support"].tolist()[-3:] == [len(found.labels)] * 3
    absent = rows.loc[[name for name in found.classes if name not in names]]
    assert absent[["precision", "recall", "f1"]].isna().all(axis=None)
    assert absent["support"].tolist() == [0] * len(absent)


@settings(max_examples=40, deadline=None)
@given(some())
def test_confusions_and_accuracies_against_plain_loops(found: Predictions) -> None:
    counts: dict[tuple[int, int], int] = {}
    for label, predicted in zip(found.labels.tolist(), found.predicted.tolist(), strict=True):
        counts[label, predicted] = counts.get((label, predicted), 0) + 1
    assert classification.confusion(found).sum() == len(found.labels)
    wrong = {cell: count for cell, count in counts.items() if cell[0] != cell[1]}
    order = sorted(wrong, key=lambda cell: (-wrong[cell], cell))[:10]
    rows = classification.confusions(found).to_dict("records")
    assert [(row["true"], row["predicted"], row["count"]) for row in rows] == [
        (found.classes[i], found.classes[j], wrong[i, j]) for i, j in order
    ]
    for row, (i, _) in zip(rows, order, strict=True):
        assert row["share"] == row["count"] / (found.labels == i).sum()

    for i, row in enumerate(classification.accuracies(found).to_dict("records")):
        images = int((found.labels == i).sum())
        assert (row["images"], row["correct"]) == (images, counts.get((i, i), 0))
        if not images:
            assert math.isnan(row["accuracy"])
            assert row["interval"] is None
        else:
            test = binomtest(row["correct"], images).proportion_ci(0.95, "wilson")
            assert row["interval"] == pytest.approx((test.low, test.high))


@settings(max_examples=40, deadline=None)
@given(some(), st.integers(1, 8))
def test_top_k_is_the_place_in_a_stable_order(found: Predictions, k: int) -> None:
    # Of equal logits a stable sort has the lower class first, as training's evaluation has.
    order = np.argsort(-found.logits, axis=1, kind="stable")[:, :k]
    assert classification.top_k(found, k) == (order == found.labels[:, None]).any(axis=1).sum()
    assert classification.top_k(found, 1) == found.right.sum()


@settings(max_examples=40, deadline=None)
@given(some())
def test_calibration_against_slow_references(found: Predictions) -> None:
    nll = brier = 0.0
    confidences = []
    for label, row in zip(found.labels.tolist(), found.logits.tolist(), strict=True):
        terms = [math.exp(value) for value in row]
        shares = [term / math.fsum(terms) for term in terms]
        nll -= math.log(shares[label]) / len(found.labels)
        brier += sum((p - (i == label)) ** 2 for i, p in enumerate(shares)) / len(found.labels)
        confidences.append(max(shares))
    assert found.confidence.tolist() == pytest.approx(confidences)
    assert classification.nll(found) == pytest.approx(nll)
    assert classification.brier(found) == pytest.approx(brier)
    every = list(range(len(found.classes)))
    assert classification.nll(found) == pytest.approx(
        metrics.log_loss(found.labels, found.probabilities, labels=every), abs=1e-9
    )

    bins = classification.reliability(found)
    gaps = 0.0
    for i in range(15):
        low, high = i / 15, (i + 1) / 15
        members = [
            j
            for j, confidence in enumerate(found.confidence.tolist())
            if (low < confidence or i == 0) and (confidence <= high or i == 14)
        ]
        assert bins["images"][i] == len(members)
        if members:
            right = sum(bool(found.right[j]) for j in members) / len(members)
            sure = math.fsum(found.confidence[j] for j in members) / len(members)
            assert bins["accuracy"][i] == pytest.approx(right)
            assert bins["confidence"][i] == pytest.approx(sure)
            gaps += len(members) / len(found.labels) * abs(right - sure)
    assert classification.ece(bins) == pytest.approx(gaps)


def test_a_sure_and_right_model_is_calibrated_and_large_logits_do_not_overflow() -> None:
    labels = np.array([0, 1, 1])
    logits = (1e4 * np.eye(2)[labels]).astype(np.float32)
    found = Predictions("t", np.arange(3, dtype=np.int32), labels, logits, ("a", "b"))
    assert classification.nll(found) == 0
    assert classification.brier(found) == 0
    assert classification.ece(classification.reliability(found)) == 0
    assert classification.confusions(found).empty
    wrong = Predictions("t", found.index, 1 - labels, found.logits, found.classes)
    assert classification.nll(wrong) == pytest.approx(1e4)
    assert classification.brier(wrong) == 2
    assert classification.ece(classification.reliability(wrong)) == 1


def test_top_k_counts_as_the_trainer_does() -> None:
    import torch
    from torch import nn

    from trainer.distributed import Group
    from trainer.evaluate import evaluate

    draw = np.random.default_rng(3)
    logits = draw.integers(-2, 3, (200, 7)).astype(np.float32)
    labels = draw.integers(0, 7, 200)

    class Told(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(logits)[: len(images)]

    answer = evaluate(
        Told(),
        torch.zeros(200, 2, 2, 3, dtype=torch.uint8),
        torch.from_numpy(labels),
        ((0.5,) * 3, (0.5,) * 3),
        7,
        "fp32",
        Group(0, 1, torch.device("cpu")),
        keep_logits=True,
    )
    found = Predictions("t", np.arange(200, dtype=np.int32), labels, logits, tuple("abcdefg"))
    counted = [classification.top_k(found, k) for k in range(1, 8)]
    assert counted == list(answer.correct)
    assert classification.nll(found) == pytest.approx(answer.loss, rel=1e-5)


# --- reading -----------------------------------------------------------------------------------

LABELS = [0, 1, 2, 1]
LOGITS = [[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.5, 0.25, 0.0], [1.0, 1.0, 0.0]]
RUN_ROW: dict[str, Any] = {
    "trial": "t-1",
    "status": "done",
    "classes": "a,b,c",
    "data": "1" * 64,
    "test_images": 4.0,
    "test_accuracy": 0.5,
}


def test_rows_are_read_by_index_whatever_their_order(tmp_path: Path) -> None:
    rows = table_of([9, 2, 7, 5], LABELS, LOGITS)
    write_table(tmp_path / PREDICTIONS, rows, PREDICTIONS_SCHEMA)
    found = predictions.read(tmp_path, RUN_ROW)
    assert found is not None
    assert found.trial == "t-1"
    assert found.classes == ("a", "b", "c")
    assert found.index.tolist() == [2, 5, 7, 9]
    assert found.labels.tolist() == [1, 1, 2, 0]
    assert found.logits.tolist() == [LOGITS[1], LOGITS[3], LOGITS[2], LOGITS[0]]
    arrays = found.index, found.labels, found.logits, found.probabilities
    assert [str(one.dtype) for one in arrays] == ["int32", "int64", "float32", "float64"]
    # The third ties, and the lower class is ahead.
    assert found.predicted.tolist() == [1, 0, 0, 0]
    assert found.right.tolist() == [True, False, False, True]
    assert found.probabilities.sum(axis=1) == pytest.approx(np.ones(4))
    assert found.confidence[3] == pytest.approx(math.exp(2) / (math.exp(2) + math.e + 1))


def test_no_file_and_no_result_are_no_predictions(tmp_path: Path) -> None:
    assert predictions.read(tmp_path, RUN_ROW) is None
    assert predictions.read(tmp_path / "nowhere", RUN_ROW) is None
    write_table(tmp_path / PREDICTIONS, table_of(range(4), LABELS, LOGITS), PREDICTIONS_SCHEMA)
    unfinished = {"trial": "t", "status": None, "classes": None, "test_images": math.nan}
    assert predictions.read(tmp_path, unfinished) is None


def of_version(version: bytes | None) -> Callable[[pa.Table], pa.Table]:
    metadata = {} if version is None else {b"schema_version": version}
    return lambda rows: rows.replace_schema_metadata(metadata)


def rows_with(**columns: Any) -> Callable[[pa.Table], pa.Table]:
    given: dict[str, Any] = {"index": [0, 1, 2, 3], "labels": LABELS, "logits": LOGITS} | columns
    return lambda _: table_of(**given)


BAD: dict[str, tuple[Callable[[pa.Table], pa.Table], dict[str, Any], str]] = {
    "other version": (of_version(b"2"), {}, "schema version 2"),
    "a column missing": (lambda rows: rows.drop_columns(["label"]), {}, "columns"),
    "another type": (
        lambda rows: rows.set_column(0, "index", rows["index"].cast(pa.string())),
        {},
        "columns",
    ),
    "an index twice": (rows_with(index=[0, 1, 1, 3]), {}, "twice"),
    "a negative index": (rows_with(index=[0, 1, -1, 3]), {}, "negative"),
    "too few rows": (lambda rows: rows.slice(1), {}, "has 3 rows, and run.parquet says 4"),
    "no rows": (lambda rows: rows.slice(4), {}, "has 0 rows"),
    "a label too high": (rows_with(labels=[0, 1, 2, 3]), {}, "labels"),
    "a label below 0": (rows_with(labels=[0, 1, 2, -1]), {}, "labels"),
    "other classes": (lambda rows: rows, {"classes": "a,b"}, "the logits of 2 classes"),
    "no classes": (lambda rows: rows, {"classes": None}, "the logits of 0 classes"),
    "ragged logits": (rows_with(logits=[[1.0, 2.0], *LOGITS[1:]]), {}, "the logits of 3 classes"),
    "a NaN": (rows_with(logits=[[math.nan, 2.0, 0.0], *LOGITS[1:]]), {}, "not finite"),
    "an infinity": (rows_with(logits=[[math.inf, 2.0, 0.0], *LOGITS[1:]]), {}, "not finite"),
    "a logit missing": (rows_with(logits=[[None, 2.0, 0.0], *LOGITS[1:]]), {}, "missing"),
    "another run": (lambda rows: rows, {"test_accuracy": 0.75}, "another run: 2 of 4"),
    "no accuracy": (lambda rows: rows, {"test_accuracy": math.nan}, "another run: 2 of 4"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_does_not_fit_is_named_and_left(tmp_path: Path, case: str) -> None:
    change, row, what = BAD[case]
    path = tmp_path / PREDICTIONS
    pq.write_table(change(table_of(range(4), LABELS, LOGITS)), path)
    _is_refused(path, RUN_ROW | row, what)


REWRITTEN: dict[str, Callable[[pa.Table], pa.Table]] = {
    "no version": of_version(None),
    "a column more": lambda rows: rows.append_column("x", rows["index"]),
    "a wider type": lambda rows: rows.set_column(0, "index", rows["index"].cast(pa.int64())),
}


@pytest.mark.parametrize("case", REWRITTEN)
def test_equal_values_are_read_however_they_are_stored(tmp_path: Path, case: str) -> None:
    pq.write_table(REWRITTEN[case](table_of(range(4), LABELS, LOGITS)), tmp_path / PREDICTIONS)
    found = predictions.read(tmp_path, RUN_ROW)
    assert found is not None
    assert found.labels.tolist() == LABELS
    np.testing.assert_array_equal(found.logits, np.array(LOGITS, np.float32))


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "empty", "folder"])
def test_a_damaged_file_is_named_and_left(tmp_path: Path, damage: str) -> None:
    path = tmp_path / PREDICTIONS
    write_table(path, table_of(range(4), LABELS, LOGITS), PREDICTIONS_SCHEMA)
    data = path.read_bytes()
    # A byte of the first page's values.
    flipped = data[:40] + bytes([data[40] ^ 0xFF]) + data[41:]
    if damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(
            {"cut": data[:-9], "flipped": flipped, "text": b"PAR1 no PAR1", "empty": b""}[damage]
        )
    _is_refused(path, RUN_ROW, "")


def _is_refused(path: Path, row: Mapping[str, Any], what: str) -> None:
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(InputError) as refused:
        predictions.read(path.parent, row)
    assert str(path) in refused.value.what
    assert what in refused.value.what
    assert refused.value.help
    assert refused.value.exit_code == EXIT_IO
    assert (path.read_bytes() if path.is_file() else None) == before


def test_same_images_are_the_same_index_and_labels() -> None:
    def made(index: list[int], labels: list[int]) -> Predictions:
        logits = np.zeros((len(index), 3), dtype=np.float32)
        return Predictions("t", np.array(index, np.int32), np.array(labels), logits, ("a",) * 3)

    one = made([0, 1], [2, 1])
    assert same_images(one, made([0, 1], [2, 1]))
    assert not same_images(one, made([0, 2], [2, 1]))
    assert not same_images(one, made([0, 1], [2, 2]))
    assert not same_images(one, made([0], [2]))


def test_a_study_reads_each_file_once_and_another_study_reads_it_anew(tmp_path: Path) -> None:
    results = tmp_path / "results"
    (config,) = configs = seeded(1)
    (folder,) = launch(results, configs)
    outcome = predict(folder, [0, 1], [[1.0, 0.0], [1.0, 0.0]])
    finish(folder, config, classes="a,b", **outcome)
    study, plan = only(results)
    run: Any = plan.runs.iloc[0].to_dict()
    first = predictions.of(study, plan, run)
    assert first is not None
    (folder / PREDICTIONS).write_bytes(b"damaged since")
    assert predictions.of(study, plan, run) is first

    study, plan = only(results)
    assert predictions.of(study, plan, run) is None
    assert predictions.of(study, plan, run) is None
    assert [problem.what for problem in study.problems] == [
        f"{folder / PREDICTIONS} is damaged: Parquet magic bytes not found in footer. Either the "
        "file is corrupted or this is not a parquet file."
    ]


def test_sixty_full_files_are_read_in_well_under_three_seconds(
    tmp_path: Path, reported_run: tuple[NDArray[np.int64], NDArray[np.float32]]
) -> None:
    outcome = predict(tmp_path, *reported_run)
    row = RUN_ROW | outcome | {"classes": ",".join(CIFAR)}
    began = time.perf_counter()
    for _ in range(60):
        assert predictions.read(tmp_path, row) is not None
    assert time.perf_counter() - began < 3


# --- the section -------------------------------------------------------------------------------


def small(folder: Path, config: TrainConfig, validation: float, classes: int = 3) -> None:
    """A finished trial with predictions of a few images."""
    draw = np.random.default_rng(config.seed)
    labels = np.arange(30) % classes
    logits = draw.normal(size=(30, classes)) + 2 * np.eye(classes)[labels]
    names = ",".join(f"c{i}" for i in range(classes))
    outcome = predict(folder, labels, logits, classes=names, val_accuracy=validation)
    finish(folder, config, **outcome)


@pytest.mark.parametrize(
    ("validations", "seed", "said"),
    [
        ([0.7], 42, "the only one that has finished"),
        ([0.7, 0.6], 43, "the lower middle validation accuracy"),
        ([0.7, 0.9, 0.8], 44, "the median validation accuracy"),
        ([0.8, 0.8, 0.8], 43, "the median validation accuracy"),
        ([0.5, 0.9, 0.7, 0.6], 45, "the lower middle validation accuracy"),
    ],
)
def test_the_run_in_detail_is_the_median_one(
    tmp_path: Path, validations: list[float], seed: int, said: str
) -> None:
    results = tmp_path / "results"
    configs = seeded(len(validations))
    for config, folder, value in zip(configs, launch(results, configs), validations, strict=True):
        small(folder, config, value)
    parts, study = parts_of(results)
    (shown,) = [config for config in configs if config.seed == seed]
    assert f"one run, {name_of(shown)} (seed {seed})" in parts[0].notes[-1]
    assert said in parts[0].notes[-1]
    assert "The best one would flatter" in parts[0].notes[-1]
    assert parts[2].title.endswith(f": seed {seed}")
    assert not study.problems

    rows = table(parts, "-seeds")
    few = len(validations) < 3
    extra = [] if len(validations) == 1 else ["mean", "sd"] if few else ["mean", "sd", "seeds 95 %"]
    assert rows["seed"].tolist() == [str(config.seed) for config in configs] + extra
    assert rows["train"].tolist()[0] == "93.00"
    assert rows["train clean"].tolist()[0] == "94.00"
    assert rows["validation"].tolist()[0] == f"{100 * validations[0]:.2f}"
    assert rows["best epoch"].tolist()[0] == "3 of 100"
    assert ("no interval under three seeds" in text(parts)) is few


def test_the_interval_over_seeds_is_that_of_their_values(tmp_path: Path) -> None:
    results = tmp_path / "results"
    configs = seeded(3)
    values = [0.90, 0.91, 0.92]
    for config, folder, value in zip(configs, launch(results, configs), values, strict=True):
        finish(folder, config, test_accuracy=value, train_accuracy_clean=None)
    parts, _ = parts_of(results)
    rows = table(parts, "-seeds").set_index("seed")
    assert rows.loc["mean", "test, top-1"] == "91.00"
    assert rows.loc["sd", "test, top-1"] == "1.00"
    # t of two degrees of freedom, 4.3027, times 1 / sqrt(3).
    assert rows.loc["seeds 95 %", "test, top-1"] == "88.52 to 93.48"
    # Not measured: nothing is invented.
    assert set(rows["train clean"]) == {"-"}


def test_a_class_reported_nowhere_stands_beside_nothing(tmp_path: Path) -> None:
    for model, data in (("resnet18", "cifar10"), ("wrn_28_10", "digits")):
        results = tmp_path / model
        config = protocol(model).override({"data.name": data})
        (folder,) = launch(results, [config])
        small(folder, config, 0.9)
        parts, _ = parts_of(results)
        names = [one.name for part in parts for one in part.tables]
        assert not [name for name in names if name.endswith("reported")]
        assert "Reported" not in text(parts)
    # The study's model on its data, under other class names: top-k alone can stand beside.
    results = tmp_path / "renamed"
    (config,) = configs = seeded(1)
    (folder,) = launch(results, configs)
    small(folder, config, 0.9, classes=10)
    parts, _ = parts_of(results)
    assert table(parts, "00000001-reported")["figure"].tolist()[-1] == "top-5"
    assert not [one for part in parts for one in part.tables if "classes-reported" in one.name]
    assert "reported count" not in table(parts, "-confusions")


def test_runs_without_an_end_are_in_the_table_and_said(tmp_path: Path) -> None:
    results = tmp_path / "results"
    configs = seeded(3)
    folders = launch(results, configs)
    begin(folders[0])
    fail(folders[1], "NONFINITE")
    parts, _ = parts_of(results)
    assert len(parts) == 1
    assert "No run has finished yet" in parts[0].notes[-1]
    assert [picture.name for picture in parts[0].pictures] == ["final-00000001-panels"]

    small(folders[2], configs[2], 0.9)
    parts, _ = parts_of(results)
    assert "1 of 3 runs has finished." in parts[0].notes
    rows = table(parts, "-seeds")
    assert rows["state"].tolist() == ["missing", "failed", "done"]
    assert rows["flags"].tolist() == ["MISSING", "NONFINITE", ""]
    assert rows["test, top-1"].tolist()[:2] == ["-", "-"]


def test_nothing_at_all_is_said_so(tmp_path: Path) -> None:
    results = tmp_path / "results"
    launch(results, seeded(2))
    parts, _ = parts_of(results)
    assert "No run has finished yet" in parts[0].notes[-1]
    assert not parts[0].pictures


@pytest.mark.parametrize("damaged", [False, True])
def test_without_predictions_the_seeds_remain(tmp_path: Path, damaged: bool) -> None:
    results = tmp_path / "results"
    (config,) = configs = seeded(1)
    (folder,) = launch(results, configs)
    finish(folder, config)
    if damaged:
        (folder / PREDICTIONS).write_bytes(b"PAR1")
    parts, study = parts_of(results)
    assert len(table(parts, "-seeds")) == 1
    assert f"{name_of(config)} has no usable predictions." in parts[2].notes[0]
    assert not parts[2].tables
    assert len(study.problems) == damaged


def test_under_mixup_train_accuracy_is_said_to_be_on_mixed_images(tmp_path: Path) -> None:
    results = tmp_path / "results"
    (config,) = configs = seeded(1, **{"augment.mixup": 0.2, "label_smoothing": 0.0})
    (folder,) = launch(results, configs)
    small(folder, config, 0.9)
    parts, _ = parts_of(results)
    assert "heavier of its two labels" in text(parts)
    (panels,) = parts[0].pictures
    assert "mixed and augmented images" in panels.caption
    assert "smoothing" not in panels.caption


def test_names_with_markup_and_breaks_are_drawn_and_escaped(tmp_path: Path) -> None:
    results = tmp_path / "results"
    config = protocol("resnet18")
    write_plan(results, [({}, config)], f"a {HOSTILE}".replace("/", ""), word="x\n<b>")
    folder = results / f"a {HOSTILE}".replace("/", "") / name_of(config, "x\n<b>")
    draw = np.random.default_rng(0)
    classes = [HOSTILE, "line\nbreak", "$\\frac{1}{2}$", "w" * 300]
    labels = np.arange(40) % 4
    outcome = predict(folder, labels, draw.normal(size=(40, 4)))
    finish(folder, config, classes=",".join(classes), **outcome)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parts, study = parts_of(results)
        page = Page("t", [Section("Diagnostics", parts)])
        html = page.html()
    assert not study.problems
    assert "<script>alert" not in html
    assert "x\n<b>" not in html
    assert "&lt;b&gt;" in html
    names = [one.name for part in parts for one in part.tables]
    names += [one.name for part in parts for one in part.pictures]
    assert not [name for name in names if re.search(r"[^A-Za-z0-9_-]", name)]


# --- figures -----------------------------------------------------------------------------------


def spread(classes: int, images: int = 400, names: str = "class {}") -> Predictions:
    draw = np.random.default_rng(classes)
    labels = draw.integers(0, classes, images)
    logits = draw.normal(size=(images, classes)) + 2.5 * np.eye(classes)[labels]
    return Predictions(
        "t",
        np.arange(images, dtype=np.int32),
        labels,
        logits.astype(np.float32),
        tuple(names.format(i) for i in range(classes)),
    )


@pytest.mark.parametrize("classes", [2, 10, 101])
def test_figures_hold_any_number_of_classes(classes: int) -> None:
    found = spread(classes)
    counts = classification.confusion(found)
    drawn = figures.matrix(counts, found.classes)
    others = [
        figures.class_bars(classification.accuracies(found)),
        figures.calibration(classification.reliability(found), "t"),
        figures.confusion_bars(classification.confusions(found)),
    ]
    with warnings.catch_warnings():
        # Also of a layout that has no room.
        warnings.simplefilter("error")
        for figure in [drawn, *others]:
            figure.draw_without_rendering()
    texts = [text.get_text() for text in drawn.axes[0].texts]
    if classes > 20:
        assert not texts
    else:
        shown = sorted(map(int, texts))
        off = counts[~np.eye(classes, dtype=bool)]
        assert shown == sorted([*np.diag(counts).tolist(), *off[off > 0].tolist()])


def test_the_diagonal_is_out_of_the_colour_scale() -> None:
    counts = np.array([[900, 3, 0], [1, 950, 7], [0, 0, 10]])
    image = figures.matrix(counts, ("a", "b", "c")).axes[0].images[0]
    assert image.get_clim() == (1, 7)
    shown: Any = image.get_array()
    assert np.ma.getmaskarray(shown).tolist() == [
        [True, False, True],
        [False, True, False],
        [True, True, True],
    ]


def test_the_panels_show_each_loss_by_its_name(tmp_path: Path) -> None:
    rows = [
        dict.fromkeys(EPOCHS_SCHEMA.names, 0.5)
        | {"epoch": i, "train_accuracy": 0.5 + i / 10, "val_accuracy": 0.6, "lr": 0.1 / (i + 1)}
        for i in range(3)
    ]
    write_table(tmp_path / EPOCHS, rows, EPOCHS_SCHEMA)
    epochs = pq.read_table(tmp_path / EPOCHS).to_pandas().assign(trial="t")
    drawn = figures.panels(epochs, {"t": "seed 42"}, {"t": 1}, smoothing=True, mixed=True)
    loss, _, rate, gap = drawn.axes
    legend = loss.get_legend()
    assert legend is not None
    assert [one.get_text() for one in legend.get_texts()] == [
        "train: running mean, mixed and augmented images, smoothed",
        "validation, smoothed alike",
        "validation, plain",
    ]
    assert np.asarray(gap.lines[0].get_ydata()) == pytest.approx([-10, 0, 10])
    assert np.asarray(gap.lines[1].get_xdata()) == pytest.approx([1])
    assert np.asarray(rate.lines[0].get_ydata()) == pytest.approx([0.1, 0.05, 0.1 / 3])
    plain = figures.panels(epochs, {"t": "seed 42"}, {}, smoothing=False, mixed=False)
    legend = plain.axes[0].get_legend()
    assert legend is not None
    assert [one.get_text() for one in legend.get_texts()] == [
        "train: running mean, augmented images",
        "validation",
    ]
    assert STYLE["text.parse_math"] is False


def test_the_same_predictions_give_the_same_bytes() -> None:
    def drawn() -> bytes:
        found = spread(3)
        return png(figures.matrix(classification.confusion(found), found.classes))

    assert drawn() == drawn()
