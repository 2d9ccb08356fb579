"""Sweep files and queued jobs of version 0.1 find what they name."""

from __future__ import annotations

import pickle
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from sweeps.execution.slurm_job import TrialJob
from sweeps.moved_modules import MOVED

ROOT = Path(__file__).parent.parent
# As version 0.1's documents have it.
OLD = """
import sweeps.space
from sweeps.ranges import choice, integers, log_integers, log_uniform, uniform
from sweeps.scale import Scale
from sweeps.space import Point, chain, grid, zipped
from sweeps.stage import SoFar, Stage, Study, taking
from sweeps.sweep import Search, Sweep, find, find_search
from trainer import architectures
from trainer.config import TrainConfig
from trainer.recipes import reported

assert sweeps.space.grid is grid and "resnet18" in architectures.MODELS
small = {"data.name": "digits", "data.train_limit": 100, "epochs": 1}
sweep = Sweep(base=reported("resnet18").override(small), space=grid({"optimizer.lr": [0.1, 0.2]}))
"""


def python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.long
def test_a_sweep_file_of_version_0_1_launches(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text(OLD)
    words = ["-m", "sweeps.launch", str(tmp_path / "old.py"), "--dry-run", "--on", "local"]
    done = python(*words, "--results", str(tmp_path / "results"))
    assert done.returncode == 0, done.stderr
    assert "2 trials" in done.stderr


@pytest.mark.long
@pytest.mark.parametrize("old", sorted(MOVED))
def test_an_old_name_is_the_module_itself(old: str) -> None:
    code = f"import importlib, {old}; new = importlib.import_module({MOVED[old]!r}); import sys; "
    done = python("-c", f"import sweeps; {code}assert sys.modules[{old!r}] is new, new")
    assert done.returncode == 0, done.stderr


def test_every_old_name_is_free_and_every_new_one_there() -> None:
    for old, new in MOVED.items():
        assert not (ROOT / f"{old.replace('.', '/')}.py").exists()
        assert find_spec(new) is not None


@pytest.mark.long
def test_a_queued_job_of_version_0_1_is_understood() -> None:
    """Its script says `-m sweeps.sent WORDS`; an earlier one unpickles `sweeps.job.TrialJob`."""
    done = python("-m", "sweeps.sent", '{"kind": "trial"}')
    assert "TypeAdapter" in done.stderr or "folder" in done.stderr, done.stderr
    assert "No module" not in done.stderr
    done = python("-m", "sweeps.job", "--help")
    assert done.returncode == 0 and "Slurm job" in done.stdout
    job = TrialJob("folder", "plan", "trial", "submission", 0, 0.0)
    old = pickle.dumps(job, protocol=0).replace(b"sweeps.execution.slurm_job", b"sweeps.job")
    assert b"sweeps.job" in old
    done = python("-c", f"import pickle; print(pickle.loads({old!r}).trial)")
    assert (done.returncode, done.stdout) == (0, "trial\n"), done.stderr


def test_the_documented_names_load_nothing_that_takes_long() -> None:
    code = "import sys, sweeps; print(sorted(sys.modules.keys() & {'pydantic', 'torch', 'typer'}))"
    assert python("-c", code).stdout == "[]\n"
    code = "import sys; from sweeps import *; print(Sweep.__name__, choice.__module__)"
    assert python("-c", code).stdout == "Sweep sweeps.search_space.distributions\n"
