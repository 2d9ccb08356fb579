"""Another distribution's package `sweeps`, installed over this project's or beside it: the first
command says so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = "from local_machine.installed.console import main; main()"


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A site-packages in which the project is installed."""
    for name in ("local_machine", "sweeps", "slurm", "trial_records"):
        skipped = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / "packages" / name, ignore=skipped)
    return tmp_path / "packages"


def install_other(packages: Path, *, over: bool, text: str = "") -> None:
    """As pip leaves it: its files, which it lists in RECORD."""
    metadata = packages / "sweeps-0.3.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "RECORD").write_text("sweeps/__init__.py,sha256=x,10\nsweeps/run.py,,\n")
    if over:
        (packages / "sweeps").mkdir(exist_ok=True)
        (packages / "sweeps" / "__init__.py").write_text(text)
    (packages / "sweeps" / "run.py").write_text("")


def run(packages: Path, *words: str, more: str = "") -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([more, str(packages)] if more else [str(packages)])
    return subprocess.run(
        [sys.executable, *words], cwd=packages.parent, env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("text", ["", "import nowhere_to_be_found"])
def test_installed_over_ours_the_program_says_whose_it_is(packages: Path, text: str) -> None:
    install_other(packages, over=True, text=text)
    done = run(packages, "-c", SCRIPT)
    assert done.returncode == 2
    error, advice = done.stderr.splitlines()
    assert "is now that of the distribution sweeps 0.3.0 (Weights & Biases)" in error
    assert "pip uninstall --yes sweeps, then pip install --force-reinstall" in advice


def test_so_does_a_command_that_is_run_as_a_module(packages: Path) -> None:
    install_other(packages, over=True)
    done = run(packages, "-m", "sweeps.status")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and "Weights & Biases" in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_uninstalled_again_it_leaves_a_hole(packages: Path) -> None:
    (packages / "sweeps" / "__init__.py").unlink()
    done = run(packages, "-c", SCRIPT)
    assert done.returncode == 2 and "was overwritten or removed" in done.stderr


def test_ours_installed_over_it_works_and_says_so(packages: Path) -> None:
    install_other(packages, over=False)
    done = run(packages, "-m", "sweeps.list")
    assert done.returncode == 0 and "grid_bs_epoch" in done.stdout
    assert done.stderr.startswith("warning: sweeps 0.3.0 (Weights & Biases) is installed beside")


def test_one_that_is_found_first_is_told_of(packages: Path, tmp_path: Path) -> None:
    install_other(tmp_path / "first", over=True)
    done = run(packages, "-c", SCRIPT, more=str(tmp_path / "first"))
    assert done.returncode == 0 and "Usage: sweeps COMMAND" in done.stdout
    assert done.stderr.startswith("warning: sweeps 0.3.0 (Weights & Biases) is installed beside")


def test_alone_it_says_nothing_of_it(packages: Path) -> None:
    done = run(packages, "-m", "sweeps.list")
    assert done.returncode == 0 and "Weights" not in done.stderr
