"""Extras: which packages are installed only where they are asked for, and how to ask for them.

It imports nothing of the project, so that any error can say it.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

DISTRIBUTION = "sweeps-hpc"
"""What pip knows the project by; `sweeps` on PyPI is another project."""
MODULES = {
    "trainer": ("torch", "torchvision", "PIL", "sklearn", "captum"),
    "report": ("pandas", "scipy", "matplotlib", "sklearn", "jinja2", "bokeh"),
    "search": ("optuna", "cmaes"),
}
"""What each extra installs, by the names that are imported."""


def missing(need: str) -> str | None:
    """The first module of an extra that is not installed, or the module of that name itself; None
    where all are."""
    modules = MODULES.get(need, (need,))
    return next((one for one in modules if importlib.util.find_spec(one) is None), None)


def command(need: str) -> str | None:
    """What to type for an extra, or for a module of one; None for any other module."""
    of = (extra for extra, modules in MODULES.items() if need == extra or need in modules)
    extra = next(of, None)
    return None if extra is None else f"pip install {installed_as(extra)}"


def installed_as(extra: str) -> str:
    """How pip is told of an extra: by the project's name or, of a checkout that was not installed
    under it, by the checkout's folder."""
    from importlib import metadata

    try:
        metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return f"-e '{Path(__file__).resolve().parents[2]}[{extra}]'"
    return f"'{DISTRIBUTION}[{extra}]'"
