"""Words: the options of a command line that ends in `-- COMMAND ...`, and what stands behind `--`.

Nothing is imported here that would make --help slow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from local_machine.errors import InputError

PANEL = "Without a definition file: --name NAME ... -- COMMAND"
_BEHIND = "behind --"
_EXAMPLE = "-- python train.py --lr {lr} --out {folder}"


def _option(name: str, metavar: str, help: str) -> Any:
    return typer.Option(name, metavar=metavar, help=help, rich_help_panel=PANEL)


@dataclass(frozen=True)
class Words:
    """What a command line says of the command behind `--`, beside the values that vary."""

    called: Annotated[
        str | None, _option("--name", "NAME", "What the sweep is called; its results go there.")
    ] = None
    metrics: Annotated[
        list[str] | None,
        _option(
            "--metrics",
            "FILE|PATTERN",
            "Where it writes what it measures, a file in {folder}: metrics.jsonl, metrics.csv, "
            "trainer_state.json, tensorboard; or 'output: epoch {epoch} loss {loss}', which may be "
            "repeated.",
        ),
    ] = None
    minimize: Annotated[
        str | None,
        _option("--minimize", "METRIC", "What is to be low: of its best row, or METRIC:last."),
    ] = None
    maximize: Annotated[
        str | None, _option("--maximize", "METRIC", "What is to be high; METRIC:last, alike.")
    ] = None
    args: Annotated[
        str | None,
        _option(
            "--args",
            "argparse|hydra",
            "How values follow that no {placeholder} takes: --lr 0.1, or lr=0.1.",
        ),
    ] = None
    step: Annotated[
        str | None, _option("--step", "NAME", "What its metrics call the epoch or step.")
    ] = None
    done: Annotated[
        str | None, _option("--done", "FILE", "A file in {folder} that says: complete.")
    ] = None
    stop_signal: Annotated[
        str | None, _option("--stop-signal", "SIGNAL", "What asks it to save and end; TERM.")
    ] = None
    grace: Annotated[
        float | None, _option("--grace", "SECONDS", "How long it may take to end then; 30.")
    ] = None
    processes: Annotated[
        str | None,
        _option("--processes", "auto|per_rank|per_node", "Started once for each GPU, or node."),
    ] = None
    directory: Annotated[
        str | None,
        _option("--directory", "DIR", "Where it works; '{folder}': in the trial's own folder."),
    ] = None
    resume: Annotated[
        str | None,
        _option(
            "--resume", "WORDS", "What is added where --checkpoint is there: --resume=--resume."
        ),
    ] = None
    checkpoint: Annotated[
        str | None, _option("--checkpoint", "FILE", "The file in {folder} to go on from.")
    ] = None
    predictions: Annotated[
        str | None,
        _option("--predictions", "FILE", "What it predicted, in {folder}: .csv, .parquet or .npz."),
    ] = None
    timings: Annotated[
        list[str] | None,
        _option("--timing", "METRIC", "A metric that no two runs share; may be repeated."),
    ] = None
    shell: Annotated[
        bool,
        typer.Option(
            "--shell",
            help="/bin/sh reads the command, one word in quotes.",
            rich_help_panel=PANEL,
        ),
    ] = False


@dataclass(frozen=True)
class SweepWords(Words):
    grid: Annotated[
        list[str] | None,
        _option("--grid", "NAME=V,V", "Values to try; every combination with those of others."),
    ] = None


@dataclass(frozen=True)
class SearchWords(Words):
    floats: Annotated[
        list[str] | None,
        _option("--float", "NAME=LOW..HIGH", "A number to search; behind :log, by its logarithm."),
    ] = None
    ints: Annotated[
        list[str] | None, _option("--int", "NAME=LOW..HIGH", "A whole number; :log, alike.")
    ] = None
    choices: Annotated[
        list[str] | None, _option("--choice", "NAME=V,V", "One of these values.")
    ] = None


class CommandBehindDashes(TyperCommand):
    """A command whose words behind `--` are another program's command line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        here = args.index("--") if "--" in args else len(args)
        own, ctx.meta[_BEHIND] = args[:here], args[here + 1 :] if here < len(args) else None
        if here == len(args) and "--help" not in own:
            self._refuse_without_dashes(own)
        return super().parse_args(ctx, own)

    def _refuse_without_dashes(self, words: list[str]) -> None:
        """Raises InputError where options are given that only a command behind `--` can have."""
        options = {
            name
            for one in self.params
            if getattr(one, "rich_help_panel", None) == PANEL
            for name in one.opts
        }
        for word in words:
            if (name := word.partition("=")[0]) in options:
                raise InputError(
                    f"{name} is given, and there is no -- with a command behind it",
                    f"end the line with the command: {_EXAMPLE}",
                )

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND...]"]


def command_of(context: typer.Context, name: str | None) -> list[str] | None:
    """The words behind `--`; None where a definition is named instead. Raises InputError where
    both are given, or neither."""
    words: list[str] | None = context.meta[_BEHIND]
    if words is None and name is None:
        raise InputError(
            "nothing says what to run: no name, and no command behind --",
            f"give a name, a definition file (.py), or --name NAME ... {_EXAMPLE}; --help has the "
            "options",
        )
    if words is not None and name is not None:
        raise InputError(
            f"{name} stands beside a command behind --",
            f"--name {name} is what the command's results are called"
            if name.isidentifier()
            else "give a definition file or a command",
        )
    if words == []:
        raise InputError("there is nothing behind --", f"write the command: {_EXAMPLE}")
    return words
