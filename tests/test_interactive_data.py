"""What the charts' data say: exact where they say so, near enough where not, and no secret."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from results_folder import begin, finish, name_of, write_plan

from analysis.cifar10.task import load, trainer
from analysis.data.search_space import Range, Search
from analysis.data.study import POINT, Plan, Study, Sweep
from analysis.interactive import curves as curves_module
from analysis.interactive import rows
from analysis.interactive.curves import EXACT, POINTS, curves
from analysis.interactive.parts import charts, data
from local_machine.secrets import MASK
from trainer.config import TrainConfig
from trial_records.plan import PlannedTask

DTYPES = {"f64": "<f8", "f32": "<f4", "u32": "<u4", "u16": "<u2", "u8": "u1"}
TASK = PlannedTask(name="mine", reference="mine.py:task", metric="loss", direction="minimize")


def unpacked(packed: dict[str, str]) -> Any:
    """As decode.js reads it."""
    content = zlib.decompress(base64.b64decode(packed["data"]), -zlib.MAX_WBITS)
    if packed["type"] == "json":
        return json.loads(content)
    return np.frombuffer(content, DTYPES[packed["type"]])


def column(said: dict[str, Any], name: str) -> Any:
    (found,) = (one for one in said["columns"] if one["name"] == name)
    if "numbers" in found:
        return unpacked(found["numbers"])
    words = [None, *unpacked(found["words"])]
    return [words[code] for code in unpacked(found["codes"])]


def launch(trials: int = 150, steps: int = 100, **changes: Any) -> Plan:
    """A launch of a task that minimises; the last trial has no result, one value is not finite."""
    draw = np.random.default_rng(3)
    names = [f"t{i}" for i in range(trials)]
    values = np.exp(-np.arange(steps) / 30) * draw.uniform(0.5, 2, (trials, 1))
    values = values + draw.normal(0, 0.01, values.shape)
    values[0, 5] = np.nan
    one = {"trial": np.repeat(np.array(names, object), steps), "by": "epoch"}
    one["at"] = np.tile(np.arange(steps, dtype=float), trials)
    metrics = {"loss": values, "other": 1e9 * values, "third": values}
    logged = [pd.DataFrame(one | {"metric": k, "value": v.ravel()}) for k, v in metrics.items()]
    runs = pd.DataFrame(
        {"trial": names, "state": "done", "seconds": 1.0, "seed": 0, "objective": values[:, -1]}
    )
    runs.loc[trials - 1, "objective"] = np.nan
    runs["flags"] = [[] for _ in names]
    runs[POINT + "lr"] = draw.uniform(0.1, 0.2, trials)
    runs["predictions_sha256"] = None
    runs = runs.assign(**changes)
    return Plan(
        "s", "00000001", "full", {}, ["lr"], [0], "", "", runs, pd.DataFrame(), task=TASK,
        logged=pd.concat(logged, ignore_index=True), fields=tuple(changes),
    )  # fmt: skip


def said_of(plan: Plan) -> dict[str, Any]:
    study = Study(Path("nowhere"), [Sweep(plan.sweep, [plan], [])], [], trainer())
    found: dict[str, Any] = json.loads(data(plan, study))
    return found


def test_of_the_best_trials_every_value_is_exact() -> None:
    plan = launch()
    found = curves(plan, rows.of(plan))
    assert found["metrics"] == ["loss", "other"]
    kept = unpacked(found["exact"]["rows"])
    best = plan.runs["objective"].sort_values().index[:EXACT]
    assert kept.tolist() == best.tolist()
    loss = plan.logged[plan.logged["metric"] == "loss"].set_index("trial")["value"]
    expected = np.concatenate([loss[f"t{row}"].to_numpy() for row in kept])
    np.testing.assert_array_equal(unpacked(found["exact"]["values"][0]), expected)
    assert unpacked(found["exact"]["lengths"]).tolist() == [100] * EXACT
    assert unpacked(found["exact"]["at"])[:100].tolist() == list(range(1, 101))


def test_of_the_others_some_values_in_16_bits() -> None:
    plan = launch()
    part = curves(plan, rows.of(plan))["sampled"]
    kept, at = unpacked(part["rows"]), unpacked(part["at"])
    assert len(kept) == 50
    assert kept[-1] == 149  # without a result: last
    assert unpacked(part["lengths"]).tolist() == [POINTS] * 50
    for nth, metric in enumerate(("loss", "other")):
        values = plan.logged[plan.logged["metric"] == metric].set_index("trial")["value"]
        stored = {key: unpacked(packed) for key, packed in part["values"][nth].items()}
        for i, row in enumerate(kept):
            own = values[f"t{row}"].to_numpy()
            here = slice(i * POINTS, (i + 1) * POINTS)
            assert at[here][[0, -1]].tolist() == [1, 100]
            codes = stored["codes"][here].astype(float)
            read = np.where(
                codes == 65535, np.nan, stored["low"][i] + codes / 65534 * stored["span"][i]
            )
            wanted = own[at[here].astype(int) - 1]
            np.testing.assert_allclose(read, wanted, atol=np.nanmax(np.abs(own)) / 30_000)


@pytest.mark.parametrize("trials", [1, EXACT])
def test_few_trials_have_all_metrics_exact(trials: int) -> None:
    found = curves(plan := launch(trials), rows.of(plan))
    assert found["metrics"] == ["loss", "other", "third"]
    assert found["sampled"] is None


def test_a_value_that_is_not_finite_has_a_code_of_its_own() -> None:
    trials = [(0, np.arange(4)), (1, np.arange(4, 6))]
    column = pd.Series([1.0, np.nan, np.inf, 2.0, np.nan, np.nan])
    packed = curves_module._in_16_bits(column, trials)
    assert unpacked(packed["codes"]).tolist() == [0, 65535, 65535, 65534, 65535, 65535]


def test_a_launch_without_rows_has_columns_and_no_curves() -> None:
    plan = launch(3)
    empty = plan.logged.iloc[:0]
    said = said_of(Plan(**{**vars(plan), "logged": empty}))
    assert said["curves"]["metrics"] == []
    assert column(said, "loss").tolist()[:2] == plan.runs["objective"].tolist()[:2]


def test_columns_are_what_varies_and_what_came_of_it() -> None:
    mixed = [None, "auto", "8", True]
    plan = launch(
        4, model=mixed, width=[1, 1, 1, 1], api_key=["a", "b", "c", "d"], deep=[1, None, 2, 3]
    )
    said = said_of(plan)
    names = [one["name"] for one in said["columns"]]
    assert names[:3] == ["state", "lr", "loss"]
    assert {"model", "deep", "last other", "last epoch", "seconds"} <= set(names)
    assert "width" not in names
    assert column(said, "model") == [None, "auto", "8", "True"]
    assert column(said, "api_key") == [MASK] * 4
    np.testing.assert_array_equal(column(said, "deep"), [1, np.nan, 2, 3])
    assert column(said, "last epoch").tolist() == [100] * 4
    assert said["parallel"] is False


def test_an_axis_is_logarithmic_where_the_search_says_so_or_values_span_decades() -> None:
    def is_log(plan: Plan) -> bool:
        (found,) = (one for one in said_of(plan)["columns"] if one["name"] == "lr")
        return bool(found["log"])

    plan = launch(4)
    assert not is_log(plan)
    plan.runs[POINT + "lr"] = [1e-4, 1e-3, 1e-2, 1e-1]
    assert is_log(plan)
    flat = Range(kind="float", low=0, high=1)
    search = Search(
        sampler="tpe", pruner="none", objective="best", trials=4, seed=0, space={"lr": flat}
    )
    found = Plan(**{**vars(plan), "search": search})
    assert not is_log(found)
    assert said_of(found)["parallel"]


def test_a_trainers_launch_counts_epochs_from_1_and_shows_a_trial_that_runs(tmp_path: Path) -> None:
    configs = [TrainConfig(seed=seed) for seed in (1, 2)]
    write_plan(tmp_path, [({}, config) for config in configs], "mine", seeds=[1, 2])
    finish(tmp_path / "mine" / name_of(configs[0]), configs[0])
    begin(tmp_path / "mine" / name_of(configs[1]), 2)
    study = load(tmp_path, [])
    said = json.loads(data(study.plans[0], study))
    assert column(said, "state") == list(study.plans[0].runs["state"])
    assert column(said, "last epoch").tolist() == [3, 3]
    assert said["curves"]["metrics"][:2] == ["val_accuracy", "val_loss"]
    assert unpacked(said["curves"]["exact"]["at"]).tolist() == [1, 2, 3] * 2


def test_no_name_is_markup_and_the_caption_says_what_is_rounded() -> None:
    plan = launch(120)
    hostile = Plan(**{**vars(plan), "sweep": '"><img src=x>'})
    study = Study(Path("nowhere"), [Sweep("s", [hostile], [])], [], trainer())
    (chart,) = charts(hostile, study)
    assert "<img" not in chart.markup
    assert "in 16 bits" in chart.caption
    assert data(hostile, study) == data(hostile, study)
