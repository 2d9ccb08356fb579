"""A search's plan and its trials, as a report reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from searched_results import DECAY, DECAYS, ID, launch_in, prune, said, search_in, searched

from analysis.cifar10.discrepancies import discrepancies
from analysis.cifar10.task import load
from analysis.data.search_space import Range
from analysis.sections.search import asked_trials
from local_machine.json_files import read_json, write_sealed_json
from trial_records.trial_files import PRUNED

# --- load ------------------------------------------------------------------------------------


def test_a_search_is_read_with_its_trials_in_the_order_of_asking(tmp_path: Path) -> None:
    search_in(tmp_path, [(1e-2, 0.9), (1e-5, [0.2, 0.3]), (1e-4, "NONFINITE"), (1e-3, None)])
    plan, _ = searched(tmp_path)
    assert plan.search is not None
    assert plan.search.space == {DECAY: Range(kind="float", low=1e-5, high=1e-2, log=True)}
    assert (plan.search.sampler, plan.search.pruner, plan.search.trials) == ("tpe", "median", 20)
    assert plan.runs[f"point.{DECAY}"].tolist() == [1e-2, 1e-5, 1e-4, 1e-3]
    assert plan.runs["state"].tolist() == ["done", "pruned", "failed", "pending"]
    assert plan.runs["flags"].tolist() == [[], [], ["NONFINITE"], []]
    table = asked_trials.asked(plan, plan.search)
    assert table["mark"].tolist() == ["done", "pruned", "nonfinite", "open"]
    assert table["value"].tolist()[:2] == [0.9, 0.3]
    assert table["epochs"].tolist() == [3, 2, 3, 0]


def test_a_search_speaks_of_the_reported_weight_decays(tmp_path: Path) -> None:
    search_in(tmp_path, [(1e-3, 0.9), (5e-4, 0.92)])
    said = discrepancies(load(tmp_path, [])).parts[2].notes
    assert "resnet18: 0.001 minus 0.0005 is -2.00 points" in said[1]


def test_launches_have_no_search(tmp_path: Path) -> None:
    launch_in(tmp_path, {1e-3: {42: 0.9}})
    assert load(tmp_path, []).plans[0].search is None


def test_a_pruned_trial_is_a_flag_for_everyone_but_its_own_search(tmp_path: Path) -> None:
    search_in(tmp_path, [(1e-3, 0.9), (1e-5, [0.2, 0.3])])
    launch_in(tmp_path, {1e-5: {42: [0.2, 0.3]}, 1e-4: {42: 0.8}})
    search_in(tmp_path, [(1e-5, [0.2, 0.3])], id="07e40000")
    by_id = {plan.id: plan.runs for plan in load(tmp_path, []).plans}
    assert by_id[ID]["flags"].tolist() == [[], []]
    assert by_id["00000001"]["flags"].tolist() == [["PRUNED"], []]
    assert by_id["00000001"]["failure"].tolist() == [f"pruned by search {ID} (epoch 1)", ""]
    assert by_id["07e40000"]["flags"].tolist() == [["PRUNED"]]
    assert {runs["state"].tolist()[-1] for runs in by_id.values()} == {"pruned", "done"}


def test_a_trial_that_ran_to_its_end_after_all_is_done(tmp_path: Path) -> None:
    search_in(tmp_path, [(1e-3, 0.9)])
    (folder,) = (path.parent for path in tmp_path.rglob("run.parquet"))
    prune(folder, [0.1])
    plan, _ = searched(tmp_path)
    assert plan.runs["state"].tolist() == ["done"]
    assert plan.runs["flags"].tolist() == [[]]


def test_a_trial_that_failed_before_it_was_pruned_is_pruned(tmp_path: Path) -> None:
    search_in(tmp_path, [(1e-3, "ERROR")])
    (folder,) = (path.parent for path in tmp_path.rglob("failure.json"))
    prune(folder, [0.1])
    runs = searched(tmp_path)[0].runs
    assert runs[["state", "failure"]].to_numpy().tolist() == [["pruned", ""]]
    assert runs["flags"].tolist() == [[]]


def test_searches_neither_supersede_nor_are_superseded(tmp_path: Path) -> None:
    launch_in(tmp_path, {1e-3: {42: 0.9}})
    search_in(tmp_path, [(1e-3, 0.9), (1e-4, 0.8)])
    launch_in(tmp_path, {decay: {42: 0.8} for decay in (1e-3, 1e-4, 1e-5)}, id="00000002")
    (sweep,) = load(tmp_path, []).sweeps
    assert sorted(plan.id for plan in sweep.plans) == ["00000002", ID]
    assert sweep.superseded == ["00000001"]


@pytest.mark.parametrize(
    "text", [b"{", b"[]", b'{"schema_version": 2, "search": "x", "epoch": 1}', b'{"epoch": "1"}']
)
def test_a_damaged_pruned_json_is_a_problem_and_nobodys_pruning(
    tmp_path: Path, text: bytes
) -> None:
    search_in(tmp_path, [(1e-3, 0.9), (1e-5, [0.2])])
    (path,) = tmp_path.rglob(PRUNED)
    path.write_bytes(text)
    study = load(tmp_path, [])
    assert [str(path) in problem.what for problem in study.problems] == [True]
    assert path.read_bytes() == text
    runs = study.plans[0].runs
    assert runs["state"].tolist() == ["done", "unknown"]
    assert runs["flags"].tolist() == [[], []]
    assert runs["failure"].tolist() == ["", "its pruned.json is damaged"]
    assert "1 without an end yet" in said(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        {"objective": "test"},
        {"space": {}},
        {"space": {"no.such.field": DECAYS[DECAY]}},
        {"space": {DECAY: {"kind": "float", "low": 0.0, "high": 1e-2, "log": True}}},
        {"space": {DECAY: {"kind": "float", "low": 1e-2, "high": 1e-5, "log": True}}},
        {"space": {DECAY: {"kind": "choice", "values": []}}},
        {"space": {DECAY: {"kind": "float", "low": 1e-5, "high": 5e-4, "log": True}}},
        {"space": {**DECAYS, "batch_size": {"kind": "choice", "values": [64]}}},
    ],
)
def test_a_search_that_makes_no_sense_is_a_problem(tmp_path: Path, damage: dict[str, Any]) -> None:
    launch_in(tmp_path, {1e-4: {42: 0.8}})
    search_in(tmp_path, [(1e-3, 0.9)])
    path = tmp_path / "decays" / "plans" / f"{ID}.json"
    plan = read_json(path)
    write_sealed_json(path, plan | {"search": plan["search"] | damage})
    study = load(tmp_path, [])
    assert [f"{ID}.json" in problem.what for problem in study.problems] == [True]
    assert [plan.id for plan in study.plans] == ["00000001"]
