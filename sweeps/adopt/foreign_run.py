"""ForeignRun: what the files of one run say, read once and never changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_machine.errors import InputError, nearest
from local_machine.files import unreadable
from sweeps.adopt import foreign_config, foreign_files
from sweeps.adopt.foreign_files import MOST_BYTES, MOST_EVENT_BYTES
from sweeps.command_task.metrics import kinds
from sweeps.command_task.metrics.numbers import Numbers
from sweeps.command_task.metrics.output_pattern import OutputPattern
from sweeps.command_task.metrics.source import Raw, Source
from sweeps.task import without
from trial_records.fields.sections import leaves
from trial_records.log import Values
from trial_records.metrics import STEPS


@dataclass(frozen=True)
class Asked:
    """What a command line says of the runs in a folder."""

    root: Path
    metrics: str
    """As `sweeps.command_task.metrics.kinds` reads it."""
    configs: Sequence[str]
    """Patterns of files, or `name`; what a later one says wins."""
    metric: str
    """The objective's."""
    output: str | None = None
    """Of metrics that are a pattern of a program's output: the file that has the output."""
    step: str | None = None
    done: str | None = None
    """The file that a complete run has."""
    ignored: Sequence[str] = ()
    """Fields that do not belong to a configuration."""

    def check(self) -> None:
        """Raises InputError for what names nothing that can be read."""
        kinds.check(self.metrics)
        is_output = self.metrics.startswith(kinds.OUTPUT)
        if is_output != (self.output is not None):
            raise InputError(
                f"--metrics is {self.metrics!r}, and "
                + ("nothing says" if is_output else "--output says") + " which file has the output",
                "--output train.log goes with --metrics 'output: epoch {epoch} loss {loss}'",
            )  # fmt: skip
        for option, glob in (("--output", self.output), ("--done", self.done)):
            if glob is not None:
                foreign_files.check_glob(option, glob)
        for glob in self.configs:
            foreign_files.check_glob("--config", glob)


@dataclass(frozen=True)
class ForeignRun:
    folder: Path
    values: Mapping[str, Any]
    """Its configuration, nested as in JSON."""
    rows: list[Values] = field(repr=False)
    files: Mapping[str, str]
    """The SHA-256 of each file that it was read from, by its path in the folder."""
    left_out: Sequence[str] = ()
    """Fields that say where the run lies, and not what it is."""

    @property
    def origin(self) -> str:
        return foreign_files.shown(self.folder)


def read(folder: Path, asked: Asked) -> ForeignRun | None:
    """The run in a folder; None where the folder holds none of the files that a run has. Raises
    InputError where it cannot be read, or is not complete."""
    foreign_files.check_inside(asked.root, folder)
    try:
        source = kinds.source_of(asked.metrics, folder, {})
        source.end(is_whole=False)
        measured = source.files()
        if asked.output is not None:
            measured = foreign_files.files_matching(folder, asked.output)
        configs = [
            path
            for glob in asked.configs
            if glob != foreign_config.FROM_NAME
            for path in _one_file(folder, glob)
        ]
        named = foreign_config.FROM_NAME in asked.configs
        of_name = foreign_config.values_of_name(folder.relative_to(asked.root)) if named else {}
        if not measured and not configs and not of_name:
            return None
        _check_complete(folder, asked, measured)
        values = _values(folder, asked, of_name)
        files = [*measured, *configs]
        most = MOST_EVENT_BYTES if asked.metrics.startswith(kinds.TENSORBOARD) else MOST_BYTES
        for path in files:
            foreign_files.check_inside(asked.root, path)
        before = [_stamp(path, most) for path in files]
        digests = foreign_files.digests(folder, files)
        rows = _rows(source, measured, asked)
        if [_stamp(path, most) for path in files] != before:
            raise InputError(
                f"{folder} changes while it is read: its program still writes",
                "adopt it when it has ended; what was adopted by now stays",
            )
    except FileNotFoundError as error:
        raise InputError(f"{error.filename or folder} is gone", "run it again") from None
    except OSError as error:
        raise unreadable(folder, error) from None
    _check_metric(folder, asked, rows, source)
    values, left_out = _without_places(values, folder, asked.ignored)
    return ForeignRun(folder, values, rows, digests, left_out)


def _stamp(path: Path, most: int) -> tuple[int, int]:
    facts = foreign_files.check_regular(path, most)
    return facts.st_size, facts.st_mtime_ns


def _one_file(folder: Path, glob: str) -> list[Path]:
    """The file of that pattern, or none. Raises InputError for several."""
    found = foreign_files.files_matching(folder, glob)
    if len(found) > 1:
        raise InputError(
            f"{folder} has {len(found)} files that --config {glob} names",
            f"name one: --config {found[0].relative_to(folder)}",
        )
    return found


def _check_complete(folder: Path, asked: Asked, measured: Sequence[Path]) -> None:
    """Raises InputError where the run is not one that has ended, or has no metrics."""
    if not measured:
        raise InputError(
            f"{folder} has no file of metrics: {asked.output or asked.metrics}",
            "name what it has: --metrics GLOB",
        )
    if asked.done is not None and not foreign_files.files_matching(folder, asked.done):
        raise InputError(
            f"{folder} is not complete: it has no {asked.done}", "adopt it when it has ended"
        )


def _values(folder: Path, asked: Asked, of_name: Mapping[str, Any]) -> dict[str, Any]:
    """Of all that --config names. Raises InputError where there is none."""
    found: dict[str, Any] = {}
    for glob in asked.configs:
        if glob == foreign_config.FROM_NAME:
            if not of_name:
                raise InputError(
                    f"the name of {folder} says no values", "such as lr=0.1,bs=32 or lr0.1-bs32"
                )
            found = _merged(found, of_name)
            continue
        paths = _one_file(folder, glob)
        if not paths:
            raise InputError(
                f"{folder} has no file of its configuration: {glob}",
                "name what it has: --config GLOB, or --config name where its name says the values",
            )
        foreign_files.check_inside(asked.root, paths[0])
        found = _merged(found, foreign_config.values_in(paths[0]))
    return found


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(one)
    for key, value in other.items():
        known = merged.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            merged[key] = _merged(known, value)
        else:
            merged[key] = value
    return merged


def _rows(source: Source, measured: Sequence[Path], asked: Asked) -> list[Values]:
    """What was measured, a row for each step. Raises InputError, OSError."""
    try:
        if isinstance(source, OutputPattern):
            raw: list[Raw] = []
            for path in measured:
                foreign_files.check_regular(path, MOST_BYTES)
                with path.open(encoding="utf-8", errors="replace") as lines:
                    raw += source.parsed(path.name, [line.rstrip("\n") for line in lines], "")
        else:
            raw = list(source.read())
    except (OSError, InputError):
        raise
    # Libraries that read what others wrote raise anything: csv.Error, RecursionError, KeyError.
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{measured[0]} cannot be read: {first}", "name another file: --metrics GLOB"
        ) from None
    numbers = Numbers(asked.step)
    rows: dict[Any, Values] = {}
    for number, one in enumerate(raw):
        if row := numbers.of(one):
            step = tuple(row.get(name) for name in STEPS)
            rows.setdefault(number if step == (None, None) else step, {}).update(row)
    return list(rows.values())


def _check_metric(folder: Path, asked: Asked, rows: list[Values], source: Source) -> None:
    """Raises InputError where no row has the objective's metric."""
    if any(asked.metric in row for row in rows):
        return
    names = dict.fromkeys(name for row in rows for name in row)
    if not names:
        raise InputError(f"{folder} has no metrics: {source.missing()}", "see what is in the file")
    raise InputError(
        f"{folder}: no row of its metrics has {asked.metric!r}", nearest(asked.metric, names)
    )


def _without_places(
    values: Mapping[str, Any], folder: Path, ignored: Sequence[str]
) -> tuple[dict[str, Any], list[str]]:
    """The values but for those that are ignored and those that are paths through the run's own
    folder, which differ from run to run and train nothing; and the names of the latter."""
    places = [
        name
        for name, value in leaves(values).items()
        if isinstance(value, str) and "/" in value and folder.name in value.split("/")
    ]
    sections = tuple(f"{name}." for name in ignored)
    dropped = {*places, *ignored}
    dropped |= {name for name in leaves(values) if name.startswith(sections)}
    return _pruned(without(values, dropped)), places


def _pruned(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without sections that nothing is left in."""
    found = {
        key: _pruned(value) if isinstance(value, dict) else value for key, value in values.items()
    }
    return {key: value for key, value in found.items() if value != {}}
