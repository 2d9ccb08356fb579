"""A request: the options that commands share, and which trials a command line asks for by them."""

from __future__ import annotations

import functools
import inspect
import shlex
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast, get_type_hints

import typer

from local_machine.errors import InputError, folder_named
from local_machine.secrets import masked_words
from local_machine.terminal import TYPED
from sweeps.spec.backend_name import BackendName

if TYPE_CHECKING:
    from sweeps.spec.sweep import Sweep
    from sweeps.state.plan import Plan
    from sweeps.state.trial_store import TrialStore


class ScaleName(StrEnum):
    """sweeps.spec.scale.Scale, named here so that --help need not import it."""

    FULL = "full"
    CPU = "cpu"
    SMOKE = "smoke"


AtScale = Annotated[
    ScaleName,
    typer.Option(
        "--scale",
        help="The same grid, smaller. smoke: minutes on a CPU; cpu: enough to learn from.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a field in every trial."),
]
Seeds = Annotated[
    int | None, typer.Option(min=1, max=1000, help="Run every point with so many seeds.")
]
On = Annotated[
    BackendName,
    typer.Option(
        help="slurm: as jobs; local: worker processes on this machine; debug: in this process; "
        "auto: slurm where there is sbatch, else local."
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Worker processes in all; --per-gpu on each GPU, or one without a GPU, if not given.",
    ),
]
PerGpuWord = Annotated[
    str | None,
    typer.Option(
        "--per-gpu",
        metavar="K|auto",
        help="At most K workers on one GPU, or on a machine without; one, if not given. On Slurm "
        "a job is K workers on one GPU: --workers N sends N/K jobs, and without --workers there is "
        "a worker a trial. auto (not on Slurm): as many as a short trial says, or one for two "
        "cores without a GPU.",
    ),
]
Results = Annotated[Path, typer.Option(help="Results folder.", parser=folder_named, metavar="DIR")]
SiteName = Annotated[
    str, typer.Option("--site", metavar="NAME|FILE", help="The cluster: a site file (.toml).")
]
Nodes = Annotated[int | None, typer.Option(min=1, help="Slurm: nodes a trial.")]
Gpus = Annotated[int | None, typer.Option(min=1, help="Slurm: GPUs, and ranks, a node.")]
NoSnapshot = Annotated[
    bool,
    typer.Option(
        "--no-snapshot", help="Run the code where it lies, not a copy of it as it is now."
    ),
]
Code = Annotated[
    str | None,
    typer.Option("--code", metavar="REV", help="Run the code of this commit, branch or tag."),
]
Minutes = Annotated[int | None, typer.Option(min=1, help="Slurm: a job's time limit.")]


@dataclass(frozen=True)
class Where:
    """The options that say where trials run, of launch, retry, search and study."""

    on: On = BackendName.AUTO
    workers: Workers = None
    per_gpu: PerGpuWord = None
    site: SiteName = "default"
    nodes: Nodes = None
    gpus_per_node: Gpus = None
    minutes: Minutes = None
    no_snapshot: NoSnapshot = False
    code: Code = None
    results: Results = Path("results")


Command = TypeVar("Command", bound=Callable[..., Any])


def with_where(without: Collection[str] = (), **instead: Any) -> Callable[[Command], Command]:
    """Give a command the options of `Where`, which it gets as its parameter `where`.

    `without` are options that it does not have; `instead` are declarations of its own.
    """
    return with_options(Where, "where", without, **instead)


def with_options(
    group: Any, parameter: str, without: Collection[str] = (), **instead: Any
) -> Callable[[Command], Command]:
    """Give a command the options that are the fields of a dataclass, of which it gets one as this
    parameter."""

    def decorated(command: Command) -> Command:
        declared = {**get_type_hints(group, include_extras=True), **instead}
        options = {
            one.name: inspect.Parameter(
                one.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=one.default,
                annotation=declared[one.name],
            )
            for one in fields(group)
            if one.name not in without
        }
        hints = get_type_hints(command, include_extras=True)
        parameters: list[inspect.Parameter] = []
        for one in inspect.signature(command).parameters.values():
            if one.name == parameter:
                parameters += options.values()
            else:
                kind = inspect.Parameter.KEYWORD_ONLY
                parameters.append(one.replace(annotation=hints[one.name], kind=kind))

        @functools.wraps(command)
        def called(**values: Any) -> Any:
            made = group(**{name: values.pop(name) for name in options})
            return command(**values, **{parameter: made})

        # What typer reads.
        del called.__wrapped__
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {one.name: one.annotation for one in parameters}
        return cast(Command, called)

    return decorated


def typed_after(program: str) -> str:
    """This process's command line, without secrets; `program` is what stands before its words,
    where the person has not typed `sweeps launch` and the like (sweeps/__main__.py)."""
    if sys.argv[0].startswith(TYPED):
        program = sys.argv[0]
    return f"{program} {shlex.join(masked_words(sys.argv[1:]))}"


def plan_of(
    sweep: Sweep,
    store: TrialStore,
    scale: ScaleName,
    overrides: Mapping[str, Any],
    seeds: int | None,
    command: str,
    definition: str | None = None,
) -> Plan:
    """The trials that a command asks for, under the names that the store knows them by.
    `definition` is the definition file's text where the command line is the definition.

    Raises InputError for overrides and seeds that the sweep cannot take, and for a damaged plan of
    the same trials.
    """
    from sweeps.spec.expand import expand
    from sweeps.spec.grid import axes_of
    from sweeps.spec.scale import Scale
    from sweeps.state.plan import Plan

    chosen = Scale(str(scale))
    trials = expand(sweep, scale=chosen, overrides=overrides, seeds=seeds)
    plan = Plan(
        sweep=store.sweep,
        trials=store.settle_names(trials),
        scale=str(chosen),
        overrides=overrides,
        axes=axes_of(sweep.space),
        command=command,
        task=trials[0].task,
        definition=definition,
    )
    store.check_task(plan.task)
    store.has_plan(plan.id)
    return plan


def parse_settings(settings: Iterable[str] | None) -> dict[str, Any]:
    """KEY=VALUE words as a mapping; values stay text, which the field's type parses.

    Raises InputError for a word without '=', and for a key given twice.
    """
    parsed: dict[str, Any] = {}
    for word in settings or ():
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise InputError(f"--set {word}", "write KEY=VALUE, as in --set optimizer.lr=0.05")
        if key in parsed:
            raise InputError(f"--set {key} is given twice", "give it once")
        parsed[key] = value
    return parsed
