"""What a launch refuses, a dry run refuses in the same words, and neither has written anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("forked")

ROOT = Path(__file__).parent.parent
REGISTERS = """
from sweeps import Sweep
from trainer.models import registry as architectures
from trainer.recipes import reported
architectures.MODELS[{name!r}] = "trainer.models.resnet:resnet18"
small = {{"data.name": "digits", "data.train_limit": 100, "epochs": 1, "model.name": {name!r}}}
sweep = Sweep(base=reported("resnet18").override(small))
"""


SEARCH = """
from sweeps import Search, log_uniform
search = Search(sweep.base, {{"optimizer.lr": log_uniform(0.01, 0.1)}}, trials=1)
"""


def launch(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sweeps.launch", str(tmp_path / "mine.py"), "--results",
               str(tmp_path / "results"), *words]  # fmt: skip
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)


@pytest.mark.long
@pytest.mark.parametrize("name", ["mine", "resnet34"])
def test_a_model_that_only_the_definition_knows(tmp_path: Path, name: str) -> None:
    """No worker imports the definition: one would fail, or train another model of that name."""
    (tmp_path / "mine.py").write_text(REGISTERS.format(name=name))
    dry, launched = (launch(tmp_path, "--on", "local", *words) for words in (("--dry-run",), ()))
    assert dry.returncode == launched.returncode == 2
    assert dry.stderr.splitlines()[-2:] == launched.stderr.splitlines()[-2:]
    assert name in dry.stderr and "trainer/models/registry.py" in dry.stderr
    assert not (tmp_path / "results").exists()


def test_a_search_looks_too(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text((REGISTERS + SEARCH).format(name="mine"))
    command = [sys.executable, "-m", "sweeps.search", str(tmp_path / "mine.py"), "--dry-run",
               "--on", "local", "--results", str(tmp_path / "results")]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 2 and "trainer/models/registry.py" in done.stderr, done.stderr
