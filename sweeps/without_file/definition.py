"""The definition that a command line stands for: a sweep or a search, and the same as a file.

RESULTS/NAME/NAME.py is written beside the plan, so that a person can go on with it, and so that its
name is all that later commands need.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from local_machine.errors import InputError, nearest
from sweeps.command_task.command import OWN_FOLDER, CommandOptions, text_of
from sweeps.command_task.task import SEED, CommandTask
from sweeps.command_task.template import OF_ATTEMPT, RESUME, Template
from sweeps.search_space.distributions import Choice, Numbers, Range, choice
from sweeps.spec import find
from sweeps.spec.grid import grid
from sweeps.spec.sweep import Search, Sweep
from sweeps.state.trial_store import TrialStore
from sweeps.task import Objective
from sweeps.without_file.typed_values import ranges_of, single_values, values_of
from sweeps.without_file.words import SearchWords, SweepWords, Words
from trial_records import plan as plan_files

Kind = TypeVar("Kind", Sweep, Search)
_OPTIONS = (
    "step", "done", "stop_signal", "grace", "processes", "resume", "checkpoint", "predictions",
    "timings",
)  # fmt: skip
_HEAD = '''"""Written for a command line of sweeps. Launch it by its name or by its path.

To go on with it, copy it and keep its name: the trials that are done count there, too.
"""'''
_RANGES = {
    ("float", False): "uniform",
    ("float", True): "log_uniform",
    ("int", False): "integers",
    ("int", True): "log_integers",
}


@dataclass(frozen=True)
class Definition(Generic[Kind]):
    """What a command line defines."""

    name: str
    made: Kind
    text: str
    """Of the definition file."""


def sweep_of(
    words: SweepWords,
    command: list[str],
    fixed: Mapping[str, str],
    seeds: int | None,
    results: Path,
) -> Definition[Sweep]:
    """The sweep of a command. `fixed` are the values that do not vary, as typed. Raises InputError
    for what cannot be run, read or compared, and for a name that is taken."""
    name = _name(words.called, results, "sweep")
    line = _line(command)
    axes = values_of("--grid", words.grid)
    options, objective = _options(words), _objective(words)
    first = {key: values[0] for key, values in axes.items()}
    more: dict[str, Any] = {"seeds": seeds} if seeds is not None and seeds > 1 else {}
    base = _base(line, words, first, fixed, bool(more))
    space = grid(axes) if axes else ({},)
    made = Sweep(command=line, base=base, space=space, objective=objective, **more, **options)
    inner = _mapping({key: _literal(some) for key, some in axes.items()}, 2)
    shown = f"grid(\n        {inner}\n    )"
    arguments = _arguments(made.task, base, shown if axes else "", {**more, **options}, objective)
    names = {"Sweep", objective.direction} | ({"grid"} if axes else set())
    text = _text("sweep", arguments, names)
    return Definition(name, made, text)


def search_of(
    words: SearchWords,
    command: list[str],
    fixed: Mapping[str, str],
    more: Mapping[str, Any],
    results: Path,
) -> Definition[Search]:
    """The search of a command; `more` are arguments of Search. Raises InputError as `sweep_of`."""
    name = _name(words.called, results, "search")
    line, space = _line(command), dict[str, Range]()
    for found in (
        ranges_of("--float", words.floats, whole=False),
        ranges_of("--int", words.ints, whole=True),
        {key: choice(some) for key, some in values_of("--choice", words.choices).items()},
    ):
        if twice := [key for key in found if key in space]:
            raise InputError(f"two ranges are called {twice[0]}", "give it once")
        space |= found
    if not space:
        raise InputError(
            "nothing says what is searched",
            "give a range: --float lr=1e-5..1e-1:log, --int layers=2..8, --choice opt=sgd,adam",
        )
    options, objective = _options(words), _objective(words)
    base = _base(line, words, {k: one.ends[0] for k, one in space.items()}, fixed, False)
    made = Search(command=line, base=base, space=space, objective=objective, **more, **options)
    shown = _mapping({key: _range(one) for key, one in space.items()}, 1)
    makers = {_range(one).partition("(")[0] for one in space.values()}
    arguments = _arguments(made.task, base, shown, {**more, **options}, objective)
    text = _text("search", arguments, {"Search", objective.direction, *makers})
    return Definition(name, made, text)


def _name(name: str | None, results: Path, kind: str) -> str:
    """Raises InputError where the name is not valid, or another definition's."""
    if name is None:
        raise InputError(
            "the command behind -- has no name", f"--name NAME: its results go to {results}/NAME"
        )
    if name.endswith((".py", ".json")):
        raise InputError(f"--name {name} is a file's name", f"--name {name.rpartition('.')[0]}")
    path = find.written(find.check_name(name), results)
    another = "choose another --name, or another results folder: --results DIR"
    if find.is_projects(name):
        raise InputError(f"{name} is the name of a definition that is part of sweeps", another)
    if not path.exists():
        TrialStore(results, name).refuse_adopted()
        if plan_files.paths(path.parent):
            raise InputError(
                f"{path.parent} has trials of a definition file that is called {name}",
                f"launch that file, or {another}",
            )
    elif not find.holds(path, kind):
        raise InputError(f"{path} has no `{kind}` in it, so {name} is not a {kind}", another)
    return name


def _line(command: list[str]) -> str:
    """The words as a command line; a single word with blanks is one."""
    is_line = len(command) == 1 and any(char.isspace() for char in command[0])
    return text_of(command[0] if is_line else command)


def _options(words: Words) -> CommandOptions:
    if not words.metrics:
        raise InputError(
            "nothing says where the command writes what it measures",
            "a file in {folder}: --metrics metrics.jsonl; or a pattern of its output: "
            "--metrics 'output: epoch {epoch} loss {loss}'",
        )
    given: dict[str, Any] = {
        "metrics": words.metrics[0] if len(words.metrics) == 1 else words.metrics
    }
    if words.args is not None:
        given["args"] = words.args
    if words.shell:
        given["shell"] = True
    if words.directory is not None:
        # The file may be launched from anywhere.
        is_own = words.directory == OWN_FOLDER
        place = Path(words.directory).expanduser().resolve()
        given["directory"] = words.directory if is_own else str(place)
    given |= {name: getattr(words, name) for name in _OPTIONS if getattr(words, name) is not None}
    return cast(CommandOptions, given)


def _objective(words: Words) -> Objective:
    if (words.minimize is None) == (words.maximize is None):
        both = words.minimize is not None
        raise InputError(
            "--minimize with --maximize" if both else "nothing says what is compared",
            "give one of them" if both else "--minimize val_loss, or --maximize accuracy",
        )
    given = words.minimize if words.minimize is not None else words.maximize
    metric = (given or "").removesuffix(":last").removesuffix(":best")
    if not metric:
        raise InputError("the metric has no name", "--minimize val_loss")
    return Objective(
        metric,
        "maximize" if words.minimize is None else "minimize",
        "last" if (given or "").endswith(":last") else "best",
    )


def _base(
    line: str,
    words: Words,
    varied: Mapping[str, Any],
    fixed: Mapping[str, str],
    seeded: bool,
) -> dict[str, Any]:
    """The values that are not only in the space, nested by their dots. Raises InputError."""
    for name in fixed:
        if name in varied:
            raise InputError(f"--set {name}, which is varied", "give it once")
    flat = {name: value for name, value in varied.items() if "." in name}
    flat |= single_values(dict(fixed))
    used = [one for one in Template(line).placeholders if one != RESUME or words.resume is None]
    # SWEEPS_SEED tells it to every command; with `args` it would follow as an option of its own.
    if SEED not in {*flat, *varied} and (seeded or SEED in used or words.args is None):
        flat[SEED] = 0
    for name in used:
        if name not in {*flat, *varied, *OF_ATTEMPT}:
            raise InputError(
                f"the command has a placeholder {{{name}}}, and nothing gives it a value",
                f"{nearest(name, [*flat, *varied, *OF_ATTEMPT])} Or give it one: --set {name}=V; "
                "{{ and }} are braces",
            )
    base: dict[str, Any] = {}
    for name, value in flat.items():
        *sections, leaf = name.split(".")
        place = base
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise InputError(f"{name} is in {section}, which is a value", "rename one of them")
        place[leaf] = value
    return base


def _arguments(
    task: object, base: Mapping[str, Any], space: str, more: Mapping[str, Any], objective: Objective
) -> dict[str, str]:
    """As they stand in the file."""
    assert isinstance(task, CommandTask)
    how = "" if objective.reduction == "best" else f", {_literal(objective.reduction)}"
    return {
        "command": _literal(task.command.template),
        **({"base": _literal(base)} if base else {}),
        **({"space": space} if space else {}),
        **{name: _literal(value) for name, value in more.items()},
        "objective": f"{objective.direction}({_literal(objective.metric)}{how})",
    }


def _text(kind: str, arguments: Mapping[str, str], names: set[str]) -> str:
    imported = ", ".join(sorted(names, key=lambda name: (name.islower(), name)))
    lines = "".join(f"    {name}={value},\n" for name, value in arguments.items())
    head = f"{_HEAD}\n\nfrom sweeps import {imported}\n"
    return f"{head}\n{kind} = {kind.capitalize()}(\n{lines})\n"


def _mapping(values: Mapping[str, str], depth: int) -> str:
    """An entry a line."""
    blanks = "    " * depth
    lines = "".join(f"{blanks}    {_literal(key)}: {value},\n" for key, value in values.items())
    return f"{{\n{lines}{blanks}}}"


def _range(one: Range) -> str:
    if isinstance(one, Choice):
        return f"choice({_literal(list(one.values))})"
    assert isinstance(one, Numbers)
    return f"{_RANGES[one.kind, one.log]}({one.low!r}, {one.high!r})"


def _literal(value: Any) -> str:
    """As Python writes it, texts in double quotes where that needs no backslash more."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_literal(k)}: {_literal(v)}' for k, v in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_literal, value))}]"
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    if isinstance(value, str) and '"' not in text and text[0] == "'":
        return f'"{text[1:-1]}"'
    return text
