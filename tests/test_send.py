"""Sending through submitit: by its public names alone, and a script that is what was shown."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import submitit

from slurm.send import Batch
from slurm.site import Resources, Site

ROOT = Path(__file__).parent.parent
OURS = ("local_machine", "trial_records", "trainer", "sweeps", "analysis", "slurm", "tests")


def from_submitit(tree: ast.AST) -> set[str]:
    """The dotted names that a file imports of submitit."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.partition(".")[0] == "submitit"}


def test_submitit_is_used_by_its_public_names_alone() -> None:
    """What it exports at its top; and of its objects, nothing that begins with an underscore."""
    using = []
    for path in [path for folder in OURS for path in sorted((ROOT / folder).rglob("*.py"))]:
        tree = ast.parse(path.read_text())
        if not (names := from_submitit(tree)):
            continue
        using.append(path)
        for name in names - {"submitit"}:
            exported = name.removeprefix("submitit.")
            assert "." not in exported and exported[0] != "_", f"{path} imports {name}"
            assert hasattr(submitit, exported)
        private = {
            ast.unparse(node)
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and node.attr.startswith("_")
            and ast.unparse(node.value) not in ("self", "cls")
        }
        assert not private, f"{path} uses {private}"
    assert ROOT / "slurm" / "send.py" in using


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands before all others: an sbatch that keeps what it gets, and an srun."""
    folder = tmp_path / "bin"
    folder.mkdir()
    scripts = {"sbatch": f'cat "$1" >>{tmp_path}/sent\necho Submitted batch job 9\n', "srun": ""}
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/bash\n{script}")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return folder


@pytest.mark.parametrize(("tasks", "ids"), [(1, ["9"]), (3, ["9_0", "9_1", "9_2"])])
def test_what_is_shown_is_what_is_sent(
    fakes: Path, tmp_path: Path, tasks: int, ids: list[str]
) -> None:
    logs = tmp_path / "logs"
    batch = Batch(
        Site(setup=("module load cuda",)), Resources(), "name", "comment", logs, "module",
        ('{"a": 1}',), tasks,
    )  # fmt: skip
    shown = batch.script()
    assert not (tmp_path / "sent").exists() and not logs.exists()  # nothing was sent for it
    assert batch.send() == ids
    sent = (tmp_path / "sent").read_text()
    assert "-m module '{\"a\": 1}'" in sent and "module load cuda" in sent
    assert ("#SBATCH --array=0-2%3" in sent) == (tasks == 3)
    # They differ by the folder of the pickle, which the sent one names last and no job reads.
    private = sent.split()[-1]
    assert sent.replace(private, str(logs)) == shown
    assert not Path(private).exists()
