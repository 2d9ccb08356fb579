"""Metrics of predictions, against slow references."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics

from analysis.data.predictions import Predictions
from analysis.sections import one_run
from analysis.stats import classification


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
