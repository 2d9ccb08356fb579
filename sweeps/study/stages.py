"""Study, Stage: sweeps and searches one after another, each taking what those before it chose.

A study is a Python file with `study` in it:

    def grid(so_far: SoFar) -> Sweep:
        return find("grid_bs_epoch")[1]

    def mixup(so_far: SoFar) -> Sweep:
        return taking("mixup", so_far["grid_bs_epoch"])

    study = Study(
        Stage("grid_bs_epoch", grid, reported={"batch_size": 256, "epochs": 100}),
        Stage("mixup", mixup),
    )
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from local_machine.errors import InputError, nearest
from sweeps.spec.catalogue import STUDIES, names
from sweeps.spec.find import find, stem
from sweeps.spec.grid import Point, axes_of
from sweeps.spec.loader import guarded, load, shown
from sweeps.spec.scale import Scale
from sweeps.spec.sweep import Search, Sweep
from trial_records.names import is_name

NAMES_TAKEN = ("report", "comparison")


@dataclass(frozen=True)
class SoFar:
    """What a stage may know: the scale, and what the stages before it chose, by stage."""

    scale: Scale
    chosen: Mapping[str, Point]

    def __getitem__(self, stage: str) -> dict[str, Any]:
        """What the stage chose, as overrides by dotted key."""
        if stage not in self.chosen:
            raise InputError(
                f"no stage before it that chooses is called {stage!r}",
                nearest(stage, self.chosen) if self.chosen else "no stage before it chooses",
            )
        return dict(self.chosen[stage])

    def at(self, full: int, cpu: int, smoke: int) -> int:
        """A number by scale: of seeds, of a search's trials."""
        return {Scale.FULL: full, Scale.CPU: cpu, Scale.SMOKE: smoke}[self.scale]


@dataclass(frozen=True)
class Stage:
    """One sweep or search of a study."""

    name: str
    """Of its folder in the results."""
    make: Callable[[SoFar], Sweep | Search]
    """The sweep or search, with what was chosen before it as its base."""
    reported: Point = field(default_factory=dict)
    """The fields that it chooses, each with the value that is assumed until it has chosen, such as
    a published one; empty: it chooses nothing."""

    def made(self, so_far: SoFar) -> Sweep | Search:
        """Raises InputError that names the stage, for whatever goes wrong in `make`."""
        found = guarded(lambda: self.make(so_far), lambda _: f"stage {self.name}", "")
        if not isinstance(found, (Sweep, Search)):
            raise InputError(
                f"stage {self.name} makes a {type(found).__name__}", "return a Sweep or a Search"
            )
        axes = found.searched.names if isinstance(found, Search) else axes_of(found.space)
        for key in self.reported:
            if key not in axes or key == "seed":
                raise InputError(
                    f"stage {self.name} cannot choose {key}: it does not vary it",
                    f"it varies {', '.join(axes) or 'nothing'}",
                )
        return found


class Study:
    """Stages, in order. Raises InputError for none, for a bad name and for one that is twice
    there."""

    def __init__(self, *stages: Stage) -> None:
        if not stages:
            raise InputError("a study without stages", "give it some: study = Study(Stage(...))")
        for number, stage in enumerate(stages):
            if not isinstance(stage, Stage):
                raise InputError(f"{shown(stage)} is not a stage", "write Stage(NAME, MAKE)")
            if not callable(stage.make) or not isinstance(stage.reported, Mapping):
                raise InputError(
                    f"stage {shown(stage.name)} has no function, or no mapping of what it chooses",
                    "write Stage(NAME, MAKE, reported={...})",
                )
            if (
                not isinstance(stage.name, str)
                or not is_name(stage.name)
                or stage.name in NAMES_TAKEN
            ):
                raise InputError(
                    f"{shown(stage.name)} is not a valid name for a stage", "it names a folder"
                )
            if stage.name in [one.name for one in stages[:number]]:
                raise InputError(f"two stages are called {stage.name!r}", "rename one")
        self.stages = stages

    def index(self, name: str) -> int:
        """The place of the stage of that name. Raises InputError where there is none."""
        names = [stage.name for stage in self.stages]
        if name not in names:
            raise InputError(f"no stage is called {name!r}", nearest(name, names))
        return names.index(name)

    def span(self, first: str | None, last: str | None) -> tuple[int, int]:
        """The places of the first and the last stage of a run, both included. Raises InputError
        where there is no such stage, or none between them."""
        begin = 0 if first is None else self.index(first)
        end = len(self.stages) - 1 if last is None else self.index(last)
        if begin > end:
            raise InputError(
                f"--from {first} comes after --until {last}", "exchange the two stages"
            )
        return begin, end


def taking(name: str, changes: Point) -> Sweep:
    """The sweep that comes with the project under that name, with changes to its base."""
    _, sweep = find(name)
    base = sweep.base

    def changed(point: Point) -> Any:
        config = base(point) if callable(base) else base
        return sweep.task_for(config).override(config, changes)

    return replace(sweep, base=changed)


def find_study(name: str) -> tuple[str, Study]:
    """The study called `name`, or the one defined in the Python file at that path; with its name.

    Raises InputError where there is none, or the file fails or has no `study` in it.
    """
    path = Path(name) if name.endswith(".py") else STUDIES / f"{name}.py"
    stem(path)
    try:
        study = load(path, "study", Study)
    except FileNotFoundError:
        raise InputError(
            f"no study is called {name!r}",
            f"{nearest(name, names('study'))} Or give the path of a study's file (.py).",
        ) from None
    if path.stem in [stage.name for stage in study.stages]:
        raise InputError(f"{path}: a stage has the study's name", "rename the stage, or the file")
    return path.stem, study
