"""What a site's values may be, and which options of sbatch a site may set."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

# What submitit or this package sets: a second word on it in [slurm] would lose, or win, unseen.
# fmt: off
OURS = frozenset((
    "account", "array", "comment", "constraint", "cpus-per-task", "error", "exclude",
    "gpus-per-node", "gres", "job-name", "mem", "no-requeue", "nodelist", "nodes", "ntasks",
    "ntasks-per-gpu", "ntasks-per-node", "open-mode", "output", "parsable", "partition", "qos",
    "requeue", "signal", "time", "wrap",
))
_NOTHING = "sbatch would send no job"
BREAKS = {
    "chdir": "the jobs find the code, and relative paths of data, in the folder of the launch",
    "clusters": "squeue here does not know another cluster's jobs (SLURM_CLUSTERS tells all)",
    "export-file": "the jobs would not get the environment that a launch builds: use [environment]",
    "get-user-env": "the login shell's variables would replace those that a launch builds",
    "gid": "the jobs could not write what a launch has made",
    "help": _NOTHING, "test-only": _NOTHING, "usage": _NOTHING, "version": _NOTHING,
    "input": "a job reads no input, and one whose file is missing dies without a word",
    "no-kill": "a trial that lost a node would wait for it, and not be requeued",
    "quiet": "sbatch would not say the jobs' ids",
    "uid": "the jobs could not write what a launch has made",
    "wait": "a launch would wait in sbatch until all jobs have ended",
}
"""Long options of sbatch with which trials would be lost, or a launch would hang, and why."""
# Options of their own that others begin with: sbatch takes what an option begins with for it.
_WHOLE = frozenset(("export", "gpus"))
# fmt: on

Problem = tuple[str, str, tuple[str, ...]]
"""What is wrong, what to write instead, and the key and perhaps a key in it that is wrong."""


def has_control(text: str) -> bool:
    """Whether a text could end its line, or move a terminal's cursor."""
    return not text.isprintable()


def count_problem(value: object, *, optional: bool = False) -> str | None:
    """What a count must be, where it is not that. True is an int in Python and no count here."""
    if (optional and value is None) or (type(value) is int and value >= 1):
        return None
    return "a whole number from 1"


def problem_of(key: str, value: object, kind: str) -> Problem | None:
    """What is wrong with a site's value; `kind` is the type that Site's field has, as text."""
    if key in ("environment", "slurm"):
        return _table(key, value)
    if wanted := _CHECKS[kind](value):
        return f"{key} is {value!r}", f"write {key} as {wanted}", (key,)
    if key == "gpu_request" and value not in ("gres", "gpus_per_node", "none"):
        return f"{key} is {value!r}", 'write "gres", "gpus_per_node" or "none"', (key,)
    if key == "gpu_type" and not re.fullmatch(r"[\w.-]*", str(value)):
        return f"{key} is {value!r}", 'write the name alone, such as "a100"', (key,)
    return None


def _text(value: object) -> str | None:
    if isinstance(value, str) and not has_control(value) and "\\" not in value:
        return None
    return 'one line of "text", without backslashes'


def _lines(value: object) -> str | None:
    if isinstance(value, list | tuple) and all(
        isinstance(line, str) and not has_control(line.replace("\t", " ")) for line in value
    ):
        return None
    return 'a list of lines, such as ["module load cuda"]'


def _table(key: str, value: object) -> Problem | None:
    """What is wrong with [environment] or [slurm]."""
    if not isinstance(value, Mapping):
        return (
            f"{key} is {value!r}",
            f"write a table: [{key}] on a line, its settings below",
            (key,),
        )
    for name, setting in value.items():
        where, inner = f"{key}.{name}", (key, str(name))
        if key == "environment":
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                return (
                    f"{where!r} is not a valid name of a variable",
                    "use letters, digits and _",
                    inner,
                )
            if not isinstance(setting, str) or has_control(setting):
                return f"{where} is {setting!r}", 'write one line of "text", numbers too', inner
        elif not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            return f"{where!r} is not a long option of sbatch", "write it as in: mail-type", inner
        elif name in OURS:
            return f"{where} is set for every job", "use the site's own keys, or leave it", inner
        elif name in BREAKS:
            return f"{where} cannot be used: {BREAKS[name]}", "delete the line", inner
        elif name not in _WHOLE and (full := _begun_by(name)):
            return f"{where} would be taken for {full!r}", "write options in full", inner
        elif not (setting is True or type(setting) is int or (setting and _text(setting) is None)):
            return (
                f"{where} is {setting!r}",
                'write "text", a whole number, or true for an option without a value',
                inner,
            )
    return None


def _begun_by(name: str) -> str | None:
    """The option of ours, or one that breaks jobs, that sbatch may take a shortened name for."""
    return next((one for one in sorted(OURS | BREAKS.keys()) if one.startswith(name)), None)


_CHECKS: dict[str, Callable[[object], str | None]] = {
    "bool": lambda value: None if isinstance(value, bool) else "true or false",
    "str": _text,
    "int": count_problem,
    "int | None": lambda value: count_problem(value, optional=True),
    "tuple[str, ...]": _lines,
}
