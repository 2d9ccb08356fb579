"""What is flagged as out of line, against slow references, and what follows from a flag."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from results_folder import Point, begin, finish, folder_of, grid_points, only, write_plan
from scipy import stats as scipy_stats

from analysis.cifar10 import reported_tables
from analysis.cifar10.reported import reported
from analysis.cifar10.task import load
from analysis.data.study import Plan
from analysis.sections import wording
from analysis.stats import costs as point_costs
from analysis.stats import summary_tables
from analysis.stats.outliers import FLAGS, grid_outliers, seed_outliers
from analysis.stats.seed_values import between, by_seed
from trainer.config import TrainConfig

CODES = (
    "NONFINITE", "DIVERGED", "EARLY_STOP", "TIMEOUT", "OUT_OF_MEMORY", "OUTLIER",
    "NODE_FAILURE", "NCCL", "DATA", "ERROR", "PRUNED", "OTHER_DATA", "MIXED_CODE", "MIXED_DEVICE",
    "SAME_RESULT", "NOT_REPRODUCED",
)  # fmt: skip


def test_every_code_has_its_rule() -> None:
    assert set(FLAGS) == set(CODES)
    assert all(FLAGS.values())


# --- among seeds -----------------------------------------------------------------------------


def slow_seed_outliers(right: list[int], images: int) -> list[bool]:
    """Grubbs' test as the t test of one value against the others, for as many values as there are,
    and the floor in exact arithmetic but for the square root."""
    found = [False] * len(right)
    if len(right) < 3:
        return found
    mean = Fraction(sum(right), len(right))
    i = max(range(len(right)), key=lambda i: abs(right[i] - mean))
    others = [Fraction(count, images) for j, count in enumerate(right) if j != i]
    middle = sum(others) / len(others)
    away = abs(Fraction(right[i], images) - middle)
    spread = math.sqrt(sum((one - middle) ** 2 for one in others) / max(1, len(others) - 1))
    error = spread * math.sqrt(1 + 1 / len(others))
    p = 0.0 if error == 0 else 2 * float(scipy_stats.t.sf(float(away) / error, len(others) - 1))
    smoothed = (middle * images + 1) / (images + 2)
    floor = math.sqrt(smoothed * (1 - smoothed) / images)
    found[i] = away > 0 and len(right) * p < 0.015 and float(away) > 3.5 * floor
    return found


@given(
    st.integers(100, 10_000).flatmap(
        lambda images: st.tuples(st.lists(st.integers(0, images), max_size=8), st.just(images))
    )
)
@example(([100, 100, 99], 100))
def test_seed_outliers_agree_with_the_rule_in_words(case: tuple[list[int], int]) -> None:
    right, images = case
    found = seed_outliers([count / images for count in right], images)
    assert found == slow_seed_outliers(right, images)
    assert sum(found) <= 1


def test_seeds_that_agree_by_luck_make_no_outlier_of_the_next() -> None:
    assert seed_outliers([0.9, 0.9, 0.905, 0.9], 10_000) == [False] * 4
    assert seed_outliers([0.9, 0.9, 0.8, 0.9], 10_000) == [False, False, True, False]
    # All images right leaves no binomial error: one image wrong is still nothing.
    assert seed_outliers([1.0, 1.0, 359 / 360], 360) == [False] * 3


# --- in a grid -------------------------------------------------------------------------------


def slow_grid_outliers(means: np.ndarray[Any, Any]) -> list[tuple[int, int]]:
    """The rule in words, block by block."""
    cells = {place: value for place, value in np.ndenumerate(means) if not math.isnan(value)}
    low = []
    for (i, j), value in cells.items():
        beside = [cells[p] for p in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)) if p in cells]
        told = []
        for top, left in itertools.product((i - 1, i), (j - 1, j)):
            block = {(top + a, left + b) for a in (0, 1) for b in (0, 1)}
            if block <= cells.keys():
                k, m = 2 * top + 1 - i, 2 * left + 1 - j
                told.append(cells[k, j] + cells[i, m] - cells[k, m])
        if told and all(other - 0.05 > value for other in beside + told):
            low.append((i, j))
    return low


accuracies = st.one_of(st.just(math.nan), st.integers(0, 100).map(lambda percent: percent / 128))
shapes = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(
    shapes.flatmap(
        lambda shape: st.lists(
            accuracies, min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]
        ).map(lambda values: np.array(values).reshape(shape))
    )
)
def test_grid_outliers_agree_with_the_rule_in_words(means: np.ndarray[Any, Any]) -> None:
    found = [tuple(map(int, place)) for place in np.argwhere(grid_outliers(means))]
    assert found == slow_grid_outliers(means)


effects = st.lists(st.integers(0, 64), min_size=1, max_size=6).map(sorted)


@given(effects, effects, st.booleans())
def test_a_monotone_additive_grid_has_no_outlier(
    rows: list[int], columns: list[int], falls: bool
) -> None:
    means = np.add.outer(rows, columns[::-1] if falls else columns) / 128
    assert not grid_outliers(means).any()


def test_the_reported_grid_has_the_two_cells_that_nobody_explained() -> None:
    table = reported_tables.reported_grid(reported()["grid_bs_epoch"])
    low = table[table["flags"] == "OUTLIER"]
    assert list(zip(low["batch_size"], low["epochs"], low["test"].round(4), strict=True)) == [
        (256, 25, 0.6810),  # 20 epochs in the printed table
        (128, 100, 0.5211),
    ]
    assert set(table["flags"]) == {"", "OUTLIER"}


# --- from files to flags and tables ----------------------------------------------------------


def reported_cells(tmp_path: Path, seeds: tuple[int, ...] = (1, 2)) -> Plan:
    """Two seeds a cell whose accuracies are the reported ones."""
    figures = {
        (c["batch_size"], c["epochs"]): c["test"] / 100
        for c in reported()["grid_bs_epoch"]["cells"]
    }
    points: list[Point] = [
        (point, config.override({"seed": seed}))
        for point, config in grid_points((64, 128, 256), (25, 50, 100))
        for seed in seeds
    ]
    write_plan(tmp_path, points, seeds=list(seeds))
    for point in points:
        accuracy = figures[point[0]["batch_size"], point[0]["epochs"]]
        finish(folder_of(tmp_path, point), point[1], test_accuracy=accuracy)
    return only(tmp_path)


def test_all_trials_of_a_low_cell_are_flagged(tmp_path: Path) -> None:
    runs = reported_cells(tmp_path).runs
    low = runs[runs["flags"].map(bool)]
    assert low[["point.batch_size", "point.epochs", "seed"]].to_numpy().tolist() == [
        [128, 100, 1], [128, 100, 2], [256, 25, 1], [256, 25, 2],
    ]  # fmt: skip
    assert low["flags"].tolist() == [["OUTLIER"]] * 4


def seeds_of_one_point(tmp_path: Path, accuracies: list[float], **last: Any) -> Plan:
    points: list[Point] = [
        ({"augment.mixup": 0.2}, TrainConfig().override({"augment.mixup": 0.2, "seed": seed}))
        for seed in range(len(accuracies))
    ]
    write_plan(tmp_path, points, seeds=list(range(len(accuracies))))
    for point, accuracy in zip(points, accuracies, strict=True):
        changes = last if point is points[-1] else {}
        finish(folder_of(tmp_path, point), point[1], test_accuracy=accuracy, **changes)
    return only(tmp_path)


def test_a_seed_out_of_line_is_flagged_and_the_means_stand_with_and_without(tmp_path: Path) -> None:
    plan = seeds_of_one_point(tmp_path, [0.90, 0.91, 0.92, 0.69])
    assert plan.runs["flags"].tolist() == [[], [], [], ["OUTLIER"]]
    (row,) = summary_tables.unflagged(plan.runs).to_dict("records")
    assert (row["n"], row["n unflagged"]) == (4, 3)
    assert row["test"] == pytest.approx(0.855)
    assert row["test unflagged"] == pytest.approx(0.91)
    assert row["test unflagged sd"] == pytest.approx(0.01)
    # A flag drops nothing from the means that choose.
    assert summary_tables.sweep(plan.runs)["n"].tolist() == [4]


def test_two_seeds_tell_nothing(tmp_path: Path) -> None:
    plan = seeds_of_one_point(tmp_path, [0.9, 0.5])
    assert plan.runs["flags"].tolist() == [[], []]
    assert summary_tables.unflagged(plan.runs).empty


# --- beside what was reported ----------------------------------------------------------------


def test_one_more_run_of_the_same_recipe_is_what_seeds_explain() -> None:
    ours = [0.900, 0.905, 0.910]
    nan = math.nan
    (inside,) = reported_tables.told_from_reported([(0.89, ours, 10_000)])
    (outside,) = reported_tables.told_from_reported([(0.85, ours, 10_000)])
    assert inside is not None
    assert inside > 0.05
    assert outside is not None
    assert outside < 0.05
    # The prediction of one more, not the interval of our mean, which 0.89 lies outside of.
    assert scipy_stats.ttest_1samp(ours, 0.89).pvalue < 0.05
    deviation = 0.005 * math.sqrt(1 + 1 / 3)
    assert inside == pytest.approx(2 * scipy_stats.t.sf(0.015 / deviation, 2), rel=1e-3)
    assert (
        reported_tables.told_from_reported([(nan, ours, 10_000), (0.85, ours[:2], 10_000)])
        == [None] * 2
    )
    # One family: with eight others that do not differ it takes more.
    many = reported_tables.told_from_reported([(0.85, ours, 10_000), *[(0.905, ours, 10_000)] * 8])
    assert many[0] == pytest.approx(9 * outside)


def test_the_grid_says_where_seeds_explain_the_difference(tmp_path: Path) -> None:
    plan = reported_cells(tmp_path, (1, 2, 3))
    cells = reported_tables.grid_cells(plan.runs, reported()["grid_bs_epoch"])
    assert cells[summary_tables.LARGER].tolist() == ["no"] * 9
    one = reported_tables.grid_cells(plan.runs[plan.runs["seed"] == 1], reported()["grid_bs_epoch"])
    assert one[summary_tables.LARGER].tolist() == ["not enough seeds"] * 9


# --- cost and effects ------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12))
def test_the_front_is_what_nothing_dominates(points: list[tuple[int, int]]) -> None:
    costs, values = [float(cost) for cost, _ in points], [float(value) for _, value in points]
    expected = [
        not any(c <= cost and v >= value and (c, v) != (cost, value) for c, v in points)
        for cost, value in points
    ]
    assert point_costs.front(costs, values) == expected


def test_equal_counts_are_equal_on_the_front_whatever_the_last_bit_says() -> None:
    """The more costly point is right on as many images."""
    cheap, dear = 0.44799999999999995, 0.448
    assert point_costs.front([1.0, 2.0], [cheap, dear]) == [True, False]


def test_a_point_without_an_accuracy_is_not_on_the_front() -> None:
    assert point_costs.front([1.0, 2.0], [math.nan, 0.5]) == [False, True]


def test_main_effects_of_a_balanced_design_alone(tmp_path: Path) -> None:
    plan = reported_cells(tmp_path)
    effects = summary_tables.main_effects(plan.runs)
    assert effects is not None
    size = effects[(effects["axis"] == "batch_size") & (effects["value"] == "64")]
    assert size["test"].tolist() == [pytest.approx((0.8138 + 0.8591 + 0.8769) / 3)]
    assert effects["combinations"].tolist() == [3] * 6
    assert summary_tables.main_effects(plan.runs.iloc[1:]) is None
    assert summary_tables.main_effects(plan.runs.iloc[2:]) is None


def test_costs_are_operations_and_minutes_of_all_devices(tmp_path: Path) -> None:
    plan = seeds_of_one_point(tmp_path, [0.9, 0.92], seconds=120.0, world_size=4)
    (row,) = point_costs.costs(plan.runs).to_dict("records")
    assert row["point"] == "augment.mixup 0.2"
    assert row["flops"] == 1e9 * 45_000 * 3
    assert row["minutes"] == pytest.approx((12.34 / 60 + 8.0) / 2)
    assert row["n"] == 2


@pytest.mark.parametrize(
    ("device", "gpu"),
    [("cpu", False), ("AMD EPYC, 2 threads", False), ("NVIDIA H100 80GB HBM3", True)],
)
def test_a_gpu_is_told_from_a_cpu(device: str, gpu: bool) -> None:
    assert point_costs.is_gpu(device) is gpu


# --- the same result for every seed ----------------------------------------------------------


def seeds_alike(tmp_path: Path, alike: int, seeds: int = 4) -> Plan:
    """Two points of so many seeds; the first one's first `alike` have one and the same result."""
    decays = (0.0, 1e-3)
    points: list[Point] = [
        ({DECAY: decay}, TrainConfig().override({DECAY: decay, "seed": seed}))
        for decay in decays
        for seed in range(seeds)
    ]
    write_plan(tmp_path, points, seeds=list(range(seeds)))
    for point, config in points:
        folder = folder_of(tmp_path, (point, config))
        finish(folder, config, test_accuracy=0.9 - point[DECAY])
        if point[DECAY] == 0 and config.seed < alike:
            begin(folder, seed=0)
    return only(tmp_path)


DECAY = "optimizer.weight_decay"


def test_seeds_that_changed_nothing_are_flagged_and_count_as_one(tmp_path: Path) -> None:
    plan = seeds_alike(tmp_path, alike=4)
    assert plan.runs["flags"].tolist() == [["SAME_RESULT"]] * 4 + [[]] * 4
    assert by_seed(plan, {DECAY: 0.0}) == {0: 0.91}
    table = summary_tables.cells(plan.runs)
    assert table["n"].tolist() == [1, 4] and table["planned"].tolist() == [4, 4]
    assert table[summary_tables.SEEDS][0] is None and table[summary_tables.SEEDS][1] is not None
    gap = between(plan, {DECAY: 0.0}, {DECAY: 1e-3}, "test_accuracy")
    assert gap is not None and (gap.seeds, gap.p, gap.interval) == (1, None, None)
    assert summary_tables.unflagged(plan.runs).empty
    said = wording.preface(plan)
    assert "4 trials with different seeds have 1 result between them" in said
    assert "SAME_RESULT" in said


def test_two_alike_of_four_leave_three_seeds(tmp_path: Path) -> None:
    plan = seeds_alike(tmp_path, alike=2)
    assert plan.runs["flags"].tolist() == [["SAME_RESULT"]] * 2 + [[]] * 6
    assert list(by_seed(plan, {DECAY: 0.0})) == [0, 2, 3]


def test_equal_accuracies_are_no_same_result(tmp_path: Path) -> None:
    """Every accuracy of every seed is equal here, and the losses differ in the sixth digit."""
    plan = seeds_alike(tmp_path, alike=0)
    assert not any(plan.runs["flags"]) and wording.same_results(plan) == ""
    assert summary_tables.cells(plan.runs)["n"].tolist() == [4, 4]


def test_other_predictions_or_no_losses_are_no_same_result(tmp_path: Path) -> None:
    plan = seeds_alike(tmp_path / "a", alike=4)
    folders = [tmp_path / "a" / "grid" / trial for trial in plan.runs["trial"]]
    for i, (folder, seed) in enumerate(zip(folders[:4], range(4), strict=True)):
        config = TrainConfig().override({DECAY: 0.0, "seed": seed})
        finish(folder, config, test_accuracy=0.9, predictions_sha256=f"{i:064x}")
        begin(folder, seed=0)
    assert not any(only(tmp_path / "a").runs["flags"])
    bare = dict.fromkeys(("train_loss", "val_loss", "val_loss_smoothed"))
    plan = seeds_alike(tmp_path / "b", alike=4)
    for folder in folders:
        begin(tmp_path / "b" / "grid" / folder.name, seed=0, **bare)
    assert not any(only(tmp_path / "b").runs["flags"])


def test_a_trial_that_two_sweeps_share_repeats_nothing(tmp_path: Path) -> None:
    config = TrainConfig()
    for sweep in ("one", "two"):
        write_plan(tmp_path, [({}, config)], sweep=sweep)
        finish(folder_of(tmp_path, ({}, config), sweep), config)
    assert [plan.runs["flags"].tolist() for plan in load(tmp_path, []).plans] == [[[]], [[]]]
