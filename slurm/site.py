"""Site and Resources: what a cluster is, and what a job asks of it.

A site is one TOML file: the project's are in slurm/sites, a person's own in
~/.config/sweeps/sites, and any other is named by its path.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from local_machine.errors import SlurmError
from local_machine.files import read_regular
from slurm.environment import NEEDED

SITES = Path(__file__).parent / "sites"
USAGE = 2

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


@dataclass(frozen=True)
class Site:
    """A cluster's facts; every one of them has a default, and None or "" leaves it to Slurm.

    Raises SlurmError for a value of the wrong type or out of range, and for control characters.
    """

    name: str = "default"
    """The file's name, without .toml."""
    partition: str = ""
    """The partition, or several with commas, of which Slurm takes the first that is free."""
    account: str = ""
    """The account that is charged."""
    qos: str = ""
    """The quality of service."""
    constraint: str = ""
    """The node features to ask for, such as "a100&nvlink"."""
    nodelist: str = ""
    """The only nodes to run on."""
    exclude: str = ""
    """The nodes to keep away from."""
    gpu_request: str = "gres"
    """How GPUs are asked for: "gres" (--gres=gpu:N), "gpus_per_node", or "none" on CPU nodes."""
    gpu_type: str = ""
    """The type in the GPU request, such as "a100"; empty takes any."""
    cpus_per_gpu: int | None = None
    """CPU cores a GPU, which is a task."""
    mem_gb_per_gpu: int | None = None
    """Memory a GPU in GB."""
    minutes: int = 60
    """The time limit of a job that names none."""
    signal_seconds: int = 90
    """How long before the time limit a job is warned, in seconds."""
    max_array_size: int = 1000
    """Tasks in one array, at most; Slurm's own MaxArraySize is 1001, which counts from 0."""
    max_submit: int = 1000
    """Jobs that may be queued at once, tasks of arrays counted one by one."""
    max_running: int | None = None
    """Tasks of an array that may run at once."""
    query_seconds: int = 15
    """How long a command that watches waits before it asks Slurm again, in seconds."""
    mps: bool = False
    """Whether a job whose GPU several workers share starts NVIDIA's MPS daemon for them."""
    python: str = ""
    """The interpreter on the compute nodes; empty is the one that submits."""
    setup: tuple[str, ...] = ()
    """Lines of bash that run as they are before the trainer, such as "module load cuda"."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of a job, exported after the set-up lines; values are quoted, never expanded."""
    slurm: Mapping[str, str | int | bool] = field(default_factory=dict)
    """Any other long option of sbatch without its dashes; true for one that takes no value. Where
    `export` passes little on, the jobs get PYTHONPATH and SWEEPS_CACHE all the same."""

    def __post_init__(self) -> None:
        for each in fields(self):
            if problem := _problem(each.name, getattr(self, each.name)):
                raise SlurmError(f"site {self.name!r}: {problem[0]}", problem[1], exit_code=USAGE)

    @property
    def interpreter(self) -> str:
        """The Python of the compute nodes as a word of bash: submitit's executors want it so."""
        return shlex.quote(self.python or sys.executable)


@dataclass(frozen=True)
class Resources:
    """What one job asks for; None leaves it to the site. Each GPU has one task.

    Raises SlurmError for anything but whole numbers from 1.
    """

    nodes: int = 1
    gpus_per_node: int = 1
    cpus_per_gpu: int | None = None
    mem_gb_per_gpu: int | None = None
    """GB."""
    minutes: int | None = None

    @property
    def ranks(self) -> int:
        """Of the whole job."""
        return self.nodes * self.gpus_per_node

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            optional = each.default is None
            if (problem := _count(value, optional=optional)) is not None:
                raise SlurmError(
                    f"resources: {each.name} is {value!r}", f"give {problem}", exit_code=USAGE
                )


def submitit_parameters(
    site: Site, resources: Resources, *, name: str, comment: str
) -> dict[str, Any]:
    """What submitit.SlurmExecutor.update_parameters takes for such a job on such a site.

    The executor's interpreter is not among them: construct it with python=site.interpreter.

    Raises SlurmError for a name or comment that is empty, or has control characters or backslashes
    (sbatch drops these from its #SBATCH lines, quoted or not), and where the warning would come
    before the job starts.
    """
    for what, text in (("job name", name), ("comment", comment)):
        if not text or _control(text) or "\\" in text:
            raise SlurmError(
                f"the {what} is {text!r}",
                "give one line of plain text: no line breaks, control characters or backslashes",
                exit_code=USAGE,
            )
    minutes = resources.minutes or site.minutes
    if site.signal_seconds >= minutes * 60:
        raise SlurmError(
            f"site {site.name!r}: signal_seconds is {site.signal_seconds}, and the job has "
            f"{minutes} min",
            "give the job more minutes, or the site a shorter warning",
            exit_code=USAGE,
        )
    parameters: dict[str, Any] = {
        "job_name": name,
        "comment": comment,
        "nodes": resources.nodes,
        "ntasks_per_node": resources.gpus_per_node,
        "time": minutes,
        "signal_delay_s": site.signal_seconds,
        "array_parallelism": site.max_running or site.max_array_size,
        "stderr_to_stdout": True,
        # One rank's end is the attempt's: the others would wait for it without a word.
        "srun_args": ["--kill-on-bad-exit=1"],
        # submitit's own default, "submitit", is refused where keys are enforced.
        "wckey": None,
        "setup": [
            *_exports(site),
            *site.setup,
            *(f"export {key}={shlex.quote(value)}" for key, value in site.environment.items()),
        ],
        # submitit sets open-mode=append, so that a requeued job goes on in its log.
        "additional_parameters": {"requeue": True, **site.slurm},
    }
    for key in ("partition", "account", "qos", "constraint", "nodelist", "exclude"):
        if value := getattr(site, key):
            parameters[key] = value
    gpus = ":".join(filter(None, (site.gpu_type, str(resources.gpus_per_node))))
    if site.gpu_request == "gres":
        parameters["gres"] = f"gpu:{gpus}"
    elif site.gpu_request == "gpus_per_node":
        parameters["gpus_per_node"] = gpus
    if cpus := resources.cpus_per_gpu or site.cpus_per_gpu:
        parameters["cpus_per_task"] = cpus
        # From 22.05 on srun no longer takes it from the job.
        parameters["srun_args"].append(f"--cpus-per-task={cpus}")
    if memory := resources.mem_gb_per_gpu or site.mem_gb_per_gpu:
        parameters["mem"] = f"{memory * resources.gpus_per_node}GB"
    return parameters


def _exports(site: Site) -> list[str]:
    """What bash does first where the site says which variables a job gets: srun would pass on as
    little as sbatch, and a job needs some of ours."""
    if "export" not in site.slurm:
        return []
    needed = [(name, os.environ[name]) for name in NEEDED if name in os.environ]
    return [
        "unset SLURM_EXPORT_ENV",
        *(f"export {name}={shlex.quote(text)}" for name, text in needed),
    ]


def sites() -> list[str]:
    """The names that find_site knows, sorted."""
    return sorted({path.stem for folder in _folders() for path in folder.glob("*.toml")})


def find_site(name_or_path: str | Path) -> Site:
    """The site of that name, or of that file where the word ends in .toml.

    A person's own site goes before the project's of the same name. Raises SlurmError, exit code
    2, for an unknown name, and naming file and line for what is wrong in the file.
    """
    word = str(name_or_path)
    if word.endswith(".toml"):
        return _read(Path(word).expanduser())
    for folder in _folders():
        path = folder / f"{word}.toml"
        if os.sep not in word and path.is_file():
            return _read(path)
    raise SlurmError(
        f"no site is called {word!r}",
        f"{_nearest(word, sites())} (or give a path that ends in .toml)",
        exit_code=USAGE,
    )


def _folders() -> tuple[Path, Path]:
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "sweeps" / "sites", SITES


def _read(path: Path) -> Site:
    try:
        text = read_regular(path).decode()
    except FileNotFoundError:
        raise SlurmError(
            f"{path}: no such file", "known by name: " + ", ".join(sites()), exit_code=USAGE
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SlurmError(f"{path}: {reason}", "give a readable text file") from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SlurmError(
            f"{path}: {error}", 'write TOML, as in: partition = "gpu"', exit_code=USAGE
        ) from None
    known = {each.name for each in fields(Site)} - {"name"}
    for key, value in table.items():
        where = f"{path}:{_line(text, (key,))}"
        if key == "name":
            raise SlurmError(
                f"{where}: a site has the name of its file, {path.stem!r}",
                "delete the line",
                exit_code=USAGE,
            )
        if key not in known:
            raise SlurmError(f"{where}: unknown key {key!r}", _nearest(key, known), exit_code=USAGE)
        if problem := _problem(key, value):
            where = f"{path}:{_line(text, problem[2])}"
            raise SlurmError(f"{where}: {problem[0]}", problem[1], exit_code=USAGE)
    if "setup" in table:
        table["setup"] = tuple(table["setup"])
    return Site(name=path.stem, **table)


def _line(text: str, path: tuple[str, ...]) -> int:
    """The line of a key, counted from 1, by a look at headers and at what stands before `=`.

    A look is enough, since the text is known to parse: inside a text of several lines it may find
    the key too early.
    """
    table: tuple[str, ...] = ()
    found = 1
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.fullmatch(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(#.*)?", line):
            table = here = _words(header[1])
        elif setting := re.match(r"\s*([^=#]+?)\s*=", line):
            here = table + _words(setting[1])
        else:
            continue
        if here == path:
            return number
        if here[:1] == path[:1]:
            found = number  # an inline table, or one that is built by dotted keys
    return found


def _words(key: str) -> tuple[str, ...]:
    return tuple(word.strip().strip("\"'") for word in key.split("."))


def _nearest(word: str, choices: set[str] | list[str]) -> str:
    close = difflib.get_close_matches(word, sorted(choices), n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(name) for name in close) + "?"
    return "choose one of: " + ", ".join(sorted(choices))


Problem = tuple[str, str, tuple[str, ...]]
"""What is wrong, what to write instead, and the key and perhaps a key in it that is wrong."""


def _control(text: str) -> bool:
    """Whether a text could end its line, or move a terminal's cursor."""
    return not text.isprintable()


def _count(value: object, *, optional: bool = False) -> str | None:
    """What a count must be, where it is not that. True is an int in Python and no count here."""
    if (optional and value is None) or (type(value) is int and value >= 1):
        return None
    return "a whole number from 1"


def _problem(key: str, value: object) -> Problem | None:
    check = _CHECKS.get(_TYPES[key])
    assert check is not None, f"Site.{key} has a type that no check knows"
    if key in ("environment", "slurm"):
        return _table(key, value)
    if wanted := check(value):
        return f"{key} is {value!r}", f"write {key} as {wanted}", (key,)
    if key == "gpu_request" and value not in ("gres", "gpus_per_node", "none"):
        return f"{key} is {value!r}", 'write "gres", "gpus_per_node" or "none"', (key,)
    if key == "gpu_type" and not re.fullmatch(r"[\w.-]*", str(value)):
        return f"{key} is {value!r}", 'write the name alone, such as "a100"', (key,)
    return None


def _text(value: object) -> str | None:
    if isinstance(value, str) and not _control(value) and "\\" not in value:
        return None
    return 'one line of "text", without backslashes'


def _lines(value: object) -> str | None:
    if isinstance(value, list | tuple) and all(
        isinstance(line, str) and not _control(line.replace("\t", " ")) for line in value
    ):
        return None
    return 'a list of lines, such as ["module load cuda"]'


def _any_table(value: object) -> str | None:
    return None if isinstance(value, Mapping) else "a table"


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
                return f"{where!r} is no variable's name", "use letters, digits and _", inner
            if not isinstance(setting, str) or _control(setting):
                return f"{where} is {setting!r}", 'write one line of "text", numbers too', inner
        elif not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            return f"{where!r} is no long option of sbatch", "write it as in: mail-type", inner
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


_TYPES: dict[str, str] = {each.name: str(each.type) for each in fields(Site)}
_CHECKS: dict[str, Callable[[object], str | None]] = {
    "bool": lambda value: None if isinstance(value, bool) else "true or false",
    "str": _text,
    "int": _count,
    "int | None": lambda value: _count(value, optional=True),
    "tuple[str, ...]": _lines,
    "Mapping[str, str]": _any_table,
    "Mapping[str, str | int | bool]": _any_table,
}
