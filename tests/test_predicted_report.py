"""Functions that predict, from their launch to the report on one of their runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import results_folder
from results_folder import HOSTILE
from scipy import stats
from sklearn import metrics

import sweeps.compact.__main__
from analysis.cifar10.task import load
from analysis.data import task_predictions
from analysis.data.predictions import Predictions
from analysis.data.study import Plan, Study
from analysis.data.task_predictions import PredictedClasses, PredictedValues
from analysis.sections import predicted
from analysis.stats import same_results
from local_machine.errors import run_command
from trial_records import tables
from trial_records.trial_files import PREDICTIONS, RUN

ROOT = Path(__file__).parent.parent
# Each seed is wrong on other examples: error, what is minimised, rises with the seed.
DEFINITION = """
import numpy as np
from sweeps import Sweep, grid, maximize, minimize

BASE = {"bias": 0.0, "seed": 0}
CLASSES = ("ant", "bee", HOSTILE)

def drawn(config):
    labels = np.arange(60) % 3
    wrong = np.arange(60) < 6 + 3 * config["seed"] + 20 * config["bias"]
    return labels, (labels + wrong) % 3, float(wrong.mean())

def logits(config, run):
    labels, guess, error = drawn(config)
    run.predict(labels=labels, logits=2.0 * np.eye(3)[guess], classes=CLASSES)
    run.log(score=1 - error)

def classes(config, run):
    labels, guess, error = drawn(config)
    names = np.array(CLASSES)
    run.predict(labels=names[labels], predicted=names[guess])
    run.log(error=error)

def values(config, run):
    targets = np.linspace(0, 10, 50)
    noise = np.random.default_rng(config["seed"]).normal(0, 1 + config["seed"], 50)
    run.predict(targets=targets, values=targets + config["bias"] + noise)
    run.log(error=1.0 + config["seed"] + config["bias"])

def nothing(config, run):
    run.log(error=1.0)

space = grid({"bias": [1.0, 0.0]})
sweep = Sweep(KIND, base=BASE, space=space, seeds=SEEDS, objective=OBJECTIVE)
"""


def launched(folder: Path, kind: str, seeds: int = 4, on: str = "debug") -> Path:
    folder.mkdir(exist_ok=True)
    objective = 'maximize("score")' if kind == "logits" else 'minimize("error")'
    text = DEFINITION.replace("HOSTILE", repr(HOSTILE)).replace("OBJECTIVE", objective)
    definition, results = folder / f"{kind}.py", folder / "results"
    definition.write_text(text.replace("KIND", kind).replace("SEEDS", str(seeds)))
    words = [sys.executable, "-m", "sweeps.launch", str(definition), "--results", str(results)]
    done = subprocess.run([*words, "--on", on], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of each kind two points of four seeds; the values by a worker."""
    folder = tmp_path_factory.mktemp("predicted")
    launched(folder, "logits")
    launched(folder, "classes")
    launched(folder, "nothing", seeds=1)
    return launched(folder, "values", on="local")


@pytest.fixture(scope="module")
def report(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    assert results_folder.run("--results", results, "--out", out) == 0
    return out


def only(results: Path, kind: str) -> tuple[Study, Plan]:
    study = load(results, [kind])
    assert study.problems == []
    (plan,) = study.plans
    return study, plan


def shown(report: Path, kind: str) -> str:
    """What the report says of the predictions of one launch."""
    text = (report / "report.md").read_text().replace("\\", "")
    title = rf"### {kind}, full scale \([0-9a-f]+\): predictions"
    found = re.search(rf"{title}(.*?)\n##+ (?:\w+, full scale|Every trial)", text, re.S)
    return found[1] if found else ""


@pytest.mark.long
@pytest.mark.parametrize("kind", ["logits", "classes"])
def test_classes_are_reported_of_the_median_run_of_the_best_point(
    results: Path, report: Path, kind: str
) -> None:
    text = shown(report, kind)
    # Of 4 seeds, whose errors are 6, 9, 12 and 15, the worse of the two in the middle.
    assert "8 runs of 8 have predictions." in text
    assert "bias 0.0 (seed 2): of 4 it has the worse of the two middle values" in text
    assert "48 of 60 examples are right (80.00 %), 12 are wrong." in text
    assert "are of the examples that the task predicted" in text
    wilson = stats.binomtest(48, 60).proportion_ci(method="wilson")
    assert f"80.00 | {100 * wilson.low:.2f} to {100 * wilson.high:.2f}" in text
    assert ("Top-k accuracy" in text) == ("ECE" in text) == (kind == "logits")
    assert "Confusion matrix of" in text
    for word in ("image", "test sample", "test accuracy", "None was reported"):
        assert word not in text, word
    study, plan = only(results, kind)
    (run,) = plan.runs[plan.runs["trial"].isin(text.split())].to_dict("records")
    found = task_predictions.of(study, plan, run)
    assert isinstance(found, Predictions if kind == "logits" else PredictedClasses)
    scores = metrics.f1_score(found.labels, found.predicted, average="macro")
    assert f"{scores:.4f}" in text
    assert found.classes == ("ant", "bee", HOSTILE) or kind == "classes"
    if kind == "classes":
        assert found.classes == tuple(sorted(("ant", "bee", HOSTILE)))


def test_values_are_reported_of_the_median_run_of_the_best_point(
    results: Path, report: Path
) -> None:
    text = shown(report, "values")
    assert "bias 0.0 (seed 2)" in text and "50 examples" in text
    study, plan = only(results, "values")
    (run,) = plan.runs[plan.runs["trial"].isin(text.split())].to_dict("records")
    found = task_predictions.of(study, plan, run)
    assert isinstance(found, PredictedValues)
    for figure in (
        metrics.root_mean_squared_error(found.targets, found.values),
        metrics.mean_absolute_error(found.targets, found.values),
        metrics.r2_score(found.targets, found.values),
        float(np.mean(found.targets - found.values)),
    ):
        assert f"{figure:.6g}" in text
    largest = int(np.argmax(np.abs(found.targets - found.values)))
    assert f"residual |\n| ---: | ---: | ---: | ---: |\n| {largest} |" in text
    names = [path.name for path in (report / "figures").glob("values-*.png")]
    assert any("-predicted" in one for one in names) and any("-residuals" in one for one in names)


def test_a_task_that_predicts_nothing_has_no_such_part(report: Path) -> None:
    assert shown(report, "nothing") == ""


def test_a_name_of_a_class_is_no_markup(report: Path) -> None:
    assert "<script>alert(1)" not in (report / "report.html").read_text()


def test_one_run_of_one_point_is_shown_and_said_to_be_the_only_one(tmp_path: Path) -> None:
    results = launched(tmp_path, "classes", seeds=1)
    study, plan = only(results, "classes")
    first, *_ = predicted.parts(plan, study)
    assert "the only one there with predictions and a value" in first.notes[0]
    assert "which flatters where it was measured on these examples" in first.notes[0]


def first_table(results: Path, kind: str) -> list[list[Any]]:
    study, plan = only(results, kind)
    rows: list[list[Any]] = predicted.parts(plan, study)[0].tables[0].frame.to_numpy().tolist()
    return rows


@pytest.mark.long
def test_what_is_compacted_is_reported_alike(tmp_path: Path) -> None:
    for kind in ("logits", "classes", "values"):
        own = launched(tmp_path / kind, kind, seeds=2)
        before = first_table(own, kind)
        stored = {path: tables.read_predictions(path.parent) for path in own.rglob(PREDICTIONS)}
        contents = {path: path.read_bytes() for path in stored}
        for words in ((), ("--undo",)):
            with pytest.raises(SystemExit) as end:
                run_command(sweeps.compact.__main__.app, [kind, "--results", str(own), *words])
            assert not end.value.code
            assert all(path.exists() == bool(words) for path in stored)
            for path, table in stored.items():
                assert tables.read_predictions(path.parent).equals(table)
            assert first_table(own, kind) == before
        assert {path: path.read_bytes() for path in contents} == contents


def test_seeds_that_predict_differently_have_no_one_result(results: Path) -> None:
    _, plan = only(results, "values")
    equal = plan.logged.assign(value=1.0)
    points = plan.runs[["point.bias"]]
    runs = plan.runs.assign(objective=1.0)
    numbers = same_results.results(runs, points, equal.assign(metric="loss"), "error")
    assert numbers.nunique() == len(runs)
    runs = runs.assign(predictions_sha256="the same")
    assert same_results.results(runs, points, equal.assign(metric="loss"), "error").nunique() == 2


@pytest.mark.long
@pytest.mark.parametrize("change", ["gone", "another run's", "damaged"])
def test_what_cannot_be_used_is_named_and_not_shown(tmp_path: Path, change: str) -> None:
    results = launched(tmp_path, "values", seeds=1)
    study, plan = only(results, "values")
    folders = [study.folder(plan, trial) for trial in plan.runs["trial"]]
    path = folders[1] / PREDICTIONS  # bias 0, the best
    if change == "gone":
        path.unlink()
    elif change == "damaged":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        path.write_bytes((folders[0] / PREDICTIONS).read_bytes())
    (part,) = predicted.parts(plan, study)
    assert not part.tables and "cannot be used: see the problems" in part.notes[0]
    (problem,) = study.problems
    assert str(path) in problem.what


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("values", {"index": 7}, "does not count its rows"),
        ("values", {"target": np.nan}, "not finite"),
        ("classes", {"label": 3}, "label that is none of the 3 classes"),
        ("classes", {"predicted": -1}, "predicted that is none"),
        ("logits", {"logits": [1.0, 2.0]}, "the logits of 3 classes"),
        ("logits", {"logits": [1.0, 2.0, np.inf]}, "not finite"),
    ],
)
def test_records_that_say_what_cannot_be_are_named(
    tmp_path: Path, kind: str, changes: dict[str, Any], said: str
) -> None:
    """By whoever wrote them, with digests that hold."""
    results = launched(tmp_path, kind, seeds=1)
    study, plan = only(results, kind)
    for trial, fingerprint in zip(plan.runs["trial"], plan.runs["fingerprint"], strict=True):
        folder = study.folder(plan, trial)
        table = tables.read_predictions(folder)
        rows = [{**row, **changes} for row in table.to_pylist()]
        whose = {name: tables.read_table(folder / RUN)[name][0].as_py() for name in tables.NAMED}
        digest = tables.write_table(folder / PREDICTIONS, rows, table.schema, whose)
        run = tables.read_run(folder, fingerprint)
        tables.write_run(folder, run | {"predictions_sha256": digest})
    study, plan = only(results, kind)
    predicted.parts(plan, study)
    (problem,) = study.problems
    assert said in problem.what
