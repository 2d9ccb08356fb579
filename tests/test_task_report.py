"""Results of a task that is not the project's, read and reported."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import results_folder
from task_results import TASK, finish, trials, write_plan, write_results

import sweeps.compact.__main__
from analysis.cifar10.task import load
from analysis.data.study import Plan
from local_machine.errors import run_command
from trial_records.trial_files import EPOCHS, RUN


@pytest.fixture
def results(tmp_path: Path) -> Path:
    write_results(tmp_path / "results")
    return tmp_path / "results"


def only(results: Path) -> Plan:
    study = load(results, ["mine"])
    assert study.problems == []
    (plan,) = study.plans
    return plan


def test_runs_of_any_task_are_read_and_none_is_called_damaged(results: Path) -> None:
    plan = only(results)
    assert plan.task.name == TASK and not plan.is_trainers and not plan.is_of_today
    runs = plan.runs
    assert runs["state"].tolist() == ["done"] * 5 + ["failed"]
    assert runs["objective"].tolist()[:5] == pytest.approx([1.0, 1.1, 1.2, 1.3, 1.4])
    assert runs["flags"].tolist() == [[]] * 5 + [["ERROR"]]
    assert runs["seconds"].tolist()[:5] == [2.0] * 5
    # A field of the configuration that bears the name of an outcome.
    assert runs["config.test_accuracy"].tolist() == ["a text"] * 6
    assert runs["net.depth"].tolist() == [2] * 6
    assert "optimizer.lr" not in plan.fields and "augment.cutmix" not in plan.fields


def test_what_was_logged_is_read_number_by_number(results: Path) -> None:
    plan = only(results)
    assert plan.epochs.empty
    first = plan.logged[plan.logged["trial"] == plan.runs["trial"][0]]
    assert first[["at", "by", "metric", "value"]].to_numpy().tolist()[:2] == [
        [0.0, "step", "loss", 2.0],
        [10.0, "step", "loss", 1.0],
    ]
    assert first["value"].isna().tolist() == [False, False, True]  # logged as NaN
    # Of the one that failed too.
    assert plan.logged["trial"].nunique() == 6


def test_what_is_damaged_is_named_and_left_out(results: Path) -> None:
    names = [trial["name"] for trial in trials()]
    for name, file in ((names[0], RUN), (names[1], EPOCHS)):
        path = results / "mine" / name / file
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 1
        path.write_bytes(content)
    study = load(results, ["mine"])
    said = [problem.what for problem in study.problems]
    assert len(said) == 2 and names[0] in said[0] and names[1] in said[1]
    (plan,) = study.plans
    assert plan.runs["state"].tolist() == ["unknown", *["done"] * 4, "failed"]
    assert names[1] not in set(plan.logged["trial"])


def test_values_that_no_run_can_have_are_named(results: Path) -> None:
    trial = trials()[0]
    finish(results / "mine" / trial["name"], trial, [1.0], seconds=-1.0)
    (problem,) = load(results, ["mine"]).problems
    assert "seconds is -1, which must be finite, at least 0" in problem.what


@pytest.mark.long
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside the trainer's"])
def test_a_report_is_made_of_it(results: Path, tmp_path: Path, beside: bool) -> None:
    if beside:
        points = results_folder.grid_points()
        results_folder.write_plan(results, points)
        for _, config in points:
            results_folder.finish(results / "grid" / results_folder.name_of(config), config)
    code = results_folder.run("--results", results, "--out", tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert code == 0
    assert "DIVERGED" not in text.partition("## Every trial")[2].partition("## ")[0]
    assert "Every file was read." in text
    assert "0.1" in text and "loss" in text


def test_a_report_knows_no_name_that_a_task_gave(tmp_path: Path) -> None:
    """Neither a metric nor a task is markup, mathematics or a formula; a seed there need not be."""
    metric, task = results_folder.HOSTILE, "=cmd|'/c calc'!A1 <blink>"
    planned = trials(seeds=1)
    write_plan(tmp_path, planned, metric=metric, name=task, seed=None)
    for trial, losses in zip(planned, ([1.0, 0.5], [float("nan")]), strict=True):
        finish(tmp_path / "mine" / trial["name"], trial, losses, metric)
    assert results_folder.run("--results", tmp_path, "--out", tmp_path / "report") == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert "<script>alert(1)" not in page and "<blink>" not in page
    cells = [
        cell
        for path in (tmp_path / "report" / "tables").glob("*.csv")
        for row in csv.reader(path.read_text().splitlines())
        for cell in row
    ]
    assert any("calc" in cell for cell in cells) and not [one for one in cells if one[:1] == "="]
    text = (tmp_path / "report" / "report.md").read_text()
    assert "1 trial of 2 that are done has no finite value" in text
    assert "The best mean, 0.5 over 1 trial, has lr 0.1" in text


def test_a_task_may_name_no_objective(results: Path, tmp_path: Path) -> None:
    write_plan(results, trials(), metric=None)
    results_folder.run("--results", results, "--out", tmp_path / "report")
    assert "names no objective" in (tmp_path / "report" / "report.md").read_text()


def test_compacted_trials_of_any_task_are_read_alike(results: Path) -> None:
    before = only(results)
    with pytest.raises(SystemExit) as end:
        words = ["mine", "--results", str(results)]
        run_command(sweeps.compact.__main__.app, words)
    assert not end.value.code and (results / "mine" / "compact").exists()
    assert not (results / "mine" / before.runs["trial"][0] / RUN).exists()
    after = only(results)
    assert after.runs.to_json() == before.runs.to_json()
    assert after.logged.to_json() == before.logged.to_json()


def test_a_plan_of_another_task_may_have_no_result(tmp_path: Path) -> None:
    write_plan(tmp_path, trials())
    assert only(tmp_path).runs["state"].tolist() == ["pending"] * 6


def test_a_report_of_other_tasks_alone_has_no_words_of_images(tmp_path: Path) -> None:
    """Neither an empty column of what only the trainer knows, nor its words."""
    write_results(tmp_path / "results")
    assert results_folder.run("--results", tmp_path / "results", "--out", tmp_path / "report") == 0
    text = (tmp_path / "report" / "report.md").read_text()
    # A field of the fixture's configuration is called so.
    shown = text.partition("## Every trial")[0].replace("test\\_accuracy", "")
    for word in ("image", "accurac", "epoch", "data set", "Other tasks", "evaluated", "CIFAR"):
        assert word not in shown, word
    assert "images" not in text.partition("What the finished trials ran on")[2]
