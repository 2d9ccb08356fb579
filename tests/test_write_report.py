"""A report from a notebook: `analysis.write_report`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from results_folder import files, finish, folder_of, grid_points, run, write_plan

from analysis import write_report
from local_machine.errors import InputError


@pytest.fixture
def results(tmp_path: Path) -> Path:
    points = grid_points()
    write_plan(tmp_path / "results", points)
    for point in points:
        finish(folder_of(tmp_path / "results", point), point[1])
    return tmp_path / "results"


@pytest.mark.long
def test_a_notebook_gets_the_commands_report(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = write_report("grid", out="mine")
    assert page == Path("mine") / "report.html"
    assert run("grid", "--results", results, "--out", tmp_path / "theirs") == 0
    assert files(tmp_path / "mine") == files(tmp_path / "theirs")
    # By default it lies in the results folder, and has all sweeps.
    assert write_report(results=results) == results / "report" / "report.html"
    compared = write_report(["grid"], compare=(results, results))
    assert compared == results / "comparison" / "report.html"
    assert "Before and after" in compared.read_text()


def test_what_is_not_there_is_an_error(results: Path) -> None:
    with pytest.raises(InputError, match="no plan of a sweep 'gird'"):
        write_report("gird", results)


def test_the_name_is_the_function_and_importing_it_loads_little() -> None:
    code = """
import sys
import analysis, analysis.report, analysis.whole_report
assert callable(analysis.write_report)
print({"torch", "matplotlib", "pandas", "numpy", "pydantic"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
