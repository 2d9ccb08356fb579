"""Command: what a definition says of a command line, checked.

Sweep(command="python train.py --lr {lr} --out {folder}", metrics="metrics.jsonl", ...)
"""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

from local_machine.errors import InputError, nearest
from sweeps.command_task.metrics import kinds
from sweeps.command_task.template import Args, Template
from trial_records.plan import PlannedCommand

ARGS: tuple[Args, ...] = ("placeholders", "argparse", "hydra")
PROCESSES = ("auto", "per_rank", "per_node")
# Slurm's warning, which a program never sees, and what no program can act on.
_NOT_TO_SEND = ("USR2", "KILL", "STOP", "CONT")
MAX_LENGTH = 10_000
OWN_FOLDER = "{folder}"
"""The directory of a program that works in its trial's folder."""
TERM_SECONDS = 10.0
"""From SIGTERM to SIGKILL."""


class CommandOptions(TypedDict, total=False):
    """What a definition may say beside `command`."""

    metrics: str | Sequence[str]
    """Where the program writes what it measures, a file in its folder: JSON lines (*.jsonl), CSV,
    Hugging Face's trainer_state.json or TensorBoard's event files (tensorboard); or a pattern of
    its output: `output: epoch {epoch} loss {loss}`; or a list of patterns."""
    args: Args
    shell: bool
    step: str
    """What its metrics call the step, such as `iteration`."""
    done: str
    """A file in its folder that says that it is complete."""
    stop_signal: str
    """What asks it to save and end, such as USR1; TERM unless told."""
    grace: float
    """How many seconds it may take then."""
    processes: Literal["auto", "per_rank", "per_node"]
    """Started once for each rank, with the variables of torchrun: of `auto` where there are several
    ranks, of `per_rank` always. Or once for each node, for a program that calls torchrun or
    accelerate itself."""
    directory: str
    """Where the program works, such as the folder of a repository; from where the launch runs. Or
    `{folder}`: in the trial's own. Not given: where the launch runs. Not part of identity."""
    resume: str
    """What is added to the command where `checkpoint` is there, such as `--resume`: for a program
    that goes on only when it is told to. It stands at the end, or for {resume}. Not part of
    identity."""
    checkpoint: str
    """The file in its folder to go on from; it may have wildcards: `ckpt-*.pt`."""
    predictions: str
    """A file in its folder with what it predicted: *.csv, *.parquet or *.npz, with label and
    predicted, label and logit_0, logit_1, ..., or target and value."""
    timings: str | Sequence[str]
    """The metrics that no two runs share, such as `seconds`: `sweeps.verify` does not compare them.
    Not part of identity."""
    budget_field: str
    """The value that says how long it trains, such as `max_epochs`."""
    seed_field: str


def command_of(command: str | Sequence[str], options: CommandOptions) -> PlannedCommand:
    """Raises InputError for what cannot be run, read or stopped."""
    text = text_of(command)
    if len(text) > MAX_LENGTH or "\0" in text:
        raise InputError(
            f"the command has {len(text)} characters",
            f"give at most {MAX_LENGTH}, none of them NUL: put the rest into a script",
        )
    args, processes = options.get("args", ARGS[0]), options.get("processes", "auto")
    for what, given, known in (("args", args, ARGS), ("processes", processes, PROCESSES)):
        if given not in known:
            raise InputError(f"{what} is {given!r}", nearest(str(given), known))
    shell = options.get("shell", False)
    if type(shell) is not bool:
        raise InputError(f"shell is {shell!r}", "give True or False")
    _ = Template(text, args, shell).words
    for name in ("step", "done", "directory", "resume", "checkpoint", "predictions"):
        if name in options and not (isinstance(options.get(name), str) and options.get(name)):
            raise InputError(f"{name} is {options.get(name)!r}", f"give a text: {name}=...")
    if ("resume" in options) != ("checkpoint" in options):
        alone, other = ("resume", "checkpoint")[:: 1 if "resume" in options else -1]
        raise InputError(
            f"{alone} is given, and {other} is not",
            "say what is added to the command, and which file in its folder must be there: "
            'resume="--resume", checkpoint="last.pt"',
        )
    metrics = options.get("metrics")
    if metrics is None:
        raise InputError(
            "nothing says where the command writes what it measures",
            'a file in its folder: metrics="metrics.jsonl"; or a pattern of its output: '
            'metrics="output: epoch {epoch} loss {loss}"',
        )
    texts = kinds.texts_of(metrics)
    kinds.check(texts)
    return PlannedCommand(
        template=text, args=args, shell=shell, metrics=tuple(texts) if len(texts) > 1 else texts[0],
        step=options.get("step"), done=_in_folder("done", options.get("done")),
        processes=processes, stop_signal=_signal(options.get("stop_signal", "TERM")),
        grace=_grace(options.get("grace", 30.0)), directory=_directory(options.get("directory")),
        resume=options.get("resume"),
        checkpoint=_in_folder("checkpoint", options.get("checkpoint")),
        predictions=_predictions(options.get("predictions")),
        timings=_timings(options.get("timings", ())),
    )  # fmt: skip


def text_of(command: str | Sequence[str]) -> str:
    """The command line that is split into these words. Raises InputError for what has none."""
    if isinstance(command, str):
        return command.strip()
    if isinstance(command, Sequence) and all(isinstance(word, str) for word in command):
        # Placeholders need no quotes; to quote them would be to quote the braces.
        return " ".join(word if _is_plain(word) else shlex.quote(word) for word in command)
    raise InputError(
        f"command is a {type(command).__name__}",
        'give a text or a list of words: command="python train.py --lr {lr}"',
    )


def _is_plain(word: str) -> bool:
    return re.fullmatch(r"[\w@%+=:,./{}\-]+", word) is not None


def _signal(given: Any) -> str:
    name = str(given).upper().removeprefix("SIG")
    names = [one.name.removeprefix("SIG") for one in signal.Signals]
    if name not in names or name in _NOT_TO_SEND:
        raise InputError(
            f"stop_signal is {given!r}",
            "USR2 is Slurm's own warning: give USR1, INT or TERM"
            if name in _NOT_TO_SEND
            else nearest(name, names),
        )
    return name


def _grace(given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= 86_400:
        raise InputError(f"grace is {given!r}", "give seconds from 0 to 86400: grace=60")
    return float(given)


def _directory(given: str | None) -> str | None:
    """As an absolute path, which holds for workers wherever they start."""
    if given is None or given == OWN_FOLDER:
        return given
    path = Path(given).expanduser()
    if not path.is_dir():
        raise InputError(
            f"directory is {given!r}, which is "
            + ("not a folder" if path.exists() else f"not there, in {Path.cwd()}"),
            f"give the folder in which the command works, or {OWN_FOLDER!r}, the trial's own",
        )
    return str(path.resolve())


def _in_folder(what: str, name: str | None) -> str | None:
    if name is not None and not kinds.is_in_folder(name):
        raise InputError(
            f"{what} is {name!r}, which is not in the program's folder",
            f'name a file in {{folder}}: {what}="model.pt"',
        )
    return name


def _predictions(name: str | None) -> str | None:
    if name is not None and not name.endswith((".csv", ".parquet", ".npz")):
        raise InputError(
            f"predictions is {name!r}", 'name a CSV, Parquet or .npz file: "predictions.csv"'
        )
    return _in_folder("predictions", name)


def _timings(given: Any) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, list | tuple) or not all(isinstance(x, str) and x for x in names):
        raise InputError(
            f"timings is {given!r}", 'name the metrics that are times: timings=["seconds"]'
        )
    return tuple(names)


def stop_seconds(command: PlannedCommand) -> float:
    """How long the program may take to come to its end, once asked to stop."""
    return command.grace + TERM_SECONDS
