"""Selection: what is said of accuracies on the very seeds that chose, and what fresh seeds say."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from results_folder import Point, finish, folder_of, write_plan

from analysis.cifar10 import architectures, weight_decay
from analysis.cifar10.task import load
from analysis.data.study import Study
from analysis.data.study_choices import Candidate as Read
from analysis.data.study_choices import Choice as Made
from analysis.sections.choices import choices
from analysis.stats import selection_bias
from local_machine.json_files import write_sealed_json
from sweeps.marks.marking import target_of
from sweeps.study.runner import _noise
from sweeps.study.selection import RULE, Candidate, Selection, choose
from trainer.recipes import reported as protocol

DECAY = "optimizer.weight_decay"


def at(seed: int, **changes: Any) -> Point:
    point = {key.replace("__", "."): value for key, value in changes.items()}
    return point, protocol("resnet18").override({**point, "seed": seed})


def write(results: Path, sweep: str, accuracies: Mapping[float, tuple[Point, float]]) -> None:
    """A sweep whose trials have these validation accuracies, and 0.01 less in the last epoch."""
    write_plan(results, [point for point, _ in accuracies.values()], sweep)
    for point, accuracy in accuracies.values():
        folder = folder_of(results, point, sweep)
        last = accuracy - 0.01
        finish(folder, point[1], val_accuracy=accuracy, val_accuracy_last=last)


def candidate(point: Point, accuracy: float) -> Candidate:
    return Candidate(point[0], (f"t-{point[1].fingerprint[:8]}",), (accuracy,), 5000, 1.0)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A weight decay chosen with seed 42 of two values; the model that it was chosen on, over three
    seeds; and over two more that chose nothing."""
    results = tmp_path / "results"
    two = {value: (at(42, optimizer__weight_decay=value), found)
           for value, found in ((1e-3, 0.91), (1e-4, 0.86))}  # fmt: skip
    write(results, "weight_decay", two)
    # A data set that lies elsewhere is the same trial only where it says so: all else is equal.
    models = {seed: ({"model.name": "resnet18"}, point[1])
              for seed in (42, 43, 44) for point in [at(seed)]}  # fmt: skip
    assert models[42][1].fingerprint == two[1e-3][0][1].fingerprint
    other = ({"model.name": "vit"}, protocol("vit"))
    runs = dict(zip(models, zip(models.values(), (0.91, 0.85, 0.87), strict=True), strict=True))
    write(results, "architectures", {**runs, 0: (other, 0.7)})
    write(results, "final", {seed: (({}, at(seed)[1]), 0.86) for seed in (1042, 1043)})
    made = choose([candidate(point, accuracy) for point, accuracy in two.values()])
    three = [f"t-{config.fingerprint[:8]}" for _, config in models.values()]
    compared = choose(
        [
            Candidate({"model.name": "resnet18"}, tuple(three), (0.91, 0.85, 0.87), 5000, 1.0),
            Candidate({"model.name": "vit"}, (f"t-{other[1].fingerprint[:8]}",), (0.7,), 5000, 1.0),
        ]
    )
    entries = [
        {"stage": stage, "kind": "sweep", "identity": "", "chosen": dict(one.chosen.point),
         "reported": {}, **one.to_json([])}
        for stage, one in (("weight_decay", made), ("architectures", compared))
    ]  # fmt: skip
    (results / "tiny").mkdir()
    value = {"schema_version": 1, "study": "tiny", "scale": "full", "overrides": {}, "rule": RULE,
             "stages": entries}  # fmt: skip
    write_sealed_json(results / "tiny" / "choices.json", value)
    return load(results, [])


def notes(study: Study, sweep: str) -> list[str]:
    (plan,) = (plan for plan in study.plans if plan.sweep == sweep)
    return selection_bias.notes(plan, study)


def test_a_comparison_names_the_run_that_chose_before_it(study: Study) -> None:
    (said, epochs) = notes(study, "architectures")
    assert said == (
        "model.name resnet18: weight_decay chose the configuration among 2 points by this very run "
        "(seed 42), whose validation accuracy, 91.00 %, is therefore too high on average; over the "
        "seeds that had no part in that choice it is 86.00 % (2 seeds: 43, 44)."
    )
    assert epochs == (
        "Validation accuracy is that of the best epoch, the maximum over up to 3 epochs, which is "
        "too high on average: 1.00 points above the last epoch's (mean of 4 runs, at most 1.00)."
    )
    (plan,) = (plan for plan in study.plans if plan.sweep == "architectures")
    assert said in architectures.parts(plan, study)[0].notes


def test_fresh_seeds_chose_nothing_anywhere(study: Study) -> None:
    """Neither 42, which chose the decay, nor 43 and 44, which chose the model."""
    (section,) = choices(study).parts
    frame = section.tables[0].frame.set_index("stage")
    assert dict(frame["fresh seeds"]) == {"weight_decay": "86.00 (2)", "architectures": "86.00 (2)"}
    assert not notes(study, "final")[:-1]
    # Its best run is among those by which the model was chosen, but after it.
    assert not notes(study, "weight_decay")[:-1]
    (plan,) = (plan for plan in study.plans if plan.sweep == "weight_decay")
    said = " ".join(weight_decay.parts(plan, study)[0].notes)
    assert "As the best of 2 points on these very seeds" in said
    assert "the same configuration has 86.00 % (2 seeds: 1042, 1043)." in said


def test_without_fresh_seeds_that_is_said(study: Study) -> None:
    alone = load(study.results, ["weight_decay"])
    said = " ".join(weight_decay.parts(alone.plans[0], alone)[0].notes)
    assert "there is no run of it with a seed that chose nothing" in said
    (section,) = choices(alone).parts
    assert list(section.tables[0].frame["fresh seeds"]) == ["-"]


def test_a_run_of_one_epoch_is_no_maximum(tmp_path: Path) -> None:
    write(tmp_path, "one", {0: (at(42), 0.9)})
    (plan,) = load(tmp_path, []).plans
    assert len(selection_bias.best_epoch(plan.runs)) == 1
    assert not selection_bias.best_epoch(plan.runs.assign(epochs_run=1))
    (said,) = selection_bias.best_epoch(plan.runs.assign(val_accuracy_last=None))
    assert said.endswith("; the last epoch's is not recorded.")


# --- within the noise -------------------------------------------------------------------------


def drawn(points: list[tuple[float, ...]]) -> tuple[Selection, Made]:
    """A choice as it is made, and as the report reads it."""
    found = [
        Candidate({"x": number}, (f"t{number}",), values, 500, 1.0)
        for number, values in enumerate(points)
    ]
    made = choose(found)
    json = made.to_json([])
    read = [Read.model_validate(one) for one in json["candidates"]]
    rest = {key: value for key, value in json.items() if key != "point"}
    head = {"stage": "s", "kind": "sweep", "chosen": {}, "reported": {}, "left_out": []}
    return made, Made(**{**rest, **head, "candidates": read})


@pytest.mark.parametrize(
    ("points", "told", "words"),
    [
        ([(0.8, 0.81, 0.82), (0.7, 0.71, 0.72)], True, ""),
        ([(0.8, 0.81, 0.82), (0.81, 0.80, 0.79)], False, "; within the noise of training again"),
        ([(0.8,), (0.7,)], None, "; 1 seed a point are too few to tell it from the next"),
        ([(0.8, 0.81, 0.82)], None, ""),
        # Three times the same one image of 500: coarse, and not sure.
        ([(0.8, 0.8, 0.8), (0.798, 0.798, 0.798)], False, "; within the noise of training again"),
    ],
)
def test_a_winner_within_the_noise_says_so(
    points: list[tuple[float, ...]], told: bool | None, words: str
) -> None:
    made, read = drawn(points)
    assert made.told_apart is told
    assert made.to_json([])["told_apart_from_next_by_seeds"] is told
    assert _noise(made).startswith(words)
    assert bool(_noise(made)) == bool(words)
    lead = selection_bias.lead(read)
    assert (lead.told_apart if lead else None) is told


def test_where_nothing_differs_few_winners_are_told_apart() -> None:
    """Six points of three seeds: whichever comes first is told from the next in at most 5 %, and
    the report says what the choice said."""
    random_ = random.Random(0)
    false = 0
    for _ in range(400):
        rows = [tuple(random_.gauss(0.8, 0.01) for _ in range(3)) for _ in range(6)]
        made, read = drawn(rows)
        lead = selection_bias.lead(read)
        assert lead is not None and lead.told_apart is made.told_apart
        false += bool(made.told_apart)
    assert false <= 0.05 * 400


def test_a_choice_made_with_a_trial_that_is_excluded_now_says_so(study: Study) -> None:
    (row,) = study.trials.query("sweep == 'weight_decay' and val_accuracy > 0.9").to_dict("records")
    target_of(study.results, f"weight_decay/{row['trial']}").mark("exclude", "its disk broke")
    again = load(study.results, [])
    (part,) = choices(again).parts
    assert again.problems == []
    said = (
        f"weight_decay: {row['trial']} is excluded from this report, and the study chose with it."
    )
    assert said in part.notes
