"""The report's section on searches, from results folders that the trial's own writers made."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from results_folder import files, run
from searched_results import DECAY, ID, drawn, launch_in, said, search_in, searched

from analysis.cifar10.reported import field_values
from analysis.cifar10.task import load
from analysis.data.search_space import Range
from analysis.data.study import Study
from analysis.output.model import Section
from analysis.output.page import Page
from analysis.sections.search import asked_trials, other_launches

# --- what came of it -------------------------------------------------------------------------


def test_what_was_asked_and_what_became_of_it_is_told(tmp_path: Path) -> None:
    long = {"epochs_run": 100}
    outcomes = [(1e-3, long | {"val_accuracy": 0.954}), (2e-3, [0.5, 0.6]), (1e-5, [])]
    outcomes += [(9e-3, "NONFINITE"), (8e-3, "OUT_OF_MEMORY"), (5e-4, None)]
    search_in(tmp_path, outcomes)
    words = said(tmp_path)
    assert (
        "Sampler tpe, pruner median, seed 0. The search maximises the validation accuracy of the "
        "best epoch over optimizer.weight_decay from 1e-05 to 0.01 (logarithmic)." in words
    )
    assert (
        "It was to ask for 20 trials and has asked for 6 configurations: 1 done, 2 pruned, "
        "2 failed (1 NONFINITE, which counts as the worst value), 1 without an end yet." in words
    )
    # 100 + 2 + 0 + 3 + 3, and 98 + 100 more.
    assert (
        "They trained 108 epochs; without pruning it would have been at most 306, every pruned "
        "trial running to its last planned epoch: pruning spared up to 65 %." in words
    )
    assert (
        "The validation accuracy of the best epoch, 95.40 %, is that of the one completed trial, "
        "optimizer.weight_decay 0.001 (asked as number 1), with 90.00 % on the test images, which "
        "select nothing." in words
    )


def test_nothing_pruned_is_said(tmp_path: Path) -> None:
    search_in(tmp_path, [(1e-3, 0.95)])
    assert "They trained 3 epochs; none was pruned." in said(tmp_path)


def test_the_objective_is_the_searchs_own(tmp_path: Path) -> None:
    ends = [{"val_accuracy": 0.95, "val_accuracy_last": 0.90}]
    ends += [{"val_accuracy": 0.94, "val_accuracy_last": 0.93}]
    outcomes = [(1e-3, ends[0]), (2e-3, ends[1]), (3e-3, [0.5, 0.7, 0.6])]
    for objective, best, so_far in (("best", 1e-3, 0.7), ("last", 2e-3, 0.6)):
        search_in(tmp_path, outcomes, objective=objective)
        plan, _ = searched(tmp_path)
        assert plan.search is not None
        table = asked_trials.asked(plan, plan.search)
        found = asked_trials.chosen(table)
        assert found is not None and found[DECAY] == best
        assert table["value"].tolist()[2] == so_far
        assert f"accuracy of the {objective} epoch" in said(tmp_path)


def test_of_equals_the_first_asked_is_chosen_and_its_flags_are_told(tmp_path: Path) -> None:
    equal = {"val_accuracy": 0.95, "stopped_early": True}
    search_in(tmp_path, [(1e-4, 0.9), (2e-3, equal), (1e-3, equal)])
    words = said(tmp_path)
    assert "optimizer.weight_decay 0.002 (asked as number 2)" in words
    assert "2 completed trials have it; the first that was asked for is taken." in words
    assert "It is flagged EARLY_STOP." in words


def test_the_table_has_the_best_ten_and_no_test_accuracy(tmp_path: Path) -> None:
    outcomes = [(1e-3 + i / 10_000, 0.80 + i / 100) for i in range(12)]
    search_in(tmp_path, [*outcomes, (1e-5, [0.99])])
    first, second = drawn(tmp_path)
    (table,) = first.tables
    assert second.tables == []
    assert len(table.frame) == 10
    assert table.frame["asked"].tolist() == list(range(12, 2, -1))
    assert table.shown["validation"].tolist()[0] == "91.00"
    assert table.shown[DECAY].tolist()[0] == "0.0021"
    assert "test" not in table.frame


# --- how flat --------------------------------------------------------------------------------


def test_values_within_one_standard_error_and_the_reported_ones(tmp_path: Path) -> None:
    # sqrt(0.95 x 0.05 / 5000) is 0.0030822.
    outcomes = [(2e-4, 0.9469), (4e-4, 0.94692), (8e-4, 0.95), (9e-4, 0.94), (2e-3, 0.9485)]
    search_in(tmp_path, outcomes)
    words = said(tmp_path)
    assert "One standard error is 0.31 points: the binomial one of 95.00 % on 5,000" in words
    assert (
        "optimizer.weight_decay: 3 of 5 completed trials are within one standard error of the "
        "best, with values from 0.0004 to 0.002. 1 more has a value in that range and was "
        "seen further below. "
        "The reported 0.001 (every model but WRN-28-10) lies inside that range. The reported "
        "0.0005 (WRN-28-10) lies inside that range." in words
    )
    assert "may lie beyond" not in words


def test_a_sharp_optimum_leaves_the_reported_values_outside(tmp_path: Path) -> None:
    search_in(tmp_path, [(1e-4, 0.95), (1e-3, 0.93), (5e-4, 0.94)])
    words = said(tmp_path)
    assert (
        "of 3 completed trials, only the best, 0.0001, is within one standard error of it" in words
    )
    assert "The reported 0.001 (every model but WRN-28-10) is another value." in words
    assert "The reported 0.0005 (WRN-28-10) is another value." in words


def test_a_reported_value_that_was_never_searched_is_called_so(tmp_path: Path) -> None:
    space = {DECAY: {"kind": "float", "low": 6e-4, "high": 1e-2, "log": True}}
    search_in(tmp_path, [(2e-3, 0.95)], space)
    assert "The reported 0.0005 (WRN-28-10) was not in the searched range." in said(tmp_path)


@pytest.mark.parametrize(
    ("value", "end"),
    [
        (1e-5, "lower"),
        (10**-4.851, "lower"),  # 4.97 % of three decades
        (10**-4.849, None),  # 5.03 %
        (10**-2.151, None),
        (10**-2.149, "upper"),
        (1e-2, "upper"),
    ],
)
def test_a_best_value_at_the_edge_is_no_interior_optimum(
    tmp_path: Path, value: float, end: str | None
) -> None:
    search_in(tmp_path, [(value, 0.95), (1e-3, 0.5)])
    words = said(tmp_path)
    assert ("a better one may lie beyond it" in words) == (end is not None)
    if end is not None:
        assert f"lies in the {end} 5 % of the searched range" in words


@given(st.floats(0, 1), st.booleans(), st.floats(1e-6, 1e3), st.floats(1.5, 1e6), st.floats(-5, 5))
def test_edges_are_the_outermost_twentieth_on_the_ranges_scale(
    place: float, log: bool, low: float, factor: float, shift: float
) -> None:
    low, high = (low, low * factor) if log else (low + shift, low + shift + factor)
    values = Range(kind="float", low=low, high=high, log=log)
    value = low * (high / low) ** place if log else low + place * (high - low)
    value = min(max(value, low), high)
    wanted = "lower" if place < 0.05 else "upper" if place > 0.95 else None
    if min(abs(place - 0.05), abs(place - 0.95)) > 1e-6:
        assert values.edge(value) == wanted


def test_a_range_of_one_value_has_no_edge() -> None:
    assert Range(kind="int", low=3, high=3).edge(3) is None


def test_choices_are_named_and_have_no_edge(tmp_path: Path) -> None:
    space = {
        "schedule.name": {"kind": "choice", "values": ["step", "cosine", "a <b> $x_1$ & 'é'"]},
        "batch_size": {"kind": "choice", "values": [64, 256]},
    }
    outcomes = [
        ({"schedule.name": "cosine", "batch_size": 64}, 0.95),
        ({"schedule.name": "step", "batch_size": 64}, 0.9495),
        ({"schedule.name": "step", "batch_size": 256}, 0.8),
    ]
    search_in(tmp_path, outcomes, space)
    words = said(tmp_path)
    assert "schedule.name among step, cosine, a <b> $x_1$ & 'é'; batch_size among 64, 256" in words
    near = "completed trials are within one standard error of the best, with"
    assert f"schedule.name: 2 of 3 {near} values step, cosine." in words
    assert f"batch_size: 2 of 3 {near} the value 64. The reported 256 is not among them." in words
    assert "may lie beyond" not in words
    page = Page("Report", [Section("x", drawn(tmp_path))])
    assert "a &lt;b&gt; $x_1$ &amp; &#39;é&#39;" in page.html()


def test_without_a_number_of_validation_images_no_error_is_made_up(tmp_path: Path) -> None:
    search_in(tmp_path, [(1e-5, {"val_accuracy": 0.95, "val_images": None}), (1e-3, 0.9)])
    words = said(tmp_path)
    assert "does not say how many validation images it had" in words
    assert "optimizer.weight_decay: the best value is 1e-05. The best value, 1e-05, lies" in words
    assert "within one standard error" not in words


# --- other launches --------------------------------------------------------------------------


def test_launches_with_seeds_tell_the_chosen_from_the_reported_value(tmp_path: Path) -> None:
    search_in(tmp_path, [(2e-3, 0.95), (1e-4, 0.94)])
    launch_in(
        tmp_path,
        {
            2e-3: {42: 0.95, 43: 0.95, 44: 0.951, 45: 0.952},
            1e-3: {43: 0.94, 44: 0.941, 45: 0.9421},
            5e-4: {43: 0.949, 44: 0.953, 45: 0.951},
        },
    )
    words = said(tmp_path)
    assert (
        "without the run that the search chose, which is the best of many: 95.10 % for the chosen "
        "optimizer.weight_decay 0.002 (n 3), 94.10 % for the reported 0.001 (every model but "
        "WRN-28-10) (n 3); difference +1.00 points (95 % over 3 seeds: +0.98 to +1.01; p 6.7e-05, "
        "adjusted by Bonferroni for 2 comparisons with a reported value): more than seeds explain."
        in words
    )
    assert "0.0005 (WRN-28-10)" in words and "seeds do not tell them apart" in words


def test_too_few_seeds_are_said(tmp_path: Path) -> None:
    search_in(tmp_path, [(2e-3, 0.95)])
    launch_in(tmp_path, {2e-3: {43: 0.95, 44: "NONFINITE"}, 1e-3: dict.fromkeys(range(3), 0.94)})
    assert (
        "There are not enough seeds to tell the chosen optimizer.weight_decay 0.002 from the "
        "reported 0.001 (every model but WRN-28-10). The report's other launches have 1 and 3 "
        "under otherwise equal settings (the run that the search chose is left out, since it is "
        "the best of many), and a test needs 3 that both have." in said(tmp_path)
    )


def test_seeds_of_other_settings_do_not_count(tmp_path: Path) -> None:
    search_in(tmp_path, [(2e-3, 0.95)])
    both = {decay: dict.fromkeys((1, 2, 3), 0.95) for decay in (2e-3, 1e-3)}
    launch_in(tmp_path, both, label_smoothing=0.0)
    assert "other launches have 0 and 0" in said(tmp_path)
    # The same trials in two sweeps are the same evidence, and count once.
    two = {decay: dict.fromkeys((1, 2), 0.95) for decay in (2e-3, 1e-3)}
    launch_in(tmp_path, two, sweep="again", id="00000002")
    launch_in(tmp_path, two, sweep="more", id="00000003")
    assert "other launches have 2 and 2" in said(tmp_path)


def test_a_chosen_value_that_is_the_reported_one_is_called_so(tmp_path: Path) -> None:
    search_in(tmp_path, [(1e-3, 0.95)])
    assert (
        "The chosen optimizer.weight_decay 0.001 is the reported 0.001 (every model but WRN-28-10)"
        in said(tmp_path)
    )


def test_only_launches_that_vary_the_field_alone_are_drawn_over_a_search(tmp_path: Path) -> None:
    search_in(tmp_path, [(2e-3, 0.95), (3e-3, 0.94)])
    launch_in(tmp_path, {1e-3: {1: 0.92, 2: 0.94}, 1e-4: {1: 0.9, 2: None}, 5e-3: {1: "ERROR"}})
    launch_in(tmp_path, {1e-3: {1: 0.1}}, id="00000002", label_smoothing=0.0)
    launch_in(tmp_path, {1e-3: {1: 0.92}, 1e-4: {2: "ERROR"}}, sweep="again", id="00000003")
    # What another search asked for is not a launch of a grid, and what did not finish has no value.
    search_in(tmp_path, [(4e-3, 0.99)], id="07e40000")
    launch_in(tmp_path, {1e-3: {3: {"status": "partial", "val_accuracy": 0.1}}}, id="00000004")
    plan, others = searched(tmp_path)
    means = other_launches.grid_means(others, plan.runs.iloc[0], DECAY, "best")
    assert means["x"].tolist() == [1e-4, 1e-3, 5e-3]
    assert means["value"].tolist()[:2] == pytest.approx([0.9, 0.93])
    assert means["n"].tolist() == [1, 2, 0]
    assert means["planned"].tolist() == [2, 3, 1]
    assert other_launches.grid_means(others, plan.runs.iloc[0], "batch_size", "best").empty


def test_reported_values_are_the_studys() -> None:
    assert list(field_values(DECAY).values()) == [1e-3, 5e-4]
    assert list(field_values("batch_size").values()) == [256]
    assert field_values("schedule.gamma") == {}


# --- importances -----------------------------------------------------------------------------

TWO = {
    "optimizer.lr": {"kind": "float", "low": 1e-3, "high": 1.0, "log": True},
    "augment.cutout": {"kind": "int", "low": 0, "high": 16, "log": False},
}


def grid_of(places: int) -> list[tuple[dict[str, Any], float]]:
    """The learning rate decides, cutout does not."""
    rates = [10 ** (-3 + 3 * i / (places - 1)) for i in range(places)]
    return [
        ({"optimizer.lr": rate, "augment.cutout": side}, 0.9 - 0.1 * abs(math.log10(rate) + 1))
        for rate in rates
        for side in range(0, 16, 16 // places)
    ]


def test_what_decides_is_important_and_few_trials_are_a_hint(tmp_path: Path) -> None:
    search_in(
        tmp_path, [*grid_of(4), ({"optimizer.lr": 1.0, "augment.cutout": 16}, "NONFINITE")], TWO
    )
    words = said(tmp_path)
    found = re.search(r"optimizer\.lr (\d+) %, augment\.cutout (\d+) %\.", words)
    assert found is not None and int(found[1]) > 70
    assert "1 non-finite trial counts as the worst completed one." in words
    assert (
        "Told from chance (Kruskal-Wallis test, adjusted by Holm for the 2 parameters): "
        "optimizer.lr." in words
    )
    assert (
        "They rest on 16 completed trials for 2 parameters, fewer than 10 a parameter: a hint, no "
        "finding." in words
    )


def test_enough_trials_are_no_mere_hint(tmp_path: Path) -> None:
    search_in(tmp_path, grid_of(5)[:20], TWO)
    words = said(tmp_path)
    assert "Importances" in words
    assert "hint" not in words


def test_one_parameter_has_no_importance_and_equal_objectives_tell_none(tmp_path: Path) -> None:
    search_in(tmp_path, [(1e-3, 0.95), (1e-4, 0.9)])
    assert "mportance" not in said(tmp_path)
    search_in(tmp_path, [(point, 0.9) for point, _ in grid_of(2)], TWO)
    assert "Importances cannot be told" in said(tmp_path)


# --- the report ------------------------------------------------------------------------------

HARD = {
    "nothing completed": [(1e-3, None), (1e-4, "NONFINITE"), (1e-5, "ERROR")],
    "all pruned": [(1e-3, [0.3]), (1e-4, [0.4, math.nan]), (1e-5, [])],
    "one trial": [(1e-3, 0.95)],
    "one without an end": [(1e-3, None)],
    "perfect": [(1e-3, 1.0), (1e-4, 1.0)],
    "no validation accuracy": [(1e-3, {"val_accuracy": None})],
}


@pytest.mark.long
@pytest.mark.parametrize("outcomes", HARD.values(), ids=HARD)
def test_every_search_has_its_part_and_its_pictures(
    tmp_path: Path, outcomes: list[tuple[Any, Any]]
) -> None:
    search_in(tmp_path, outcomes)
    launch_in(tmp_path, {1e-3: {7: 0.9}, 0.0: {7: 0.8}})
    section = Section("Searches", drawn(tmp_path))
    page = Page("Report", [section]).html()
    names = [picture.name for part in section.parts for picture in part.pictures]
    assert names == [f"decays-{ID}-{word}" for word in ("history", "optimizer-weight_decay")]
    assert page.count('<img src="data:image/') == 2
    assert not re.search(r"(?<!loss is )\bnan\b", re.sub(r"data:image[^\"]*", "", page))
    completed = any(isinstance(outcome, float) for _, outcome in outcomes)
    assert ("No trial was completed, so that nothing is chosen." in page) != completed
    assert "Launches with optimizer.weight_decay 0 have no place on a logarithmic axis" in page


@pytest.mark.long
def test_the_summary_counts_pruned_trials_and_explains_the_flag(tmp_path: Path) -> None:
    search_in(tmp_path, [(1e-3, 0.95), (1e-5, [0.2])])
    launch_in(tmp_path, {1e-5: {42: [0.2]}}, id="ffffffff")
    assert run("--results", tmp_path, "--strict") == 1
    out = tmp_path / "report"
    page = (out / "report.html").read_text()
    assert re.findall("<h2[^>]*>(.*?)</h2>", page)[4:8] == [
        "Weight decay", "In words", "Claims of the reported study",
        "Oddities of the reported study",
    ]  # fmt: skip
    assert {f"figures/decays-{ID}-{end}" for end in ("history.png", "history.pdf")} < set(
        files(out)
    )
    assert "2 planned trials: 1 done, 1 pruned. 1 flagged." in page
    assert pd.read_csv(out / "tables" / "launches.csv")["pruned"].tolist() == [1, 1]
    assert pd.read_csv(out / "tables" / "flags.csv")["flag"].tolist() == ["PRUNED"]


@pytest.mark.long
def test_same_search_same_bytes_without_torch_and_without_a_word(tmp_path: Path) -> None:
    search_in(tmp_path, [*grid_of(4), ({"optimizer.lr": 1.0, "augment.cutout": 1}, [0.3])], TWO)
    code = """
import sys
from pathlib import Path
from analysis import whole_report
from analysis.cifar10.task import load
whole_report.build(load(Path(sys.argv[1]), [])).write(Path(sys.argv[2]))
print("torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(tmp_path / "there")],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "7"},
    )
    assert done.stdout == "False\n"
    # Nothing but how far it is, where that takes long.
    assert all(line.endswith(" parts of the report") for line in done.stderr.splitlines())
    assert run("--results", tmp_path, "--out", tmp_path / "here") == 0
    assert files(tmp_path / "here") == files(tmp_path / "there")
    assert "whatever the other parameters are" in (tmp_path / "here" / "report.md").read_text()


def test_a_plan_as_the_search_writes_it_stays_as_it_is(tmp_path: Path) -> None:
    search_in(tmp_path, [(1e-3, 0.95), (1e-5, [0.2])])
    before = files(tmp_path)
    study: Study = load(tmp_path, [])
    assert not study.problems
    assert files(tmp_path) == before
    assert "search" in json.loads((tmp_path / "decays" / "plans" / f"{ID}.json").read_bytes())


BRANCHES = {
    "optimizer.name": {"kind": "choice", "values": ["sgd", "adamw"]},
    "optimizer.lr": {"kind": "float", "low": 1e-4, "high": 1.0, "log": True},
    "optimizer.momentum": {
        "kind": "float", "low": 0.0, "high": 0.99, "when": [{"optimizer.name": "sgd"}],
    },
    "augment.cutout": {"kind": "int", "low": 0, "high": 16, "when": []},
}  # fmt: skip


def branch(number: int) -> tuple[dict[str, Any], Any]:
    """Every other trial is of the branch that has a momentum."""
    rate = 10 ** (-4 + 4 * number / 11)
    point: dict[str, Any] = {"optimizer.name": "adamw", "optimizer.lr": rate}
    if number % 2:
        point = {**point, "optimizer.name": "sgd", "optimizer.momentum": 0.08 * number}
    if number == 8:
        point["augment.cutout"] = 8
    return point, [0.3, 0.4] if number == 2 else 0.9 - 0.1 * abs(math.log10(rate) + 1)


@pytest.mark.parametrize("best", ["adamw", "sgd"])
def test_a_conditional_space_has_blank_cells_and_importances_by_branch(
    tmp_path: Path, best: str
) -> None:
    outcomes = [branch(number) for number in range(12)]
    outcomes[9 if best == "sgd" else 8] = (outcomes[9 if best == "sgd" else 8][0], 0.97)
    search_in(tmp_path, outcomes, BRANCHES)
    parts = drawn(tmp_path)
    words = "\n".join([*parts[0].notes, *parts[1].notes])
    assert "optimizer.momentum from 0 to 0.99 (where optimizer.name is sgd)" in words
    assert "augment.cutout from 0 to 16 (in some trials)" in words
    lacking = "optimizer.momentum: the best trial does not have it." in words
    assert lacking == (best == "adamw")
    assert "nan" not in words
    assert "over all trials " in words
    assert "over the 6 trials with optimizer.momentum " in words
    (table,) = parts[0].tables
    of = table.frame.set_index("asked")
    assert of.loc[9, "optimizer.momentum"] == "" and of.loc[8, "optimizer.momentum"] == "0.56"
    captions = [one.caption for one in parts[1].pictures]
    assert any("over optimizer.momentum" in one and "6 trials of 12" in one for one in captions)
