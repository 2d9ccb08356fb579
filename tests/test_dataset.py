"""Which images a run is of follows from its record; what compares with what follows from that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from results_folder import Point, finish, folder_of, name_of, write_plan

from analysis.cifar10.claims.every_claim import answered
from analysis.cifar10.claims.verdict import verdict
from analysis.cifar10.comparable import is_studys, why_no_evidence
from analysis.cifar10.task import load, trainer
from analysis.data import dataset, predictions
from analysis.data.class_names import parse
from analysis.data.dataset import OTHER_DATA
from analysis.data.study import Plan
from analysis.sections import wording
from analysis.sections.comparison import comparison
from analysis.stats import paired
from analysis.stats.seed_values import by_seed, ranked
from sweeps.run.class_names import join
from trainer.data.known import CIFAR10, DIGITS
from trainer.recipes import reported

OWN = {"data_sha256": "5" * 64, "classes": "a,b,c,d,e", "num_classes": 5}
# As results of version 0.1 are: no hash.
OLD = {"data_sha256": None, "num_classes": None}
NAMES = ",".join(CIFAR10.classes)


def final(seed: int = 42, **changes: Any) -> Point:
    return {}, reported("wrn_28_10").override({"seed": seed, **changes})


def launch(results: Path, points: list[Point], outcomes: list[dict[str, Any]]) -> Plan:
    write_plan(results, points)
    for point, outcome in zip(points, outcomes, strict=True):
        finish(folder_of(results, point), point[1], **outcome)
    (plan,) = load(results, []).plans
    return plan


def said(results: Path) -> str:
    study = load(results, [])
    return " ".join(verdict(study, answered(study)))


def test_five_classes_are_not_the_reported_study(tmp_path: Path) -> None:
    plan = launch(tmp_path, [final(**{"data.root": "own"})], [OWN | {"test_accuracy": 0.7}])
    assert why_no_evidence(plan) == ["another data set"]
    assert "Data set: 5 classes, content 55555555." in wording.preface(plan)
    text = said(tmp_path)
    assert "Nothing here is evidence" in text
    assert "are missed" not in text and "has the reported study's settings" not in text


def test_names_and_counts_of_cifar10_with_another_hash_are_not_cifar10(tmp_path: Path) -> None:
    plan = launch(tmp_path, [final()], [OWN | {"classes": NAMES, "num_classes": 10}])
    assert why_no_evidence(plan) == ["another data set"]


def test_cifar10s_hash_under_any_root_compares(tmp_path: Path) -> None:
    plan = launch(tmp_path, [final(**{"data.root": "any"})], [{}])
    assert not why_no_evidence(plan)
    assert "Of 3 reported figures beside it" in said(tmp_path)


@pytest.mark.parametrize(
    ("changes", "outcome", "known"),
    [
        ({}, {}, True),
        ({}, {"test_images": 26_032}, False),
        ({}, {"train_images": 45_001}, False),
        ({}, {"classes": "a,b,c,d,e"}, False),
        ({}, {"classes": None}, False),
        ({"data.train_limit": 5000}, {"train_images": 4500, "val_images": 500}, True),
        ({"data.train_limit": 5000}, {}, False),
        ({"data.test_limit": 2000}, {"test_images": 2000}, True),
    ],
)
def test_old_runs_are_told_by_what_they_recorded(
    tmp_path: Path, changes: dict[str, Any], outcome: dict[str, Any], known: bool
) -> None:
    plan = launch(tmp_path, [final(**changes)], [OLD | outcome])
    assert is_studys(plan.runs) is known
    (note,) = dataset.notes(load(tmp_path, []).trials)
    assert note.startswith("1 of 1 results are of a version that recorded no hash")


def test_images_have_the_name_that_a_person_gave_them() -> None:
    run = OWN | {"status": "done", "data.name": "flowers"}
    named = dataset.of(run, trainer().data_sets)
    assert named == ("5" * 64, "flowers, 5 classes, content 55555555")
    assert dataset.of(run | {"data_sha256": CIFAR10.sha256}, trainer().data_sets) == (
        CIFAR10.sha256, "cifar10",
    )  # fmt: skip


def test_old_and_new_runs_of_one_data_set_are_the_same_data(tmp_path: Path) -> None:
    plan = launch(tmp_path, [final(42), final(43)], [OLD, {}])
    assert plan.runs["same_data"].all() and not any(plan.runs["flags"])
    digits = dataset.of(
        {
            "status": "done", "classes": "0,1,2,3,4,5,6,7,8,9", "data.name": "digits",
            "train_images": 1294, "val_images": 144, "test_images": 359,
        },
        trainer().data_sets,
    )  # fmt: skip
    assert digits == (DIGITS.sha256, "digits")


def test_a_trial_on_other_images_is_flagged_and_not_compared(tmp_path: Path) -> None:
    axis = "augment.mixup"
    points: list[Point] = [
        ({axis: value}, reported("resnet18").override({axis: value, "seed": seed}))
        for value in (0.0, 0.5)
        for seed in (42, 43)
    ]
    outcomes: list[dict[str, Any]] = [{}, {}, {}, OWN | {"val_accuracy": 0.99}]
    plan = launch(tmp_path, points, outcomes)
    assert plan.runs["flags"].tolist() == [[], [], [], [OTHER_DATA]]
    assert by_seed(plan, {axis: 0.5}) == {42: 0.91}
    assert ranked(plan)[0] == {axis: 0.0}
    (pair,) = paired.compare(paired.all_pairs(plan), plan, load(tmp_path, []))
    assert pair.validation is not None and pair.validation.seeds == 1
    assert f"1 trial, flagged {OTHER_DATA}" in wording.preface(plan)


def test_before_and_after_on_other_images_are_not_compared(tmp_path: Path) -> None:
    studies = []
    for name, outcome in (("before", {}), ("after", OWN)):
        launch(tmp_path / name, [final()], [outcome])
        studies.append(load(tmp_path / name, []))
    part = comparison(*studies).sections[0].parts[1]
    assert "data_set: cifar10 before, 5 classes, content 55555555 after" in part.notes[0]
    table = part.tables[0].frame
    assert table["test difference"].tolist() == ["-"]
    assert table["test: what follows"].tolist() == ["nothing: of other images"]


def test_images_of_two_data_sets_are_not_the_same_images() -> None:
    import numpy as np

    one, other = (
        predictions.Predictions(
            "t", np.arange(2, dtype=np.int32), np.array([0, 1]), np.eye(2, dtype=np.float32),
            ("a", "b"), data,
        )
        for data in ("1" * 64, "2" * 64)
    )  # fmt: skip
    assert predictions.same_images(one, one) and not predictions.same_images(one, other)


def test_a_run_may_be_of_a_content_only_where_its_record_allows() -> None:
    assert dataset.may_be("1" * 64, "1" * 64) and not dataset.may_be("1" * 64, "2" * 64)
    assert dataset.may_be("", "2" * 64) and dataset.may_be("recorded: a,b", "2" * 64)


def test_chance_counts_classes_and_not_commas(tmp_path: Path) -> None:
    names = 'tench,"crab, king","crab, fiddler"'
    outcome = OWN | {"classes": names, "num_classes": 3, "test_accuracy": 0.34}
    plan = launch(tmp_path, [final()], [outcome])
    assert "DIVERGED" in plan.runs["flags"].iloc[0]  # 0.34 is no more than chance of three
    assert dataset.class_count(names) == 3 and dataset.class_count(None) == 0
    assert dataset.class_count("a,b", float("nan")) == 2


@given(st.lists(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1), min_size=1))
def test_class_names_are_read_as_the_trainer_wrote_them(names: list[str]) -> None:
    assert parse(join(names)) == tuple(names)
    assert parse(None) == ()


def test_hostile_records_are_read(tmp_path: Path) -> None:
    outcome = OWN | {"data_sha256": "<script>", "classes": '"' * 9, "num_classes": -3}
    plan = launch(tmp_path, [final()], [outcome])
    assert not is_studys(plan.runs)
    assert "<script>" in wording.preface(plan)  # the page escapes it, as any text


def test_ten_thousand_runs_are_told_at_once() -> None:
    runs = pd.DataFrame(
        {
            "status": "done", "data_sha256": [CIFAR10.sha256] * 9_999 + ["5" * 64],
            "classes": NAMES, "data.name": "cifar10", "data.train_limit": None,
        }
    )  # fmt: skip
    found = dataset.columns(runs, trainer().data_sets)
    assert found["same_data"].tolist() == [True] * 9_999 + [False]
    assert set(found["data_set"]) == {"cifar10", "10 classes, content 55555555"}
    assert name_of(final()[1])


def test_images_of_another_content_explain_nothing() -> None:
    """Though number, labels and class names are the same."""
    import numpy as np

    from analysis.cifar10.explain import tested
    from local_machine.errors import InputError
    from trainer.config import DataConfig
    from trainer.data.datasets import load as load_data

    config = DataConfig(name="digits", test_limit=100)
    data = load_data(config)
    logits = np.eye(10, dtype=np.float32)[data.test_labels]

    def made(content: str) -> predictions.Predictions:
        return predictions.Predictions(
            "t", data.test_index, data.test_labels, logits, data.classes, content
        )

    for content in (data.sha256, "", "recorded: 0,1"):
        assert len(tested.images(config, made(content)).images) == 100
    with pytest.raises(InputError, match="are not those that t was tested on: their content"):
        tested.images(config, made("0" * 64))
