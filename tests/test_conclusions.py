"""The verdict's sentences, the oddities and the comparison of two folders: rules from data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results_folder import Point, fail, finish, folder_of, grid_points, run, write_plan
from scipy import stats as scipy_stats

from analysis.answers.conclusions import flags, found, missing
from analysis.cifar10 import diagnostics, weight_decay
from analysis.cifar10.claims.every_claim import answered
from analysis.cifar10.claims.verdict import against_reported, evidence, verdict
from analysis.cifar10.discrepancies import discrepancies
from analysis.cifar10.reported import reported
from analysis.cifar10.task import load
from analysis.data.study import Study
from analysis.sections.comparison import comparison
from analysis.sections.cost import standstills
from analysis.sections.summary import summary
from analysis.sections.sweep import choice
from analysis.stats import seed_values, summary_tables
from trainer.config import TrainConfig
from trainer.recipes import reported as protocol
from trial_records.tables import EPOCHS_SCHEMA, write_table
from trial_records.trial_files import EPOCHS

DECAY = "optimizer.weight_decay"


def seeds_of(
    results: Path,
    values: Mapping[Any, Sequence[float]],
    axis: str = DECAY,
    base: TrainConfig | None = None,
    sweep: str = "grid",
    **plan: Any,
) -> Study:
    """A launch with a point a value and a trial a seed, whose accuracies are given; both splits
    have the same one."""
    base = base or protocol("resnet18")
    trials: list[tuple[Point, float]] = [
        (({axis: value}, base.override({axis: value, "seed": 42 + seed})), accuracy)
        for value, accuracies in values.items()
        for seed, accuracy in enumerate(accuracies)
    ]
    write_plan(results, [point for point, _ in trials], sweep=sweep, **plan)
    for point, accuracy in trials:
        finish(
            folder_of(results, point, sweep), point[1],
            val_accuracy=accuracy, val_accuracy_last=accuracy, test_accuracy=accuracy,
        )  # fmt: skip
    return load(results, [])


# --- what was found --------------------------------------------------------------------------


def said_of(study: Study) -> str:
    return " ".join(verdict(study, answered(study)))


def test_a_lead_that_seeds_do_not_explain(tmp_path: Path) -> None:
    study = seeds_of(tmp_path, {1e-3: [0.95, 0.951, 0.952], 5e-4: [0.94, 0.941, 0.9421]})
    said = found(study.plans[0])
    assert f"validation chooses {DECAY} 0.001, with 95.10 % on validation and 95.10 %" in said
    assert "(3 seeds; 10,000 images alone leave it between 94.66 and 95.51 %)" in said
    assert f"the next best, {DECAY} 0.0005, is +1.00 points (95 % over 3 seeds: +0.98" in said
    assert said.endswith("more than seeds explain.")


def test_a_lead_that_seeds_explain(tmp_path: Path) -> None:
    study = seeds_of(tmp_path, {1e-3: [0.95, 0.96, 0.93], 5e-4: [0.94, 0.93, 0.96]})
    assert "seeds do not tell them apart (more than 100 seeds would, with 80 % power)." in found(
        study.plans[0]
    )


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_seeds_are_said(tmp_path: Path, n: int) -> None:
    study = seeds_of(tmp_path, {1e-3: [0.95] * n, 5e-4: [0.5] * n})
    said = found(study.plans[0])
    assert f"+45.00 points ({n} of 3 seeds that an interval takes)" in said
    few = (
        "about 3 seeds would, with 80 % power" if n > 1 else "one seed does not show how many would"
    )
    assert said.endswith(f"not enough seeds to tell them apart ({few}).")


def test_validation_chooses_and_not_the_test_images(tmp_path: Path) -> None:
    points_: list[Point] = grid_points((64, 128), (25,))
    write_plan(tmp_path, points_)
    for point, validation, test in zip(points_, (0.9, 0.8), (0.7, 0.99), strict=True):
        finish(folder_of(tmp_path, point), point[1], val_accuracy=validation, test_accuracy=test)
    said = found(load(tmp_path, []).plans[0])
    assert "validation chooses batch_size 64, epochs 25, with 90.00 % on validation" in said
    assert "70.00 % on the test images" in said


def test_one_trial_and_none(tmp_path: Path) -> None:
    write_plan(tmp_path, [({}, TrainConfig())], sweep="alone")
    assert found(load(tmp_path, []).plans[0]).endswith("no trial has a result.")
    finish(folder_of(tmp_path, ({}, TrainConfig()), "alone"), TrainConfig())
    said = found(load(tmp_path, []).plans[0])
    assert "one configuration, with 91.00 % on validation and 90.00 % on the test images" in said
    assert "next best" not in said


def test_seeds_that_only_one_point_has_are_not_compared(tmp_path: Path) -> None:
    base = protocol("resnet18")
    trials: list[Point] = [
        ({DECAY: value}, base.override({DECAY: value, "seed": seed}))
        for value, seed in ((1e-3, 1), (5e-4, 2))
    ]
    write_plan(tmp_path, trials)
    for trial in trials:
        finish(folder_of(tmp_path, trial), trial[1])
    assert "has no seed in common with it" in found(load(tmp_path, []).plans[0])


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=8))
def test_a_difference_is_scipys_paired_t(pairs: list[tuple[float, float]]) -> None:
    a, b = dict(enumerate(x for x, _ in pairs)), dict(enumerate(y for _, y in pairs))
    gap = seed_values.difference(a, b)
    assert gap is not None and gap.interval is not None
    expected = scipy_stats.ttest_rel(list(a.values()), list(b.values())).confidence_interval(0.95)
    if len({x - y for x, y in pairs}) > 1:
        assert gap.interval == pytest.approx((expected.low, expected.high), abs=1e-9)
    other = seed_values.difference(b, a)
    assert other is not None and other.mean == pytest.approx(-gap.mean, abs=1e-12)


def test_equal_means_have_one_winner_everywhere(tmp_path: Path) -> None:
    """The first planned, in whatever order a section's table is."""
    trials = [*grid_points((64,), (50, 25)), *grid_points((128,), (50, 25))]
    write_plan(tmp_path, trials)
    for trial in trials:
        finish(folder_of(tmp_path, trial), trial[1])
    (plan,) = load(tmp_path, []).plans
    assert "validation chooses batch_size 64, epochs 50" in found(plan)
    assert "is that of batch_size 64, epochs 50" in choice(plan)
    study = seeds_of(tmp_path / "decay", {1e-2: [0.9], 1e-3: [0.9]})
    point = weight_decay.chosen(study.plans[0], "resnet18")
    assert point is not None and point[DECAY] == 1e-2


def test_a_best_that_is_behind_on_common_seeds_has_no_lead(tmp_path: Path) -> None:
    study = seeds_of(tmp_path, {2e-3: [0.95], 1e-3: [0.96, 0.9, 0.9]})
    said = found(study.plans[0])
    assert "On the seeds that both have it is not ahead of the next best" in said
    assert "lead" not in said
    (paragraph,) = weight_decay.judgement(study.plans[0], "resnet18")
    assert "the value chosen here is not ahead: -1.00 points" in paragraph


# --- evidence, what is missing, what is flagged ----------------------------------------------


def test_only_the_studys_own_settings_are_evidence(tmp_path: Path) -> None:
    seeds_of(tmp_path, {1e-3: [0.95]}, sweep="full", overrides={"data.root": "somewhere"})
    study = seeds_of(tmp_path, {5e-4: [0.95]}, sweep="small", scale="smoke")
    assert "Only these launches are evidence about the reported study: full" in evidence(study)
    assert evidence(study).endswith("(others: smoke scale).")
    sweeps = [sweep for sweep in study.sweeps if sweep.name == "small"]
    only = Study(study.results, sweeps, [], study.task)
    assert evidence(only).startswith("Nothing here is evidence for or against")
    assert "on 45,000 images for 100 epochs, in models as wide as the reported" in evidence(only)
    sweeps = [sweep for sweep in study.sweeps if sweep.name == "full"]
    only = Study(study.results, sweeps, [], study.task)
    assert evidence(only).startswith("Every launch with a result has the reported study's")


def test_launches_without_a_result_are_no_evidence(tmp_path: Path) -> None:
    write_plan(tmp_path, grid_points())
    assert evidence(load(tmp_path, [])).startswith("No launch has a result yet")


def test_the_final_model_is_counted_against_the_reported_one(tmp_path: Path) -> None:
    base = protocol("wrn_28_10")
    trials: list[Point] = [({}, base.override({"seed": seed})) for seed in (42, 43, 44)]
    write_plan(tmp_path, trials, sweep="final", seeds=[42, 43, 44])
    for trial, accuracy in zip(trials, (0.9645, 0.966, 0.963), strict=True):
        finish(folder_of(tmp_path, trial, "final"), trial[1], test_accuracy=accuracy)
    study = load(tmp_path, [])
    (plan,) = study.plans
    said = against_reported(plan, study)[0]
    assert said.startswith("Of 3 reported figures beside it, 2 are missed by more than seeds")
    assert said.endswith("explain; 1 is not told from what is measured.")
    (table,) = [
        table
        for part in diagnostics.parts(plan, study)
        for table in part.tables
        if table.name.endswith("00000001-reported")
    ]
    larger = table.frame.set_index("figure")[summary_tables.LARGER]
    assert larger.to_dict() == {"train": "yes", "validation": "yes", "test, top-1": "no"}


def test_what_is_missing_and_flagged_is_counted(tmp_path: Path) -> None:
    trials = grid_points()
    write_plan(tmp_path, trials)
    finish(folder_of(tmp_path, trials[0]), trials[0][1])
    fail(folder_of(tmp_path, trials[1]), "NONFINITE")
    finish(folder_of(tmp_path, trials[2]), trials[2][1], stopped_early=True)
    study = load(tmp_path, [])
    (said,) = missing(study)
    assert "2 of 4 trials have no result (1 failed, 1 pending)" in said
    assert flags(study).startswith("2 of 4 trials are flagged (EARLY_STOP x1, NONFINITE x1).")


def test_settings_that_made_no_difference_are_not_compared(tmp_path: Path) -> None:
    study = seeds_of(tmp_path, {2e-3: [0.95, 0.91], 1e-3: [0.95, 0.91]})
    said = found(study.plans[0])
    assert "has the same accuracy with each seed: nothing is told." in said
    assert "lead" not in said


def test_a_lead_names_its_images(tmp_path: Path) -> None:
    said = found(seeds_of(tmp_path, {2e-3: [0.95, 0.96, 0.97], 1e-3: [0.9, 0.91, 0.92]}).plans[0])
    assert "Its lead on validation over the next best, " in said
    assert said.count("+5.00 points") == 2
    assert "; on the test images it is +5.00 points" in said


def test_epochs_that_a_scale_shrank_are_told(tmp_path: Path) -> None:
    point = {"epochs": 100}
    write_plan(tmp_path, [(point, protocol("resnet18").override({"epochs": 8}))], scale="cpu")
    finish(
        folder_of(tmp_path, (point, protocol("resnet18").override({"epochs": 8}))),
        protocol("resnet18").override({"epochs": 8}),
    )
    said = found(load(tmp_path, []).plans[0])
    assert "validation chooses epochs 100 (8 at this scale)" in said


def test_configurations_that_sweeps_share_are_counted_once(tmp_path: Path) -> None:
    seeds_of(tmp_path, {2e-3: [0.95]}, sweep="one")
    notes = summary(seeds_of(tmp_path, {2e-3: [0.95], 1e-3: [0.9]}, sweep="two")).parts[0].notes
    assert notes[1].startswith("They have 2 configurations between them")


def test_a_machine_that_stood_still_is_told(tmp_path: Path) -> None:
    study = seeds_of(tmp_path, {2e-3: [0.95]})
    assert not standstills(study)
    (folder,) = (tmp_path / "grid").glob("t-*")
    rows = [
        dict.fromkeys(EPOCHS_SCHEMA.names, 0.5) | {"epoch": epoch, "seconds": seconds}
        for epoch, seconds in enumerate((18.0, 3868.0, 16.0))
    ]
    write_table(folder / EPOCHS, rows, EPOCHS_SCHEMA)
    (said,) = standstills(load(tmp_path, []))
    assert said.startswith(f"grid: an epoch of {folder.name} took 3,868 s, where its usual is 18 s")


def test_reported_figures_are_counted_where_the_launch_compares(tmp_path: Path) -> None:
    trials = grid_points((128,), (50, 100))
    write_plan(tmp_path, trials)
    for trial, accuracy in zip(trials, (0.8803, 0.91), strict=True):
        finish(folder_of(tmp_path, trial), trial[1], test_accuracy=accuracy)
    said = said_of(load(tmp_path, []))
    assert "Of 2 reported figures beside it, 2 have too few seeds to tell." in said
    seeds = tmp_path / "seeds"
    many = [
        (point, config.override({"seed": seed})) for point, config in trials for seed in (1, 2, 3)
    ]
    write_plan(seeds, many)
    near = (0.8793, 0.8803, 0.8813, 0.91, 0.911, 0.912)
    for trial, accuracy in zip(many, near, strict=True):
        finish(folder_of(seeds, trial), trial[1], test_accuracy=accuracy)
    said = said_of(load(seeds, []))
    assert "Of 2 reported figures beside it, 1 is exceeded by more than seeds explain;" in said
    assert "1 is not told from what is measured." in said
    smoke = tmp_path / "smoke"
    write_plan(smoke, trials, scale="smoke")
    finish(folder_of(smoke, trials[0]), trials[0][1])
    assert "figures beside it" not in said_of(load(smoke, []))


# --- oddities --------------------------------------------------------------------------------


def told(study: Study) -> dict[str, str]:
    """What is said of each oddity."""
    parts = discrepancies(study).parts
    assert len(parts) == len(reported()["oddities"])
    return {part.notes[0]: " ".join(part.notes[1:]) for part in parts}


def test_oddities_that_nothing_speaks_to_name_the_command(tmp_path: Path) -> None:
    study = seeds_of(tmp_path, {0.1: [0.9], 0.2: [0.9]}, axis="optimizer.lr")
    for said in told(study).values():
        assert said.startswith("No trial of this report speaks to it. To ask: python -m sweeps.")


def test_the_low_cell_is_looked_at(tmp_path: Path) -> None:
    trials = grid_points((128,), (100,))
    write_plan(tmp_path, trials)
    finish(folder_of(tmp_path, trials[0]), trials[0][1], stopped_early=True, test_accuracy=0.5)
    (said,) = [text for what, text in told(load(tmp_path, [])).items() if "52.11" in what]
    assert "batch 128 x 100 epochs has 50.00 % (1 seed) on the test images" in said
    assert "flagged EARLY_STOP" in said
    assert "reported: 52.11 %" in said


def test_a_cell_that_still_runs_is_no_explanation(tmp_path: Path) -> None:
    ((point, config),) = grid_points((128,), (100,))
    write_plan(tmp_path, [(point, config), (point, config.override({"seed": 43}))])
    finish(folder_of(tmp_path, (point, config)), config, test_accuracy=0.9)
    (said,) = [text for what, text in told(load(tmp_path, [])).items() if "52.11" in what]
    assert "90.00 % (1 seed) on the test images, without a flag" in said


def test_the_stem_is_judged_by_seeds(tmp_path: Path) -> None:
    study = seeds_of(
        tmp_path,
        {"cifar": [0.95, 0.951, 0.949], "imagenet": [0.90, 0.902, 0.899]},
        "model.stem",
        protocol("dla34"),
    )
    (said,) = [text for what, text in told(study).items() if "ImageNet's stem" in what]
    assert re.search(r"dla34 has 95.00 % ± 0.10 \(3 seeds\).*more than seeds explain", said)


def test_two_weight_decays_and_two_cutouts(tmp_path: Path) -> None:
    seeds_of(tmp_path, {1e-3: [0.9], 5e-4: [0.91]}, sweep="decay")
    study = seeds_of(tmp_path, {12: [0.9], 16: [0.88]}, "augment.cutout", sweep="cutout")
    said = " ".join(told(study).values())
    assert "0.001 minus 0.0005 is -1.00 points" in said
    assert "length 16 minus 12 is -2.00 points" in said


# --- before and after ------------------------------------------------------------------------


def test_before_and_after_are_paired_by_seed(tmp_path: Path) -> None:
    before = seeds_of(tmp_path / "a", {1e-3: [0.90, 0.91, 0.92], 5e-4: [0.9]})
    after = seeds_of(tmp_path / "b", {1e-3: [0.91, 0.92, 0.9301], 1e-4: [0.9]})
    page = comparison(before, after)
    _, part = page.sections[0].parts
    (table,) = part.tables
    (row,) = table.frame.to_dict("records")
    assert row[DECAY] == "0.001"
    assert row["test n"] == 3
    assert f"Only before: {DECAY} 0.0005." in part.notes
    assert f"Only after: {DECAY} 0.0001." in part.notes
    assert (row["validation before"], row["validation after"]) == ("91.00", "92.00")
    assert "more than seeds explain" in row.values()
    same = comparison(before, before).sections[0].parts[1].tables[0].frame
    assert set(same["test: what follows"]) == {"the same to the last digit"}


def test_a_point_without_a_value_is_compared_too(tmp_path: Path) -> None:
    for side in ("a", "b"):
        seeds_of(tmp_path / side, {None: [0.9], 1000: [0.8]}, "data.train_limit")
    before, after = (load(tmp_path / side, []) for side in ("a", "b"))
    frame = comparison(before, after).sections[0].parts[1].tables[0].frame
    assert frame["data.train_limit"].tolist() == ["none", "1000"]


def test_launches_without_a_counterpart_and_changed_settings_are_named(tmp_path: Path) -> None:
    before = seeds_of(tmp_path / "a", {1e-3: [0.9]})
    seeds_of(tmp_path / "b", {1e-3: [0.9]}, base=protocol("resnet18").override({"epochs": 50}))
    after = seeds_of(tmp_path / "b", {1e-3: [0.9]}, sweep="new")
    head, part = comparison(before, after).sections[0].parts
    assert head.tables[0].frame["only in"].tolist() == ["after"]
    assert "epochs: 100 before, 50 after" in part.notes[0]


def test_the_command_compares_two_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds_of(tmp_path / "a", {1e-3: [0.9]})
    seeds_of(tmp_path / "b", {1e-3: [0.9]})
    assert run("--compare", tmp_path / "a", tmp_path / "b") == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == tmp_path / "b" / "comparison" / "report.html"
    assert "the same to the last digit" in path.read_text()
    assert run("--compare", tmp_path / "a", tmp_path / "none") == 2
    assert "error: there is no results folder" in capsys.readouterr().err
