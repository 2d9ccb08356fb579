"""What to run, and seeing it through. A sweep file needs no more than these names; a notebook also
`sweeps.open(results)`, which `from sweeps import *` leaves out, since it is Python's name too."""

from __future__ import annotations

# First of all: it looks after the modules that the working directory has.
from local_machine.errors import quiet_while_importing

# isort: split
import importlib
from typing import TYPE_CHECKING, Any

from sweeps import moved_modules

if TYPE_CHECKING:
    from sweeps.notebook import OpenedSweeps, launch_sweep
    from sweeps.notebook import open as open  # noqa: A004
    from sweeps.search_space.distributions import (
        choice,
        integers,
        log_integers,
        log_uniform,
        uniform,
    )
    from sweeps.spec.find import find, find_search
    from sweeps.spec.grid import Point, Space, chain, grid, zipped
    from sweeps.spec.scale import Scale
    from sweeps.spec.sweep import Search, Sweep, Trial
    from sweeps.study.stages import SoFar, Stage, Study, taking
    from sweeps.task import Objective, Task, maximize, minimize

__all__ = [
    "Objective",
    "OpenedSweeps",
    "Point",
    "Scale",
    "Search",
    "SoFar",
    "Space",
    "Stage",
    "Study",
    "Sweep",
    "Task",
    "Trial",
    "chain",
    "choice",
    "find",
    "find_search",
    "grid",
    "integers",
    "launch_sweep",
    "log_integers",
    "log_uniform",
    "maximize",
    "minimize",
    "taking",
    "uniform",
    "zipped",
]

# Loaded when they are asked for: a command that needs none of them starts without.
_HOMES = {
    "sweeps.notebook": ("OpenedSweeps", "launch_sweep", "open"),
    "sweeps.search_space.distributions": (
        "choice",
        "integers",
        "log_integers",
        "log_uniform",
        "uniform",
    ),
    "sweeps.spec.find": ("find", "find_search"),
    "sweeps.spec.grid": ("Point", "Space", "chain", "grid", "zipped"),
    "sweeps.spec.scale": ("Scale",),
    "sweeps.spec.sweep": ("Search", "Sweep", "Trial"),
    "sweeps.study.stages": ("SoFar", "Stage", "Study", "taking"),
    "sweeps.task": ("Objective", "Task", "maximize", "minimize"),
}

quiet_while_importing()
moved_modules.install()


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
