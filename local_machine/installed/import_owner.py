"""Who owns the import name `sweeps`: this project or another distribution.

PyPI's `sweeps` is a project of Weights & Biases, whose package has the same name. pip installs one
over the other and says nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from local_machine.installed.extras import DISTRIBUTION

ROOT = Path(__file__).resolve().parents[2]
OTHER = "sweeps"
# What the package's own __init__.py has in it, and another's has not.
_MARK = "from sweeps import moved_modules"
_APART = "to keep both, give each an environment of its own (python -m venv FOLDER)"


def problem() -> tuple[str, str] | None:
    """What is wrong, and what to type, where another distribution's package lies in place of ours;
    None where ours is whole."""
    file = ROOT / "sweeps" / "__init__.py"
    try:
        if _MARK in file.read_text():
            return None
    except (OSError, UnicodeDecodeError):
        pass
    other = next(_others([ROOT]), None)
    owner = f"is now that of the distribution {other}" if other else "was overwritten or removed"
    return (
        f"the package `sweeps` in {ROOT} {owner}, and not that of {DISTRIBUTION}",
        f"pip uninstall --yes {OTHER}, then pip install --force-reinstall --no-deps "
        f"{DISTRIBUTION}; {_APART}",
    )


def warning() -> str | None:
    """What there is to say where ours is whole and another distribution of the name is installed,
    too."""
    other = next(_others(Path(folder) for folder in sys.path if folder), None)
    if other is None:
        return None
    return (
        f"{other} is installed beside {DISTRIBUTION}, and both have a package `sweeps`: "
        f"`import sweeps` may find either. pip uninstall --yes {OTHER}; {_APART}"
    )


def _others(folders: Iterator[Path] | list[Path]) -> Iterator[str]:
    """The distributions called `sweeps`, with their versions, whose package lies in a folder. This
    project's own had that name, too, and as an editable one has no package there."""
    for folder in folders:
        for metadata in _metadata(folder):
            try:
                lists = (metadata / "RECORD").read_text()
            except (OSError, UnicodeDecodeError):
                continue
            if f"{OTHER}/__init__.py," in lists:
                version = metadata.name.removesuffix(".dist-info").partition("-")[2]
                yield f"{OTHER} {version} (Weights & Biases)"


def _metadata(folder: Path) -> list[Path]:
    """Of distributions called so; none in a folder that this user may not list."""
    try:
        return list(folder.glob(f"{OTHER}-*.dist-info"))
    except OSError:
        return []
