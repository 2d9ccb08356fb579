"""What the distribution says of itself, and what lies beside the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from local_machine.installed import extras

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("local_machine", "trial_records", "trainer", "sweeps", "analysis", "slurm")


def test_the_metadata_is_whole() -> None:
    wanted = "name version description readme license authors keywords classifiers requires-python"
    assert set(wanted.split()) <= set(PROJECT)
    assert PROJECT["name"] == extras.DISTRIBUTION and PROJECT["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
    minor = re.findall(r"Python :: 3\.(\d+)", " ".join(PROJECT["classifiers"]))
    assert minor == ["11", "12", "13", "14"] and PROJECT["requires-python"] == ">=3.11"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").exists()


def test_the_changelog_has_the_version_in_progress_above_the_released_ones() -> None:
    heads = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    version = PROJECT["version"].partition(".dev")[0]
    assert heads[0] == f"{version} (not released yet)"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ \(\d{4}-\d\d-\d\d\)", one) for one in heads[1:])


@pytest.mark.parametrize("extra", extras.MODULES)
def test_each_extra_is_declared_and_known_by_its_modules(extra: str) -> None:
    """A module that is missing is told by the name that it is imported by."""
    names = {"torch", "torchvision", "captum", "pandas", "scipy", "matplotlib", "jinja2", "bokeh",
             "optuna", "cmaes"}  # fmt: skip
    known = {"PIL": "pillow", "sklearn": "scikit-learn"} | {name: name for name in names}
    declared = {re.split(r"[<>=]", one)[0] for one in PROJECT["optional-dependencies"][extra]}
    assert {known[module] for module in extras.MODULES[extra]} == declared
