"""The loader: runs a definition file and gives what it holds, or says what is wrong with it.

A definition is a program, and running one takes trust. A file that cannot hold what is asked for,
such as a training script given by mistake, is not run. What cannot be helped: one that never ends
(Ctrl-C does), and one that leaves by os._exit.
"""

from __future__ import annotations

import ast
import contextlib
import reprlib
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TypeVar, cast

from local_machine.code.own_code import guarded as guarded
from local_machine.code.own_code import line_of, module_name, siblings
from local_machine.errors import InputError
from local_machine.files import read_file
from sweeps.spec.program import example
from sweeps.spec.slow_import import said_while_running

Definition = TypeVar("Definition")

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
COMMANDS = {"sweep": "sweeps.launch", "search": "sweeps.search", "study": "sweeps.study"}
"""Which command is for what a definition may hold."""


def load(path: Path, name: str, kind: type[Definition]) -> Definition:
    """What a definition file calls `name`. Raises InputError where it fails or has none, and where
    it is not a file, FileNotFoundError where there is none."""
    source = read_file(path)
    wants = f"it must hold: {name} = {kind.__name__}(...)"
    module = ModuleType(module_name(path))
    module.__file__ = str(path)

    def parse() -> tuple[ast.Module, bool]:
        tree = ast.parse(source, str(path))
        return tree, _may_hold(tree, name)

    def run() -> tuple[object, bool]:
        # Dataclasses look their module up there.
        sys.modules[module.__name__] = module
        # What a definition prints is not the command's data.
        with contextlib.redirect_stdout(sys.stderr), siblings(path), said_while_running(path):
            exec(compile(tree, str(path), "exec", dont_inherit=True), module.__dict__)
            found: object = getattr(module, name, None)
            return found, isinstance(found, kind)

    def where(error: BaseException) -> str:
        return f"{path}{line_of(error, path)}"

    tree, may_be_there = guarded(parse, where, "")
    if not may_be_there:
        instead = _instead(path, tree, name)
        raise InputError(f"{path} has no `{name}` in it, so it was not run", instead or wants)
    found, is_one = guarded(run, where, "")
    if not is_one:
        what = f"no `{name}`" if found is None else f"a `{name}` that is a {type(found).__name__}"
        raise InputError(f"{path} has {what} in it", wants)
    return cast(Definition, found)


def may_hold(path: Path, name: str) -> bool:
    """Whether the file, once run, may have the name in it. Raises InputError where it is not
    Python, FileNotFoundError where there is none."""
    source = read_file(path)
    return guarded(
        lambda: _may_hold(ast.parse(source, str(path)), name),
        lambda error: f"{path}{line_of(error, path)}",
        "",
    )


def _instead(path: Path, tree: ast.Module, name: str) -> str | None:
    """What to type for a file that does not hold what was asked for; None where nobody can say."""
    if name not in COMMANDS:
        return None
    for other, command in COMMANDS.items():
        if _may_hold(tree, other):
            return f"it has a `{other}`: python -m {command} {shlex.quote(str(path))}"
    if name == "study":
        return None
    kind = name.capitalize()
    return (
        f"a definition holds {name} = {kind}(...). A program is launched by its command line: "
        f"{example(path, tree, COMMANDS[name])}"
    )


def shown(value: object) -> str:
    """The value in an error: short, and also where its own __repr__ fails or has no end."""
    try:
        return reprlib.repr(value)
    except BaseException as error:
        if type(error) is KeyboardInterrupt:
            raise
        return f"a {type(value).__name__}"


def _may_hold(tree: ast.Module, name: str) -> bool:
    """Whether the module, once run, may have the name: whether it sets it in any way, or does what
    nobody can look through."""
    named = any(isinstance(node, ast.Constant) and node.value == name for node in ast.walk(tree))
    return any({name, "*", "__getattr__"} & _set_by(node) for node in _outer(tree)) or any(
        _may_set(node, name, named) for node in ast.walk(tree)
    )


def _may_set(node: ast.AST, name: str, named: bool) -> bool:
    """Whether the node, in any scope, may set the module's name; `named`: it is a text there."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        called = node.func.id
        return called in ("globals", "exec") or (called in ("vars", "locals") and not node.args)
    if isinstance(node, ast.Attribute):
        return node.attr == name or (node.attr == "__dict__" and named)
    if isinstance(node, ast.Name):
        return node.id == "setattr" and named
    return isinstance(node, ast.Global) and name in node.names


def _outer(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of the module's own scope."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, _SCOPES):
            yield from _outer(child)


def _set_by(node: ast.AST) -> set[str | None]:
    """The names that this node sets by itself; * for any."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return {node.id}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    if isinstance(node, ast.MatchMapping):
        return {node.rest}
    if isinstance(node, (*_SCOPES[:3], ast.ExceptHandler, ast.MatchAs, ast.MatchStar)):
        return {node.name}
    return set()
