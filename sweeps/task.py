"""The task: a training program as everything else here knows it, by one contract.

A task gives its name, what it trains by and how; all else has a plain default. Its name and the
whole of a configuration's values are what a trial is. Sweeps import a task by its reference alone
(`sweeps.spec.task_loader`), so importing its module must load nothing heavy, such as torch.
"""

from __future__ import annotations

import copy
import functools
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from local_machine.errors import InputError, nearest
from local_machine.files import read_file
from sweeps.run.handle import Run, metrics_of
from trial_records import metrics, trial_files
from trial_records.plan import PlannedTask
from trial_records.trial_files import Cause

Values = Mapping[str, Any]
"""A configuration as it is stored: nested, as in JSON."""


@dataclass(frozen=True)
class Objective:
    """Which metric says how good a trial is."""

    metric: str
    direction: Literal["maximize", "minimize"] = "maximize"
    reduction: Literal["best", "last", "final"] = "best"
    """Of the metric's rows the best or the last one; or what `train` returns under its name."""

    @property
    def in_words(self) -> str:
        """Such as `minimize loss (best)`."""
        return f"{self.direction} {self.metric} ({self.reduction})"


def maximize(metric: str, reduction: Literal["best", "last", "final"] = "best") -> Objective:
    return Objective(metric, "maximize", reduction)


def minimize(metric: str, reduction: Literal["best", "last", "final"] = "best") -> Objective:
    return Objective(metric, "minimize", reduction)


class DeviceCosts(Protocol):
    """What past runs on one device tell of a trial's cost there."""

    def alike(self, config: Any) -> float | None:
        """Seconds of a device for a unit of the budget, by past runs alike and nothing else. Loads
        nothing heavy."""

    def seconds(self, config: Any, ranks: int) -> tuple[float, str] | None:
        """Seconds of a device for a unit of the budget, on so many ranks, all of them together;
        and what tells it. None where that is not known."""


class PastRun(Protocol):
    """What a finished trial tells of its cost."""

    @property
    def device(self) -> str: ...

    @property
    def on_slurm(self) -> bool: ...


class CostModel(ABC):
    """How the cost of a task's trials is told from past runs."""

    columns: Sequence[str]
    """The columns of run.parquet that `read` needs."""

    @abstractmethod
    def read(self, row: Values, values: Callable[[], Values]) -> PastRun | None:
        """A run by its row; `values` reads what the trial's config.json holds. None, or ValueError,
        LookupError or TypeError, where it tells nothing or is of another task."""

    @abstractmethod
    def on(self, device: str | None, runs: Sequence[Any], *, on_slurm: bool) -> DeviceCosts:
        """What the runs, those on all devices, newest first, tell of this one; `on_slurm`: this
        machine's is another."""

    def measure(self, device: str) -> None:  # noqa: B027 - a plain default
        """Measure what an estimate needs of this machine's device, of which no run tells; say so on
        stderr, since it takes some seconds. Does nothing where it was measured before."""

    def at_least(self, config: Any) -> float:
        """Seconds that a trial takes on any CPU, at the least; 0 where that cannot be told at
        once."""
        return 0.0


class Task(ABC):
    """A training program. What a task does not say has a plain default."""

    name: str
    """Stable: part of every trial's identity."""
    reference: str
    """How a worker imports it: "module:attribute", or "path/file.py:attribute"."""
    objective: Objective
    budget: str | None = None
    """The field, by its dotted name, that says how long a trial trains (epochs, steps, seconds)."""
    seed: str | None = None
    """The field of the seed."""
    config_class: str | None = None
    """How the configuration's class is imported, where `reference` does not lead to it."""
    presets: Mapping[str, Values] = {}
    """What a scale of the command line (smoke, cpu) overrides."""
    stop_seconds: float = 0.0
    """How long its training may take to end, once asked to stop, beside what a step takes."""
    cost: CostModel | None = None
    """None: past runs of the same task tell it, those alike in all values but the seed first."""
    is_exact: bool = False
    """Whether a trial that was killed and resumed, on one process, computes just what an
    undisturbed one computes. It is believed once `sweeps.verify` has found it so."""
    timings: Sequence[str] = ()
    """Metrics, and other columns of its run.parquet, that are of time or of the machine: two runs
    of one trial differ in them."""

    @abstractmethod
    def parse(self, values: Values, where: str = "configuration") -> Any:
        """The configuration of the values, checked by today's rules; at launch and in a worker
        only. Raises InputError, which begins with `where` and names the field and the value."""

    @abstractmethod
    def train(self, config: Any, run: Run) -> Values | None:
        """Train one trial, from where `run` says that it is; the final metrics, or None."""

    def read(self, path: Path) -> Any:
        """The configuration in a file, as a trial's config.json holds it. Raises InputError."""
        content = trial_files.parse_values(path, read_file(path))
        if content.keys() != {"task", "values"} or content["task"] != self.name:
            raise InputError(f"{path} is not of the task {self.name!r}", "launch its definition")
        return self.parse(content["values"], where=str(path))

    @functools.cached_property
    def planned(self) -> PlannedTask:
        """What plans say of the task."""
        return PlannedTask(
            name=self.name,
            reference=self.reference,
            budget=self.budget,
            seed=self.seed,
            config=self.config_class,
            metric=self.objective.metric,
            direction=self.objective.direction,
            reduction=self.objective.reduction,
        )

    # Configurations

    @abstractmethod
    def values(self, config: Any) -> dict[str, Any]:
        """What is stored of the configuration; `parse` makes the same of it."""

    @abstractmethod
    def override(self, config: Any, changes: Values) -> Any:
        """A copy with fields changed by their dotted names; a text is parsed by the field's type.
        Raises InputError for an unknown field or a bad value."""

    def judged_by(self, objective: Objective, config: Any) -> Task:
        """The same task, whose trials are compared by another objective; `config` is one of its
        configurations. Raises InputError where no trial of it measures that."""
        other = copy.copy(self)
        other.__dict__.pop("planned", None)
        other.objective = objective
        return other

    def to_json(self, config: Any) -> str:
        """What a trial's config.json holds."""
        content = self.planned.content(self.values(config))
        return json.dumps(content, indent=2, allow_nan=False) + "\n"

    def seeded(self, config: Any, offset: int, count: int) -> list[Any]:
        """The configuration under so many seeds, counted up from its own and the offset. Raises
        InputError where it has no seed to count from."""
        if not offset and count == 1:
            return [config]
        first = self.stored(self.values(config), self.seed)
        if self.seed is None or type(first) is not int:
            raise InputError(
                f"{count} seeds, and {self.name} has no seed that is a whole number",
                "name its field: seed=..., or ask for one seed",
            )
        seeds = range(first + offset, first + offset + count)
        return [self.override(config, {self.seed: seed}) for seed in seeds]

    def scaled(self, configs: Sequence[Any], scale: str) -> list[dict[str, Any]]:
        """The overrides that bring each configuration of one sweep to a scale below full. Raises
        InputError where the task has no such scale."""
        if scale not in self.presets:
            raise InputError(
                f"--scale {scale}: {self.name} does not say what that is",
                nearest(scale, self.presets) if self.presets else "leave it out, or use --set",
            )
        return [dict(self.presets[scale]) for _ in configs]

    def words(self, config: Any) -> list[str]:
        """What a trial is called where its sweep varies nothing but the seed."""
        return [self.name]

    @staticmethod
    def stored(values: Values, key: str | None) -> Any:
        """The value of a field by its dotted name; None where there is none."""
        found: Any = values
        for part in key.split(".") if key else ():
            found = found.get(part) if isinstance(found, Mapping) else None
        return found if key else None

    # Before anything is leased or written

    def check(self, configs: Iterable[Any], ranks: int) -> None:  # noqa: B027 - a plain default
        """Raise InputError where a trial on so many ranks could not be. Touches nothing."""

    def prepare(self, configs: Iterable[Any]) -> None:  # noqa: B027 - a plain default
        """Do once what every trial needs, such as a download. Raises InputError."""

    def registered(self, configs: Iterable[Any]) -> dict[str, Any]:
        """What the configurations name that code registers in a process, as JSON can hold it."""
        return {}

    def check_registered(self, elsewhere: Values) -> None:  # noqa: B027 - a plain default
        """Raise InputError where `registered` was another in the process that launches."""

    def own_code(self, values: Values) -> Sequence[str]:
        """References to a person's own code in stored values, beside the task's: it travels in the
        code snapshot, and its files count as the trial's code. The project's trainer alone is
        asked, since `status` imports no other task."""
        return ()

    def try_out(self, configs: Iterable[Any]) -> None:  # noqa: B027 - a plain default
        """Raise InputError where code that the configurations name does not work. A launch asks it
        of a process of its own, which may import what is heavy; it takes seconds."""

    def describe_data(self, folder: Path) -> str:
        """What trials would have of the data in a folder, in words. Raises InputError."""
        raise InputError(f"{self.name} reads no folder of data", "leave the folder out")

    # While trials run

    def read_ahead(self, config: Any) -> None:  # noqa: B027 - a plain default
        """Begin, in a thread, to read what the trial needs, while heavy modules are imported."""

    def affinity(self, values: Values) -> Hashable:
        """The same for stored values of which a process, after one trial, has at hand what the
        next one needs: data, compiled code."""
        return json.dumps(without(values, {self.budget, self.seed}), sort_keys=True)

    def row_line(self, config: Any, row: Values) -> str:
        """What was just logged, in a line of the worker's log."""
        return "  ".join(f"{name} {value:.6g}" for name, value in row.items())

    def end_line(self, row: Values) -> str:
        """How a trial ended, by its row of run.parquet, in a line of the worker's log."""
        value = row["objective"]
        return f"{self.objective.metric} {'not logged' if value is None else f'{value:.6g}'}"

    def outcome(self, config: Any, run: Run, returned: Values | None) -> dict[str, Any]:
        """The columns of the run.parquet of a trial whose `train` returned these final metrics.
        Raises InputError for what are none."""
        values, objective = self.values(config), self.objective
        return {
            **run.provenance(),
            "seed": self.stored(values, self.seed),
            **metrics.configured(values),
            **metrics.measured(
                run.rows(), metrics_of(returned), objective.metric, objective.direction,
                objective.reduction,
            ),
        }  # fmt: skip

    def cause(self, error: Exception) -> Cause | None:
        """The word for an error of its own; None for all others."""
        return None

    def content(self, config: Any) -> str | None:
        """The SHA-256 of the data that a trial would train on, as its run.parquet says it: by it a
        sweep takes an equal trial over that another has finished. None: never."""
        return None

    # Sharing a GPU

    def shape(self, config: Any) -> list[Any]:
        """What decides how fast it trains and what memory it takes, as JSON can hold it."""
        return [self.affinity(self.values(config))]

    def memory(self, config: Any) -> float:
        """What its training takes of a device's memory, in any unit."""
        return 0.0

    def rehearse(self, config: Any, should_stop: Callable[[], bool]) -> int:
        """Train, without an end and for nothing, until `should_stop`, which is asked after each
        step, says so; how many samples a step has. Raises InputError where a task cannot."""
        raise InputError(f"{self.name} cannot be measured", "give a number: --per-gpu 2")


def without(values: Values, fields: Container[str | None], section: str = "") -> dict[str, Any]:
    """The values but for some fields, by their dotted names."""
    return {
        name: without(value, fields, f"{section}{name}.") if isinstance(value, Mapping) else value
        for name, value in values.items()
        if section + name not in fields
    }
