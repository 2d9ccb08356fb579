"""Completion: how a line that begins with `sweeps` may go on, as a shell asks it.

    sweeps --install-completion        # for the shell that is used, into its own settings

Typer has the scripts of each shell and says where in a line the cursor is; this says which names
there are. Whatever is wrong with a folder, a shell gets no names and no error.
"""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup

from local_machine.errors import EXIT_DONE
from local_machine.files import matching
from sweeps.spec import catalogue

PROGRAM = "sweeps"


class Word(NamedTuple):
    """A way to go on, as typer's own items are."""

    value: str
    help: str | None = None
    type: str = "plain"


def run(modules: Mapping[str, str], words: list[str]) -> int:
    """Answer the shell, or show or install its script; `modules` has each command's."""

    class Commands(TyperGroup):
        """Imports the module of the command that is typed, and no other."""

        def list_commands(self, ctx: Any) -> list[str]:
            return list(modules)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            return None if cmd_name not in modules else _command(cmd_name, modules[cmd_name])

        def shell_complete(self, ctx: Any, incomplete: str) -> Any:
            return [Word(name) for name in modules if name.startswith(incomplete)]

    app = typer.Typer(cls=Commands, rich_markup_mode=None)
    app.callback()(_no_command)
    typer.main.get_command(app)(
        args=words, prog_name=PROGRAM, complete_var=f"_{PROGRAM.upper()}_COMPLETE"
    )
    return EXIT_DONE


def _no_command() -> None:
    """Whoever asks for completion runs nothing."""


def _command(name: str, module: str) -> Any:
    found = importlib.import_module(module)
    if hasattr(found, "__path__"):
        found = importlib.import_module(f"{module}.__main__")
    command: Any = typer.main.get_command(found.app)
    for one in command.params:
        source = _SOURCES.get((name, one.name or "")) or _SOURCES.get(("", one.name or ""))
        if source is not None:
            one.shell_complete = _completing(source)
    return command


def _completing(source: Callable[[Any, str], Iterable[str]]) -> Callable[[Any, str], Any]:
    def complete(ctx: Any, incomplete: str) -> list[Word]:
        # A shell shows whatever is printed in the middle of the line that is typed.
        with contextlib.suppress(Exception):
            names = sorted(set(source(ctx, incomplete)))
            return [Word(name) for name in names if name.startswith(incomplete)]
        return []

    return complete


def _results(ctx: Any) -> Path:
    return Path(ctx.params.get("results") or "results")


def _launched(ctx: Any, _: str) -> list[str]:
    """The sweeps and searches of the results folder."""
    return [path.parent.name for path in matching(_results(ctx), "*/plans")]


def _trials_of(sweep: Path) -> set[str]:
    """Those of all plans, whether they have a folder yet or are compacted."""
    return {
        one["name"]
        for path in matching(sweep, "plans/*.json")
        for one in json.loads(path.read_text())["trials"]
    }


def _trials(ctx: Any, _: str) -> set[str]:
    # Behind an option that still lacks its value, the words before it are not read: of all sweeps.
    names = [name] if (name := ctx.params.get("name")) else _launched(ctx, "")
    return {trial for name in names for trial in _trials_of(_results(ctx) / name)}


def _targets(ctx: Any, incomplete: str) -> list[str]:
    """A sweep or, once a slash is typed, its trials."""
    sweep, slash, _ = incomplete.partition("/")
    if not slash:
        return _launched(ctx, incomplete)
    return [f"{sweep}/{trial}" for trial in _trials_of(_results(ctx) / sweep)]


def _defined(kind: str) -> Callable[[Any, str], list[str]]:
    def names(ctx: Any, _: str) -> list[str]:
        found = [*catalogue.of_project(), *catalogue.of_results(_results(ctx))]
        return [one.name for one in found if one.kind == kind]

    return names


def _sites(_: Any, __: str) -> list[str]:
    from slurm.site import sites

    return sites()


# By the command and the parameter; "" is every other command.
_SOURCES: dict[tuple[str, str], Callable[[Any, str], Iterable[str]]] = {
    ("launch", "name"): _defined("sweep"),
    ("search", "name"): _defined("search"),
    ("study", "name"): _defined("study"),
    ("", "name"): _launched,
    ("", "names"): _launched,
    ("", "target"): _targets,
    ("", "trial"): _trials,
    ("verify", "only"): _trials,
    ("", "site"): _sites,
}
