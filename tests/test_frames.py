"""Reading many trials in several processes, and the sections that say what is missing and paid."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from results_folder import (
    Point,
    begin,
    fail,
    finish,
    folder_of,
    grid_points,
    only,
    write_plan,
)

from analysis.cifar10 import grid
from analysis.cifar10.task import load
from analysis.reading import frames as reading
from analysis.sections import cost, sweep
from analysis.stats.outliers import flags
from local_machine.errors import EXIT_IO, InputError
from local_machine.json_files import read_json, write_json
from trainer.config import TrainConfig
from trial_records.tables import EPOCHS_SCHEMA, write_table
from trial_records.trial_files import EPOCHS, RUN

MIXUP = "augment.mixup"


def seeds(n: int) -> list[Point]:
    return [({}, TrainConfig().override({"seed": seed})) for seed in range(n)]


def test_several_processes_read_what_one_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = seeds(7)
    write_plan(tmp_path, points)
    for point in points[:5]:
        finish(folder_of(tmp_path, point), point[1], test_accuracy=0.5 + point[1].seed / 100)
    begin(folder_of(tmp_path, points[5]))
    damaged = folder_of(tmp_path, points[2]) / RUN
    damaged.write_bytes(b"not Parquet")
    alone = load(tmp_path, [])
    monkeypatch.setattr(reading, "_BATCH", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert reading._readers(7) is not None
    several = load(tmp_path, [])
    pd.testing.assert_frame_equal(several.plans[0].runs, alone.plans[0].runs)
    pd.testing.assert_frame_equal(several.plans[0].epochs, alone.plans[0].epochs)
    assert [str(p) for p in several.problems] == [str(p) for p in alone.problems]
    assert str(damaged) in several.problems[0].what
    assert several.plans[0].runs["state"].tolist() == ["done", "done", "unknown", *["done"] * 2,
                                                       "pending", "pending"]  # fmt: skip


def test_the_configuration_is_what_flat_says(tmp_path: Path) -> None:
    base = TrainConfig()
    configs = [
        base.override({"data.train_limit": 1000, "schedule.milestones": "0.2,0.5"}),
        base.override({"epochs": 7, "optimizer.name": "adamw", "data.root": "/some/where"}),
    ]
    write_plan(tmp_path, [({}, config) for config in configs])
    runs = only(tmp_path).runs
    flat = pd.DataFrame([config.flat() for config in configs])
    pd.testing.assert_frame_equal(runs[list(flat.columns)], flat)


# --- sections --------------------------------------------------------------------------------


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """MixUp x cutout, two seeds: one trial NONFINITE, one that has begun, one that has not."""
    points: list[Point] = [
        (point, TrainConfig().override({**point, "seed": seed}))
        for point in ({MIXUP: m, "augment.cutout": c} for m in (0.0, 0.2) for c in (8, 16))
        for seed in (1, 2)
    ]
    write_plan(tmp_path, points, sweep="any", seeds=[1, 2])
    for i, point in enumerate(points[:5]):
        device = "NVIDIA H100" if i < 2 else "AMD EPYC, 2 threads"
        folder = folder_of(tmp_path, point, "any")
        finish(folder, point[1], seconds=3600.0, device=device, val_accuracy=0.5 + i / 10)
    fail(folder_of(tmp_path, points[5], "any"), "NONFINITE")
    begin(folder_of(tmp_path, points[6], "any"))
    return tmp_path


def test_a_sweep_that_still_runs_says_what_is_missing(results: Path) -> None:
    study = load(results, [])
    (part,) = sweep.parts(study.plans[0], study)
    said = " ".join(part.notes)
    assert "It varies augment.mixup (0.0, 0.2), augment.cutout (8, 16)." in said
    assert "3 of 8 trials have no result: 1 NONFINITE, 2 pending." in said
    assert "No main effects are given" in said
    assert [table.name for table in part.tables] == ["any-00000001"]


def test_one_trial_is_a_sweep_too(tmp_path: Path) -> None:
    config = TrainConfig()
    write_plan(tmp_path, [({}, config)])
    study = load(tmp_path, [])
    (part,) = sweep.parts(study.plans[0], study)
    assert "1 of 1 trial has no result: 1 pending." in " ".join(part.notes)
    assert cost.cost(study).parts[0].notes == ["No trial has a result that says how long it took."]
    finish(folder_of(tmp_path, ({}, config)), config)
    study = load(tmp_path, [])
    (part,) = sweep.parts(study.plans[0], study)
    assert "It is a single trial." in part.notes
    assert not [note for note in part.notes if "no result" in note]


def test_a_balanced_sweep_has_main_effects_and_flagged_results_a_table(tmp_path: Path) -> None:
    points: list[Point] = [
        (point, TrainConfig().override(point))
        for point in ({MIXUP: m, "augment.cutout": c} for m in (0.0, 0.2) for c in (8, 16))
    ]
    write_plan(tmp_path, points)
    for point in points:
        finish(folder_of(tmp_path, point), point[1], stopped_early=point is points[0])
    study = load(tmp_path, [])
    (part,) = sweep.parts(study.plans[0], study)
    names = [table.name for table in part.tables]
    assert names == ["grid-00000001", "grid-00000001-unflagged", "grid-00000001-effects"]
    assert len(part.tables[1].frame) == 1


def test_hours_of_gpus_and_cpus_are_not_added_up(results: Path) -> None:
    study = load(results, [])
    hours = cost.spent(study.trials)
    assert hours["trials"].tolist() == [3, 2]
    assert hours["CPU-hours"].tolist()[0] == 3.0
    assert hours["GPU-hours"].tolist()[1] == 2.0
    assert hours[["CPU-hours", "GPU-hours"]].notna().sum(axis="columns").tolist() == [1, 1]
    (part,) = cost.cost(study).parts
    told = "2.00 GPU-hours for 2 trials with a result; 3.00 CPU-hours for 3 trials with a result."
    assert part.notes[0] == told
    assert cost.untold(study) == []
    # Three epochs of half a second each.
    assert "0.00 hours in 1 failed, 0.00 hours in 1 pending" in part.notes[1]
    assert [picture.name for picture in part.pictures] == ["cost-cifar10-full"]


def test_a_result_that_does_not_say_what_it_cost_is_counted(tmp_path: Path) -> None:
    config = TrainConfig()
    write_plan(tmp_path, [({}, config)])
    finish(folder_of(tmp_path, ({}, config)), config, device=None)
    (said,) = cost.untold(load(tmp_path, []))
    assert said.startswith("1 result left out")


def test_the_grid_has_both_panels_its_cost_and_its_front(tmp_path: Path) -> None:
    points = grid_points()
    write_plan(tmp_path, points)
    for i, point in enumerate(points):
        took = {"seconds": 60.0 * (i + 1), "flops_per_image": 1e6 * (i + 1)}
        finish(folder_of(tmp_path, point), point[1], val_accuracy=0.9, **took)
    study = load(tmp_path, [])
    (part,) = grid.parts(study.plans[0], study)
    heat, paid, _ = part.pictures
    titles = [axes.get_title() for axes in heat.figure.axes]
    assert titles == ["measured", "reported, one run a cell", ""]
    scales = [image.get_clim() for axes in heat.figure.axes for image in axes.images]
    assert scales == [pytest.approx((52.11, 90.69))] * 2
    said = " ".join(text.get_text() for axes in heat.figure.axes for text in axes.texts)
    assert said.count("OUTLIER") == 2
    # All are as accurate on validation, so that the cheapest alone is on the front.
    (key, _) = paid.figure.legends
    assert [text.get_text() for text in key.get_texts()] == ["1  batch_size 64, epochs 25"]
    assert cost.FRONT in part.footnotes


def test_an_unreadable_column_is_named_by_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = seeds(4)
    write_plan(tmp_path, points)
    for point in points:
        finish(folder_of(tmp_path, point), point[1])
    path = folder_of(tmp_path, points[3]) / EPOCHS
    schema = EPOCHS_SCHEMA.set(0, EPOCHS_SCHEMA.field(0).with_type(pa.string()))
    write_table(path, [dict.fromkeys(schema.names, 0.5) | {"epoch": "one"}], schema)
    monkeypatch.setattr(reading, "_BATCH", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    study = load(tmp_path, [])
    assert ["does not hold the columns" in problem.what for problem in study.problems] == [True]


# --- what no trial can have written ----------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(
    "changes",
    [
        {"test_images": 0},
        {"test_images": -1},
        {"test_images": None},
        {"test_images": -1, "test_accuracy": None},
        {"val_images": 0},
        {"test_accuracy": 2.0},
        {"test_accuracy": -0.1},
        {"test_accuracy": float("inf")},
        {"val_accuracy_last": -float("inf")},
        {"top_5": 1.5},
        {"best_epoch": None},
        {"best_epoch": -1},
        {"best_epoch": 3},
        {"epochs_run": None},
        {"epochs_run": None, "best_epoch": None},
        {"seconds": float("inf")},
        {"seconds": -1.0},
        {"world_size": 0},
    ],
    ids=str,
)
def test_an_impossible_value_costs_its_trial_only(tmp_path: Path, changes: dict[str, Any]) -> None:
    points = seeds(3)
    write_plan(tmp_path, points)
    for point in points:
        finish(folder_of(tmp_path, point), point[1], **(changes if point is points[1] else {}))
    study = load(tmp_path, [])
    assert study.plans[0].runs["state"].tolist() == ["done", "unknown", "done"]
    assert study.plans[0].runs["flags"].tolist() == [[], [], []]
    assert len(study.plans[0].epochs) == 3 * 3
    (problem,) = study.problems
    path = folder_of(tmp_path, points[1]) / RUN
    assert path.is_file()
    assert problem.what.startswith(f"{path} is damaged: ")
    assert any(f"{column} is " in problem.what for column in changes)
    assert problem.exit_code == EXIT_IO


def test_what_was_not_measured_is_no_damage(tmp_path: Path) -> None:
    (point,) = points = seeds(1)
    write_plan(tmp_path, points)
    unknown = dict.fromkeys(("test_accuracy", "test_images", "top_5", "seconds", "world_size"))
    finish(folder_of(tmp_path, point), point[1], **unknown)
    study = load(tmp_path, [])
    assert study.problems == []
    assert study.plans[0].runs["state"].tolist() == ["done"]


@pytest.mark.parametrize("count", [0.0, -1.0, float("nan")])
def test_flags_stand_without_a_count_of_images(count: float) -> None:
    accuracies = [0.5, 0.5, 0.9]
    runs = pd.DataFrame(
        {"trial": list("abc"), "state": "done", "stopped_early": False, "classes": "x,y",
         "test_images": count, "test_accuracy": accuracies, "val_accuracy": accuracies,
         "val_accuracy_last": accuracies, "result": [0, 1, 2], "same_data": True}
    )  # fmt: skip
    assert flags(runs, pd.DataFrame(index=runs.index), {}) == [["DIVERGED"]] * 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("optimizer.weight_decay", "big"),
        ("optimizer.weight_decay", None),
        ("optimizer.lr", True),
        ("model.name", 1),
        ("epochs", 2.5),
        ("seed", {"a": 1}),
        ("schedule.milestones", [0.3, "late"]),
    ],
)
def test_a_point_of_another_type_is_a_damaged_plan_where_nothing_vouches_for_it(
    tmp_path: Path, field: str, value: object
) -> None:
    write_plan(tmp_path, seeds(1))
    write_plan(tmp_path, [({field: value}, TrainConfig())], sweep="other")
    assert load(tmp_path, []).problems == []  # another version may have had such a field
    path = tmp_path / "other/plans/00000001.json"
    write_json(path, read_json(path))  # without a digest, as the first version did
    study = load(tmp_path, [])
    assert [plan.sweep for plan in study.plans] == ["grid"]
    (problem,) = study.problems
    assert "00000001.json is not a usable plan" in problem.what
    assert f"trials.0.point: {field}=" in problem.what


def test_a_point_holds_what_its_fields_take(tmp_path: Path) -> None:
    point = {"schedule.milestones": [0.2, 0.5], "data.train_limit": None, "optimizer.lr": 1}
    write_plan(tmp_path, [(point, TrainConfig())])
    runs = only(tmp_path).runs
    assert runs["point.schedule.milestones"].tolist() == ["0.2,0.5"]
    texts = {
        "schedule.milestones": "0.2,0.5",
        "model.dropout": "5e-1",
        "data.test_limit": "none",
        "schedule.warmup_epochs": "200",
        "model.patch": "8",
        "optimizer.nesterov": "true",
    }
    write_plan(tmp_path, [(texts, TrainConfig())])
    assert load(tmp_path, []).problems == []


def test_a_sweep_whose_name_is_no_text_is_left_out(tmp_path: Path) -> None:
    bad = os.fsdecode(b"b\xffad")
    write_plan(tmp_path, seeds(1), sweep=bad)
    with pytest.raises(InputError, match="is not UTF-8"):
        load(tmp_path, [])
    write_plan(tmp_path, seeds(1))
    study = load(tmp_path, [])
    assert [plan.sweep for plan in study.plans] == ["grid"]
    (problem,) = study.problems
    assert r"b\xffad/plans/00000001.json is not UTF-8" in str(problem)
    str(problem).encode()
    assert (tmp_path / bad).is_dir()
