"""Results of a version that had other fields and architectures: a copy of the code, changed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trial_records import trial_files

ROOT = Path(__file__).parent.parent
PACKAGES = ("local_machine", "trial_records", "trainer", "slurm", "sweeps", "analysis")


DEFINITION = """
from sweeps import Sweep, grid
from trainer.recipes import reported

base = reported("MODEL").override({
    "data.name": "digits", "data.train_limit": 100, "data.test_limit": 100, "model.width": 0.125,
    "epochs": 1, "precision": "fp32",
})
sweep = Sweep(base=base, space=grid({"batch_size": [45, 90]}))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code without DLA-34 and with another name for the momentum, and results of before."""
    folder = tmp_path_factory.mktemp("copy")
    skipped = shutil.ignore_patterns("__pycache__")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=skipped)
    for sweep, model in (("sizes", "dla34"), ("cutout", "resnet18")):
        (folder / f"{sweep}.py").write_text(DEFINITION.replace("MODEL", model))
        launch = run(folder, "sweeps.launch", f"{sweep}.py", "--on", "debug")
        assert launch.returncode == 0, launch.stderr
    for name, before, after in (
        ("trainer/config.py", r"^    momentum: ", "    inertia: "),
        ("trainer/models/registry.py", r'^    "dla34".*\n', ""),
    ):
        text = (folder / name).read_text()
        changed, count = re.subn(before, after, text, flags=re.MULTILINE)
        assert count == 1
        (folder / name).write_text(changed)
    return folder


def run(copy: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=copy, env={**os.environ, "PYTHONPATH": str(copy)}, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.long
def test_they_are_shown_retried_reported_and_compacted(copy: Path) -> None:
    status = run(copy, "sweeps.status", "sizes")
    assert status.returncode == 0, status.stderr
    assert "2 done" in status.stdout

    retry = run(copy, "sweeps.retry", "sizes", "--on", "local")
    assert (retry.returncode, retry.stdout) == (0, "results/sizes\n"), retry.stderr
    assert "2 trials: 2 done; 0 to run" in retry.stderr

    report = run(copy, "analysis.report", "sizes", "--out", "report")
    assert report.returncode == 0, report.stderr
    assert "dla34" in (copy / "report" / "report.html").read_text()

    compact = run(copy, "sweeps.compact", "sizes")
    assert compact.returncode == 0 and "2 of them new" in compact.stdout, compact.stderr
    again = run(copy, "sweeps.status", "sizes")
    assert again.stdout.splitlines()[1:] == status.stdout.splitlines()[1:]


def test_one_that_is_not_done_says_which_field_is_refused(copy: Path) -> None:
    trial = next((copy / "results" / "cutout").glob("*-*"))
    (trial / trial_files.RUN).unlink()
    trial_files.Failure("ERROR", "x", "", [], 1, 0.0, "host").write(trial)
    retry = run(copy, "sweeps.retry", "cutout", "--on", "local")
    assert retry.returncode == 1, retry.stderr
    assert f"this version cannot train {trial.name}: " in retry.stderr
    assert "optimizer.momentum" in retry.stderr and "Traceback" not in retry.stderr
    cancel = run(copy, "sweeps.cancel", "cutout", "--yes")
    assert cancel.returncode == 0 and "Traceback" not in cancel.stderr, cancel.stderr
