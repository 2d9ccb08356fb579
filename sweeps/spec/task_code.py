"""The code of a task: beside its file or package, what that imports from its own project.

What counts is what is imported when the task is: by the import statements outside of functions, as
far as they lead to Python files of the same repository, or, without one, of the task's folder.
Which these are follows from the files alone, and not from what else the process has loaded. Not
among them: a module that a function imports later, one that is imported by a name made at run time
(importlib), installed libraries, and this project's own packages.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from local_machine.own_modules import PACKAGES
from sweeps.spec import loader
from sweeps.spec.task_loader import code_of, place_of
from trial_records.plan import PlannedTask

_INSTALLED = ("site-packages", "dist-packages")


def imported_by(task: PlannedTask) -> tuple[Path, ...]:
    """The files of its project that a task imports, sorted; those of its own file or package are
    not among them. The task has been loaded; else there are none."""
    code, first = code_of(task), _module(task)
    if code is None or first is None:
        return ()
    root = _project_of(code)
    found: dict[Path, ModuleType] = {}
    todo = [first]
    while todo:
        for name in _imports(todo.pop()):
            module = sys.modules.get(name)
            file = _file(module, root)
            if module is not None and file is not None and file not in found:
                found[file] = module
                todo.append(module)
    return tuple(sorted(file for file in found if file != code and code not in file.parents))


def _module(task: PlannedTask) -> ModuleType | None:
    place = place_of(task.reference)
    return sys.modules.get(loader.module_name(Path(place)) if place.endswith(".py") else place)


def _project_of(code: Path) -> Path:
    return next((one for one in code.parents if (one / ".git").exists()), code.parent)


def _file(module: ModuleType | None, root: Path) -> Path | None:
    """The module's file, where it is a Python file of the project."""
    name = getattr(module, "__file__", None)
    if module is None or not isinstance(name, str) or not name.endswith(".py"):
        return None
    file = Path(name).resolve()
    is_ours = module.__name__.partition(".")[0] in PACKAGES
    is_installed = any(part in _INSTALLED for part in file.parts)
    return None if is_ours or is_installed or root not in file.parents else file


def _imports(module: ModuleType) -> Iterator[str]:
    """The modules that a module's import statements may name, packages before what is in them."""
    try:
        tree = ast.parse(Path(module.__file__ or "").read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in _outside_functions(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            name = _absolute(module, node)
            yield from _with_parents(name)
            yield from (f"{name}.{alias.name}" for alias in node.names)


def _absolute(module: ModuleType, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = (module.__package__ or "").split(".")
    parts = package[: len(package) - node.level + 1]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[: end + 1]) for end in range(len(parts)))


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _outside_functions(child)
