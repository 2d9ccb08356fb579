"""Trials without a result: their states in a report are those of `sweeps.status`."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from results_folder import begin, fail, files, finish, folder_of, grid_points, only, run, write_plan

import sweeps.status
from analysis.cifar10.task import load
from analysis.live.changes import stamps
from analysis.reading.standings import Standings
from analysis.sections.trials.progress import progress
from local_machine.errors import run_command
from local_machine.json_files import write_json
from sweeps.state import lease as leases
from sweeps.state.trial_store import TrialStore


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """One done, one running by this process, one lost, one failed; and two that never began."""
    points = grid_points((64, 128, 256), (25, 50))
    results = tmp_path / "results"
    write_plan(results, points)
    folders = [folder_of(results, point) for point in points]
    finish(folders[0], points[0][1], seconds=30.0)
    begin(folders[1])
    begin(folders[2])
    fail(folders[3], "NONFINITE")
    store = TrialStore(results, "grid")
    for trial in store.plans()[0].trials[1:3]:
        assert store.lease(trial, 1.0, "x.log") is not None
    lost = leases.read(folders[2])
    assert lost is not None
    dead = replace(lost, pid=2**22 - 1, process_started="long ago")
    write_json(folders[2] / leases.CLAIM, asdict(dead))
    return results


def status(results: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run_command(sweeps.status.app, ["grid", "--results", str(results), "--json"])
    told: list[dict[str, object]] = json.loads(capsys.readouterr().out)["trials"]
    return told


def test_states_and_reasons_are_those_of_status(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = only(results)
    told = status(results, capsys)
    assert plan.runs["state"].tolist() == [one["state"] for one in told]
    states = ["done", "running", "lost", "failed", "pending", "pending"]
    assert plan.runs["state"].tolist() == states
    open_ones = {one["name"]: one for one in told if one["state"] != "done"}
    for one in plan.progress.trials:
        assert one.reason == open_ones[one.trial]["note"]
        assert (one.done, one.planned) == tuple(
            open_ones[one.trial][key] for key in ("epochs_done", "epochs")
        )
    assert plan.progress.is_live
    # Half a second an epoch, of those that have any: 22 of 25, then 25 and 50 that never began ...
    assert plan.progress.seconds_left is not None and plan.progress.seconds_left > 10


def test_the_section_lists_what_is_not_done_and_counts_the_rest(results: Path) -> None:
    (part,) = progress(load(results, [])).parts
    said = "6 trials: 1 done, 1 running, 1 lost, 1 failed, 2 pending. About "
    assert part.notes[0].startswith(said)
    assert part.notes[0].endswith(" left. 2 trials not begun: not in this table.")
    shown = part.tables[0].shown
    assert shown["state"].tolist() == ["running", "lost", "failed"]
    assert shown["epoch"].tolist() == ["3 of 50", "3 of 25", "3 of 50"]
    assert shown["validation"].tolist() == ["60.00"] * 3
    assert "is gone" in shown["reason"][1] and "NONFINITE: loss is nan" in shown["reason"][2]


@pytest.mark.long
def test_strict_speaks_of_finished_trials_alone(results: Path) -> None:
    points = grid_points((64, 128, 256), (25, 50))
    assert run("--results", results, "--strict") == 1  # one has failed
    for path in (results / "grid").glob("*/failure.json"):
        path.unlink()
    assert [codes for codes in only(results).runs["flags"] if codes] == []
    assert run("--results", results, "--strict") == 0
    finish(folder_of(results, points[4]), points[4][1], stopped_early=True)
    assert run("--results", results, "--strict") == 1


@pytest.mark.long
def test_without_a_held_trial_a_later_report_has_the_same_bytes(results: Path) -> None:
    for path in (results / "grid").glob("*/claim.json"):
        path.unlink()
    assert run("--results", results) == 0
    before = files(results / "report")
    assert run("--results", results, "--out", results.parent / "again") == 0
    assert files(results.parent / "again") == before


def test_a_death_is_told_without_a_changed_file(results: Path) -> None:
    standings = Standings()
    load(results, [], standings)
    before, files_before = standings.told(), stamps(results)
    assert any(" running pid " in one for one in before)
    (folder,) = (path.parent for path in results.glob("grid/*/claim.json") if _is_ours(path))
    held = leases.read(folder)
    assert held is not None
    # As when its process ends: the lease is as it was, and another has its number.
    write_json(folder / leases.CLAIM, asdict(replace(held, process_started="long ago")))
    assert stamps(results) == files_before
    assert standings.told() != before


def _is_ours(path: Path) -> bool:
    held = leases.read(path.parent)
    return held is not None and held.process_started != "long ago"
