"""Launches on this machine: workers run the code as it was, and records say which it was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from code_projects import commit_all, written

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SWEEPS_SNAPSHOT_MB")
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return written(tmp_path / "mine")


def command(
    name: str, folder: Path, *words: str, code: int = 0
) -> subprocess.CompletedProcess[str]:
    where = ["--results", str(folder.parent / "results")]
    if name == "launch":
        where += ["--on", "local", "--workers", "1"]
    what = "experiment.py" if name == "launch" else "experiment"
    done = subprocess.run(
        [sys.executable, "-m", f"sweeps.{name}", what, *where, *words],
        cwd=folder, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == code, done.stderr
    return done


def rows_of(folder: Path) -> list[dict[str, Any]]:
    runs = (folder.parent / "results" / "experiment").glob("*/run.parquet")
    return [pq.read_table(one).to_pylist()[0] for one in runs]


WAIT = """    import time
    Path(run.folder, "x")
    Path({mark!r}).touch()
    while Path({mark!r}).exists():
        time.sleep(0.05)
    from lib import late
"""


@pytest.mark.long
def test_what_changes_while_a_trial_trains_changes_no_record(mine: Path, tmp_path: Path) -> None:
    """It waits in the middle, and imports a module only afterwards; meanwhile the checkout is
    edited, committed and removed."""
    mark = tmp_path / "waits"
    path = mine / "experiment.py"
    text = path.read_text()
    wait = WAIT.format(mark=str(mark))
    path.write_text(text.replace("    return {", f"{wait}    return {{"))
    (mine / "lib" / "late.py").write_text("")
    commit = commit_all(mine)
    (mine / "lib" / "scores.py").write_text("BASE = 4.0  # not committed\n")
    words = [
        sys.executable, "-m", "sweeps.launch", "experiment.py", "--on", "local",
        "--results", str(tmp_path / "results"),
    ]  # fmt: skip
    with subprocess.Popen(words, cwd=mine, stderr=subprocess.PIPE, text=True) as process:
        while not mark.exists():
            assert process.poll() is None, process.stderr and process.stderr.read()
        path.write_text("raise SystemExit('edited')")
        (mine / "lib" / "late.py").write_text("raise SystemExit('edited')")
        commit_all(mine)
        mine.rename(tmp_path / "gone")
        mark.unlink()
        _, said = process.communicate(timeout=100)
    assert process.returncode == 0, said
    (row,) = rows_of(mine)
    (attempt,) = json.loads(row["attempts"])
    (snapshot,) = (tmp_path / "results" / "experiment" / "code").glob("*.tar.gz")
    for found in (row, attempt):
        assert (found["git_commit"], found["git_dirty"]) == (commit, True)
        assert found["snapshot_sha256"] == snapshot.name.partition(".")[0]
    assert row["objective"] == pytest.approx(4.0 * 0.01)
    packages = snapshot.with_name(f"packages-{row['packages_sha256']}.json")
    assert {"torch", "pydantic"} <= json.loads(packages.read_text())["packages"].keys()
    assert str(tmp_path / "scratch") not in json.dumps(row)


@pytest.mark.long
def test_the_files_as_they_lie_or_as_a_commit_has_them(mine: Path, tmp_path: Path) -> None:
    first = commit_all(mine)
    (mine / "lib" / "scores.py").write_text("BASE = 7.0\n")
    dry = command("launch", mine, "--dry-run")
    assert not (tmp_path / "results").exists() and "nothing was run" in dry.stderr
    command("launch", mine, "--code", first)
    (row,) = rows_of(mine)
    assert (row["objective"], row["git_dirty"]) == (0.01, False)
    assert row["snapshot_sha256"] is not None
    command("launch", mine, "--no-snapshot", "--set", "epochs=2")
    row = next(one for one in rows_of(mine) if one["config.epochs"] == 2)
    assert row["objective"] == pytest.approx(0.07) and row["snapshot_sha256"] is None
    refused = command("launch", mine, "--code", first, "--no-snapshot", code=2)
    assert "give one of them" in refused.stderr
    refused = command("launch", mine, "--code", "nothing", "--set", "epochs=3", code=2)
    assert "--code nothing" in refused.stderr and "no such commit" in refused.stderr
    # Also where nothing is to be run.
    for more in ((), ("--dry-run",)):
        refused = command("launch", mine, "--code", "nothing", *more, code=2)
        assert "no such commit" in refused.stderr


@pytest.mark.long
def test_a_file_that_the_snapshot_lacks_is_named_with_it(mine: Path) -> None:
    """And one that git ignores is there all the same."""
    path = mine / "experiment.py"
    path.write_text(path.read_text().replace("table.txt", "data/ignored.txt"))
    (mine / ".gitignore").write_text("data\n")
    (mine / "data").mkdir()
    (mine / "data" / "ignored.txt").write_text("5")
    commit_all(mine)
    command("launch", mine)
    path.write_text(path.read_text().replace("data/ignored.txt", "../beside.txt"))
    (mine.parent / "beside.txt").write_text("5")
    command("launch", mine, "--set", "epochs=2", code=1)
    (trial,) = (
        one for one in json.loads(command("status", mine, "--json", code=1).stdout)["trials"]
        if one["state"] == "failed"
    )  # fmt: skip
    assert "beside.txt is not in the code snapshot" in trial["note"] and str(mine) in trial["note"]
    # What the import of the task misses, before anything is launched.
    path.write_text(path.read_text().replace("\n\n@", "\nopen('../beside.txt')\n\n@", 1))
    refused = command("launch", mine, "--set", "epochs=7", code=2)
    assert "beside.txt is not in the code snapshot" in refused.stderr


@pytest.mark.long
def test_what_other_code_has_trained_is_told_and_trained_again(mine: Path) -> None:
    mine.joinpath("experiment.py").write_text(
        (mine / "experiment.py").read_text().replace("[0.01]", "[0.01, 0.02]")
    )
    command("launch", mine)
    first = rows_of(mine)
    (mine / "notes.md").write_text("no code")
    assert "other code" not in command("launch", mine).stderr
    (mine / "lib" / "scores.py").write_text("BASE = 2.0\n")
    again = command("launch", mine)
    assert "2 done trials were trained by other code" in again.stderr
    assert "0 to run" in again.stderr and rows_of(mine) == first
    status = command("status", mine)
    assert "2 done trials were trained by other code" in " ".join(status.stdout.split())
    told = json.loads(command("status", mine, "--stale", "--json").stdout)["trials"]
    assert [one["trained_by_other_code"] for one in told] == [True, True]
    again = command("launch", mine, "--stale")
    assert "2 done before are trained again" in again.stderr
    assert sorted(one["objective"] for one in rows_of(mine)) == [0.02, 0.04]
    kept = mine.parent / "results" / "experiment" / "stale"
    assert len(list(kept.glob("*.1/run.parquet.old"))) == 2
    assert len(list(mine.parent.glob("results/**/run.parquet"))) == 2
    assert json.loads(command("status", mine, "--stale", "--json").stdout)["trials"] == []
    assert "0 to run" in command("launch", mine, "--stale").stderr


@pytest.mark.long
@pytest.mark.parametrize("place", ["", "{here}/"], ids=["relative", "absolute"])
def test_a_command_runs_the_script_that_was_sent(tmp_path: Path, place: str) -> None:
    """The first trial removes the script from the checkout; the second runs it all the same."""
    project = tmp_path / "project"
    project.mkdir()
    script = project / "score.py"
    script.write_text(
        "import sys, pathlib\n"
        f"pathlib.Path({str(script)!r}).unlink(missing_ok=True)\n"
        "print('score', 7, flush=True)\n"
    )
    place = place.format(here=project)
    (project / "experiment.py").write_text(
        "from sweeps import Sweep, grid, maximize\n"
        f"sweep = Sweep(command='python {place}score.py {{lr}}', space=grid({{'lr': [1, 2]}}),\n"
        "    metrics='output: score {score}', objective=maximize('score'))\n"
    )
    commit = commit_all(project)
    command("launch", project)
    rows = rows_of(project)
    assert [row["objective"] for row in rows] == [7.0, 7.0]
    assert {row["git_commit"] for row in rows} == {commit}
    assert {row["git_dirty"] for row in rows} == {False}
    assert len({row["snapshot_sha256"] for row in rows} - {None}) == 1
    assert len({row["code_sha256"] for row in rows} - {None}) == 1


@pytest.mark.long
@pytest.mark.parametrize(
    "program", ["import sys; open(sys.argv[1])", "import os, sys; os.execlp('cat', *sys.argv)"],
    ids=["python", "cat"],
)  # fmt: skip
def test_a_command_that_misses_a_file_is_told_of_the_snapshot(tmp_path: Path, program: str) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (tmp_path / "beside.txt").write_text("5")
    (project / "score.py").write_text(program)
    (project / "experiment.py").write_text(
        "from sweeps import Sweep, grid, maximize\n"
        "sweep = Sweep(command='python score.py {name}', base={'seed': 0},\n"
        "    space=grid({'name': ['../beside.txt', 'nothing.txt']}),\n"
        "    metrics='output: score {score}', objective=maximize('score'))\n"
    )
    commit_all(project)
    command("launch", project, code=1)
    told = command("status", project, "--failures", code=1).stdout
    assert f"{tmp_path}/beside.txt is not in the code snapshot" in told
    assert f"of {project}" in told and "--no-snapshot" in told


@pytest.mark.long
def test_what_is_written_beside_the_code_is_told(tmp_path: Path) -> None:
    """It lands in the copy, where nobody would look for it."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "score.py").write_text(
        "open('best.pt', 'w').write('x')\nprint('score', 7, flush=True)\n"
    )
    (project / "experiment.py").write_text(
        "from sweeps import Sweep, grid, maximize\n"
        "sweep = Sweep(command='python score.py {lr}', space=grid({'lr': [1]}),\n"
        "    metrics='output: score {score}', objective=maximize('score'))\n"
    )
    commit_all(project)
    command("launch", project)
    (log,) = (tmp_path / "results/experiment/logs").glob("*.log")
    assert "new files in it: 1, such as best.pt." in log.read_text()
