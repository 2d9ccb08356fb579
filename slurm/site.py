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
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from local_machine.errors import EXIT_USAGE, SlurmError
from local_machine.files import matching, read_regular
from slurm.site_checks import count_problem, problem_of

SITES = Path(__file__).parent / "sites"


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
    """CPU cores per GPU; each GPU has one task."""
    mem_gb_per_gpu: int | None = None
    """Memory per GPU, in GB."""
    minutes: int = 60
    """The time limit of a job, unless `--minutes` says another."""
    signal_seconds: int = 90
    """How long before the time limit a job is warned, in seconds."""
    max_array_size: int = 1000
    """Tasks in one array, at most; Slurm's own MaxArraySize is 1001, which counts from 0."""
    max_submit: int = 1000
    """Jobs that may be queued at once, tasks of arrays counted one by one."""
    max_running: int | None = None
    """How many tasks of an array may run at once."""
    query_seconds: int = 15
    """How long a command that watches waits before it asks Slurm again, in seconds."""
    mps: bool = False
    """Whether a job whose GPU several workers share starts NVIDIA's MPS daemon for them."""
    python: str = ""
    """The interpreter on the compute nodes; empty is the one that submits."""
    setup: tuple[str, ...] = ()
    """Lines of bash that run as they are before the trial, such as "module load cuda"."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of a job, exported after the set-up lines; values are quoted, never expanded."""
    slurm: Mapping[str, str | int | bool] = field(default_factory=dict)
    """Any other long option of sbatch without its dashes; true for one that takes no value. Where
    `export` passes little on, the jobs get PYTHONPATH and SWEEPS_CACHE all the same."""

    def __post_init__(self) -> None:
        for each in fields(self):
            if problem := problem_of(each.name, getattr(self, each.name), str(each.type)):
                raise SlurmError(
                    f"site {self.name!r}: {problem[0]}", problem[1], exit_code=EXIT_USAGE
                )

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
            if (problem := count_problem(value, optional=optional)) is not None:
                raise SlurmError(
                    f"resources: {each.name} is {value!r}", f"give {problem}", exit_code=EXIT_USAGE
                )


def sites() -> list[str]:
    """The names that find_site knows, sorted."""
    return sorted({path.stem for folder in _folders() for path in matching(folder, "*.toml")})


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
        exit_code=EXIT_USAGE,
    )


def _folders() -> tuple[Path, Path]:
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "sweeps" / "sites", SITES


def _read(path: Path) -> Site:
    try:
        text = read_regular(path).decode()
    except FileNotFoundError:
        raise SlurmError(
            f"{path}: no such file", "known by name: " + ", ".join(sites()), exit_code=EXIT_USAGE
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SlurmError(f"{path}: {reason}", "give a readable text file") from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SlurmError(
            f"{path}: {error}", 'write TOML, as in: partition = "gpu"', exit_code=EXIT_USAGE
        ) from None
    known = {each.name: str(each.type) for each in fields(Site) if each.name != "name"}
    for key, value in table.items():
        where = f"{path}:{_line(text, (key,))}"
        if key == "name":
            raise SlurmError(
                f"{where}: a site has the name of its file, {path.stem!r}",
                "delete the line",
                exit_code=EXIT_USAGE,
            )
        if key not in known:
            raise SlurmError(
                f"{where}: unknown key {key!r}", _nearest(key, list(known)), exit_code=EXIT_USAGE
            )
        if problem := problem_of(key, value, known[key]):
            where = f"{path}:{_line(text, problem[2])}"
            raise SlurmError(f"{where}: {problem[0]}", problem[1], exit_code=EXIT_USAGE)
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


def _nearest(word: str, choices: list[str]) -> str:
    close = difflib.get_close_matches(word, sorted(choices), n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(name) for name in close) + "?"
    return "choose one of: " + ", ".join(sorted(choices))
