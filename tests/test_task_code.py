"""The hash of a task's code covers what its file imports from its own project, and no more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TASK = """
import json
from typing import TYPE_CHECKING

import numpy

import beside
from lib import used
from sweeps import Sweep, grid, minimize
if TYPE_CHECKING:
    import typed

def train(config, run):
    import later
    run.log(loss=1.0)

sweep = Sweep(train, base={"lr": 0.1}, space=grid({"lr": [0.1]}), objective=minimize("loss"))
"""
FILES = {
    "work/mine.py": TASK, "work/beside.py": "import nested\n", "work/nested.py": "x = 1\n",
    "work/later.py": "x = 1\n", "work/typed.py": "x = 1\n", "work/alone.py": "x = 1\n",
    "work/lib/__init__.py": "", "work/lib/used.py": "from . import deep\n",
    "work/lib/deep.py": "x = 1\n", "work/lib/unused.py": "x = 1\n",
}  # fmt: skip


def hash_of(folder: Path, first: str = "") -> str:
    """As an attempt would say it in a process that has imported something `first`."""
    code = f"""
import sys
sys.path.append({str(folder / "work")!r})
{first}
from pathlib import Path
from local_machine import origin
from sweeps.spec.expand import expand
from sweeps.spec.find import find
from sweeps.spec.task_loader import code_of
origin.begin(code_of(expand(find({str(folder / "work" / "mine.py")!r})[1])[0].task))
print(origin.attempt()["code_sha256"])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "project"


@pytest.mark.long
def test_it_changes_with_what_is_imported_and_with_nothing_else(project: Path) -> None:
    before = hash_of(project)
    for name in ("alone", "lib/unused"):
        (project / "work" / f"{name}.py").write_text("x = 2\n")
    assert hash_of(project) == before
    seen = {before}
    names = ("beside", "nested", "later", "typed", "lib/__init__", "lib/used", "lib/deep")
    for name in names:
        path = project / "work" / f"{name}.py"
        path.write_text(path.read_text() + "y = 2\n")
        seen.add(hash_of(project))
    assert len(seen) == 1 + len(names)


def test_it_is_the_same_wherever_and_by_whatever_process(project: Path) -> None:
    before = hash_of(project, "import alone, lib.unused, later")
    moved = project.rename(project.with_name("elsewhere"))
    assert hash_of(moved) == before


@pytest.mark.long
def test_it_covers_the_repository_and_says_what_differs(project: Path) -> None:
    def git(*words: str) -> None:
        line = ["git", "-C", str(project), "-c", "user.name=a", "-c", "user.email=a@b", *words]
        subprocess.run(line, check=True, capture_output=True)

    (project / "common").mkdir()
    (project / "common" / "far.py").write_text("x = 1\n")
    mine = project / "work" / "mine.py"
    mine.write_text(f"import sys\nsys.path.append({str(project)!r})\nimport common.far\n{TASK}")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "all")
    before = hash_of(project)
    results = project.parent / "results"
    (project / "common" / "far.py").write_text("x = 2\n")
    assert hash_of(project) != before
    words = ["sweeps.launch", str(mine), "--on", "debug", "--results", str(results)]
    subprocess.run([sys.executable, "-m", *words], cwd=ROOT, check=True, capture_output=True)
    import pyarrow.parquet as pq

    (path,) = results.rglob("run.parquet")
    (run,) = pq.read_table(path).to_pylist()
    assert run["git_commit"] and run["git_dirty"] is True
    assert json.loads(run["attempts"])[0]["code_sha256"] == run["code_sha256"] == hash_of(project)
