"""A Python environment with what the core alone installs, made of links to the packages that run
the tests: no package of an extra can be imported there, in no process."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent


def declared() -> dict[str, object]:
    """The `project` of pyproject.toml."""
    found: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def closure(requirements: Sequence[str]) -> dict[str, metadata.Distribution]:
    """The distributions that these requirements install, by name."""
    found: dict[str, metadata.Distribution] = {}
    left = [(Requirement(one), "") for one in requirements]
    while left:
        wanted, extra = left.pop()
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": extra}):
            continue
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if name not in found:
            found[name] = metadata.distribution(name)
            left += [(Requirement(one), "") for one in found[name].requires or ()]
        for one in wanted.extras:
            left += [(Requirement(line), one) for line in found[name].requires or ()]
    return found


def mebibytes(distributions: dict[str, metadata.Distribution]) -> float:
    """What their files take, without what Python compiles of them."""
    paths = [Path(str(one.locate_file(file))) for one in distributions.values()
             for file in one.files or () if "__pycache__" not in file.parts]  # fmt: skip
    return sum(path.stat().st_size for path in set(paths) if path.is_file()) / 2**20


def make(folder: Path) -> Path:
    """The environment's interpreter; the project itself is this checkout."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    requirements = declared()["dependencies"]
    assert isinstance(requirements, list)
    for one in closure(requirements).values():
        for top in {file.parts[0] for file in one.files or ()} - {"..", "__pycache__"}:
            (packages / top).symlink_to(Path(str(one.locate_file(top))))
    (packages / "checkout.pth").write_text(f"{ROOT}\n")
    return folder / "bin" / "python"
