"""The report, from results folders that the trial's own writers made."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from results_folder import (
    HOSTILE,
    Point,
    begin,
    fail,
    files,
    finish,
    folder_of,
    grid_points,
    name_of,
    only,
    run,
    write_plan,
)
from scipy.stats import binomtest

from analysis import whole_report
from analysis.cifar10 import reported_tables
from analysis.cifar10.reported import reported
from analysis.cifar10.task import load
from analysis.output.formats import latex, markdown
from analysis.output.table_text import show
from analysis.sections.routing import Kind, kind
from analysis.stats import summary_tables
from analysis.stats.intervals import difference_interval, sample_interval, seed_interval
from analysis.stats.outliers import FLAGS
from analysis.stats.seed_values import ranked
from local_machine.errors import InputError
from local_machine.json_files import read_json, write_sealed_json
from trainer.config import TrainConfig
from trainer.recipes import ARCHITECTURES
from trainer.recipes import reported as protocol
from trial_records.tables import EPOCHS_SCHEMA, PREDICTIONS_SCHEMA, write_table
from trial_records.trial_files import EPOCHS, RUN


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """batch size x epochs: one done, one missing, one NONFINITE, one stopped early."""
    results = tmp_path / "results"
    points = grid_points()
    write_plan(results, points)
    finish(folder_of(results, points[0]), points[0][1])
    begin(folder_of(results, points[1]))
    fail(folder_of(results, points[2]), "NONFINITE")
    finish(folder_of(results, points[3]), points[3][1], stopped_early=True, test_accuracy=0.8)
    return results


# --- load ------------------------------------------------------------------------------------


def test_every_planned_trial_is_a_row_with_its_state_and_flags(results: Path) -> None:
    runs = only(results).runs
    assert runs["state"].tolist() == ["done", "pending", "failed", "done"]
    assert runs["flags"].tolist() == [[], [], ["NONFINITE"], ["EARLY_STOP"]]
    assert runs["failure"].tolist() == ["", "", "loss is nan (epoch 1)", ""]
    assert runs["point.batch_size"].tolist() == [64, 64, 128, 128]
    assert runs["test_accuracy"].tolist()[::3] == [0.9, 0.8]
    # The configuration is there for trials that never ran, too.
    assert runs["model.name"].tolist() == ["dla34"] * 4
    assert {"val_accuracy", "top_5", "git_commit", "device"} <= set(runs.columns)
    assert len(only(results).epochs) == 4 * 3


@pytest.mark.parametrize(
    ("changes", "diverged"),
    [
        ({"test_accuracy": 0.108}, True),  # 0.1 + 3 standard errors of 10,000 is 0.109
        ({"test_accuracy": 0.110}, False),
        ({"test_accuracy": 0.110, "test_images": 100}, True),
        ({"val_accuracy": 0.9, "val_accuracy_last": 0.44}, True),
        ({"val_accuracy": 0.9, "val_accuracy_last": 0.46}, False),
    ],
)
def test_diverged(tmp_path: Path, changes: dict[str, Any], diverged: bool) -> None:
    points = grid_points((64,), (25,))
    write_plan(tmp_path, points)
    finish(folder_of(tmp_path, points[0]), points[0][1], **changes)
    assert only(tmp_path).runs["flags"].tolist() == [["DIVERGED"] * diverged]


def test_a_damaged_run_is_named_left_in_place_and_the_rest_read(results: Path) -> None:
    points = grid_points()
    damaged = folder_of(results, points[0]) / RUN
    damaged.write_bytes(damaged.read_bytes()[:-50])
    before = files(results)
    study = load(results, [])
    assert [str(damaged) in problem.what for problem in study.problems] == [True]
    assert study.plans[0].runs["state"].tolist() == ["unknown", "pending", "failed", "done"]
    assert files(results) == before


def test_a_file_of_another_version_is_a_problem(results: Path) -> None:
    point = grid_points()[0]
    path = folder_of(results, point) / EPOCHS
    newer = EPOCHS_SCHEMA.with_metadata({b"schema_version": b"2"})
    write_table(path, [dict.fromkeys(newer.names, 0.5) | {"epoch": 0}], newer)
    study = load(results, [])
    assert ["version 2" in problem.what for problem in study.problems] == [True]
    assert len(study.plans[0].epochs) == 3 * 3


def test_a_folder_with_another_trials_run_is_not_counted(results: Path) -> None:
    points = grid_points()
    finish(folder_of(results, points[0]), points[1][1])
    study = load(results, [])
    assert "another configuration" in study.problems[0].what
    assert study.plans[0].runs["state"].tolist()[0] == "unknown"


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"cause": "ERROR"}'])
def test_a_damaged_failure_record_is_a_problem_and_its_trials_state_is_unknown(
    results: Path, text: bytes
) -> None:
    (folder_of(results, grid_points()[2]) / "failure.json").write_bytes(text)
    study = load(results, [])
    assert len(study.problems) == 1
    assert study.plans[0].runs["state"].tolist()[2] == "unknown"


def test_no_results_and_no_plans_say_what_to_launch(tmp_path: Path) -> None:
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(InputError) as error:
            load(folder, [])
        assert error.value.exit_code == 2
        assert "python -m sweeps.launch NAME" in error.value.help


def test_an_unknown_name_gets_the_near_one(results: Path) -> None:
    with pytest.raises(InputError) as error:
        load(results, ["gird"])
    assert "'grid'" in error.value.help


@pytest.mark.parametrize(
    "damage",
    [
        {"schema_version": 2},
        {"axes": [1]},
        {"trials": [{"name": "../elsewhere"}]},
        {"id": "../x"},
    ],
)
def test_a_damaged_plan_is_a_problem_and_alone_an_error(
    results: Path, damage: dict[str, Any]
) -> None:
    write_plan(results, grid_points((256,)), id="00000002")
    path = results / "grid" / "plans" / "00000002.json"
    write_sealed_json(path, read_json(path) | damage)
    study = load(results, [])
    assert [str(path) in problem.what for problem in study.problems] == [True]
    assert len(study.plans) == 1
    (results / "grid" / "plans" / "00000001.json").unlink()
    with pytest.raises(InputError, match=re.escape(str(path))):
        load(results, [])


def test_a_plan_inside_another_is_superseded_and_equal_ones_count_once(tmp_path: Path) -> None:
    write_plan(tmp_path, grid_points((64,)), id="00000001")
    write_plan(tmp_path, grid_points((64, 128)), id="00000002")
    write_plan(tmp_path, grid_points((64, 128)), id="00000003")
    write_plan(tmp_path, grid_points((256,)), id="00000004")
    (sweep,) = load(tmp_path, []).sweeps
    assert [plan.id for plan in sweep.plans] == ["00000003", "00000004"]
    assert sweep.superseded == ["00000001", "00000002"]


# --- statistics ------------------------------------------------------------------------------


def test_known_intervals() -> None:
    # Newcombe (1998): 56/70 and 48/80 give 0.0524 to 0.3339 by method 10.
    assert difference_interval(56 / 70, 70, 48 / 80, 80) == pytest.approx(
        (0.0524, 0.3339), abs=1e-4
    )
    # t(0.975, 2) is 4.3027, and the standard error of 1, 2, 3 is 1 / sqrt(3).
    assert seed_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 2.4841, 2 + 2.4841), abs=1e-4)
    assert seed_interval([1.0, 2.0]) is None


@given(st.integers(1, 20_000), st.floats(0, 1))
def test_the_sample_interval_holds_the_accuracy(images: int, accuracy: float) -> None:
    low, high = sample_interval(accuracy, images)
    assert 0 <= low <= accuracy + 1e-12
    assert accuracy - 1e-12 <= high <= 1
    # Of whole images it is scipy's; a mean over seeds need not be one.
    seen = round(accuracy * images)
    wilson = binomtest(seen, images).proportion_ci(method="wilson")
    assert sample_interval(seen / images, images) == pytest.approx(
        (wilson.low, wilson.high), abs=1e-12
    )


# --- tables ----------------------------------------------------------------------------------


def test_reported_figures() -> None:
    figures = reported()
    cells = {(c["epochs"], c["batch_size"]): c for c in figures["grid_bs_epoch"]["cells"]}
    assert len(cells) == 9
    assert cells[100, 128]["test"] == 52.11
    assert (cells[25, 256]["test"], cells[25, 256]["epochs_printed"]) == (68.10, 20)
    models = {row["model"]: row for row in figures["architectures"]}
    assert tuple(models) == ARCHITECTURES
    assert models["wrn_28_10"]["test"] == 96.45 == figures["wrn_final"]["top_1"]
    assert sum(row["support"] for row in figures["wrn_final"]["per_class"]) == 10_000


def test_the_grid_shows_every_cell_beside_the_reported_one(results: Path) -> None:
    cells = reported_tables.grid_cells(only(results).runs, reported()["grid_bs_epoch"])
    assert cells["reported"].tolist() == [0.8138, 0.81, 0.8591, 0.8803]
    assert cells["difference"].tolist()[0] == pytest.approx(0.9 - 0.8138)
    grid = reported_tables.grid(cells)
    assert grid["epochs"].tolist() == [25, 50]
    assert grid["batch size 64"].tolist() == [
        "90.00\nreported 81.38 (+8.62)\nn 1 of 1",
        "no result\nreported 85.91\nn 0 of 1",
    ]
    assert grid["batch size 128"].tolist() == [
        "no result\nreported 81.00\nn 0 of 1\nNONFINITE",
        "80.00\nreported 88.03 (-8.03)\nn 1 of 1\nEARLY_STOP",
    ]


def test_several_seeds_give_a_mean_a_spread_and_an_interval(tmp_path: Path) -> None:
    base = TrainConfig()
    points: list[Point] = [
        (
            {"optimizer.weight_decay": decay},
            base.override({"optimizer.weight_decay": decay, "seed": s}),
        )
        for decay in (0.0, 1e-3)
        for s in (1, 2, 3)
    ]
    write_plan(tmp_path, points, seeds=[1, 2, 3])
    for point, accuracy in zip(points[:5], (0.90, 0.91, 0.92, 0.95, 0.97), strict=True):
        finish(folder_of(tmp_path, point), point[1], test_accuracy=accuracy)
    table = summary_tables.sweep(only(tmp_path).runs)
    assert table["test"].tolist() == pytest.approx([0.91, 0.96])
    assert table["test sd"].tolist()[0] == pytest.approx(0.01)
    assert table["n"].tolist() == [3, 2]
    assert table["planned"].tolist() == [3, 3]
    assert table["flags"].tolist() == ["", ""]
    assert table[summary_tables.SEEDS][1] is None
    shown = show(table)
    assert shown["test"].tolist() == ["91.00 ± 1.00", "96.00 ± 1.41"]
    assert shown["n"].tolist() == ["3 of 3", "2 of 3"]
    assert shown[summary_tables.SEEDS][0] == "88.52 to 93.48"


def test_architectures_follow_the_studys_order(tmp_path: Path) -> None:
    models = ("wrn_16_4", *reversed(ARCHITECTURES))
    points: list[Point] = [({"model.name": name}, protocol(name)) for name in models]
    write_plan(tmp_path, points)
    for point in points:
        finish(folder_of(tmp_path, point), point[1])
    plan = only(tmp_path)
    assert kind(plan) is Kind.ARCHITECTURES
    table = reported_tables.architectures(plan.runs, reported()["architectures"])
    assert table["model"].tolist() == [*ARCHITECTURES, "wrn_16_4"]
    assert table["difference"].tolist()[0] == pytest.approx(0.9 - 0.9577)
    assert math.isnan(table["reported"].tolist()[-1])


@pytest.mark.long
def test_two_launches_may_show_the_same_run(tmp_path: Path) -> None:
    for plan_id, seeds in (("00000001", (42, 43)), ("00000002", (43, 44))):
        trials: list[Point] = [({}, TrainConfig().override({"seed": seed})) for seed in seeds]
        write_plan(tmp_path, trials, sweep="alone", id=plan_id)
        for trial in trials:
            seed = trial[1].seed
            folder_of(tmp_path, trial, "alone").mkdir(exist_ok=True)
            rows = [{"index": 0, "label": 0, "logits": [1.0, 0.0]}]
            write_table(
                folder_of(tmp_path, trial, "alone") / "predictions.parquet", rows,
                PREDICTIONS_SCHEMA,
            )  # fmt: skip
            finish(
                folder_of(tmp_path, trial, "alone"), trial[1], val_accuracy=seed / 100,
                test_accuracy=1.0, test_images=1, classes="a,b",
            )  # fmt: skip
    names = [name for name, _ in whole_report.build(load(tmp_path, [])).files()]
    assert len(names) == len(set(names))
    assert len([name for name in names if "seed" in name or "confusion." in name]) >= 2


def test_many_values_are_no_ablation(tmp_path: Path) -> None:
    trials: list[Point] = [
        ({"label_smoothing": i / 100}, TrainConfig().override({"label_smoothing": i / 100}))
        for i in range(41)
    ]
    write_plan(tmp_path, trials[:40], sweep="few")
    write_plan(tmp_path, trials, sweep="many")
    few, many = load(tmp_path, []).plans
    assert (kind(few), kind(many)) == (Kind.ABLATION, Kind.SWEEP)


def test_a_sweep_without_axes_and_an_axis_with_none_are_shown(tmp_path: Path) -> None:
    write_plan(tmp_path, [({}, TrainConfig())], sweep="alone")
    limits: list[Point] = [
        ({"data.train_limit": limit}, TrainConfig().override({"data.train_limit": limit}))
        for limit in (None, 1000)
    ]
    write_plan(tmp_path, limits, sweep="limits")
    finish(folder_of(tmp_path, limits[0], "limits"), limits[0][1])
    alone, plan = load(tmp_path, []).plans
    assert len(summary_tables.sweep(alone.runs)) == 1
    table = summary_tables.sweep(plan.runs)
    assert table["n"].tolist() == [1, 0]
    (best,) = ranked(plan)
    assert best["data.train_limit"] is None or math.isnan(best["data.train_limit"])
    assert ranked(alone) == []


# --- report ----------------------------------------------------------------------------------


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


@pytest.mark.long
def test_the_command_writes_its_files_and_prints_the_page(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--results", results) == 0
    out = results / "report"
    printed = capsys.readouterr()
    assert printed.out == f"{out / 'report.html'}\n"
    assert printed.err
    names = set(files(out))
    assert {"report.html", "report.md", "tables/grid-00000001-grid.csv"} <= names
    assert {"figures/grid-00000001-heatmap.png", "figures/grid-00000001-curves.pdf"} <= names
    page = (out / "report.html").read_text()
    titles = re.findall("<h2[^>]*>(.*?)</h2>", page)
    assert titles == [
        "Best configuration", "Flagged", "What it cost", "Progress", "Reported claims",
        "Batch size x epochs", "In words", "Claims of the reported study",
        "Oddities of the reported study", "Cost", "Launches", "Every trial", "Provenance",
        "Problems",
    ]  # fmt: skip
    for code in ("NONFINITE", "EARLY_STOP"):
        assert code in page
        assert html.escape(FLAGS[code]) in page


@pytest.mark.long
def test_the_page_stands_alone_under_its_policy(results: Path) -> None:
    run("--results", results)
    page = (results / "report" / "report.html").read_text()
    tags = Tags(page).seen
    assert not [tag for tag, _ in tags if tag in ("link", "iframe", "object")]
    # Its own scripts, and data, which a browser does not run.
    kinds = [attributes.get("type") for tag, attributes in tags if tag == "script"]
    assert set(kinds) == {None, "application/json"}
    sources = [attributes["src"] or "" for tag, attributes in tags if tag == "img"]
    assert sources
    assert all(re.match(r"data:image/(png|svg\+xml);base64,", source) for source in sources)
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    assert not [attributes for _, attributes in tags if "style" in attributes]
    (policy,) = [a["content"] or "" for t, a in tags if a.get("http-equiv")]
    assert policy.startswith("default-src 'none';")
    # Bokeh writes style sheets, which run nothing.
    assert policy.count("unsafe") == 1 and "style-src 'unsafe-inline'" in policy
    allowed = re.findall(r"script-src ([^;]*)", policy)[0].split()
    digests = [
        hashlib.sha256(text.encode()).digest()
        for text in re.findall("<script>(.*?)</script>", page, re.DOTALL)
    ]
    assert allowed == [f"'sha256-{base64.b64encode(one).decode()}'" for one in digests]
    assert len(allowed) == kinds.count(None) == 3


def test_hostile_text_is_text_in_every_format(tmp_path: Path) -> None:
    points = grid_points((64,), (25,))
    write_plan(tmp_path, points, word="<b>a|b_c&", command=HOSTILE, scale=HOSTILE)
    folder = tmp_path / "grid" / name_of(points[0][1], "<b>a|b_c&")
    fail(folder, "<i>new</i>", HOSTILE)
    (folder / EPOCHS).write_bytes(b"not Parquet")
    assert run("--results", tmp_path) == 1  # it is the only trial, and has no result
    out = tmp_path / "report"
    page = (out / "report.html").read_text()
    tags = [tag for tag, _ in Tags(page).seen]
    assert tags.count("script") == page.count("</script>") == 4  # the page's own, and its data
    assert "i" not in tags
    assert "<b>a" not in page
    assert html.escape(HOSTILE) in page
    text = (out / "report.md").read_text()
    assert "<script" not in text
    assert "<b>" not in text
    for block in text.split("\n\n"):
        rows = [line for line in block.splitlines() if line.startswith("| ")]
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) <= 1
    tex = (out / "tables" / "flagged.tex").read_text()
    assert r"\textless{}script\textgreater{}" in tex
    assert r"a\textbar{}b\_c \& 50\% \$x\$" in tex
    frame = pd.read_csv(out / "tables" / "flagged.csv")
    assert frame["failure"].tolist() == [f"<i>new</i>: {HOSTILE} (epoch 1)"]


@given(st.text(alphabet=st.characters(codec="ascii", min_codepoint=32)))
def test_escapes_leave_no_character_of_the_formats(text: str) -> None:
    assert not re.search(r"[<>]|(?<!\\)(?:\\\\)*[|_*`\[\]]", markdown(text).replace("<br>", ""))
    bare = re.sub(r"\\(?:text[a-z]+\{\}|[&%$#_{}])", "", latex(text))
    assert not re.search(r"[&%$#_{}~^\\<>|]", bare)


@pytest.mark.long
def test_same_input_same_bytes(results: Path, tmp_path: Path) -> None:
    # One in this process, one in another whose sets and dicts of strings fall in another order.
    here, there = tmp_path / "here", tmp_path / "there"
    assert run("--results", results, "--out", here) == 0
    subprocess.run(
        [sys.executable, "-m", "analysis.report", "--results", str(results), "--out", str(there)],
        check=True,
        capture_output=True,
        cwd=Path(__file__).parent.parent,
        env=os.environ | {"PYTHONHASHSEED": "7"},
    )
    assert files(here) == files(there)
    assert len(files(here)) > 10


@pytest.mark.long
def test_strict_and_json(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--results", results, "--strict", "--json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema_version"] == 1
    assert [flag["codes"] for flag in answer["flags"]] == [
        ["NONFINITE"],
        ["EARLY_STOP"],
    ]
    assert answer["problems"] == []
    # Without epochs there is nothing to draw, which is quick.
    clean = results.parent / "clean"
    write_plan(clean, [({}, TrainConfig())])
    folder = folder_of(clean, ({}, TrainConfig()))
    finish(folder, TrainConfig())
    (folder / EPOCHS).unlink()
    assert run("--results", clean, "--strict") == 0
    (folder / EPOCHS).write_bytes(b"")
    assert run("--results", clean) == 1


def test_errors_are_two_lines(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--results", results / "none") == 2
    assert run("gird", "--results", results) == 2
    assert run("--no-such-option") == 2
    in_the_way = results / "file"
    in_the_way.write_text("mine")
    assert run("--results", results, "--out", in_the_way) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("error: ") == said.err.count("help: ") == 4
    assert "Traceback" not in said.err
    assert in_the_way.read_text() == "mine"


@pytest.mark.long
def test_a_smoke_report_says_that_it_is_no_evidence(tmp_path: Path) -> None:
    points = [
        (point, config.override({"epochs": 2, "data.name": "digits"}))
        for point, config in grid_points((64,), (25,))
    ]
    write_plan(tmp_path, points, scale="smoke", overrides={"data.name": "digits"})
    finish(folder_of(tmp_path, points[0]), points[0][1])
    run("--results", tmp_path)
    page = (tmp_path / "report" / "report.html").read_text()
    assert "not evidence about the study (smoke scale, another data set, overrides)" in page
    assert "2 for 25" in page
    assert "reported 81.38" not in page  # which stands beside full scale alone


def test_the_command_starts_without_torch_and_pandas() -> None:
    code = (
        "import sys, analysis.report; print({'torch', 'pandas', 'matplotlib'} & set(sys.modules))"
    )
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
