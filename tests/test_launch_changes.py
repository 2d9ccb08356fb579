"""Two launches of one sweep: which trials appeared, vanished and were kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import results_folder
from results_folder import finish, folder_of, grid_points, name_of, write_plan

import sweeps.status
from local_machine.errors import run_command
from trial_records.history.launch_changes import LaunchedTrials, changes

EARLY, LATE = "2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"


def launched(id: str, created: str, trials: str, setting: str = "full") -> LaunchedTrials:
    return LaunchedTrials(id, created, setting, {key: f"t-{key}" for key in trials})


def test_each_launch_is_beside_the_one_before_it_of_its_setting() -> None:
    first, smoke = launched("a", "1", "xy"), launched("b", "2", "q", "smoke")
    second, third = launched("c", "3", "yz"), launched("d", "4", "yz")
    found = changes([third, smoke, second, first])
    assert [one.launch for one in found] == [first, smoke, second, third]
    assert [one.before for one in found] == [None, None, first, second]
    assert [(one.kept, one.appeared, one.vanished) for one in found] == [
        ([], [], []),
        ([], [], []),
        (["t-y"], ["t-z"], ["t-x"]),
        (["t-y", "t-z"], [], []),
    ]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """64 and 128, then 128 and 256; all but the last have finished."""
    points = grid_points(sizes=(64, 128, 256), epochs=(25,))
    write_plan(tmp_path, points[:2], id="00000001", created=EARLY)
    write_plan(tmp_path, points[1:], id="00000002", created=LATE)
    for point in points[:2]:
        finish(folder_of(tmp_path, point), point[1])
    return tmp_path


def status(results: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as end:
        run_command(sweeps.status.app, ["grid", "--launches", *words, "--results", str(results)])
    assert not end.value.code
    return capsys.readouterr().out


def test_status_says_what_changed(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, _, new = (name_of(config) for _, config in grid_points((64, 128, 256), (25,)))
    said: Any = json.loads(status(results, capsys, "--json"))["launches"]
    assert [one["before"] for one in said] == [None, said[0]["id"]]
    assert (said[1]["appeared"], said[1]["vanished"], len(said[1]["kept"])) == ([new], [old], 1)
    shown = status(results, capsys)
    assert f"appeared in {said[1]['id']}: {new} (pending)" in shown
    assert f"vanished in {said[1]['id']}: {old} (done)" in shown


@pytest.mark.long
def test_the_report_says_what_changed(results: Path, tmp_path: Path) -> None:
    old, _, new = (name_of(config) for _, config in grid_points((64, 128, 256), (25,)))
    results_folder.run("--results", results, "--out", tmp_path / "out")
    tables = tmp_path / "out" / "tables"
    rows = (tables / "grid-changes.csv").read_text().splitlines()
    assert [row.split(",")[1:] for row in rows[1:]] == [
        [new, "appeared", "pending"],
        [old, "vanished", "done"],
    ]
    assert len((tables / "grid-launches.csv").read_text().splitlines()) == 3


@pytest.mark.long
def test_a_launch_that_another_one_contains_is_compared_too(tmp_path: Path) -> None:
    points = grid_points(sizes=(64, 128), epochs=(25,))
    write_plan(tmp_path, points[:1], id="00000001", created=EARLY)
    write_plan(tmp_path, points, id="00000002", created=LATE)
    for point in points:
        finish(folder_of(tmp_path, point), point[1])
    assert len(results_folder.only(tmp_path).runs) == 2
    assert results_folder.run("--results", tmp_path, "--out", tmp_path / "out") == 0
    rows = (tmp_path / "out" / "tables" / "grid-launches.csv").read_text().splitlines()
    assert [row.split(",")[-3:] for row in rows[1:]] == [["", "", ""], ["1", "1", "0"]]


@pytest.mark.long
def test_one_launch_is_compared_with_nothing(tmp_path: Path) -> None:
    points = grid_points(sizes=(64,), epochs=(25,))
    write_plan(tmp_path, points)
    finish(folder_of(tmp_path, points[0]), points[0][1])
    assert results_folder.run("--results", tmp_path, "--out", tmp_path / "out") == 0
    assert not (tmp_path / "out" / "tables" / "grid-launches.csv").exists()
    assert "Notes and launches" not in (tmp_path / "out" / "report.md").read_text()
