"""What accuracy costs: counted in operations, and no claim of it without seeds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
from results_folder import Point, finish, folder_of, write_plan

from analysis.cifar10.task import load
from analysis.data.study import Study
from analysis.figures.style import svg
from analysis.output.model import Part
from analysis.sections import cost
from trainer.config import TrainConfig
from trial_records.tables import EPOCHS_SCHEMA, write_table
from trial_records.trial_files import EPOCHS

DECAY = "optimizer.weight_decay"


def study_of(tmp_path: Path, points: dict[float, dict[str, Any]], seeds: int = 3) -> Study:
    """A point a weight decay, with what its runs record; `val_accuracy` is that of each seed."""
    trials: list[Point] = [
        ({DECAY: decay}, TrainConfig().override({DECAY: decay, "seed": seed}))
        for decay in points
        for seed in range(seeds)
    ]
    write_plan(tmp_path, trials, seeds=list(range(seeds)))
    for point, config in trials:
        changes = dict(points[point[DECAY]])
        accuracies = changes.pop("accuracies", (0.9,) * seeds)
        finish(
            folder_of(tmp_path, (point, config)), config,
            val_accuracy=accuracies[config.seed], test_accuracy=accuracies[config.seed], **changes,
        )  # fmt: skip
    return load(tmp_path, [])


def part(study: Study) -> Part:
    (found,) = cost.cost(study).parts
    return found


CHEAP = {"flops_per_image": 1e9, "accuracies": (0.80, 0.81, 0.82)}
DEAR = {"flops_per_image": 4e9, "accuracies": (0.90, 0.911, 0.92)}


def test_the_front_is_by_operations_whatever_the_clock_said(tmp_path: Path) -> None:
    """The cheap point's machine stood still, the dear one's shared its device."""
    study = study_of(
        tmp_path,
        {
            1e-3: CHEAP | {"seconds": 9e4},
            1e-4: DEAR | {"seconds": 60.0},
            1e-5: DEAR | {"flops_per_image": 5e9, "seconds": 1.0},
        },
    )
    front = part(study).tables[1].frame
    assert front["point"].tolist() == [f"grid: {DECAY} 0.001", f"grid: {DECAY} 0.0001"]
    assert front["PFLOPs"].tolist() == ["0.135", "0.54"]  # 1e9 x 45,000 images x 3 epochs
    assert front[cost.TOLD].tolist() == ["-", "yes"]
    assert "Bonferroni for the 3 pairs of all 3 points" in part(study).tables[1].caption
    text = " ".join(part(study).footnotes)
    assert "not seconds" in text and "the front does not depend on them" in text
    (axes,) = part(study).pictures[0].figure.axes
    assert "PFLOPs" in axes.get_xlabel() and "minutes" not in axes.get_xlabel()
    assert svg(part(study).pictures[0].figure)


def test_minutes_are_of_quiet_runs_alone(tmp_path: Path) -> None:
    study = study_of(
        tmp_path, {1e-3: CHEAP | {"device_share": 0.5}, 1e-4: DEAR | {"seconds": 120.0}}
    )
    first = study.plans[0].runs["trial"].tolist()[3]
    rows = [
        dict.fromkeys(EPOCHS_SCHEMA.names, 0.5) | {"epoch": epoch, "seconds": seconds}
        for epoch, seconds in enumerate((1.0, 1.0, 500.0))
    ]
    write_table(tmp_path / "grid" / first / EPOCHS, rows, EPOCHS_SCHEMA)
    study = load(tmp_path, [])
    assert cost.quiet(study.plans[0]).tolist() == [False] * 4 + [True] * 2
    minutes = part(study).tables[1].frame["minutes"].tolist()
    assert math.isnan(minutes[0]) and minutes[1] == 2.0


def test_points_of_two_devices_have_no_minutes_and_one_place(tmp_path: Path) -> None:
    study = study_of(tmp_path, {1e-3: CHEAP, 1e-4: DEAR})
    runs = study.plans[0].runs
    runs.loc[0, "device"] = "another"
    assert len(part(study).pictures) == 1
    front = part(study).tables[1].frame
    assert math.isnan(front["minutes"][0]) and pd.isna(front["device"][0])
    assert front["device"][1] == "cpu"


def test_a_step_on_the_front_that_seeds_do_not_tell_says_so(tmp_path: Path) -> None:
    near = {"flops_per_image": 4e9, "accuracies": (0.82, 0.80, 0.8101)}
    (table,) = part(study_of(tmp_path, {1e-3: CHEAP, 1e-4: near})).tables[1:]
    said = table.frame[cost.TOLD].tolist()[1]
    assert said == "seeds do not tell them apart (more than 100 seeds would, with 80 % power)"
    lone = part(study_of(tmp_path / "b", {1e-3: CHEAP, 1e-4: DEAR}, seeds=1)).tables[1].frame
    assert lone[cost.TOLD].tolist()[1].startswith("not enough seeds to tell them apart (one seed")


def test_runs_that_do_not_say_their_operations_are_counted_out(tmp_path: Path) -> None:
    study = study_of(tmp_path, {1e-3: CHEAP, 1e-4: DEAR | {"flops_per_image": None}})
    found = part(study)
    assert not found.pictures and len(found.tables) == 1
    assert "3 results left out of accuracy over cost: how many operations" in " ".join(found.notes)
    assert not any("Pareto" in note for note in found.footnotes)
