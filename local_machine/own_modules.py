"""Which modules a command gets, whatever lies in the folder that it is run from.

`python -m` puts the working directory before all else: a person's own trainer.py, analysis/ or
queue.py there would be imported in the place of ours, or of Python's. So our own packages come from
here, and modules of the working directory are found after all others. What cannot be helped: in a
folder with an own sweeps.py, Python looks for sweeps.launch there and ends before any code of ours
runs (`python -P -m sweeps.launch` does not look there); and one with an own local_machine.py.

It runs before all else of ours, and imports nothing that a person's file could stand for.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec, PathFinder

PACKAGES = frozenset(("local_machine", "trial_records", "trainer", "sweeps", "analysis", "slurm"))
SCRIPT = "sweeps"
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120


class _Ours:
    """Finds our packages beside this one."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [ROOT]) if name in PACKAGES else None


def install() -> None:
    """In a process that is a command of ours. In a notebook, or a test, modules are its own."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    # While Python looks for the module of -m, and imports the packages that it is in, that is all
    # that argv says.
    is_module = sys.argv[:1] == ["-m"] or (spec and spec.name.partition(".")[0] in PACKAGES)
    # The console script `sweeps`, to which Python does not give the working directory.
    typed = sys.argv[0] if sys.argv else ""
    is_script = spec is None and os.path.basename(typed) == SCRIPT  # noqa: PTH119
    if not is_module and not is_script:
        return
    sys.meta_path.insert(0, _Ours())
    if is_script and (folder := _working_directory()) is not None:
        sys.path.append(folder)
    if sys.path[:1] in ([""], [_working_directory()]):
        sys.path.append(sys.path.pop(0))
    # Python may have found the command behind a package of the person's, such as a folder sweeps/.
    for name, loaded in list(sys.modules.items()):
        if name.partition(".")[0] in PACKAGES and not _is_ours(loaded):
            del sys.modules[name]


def _working_directory() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        return None


def _is_ours(module: object) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and os.path.abspath(file).startswith(ROOT + os.sep)  # noqa: PTH100
