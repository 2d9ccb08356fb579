"""From a sweep to its trials: points, scale, overrides and seeds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from local_machine.code import references
from local_machine.errors import InputError
from sweeps.spec.grid import Point, axes_of, check_count
from sweeps.spec.loader import guarded, shown
from sweeps.spec.scale import Scale, scaled
from sweeps.spec.sweep import NAME_LENGTH, Search, Sweep, Trial
from sweeps.spec.task_loader import task_of
from sweeps.task import Task


def expand(
    sweep: Sweep,
    *,
    scale: Scale = Scale.FULL,
    overrides: Mapping[str, Any] | None = None,
    seeds: int | None = None,
) -> list[Trial]:
    """The sweep's trials in order: for each point, each seed.

    `overrides` are applied last and win over the point and the scale. Raises InputError for an
    empty space, a bad value, and a trial that occurs twice.
    """
    if not sweep.space:
        raise InputError("an empty grid: the sweep has no points", "give its space some values")
    count = sweep.seeds if seeds is None else seeds
    if count < 1:
        raise InputError(f"{count} seeds", "ask for at least one: --seeds 1")
    check_count(len(sweep.space) * count, f"{len(sweep.space)} points of {count} seeds")
    overrides = dict(overrides or {})
    task = sweep.task_for(_at(sweep, sweep.space[0]))
    _check_overrides(sweep, task, overrides, count)
    # Not applied last: the offset counts from it.
    seed = {task.seed: overrides.pop(task.seed)} if task.seed in overrides else {}
    configs: list[Any] = []
    points: list[Point] = []
    for point in sweep.space:
        config = _at(sweep, point)
        first = task.override(config, seed) if seed else config
        configs += task.seeded(first, sweep.seed_offset, count)
        points += [point] * count
    configs = _changed(task, configs, scale, overrides)
    axes = axes_of(sweep.space)
    seen: dict[str, Point] = {}
    trials = []
    for config, point in zip(configs, points, strict=True):
        trial = Trial.of("", point, config, task)
        if trial.fingerprint in seen:
            first = _readable(seen[trial.fingerprint])
            raise InputError(
                f"the same trial twice: {first} and {_readable(point)} have one configuration",
                "remove one of the points from the definition's space",
            )
        seen[trial.fingerprint] = point
        varied = {key: point[key] for key in axes if key in point and key != task.seed}
        trials.append(trial.renamed(name_of(trial, varied, () if varied else task.words(config))))
    return trials


def _changed(
    task: Task, configs: list[Any], scale: Scale, overrides: Mapping[str, Any]
) -> list[Any]:
    """The configurations at a scale, with overrides."""
    # What the scale looks at. Not the budget: a warm-up shrinks by that of the definition.
    seen_by_scale = {key: value for key, value in overrides.items() if key != task.budget}
    chosen = [task.override(one, seen_by_scale) if seen_by_scale else one for one in configs]
    changes = [{**by_scale, **overrides} for by_scale in scaled(task, chosen, scale)]
    return [
        task.override(config, change) if change else config
        for config, change in zip(configs, changes, strict=True)
    ]


def _check_overrides(sweep: Sweep, task: Task, overrides: Mapping[str, Any], count: int) -> None:
    """Raises InputError for an override that the sweep cannot take."""
    for key in overrides:
        if key in axes_of(sweep.space):
            raise InputError(
                f"--set {key}={overrides[key]}: the sweep varies {key}",
                "leave it out, or write a definition of your own with the values that you want",
            )
    if task.seed is not None and task.seed in overrides and count > 1:
        raise InputError(
            f"--set {task.seed}={overrides[task.seed]} with {count} seeds gives the same trial "
            f"{count} times",
            f"use --seeds N alone, or --seeds 1 with --set {task.seed}=S",
        )


def name_of(trial: Trial, varied: Point, otherwise: Sequence[str]) -> str:
    """A trial's name, by what varies in its sweep beside the seed; or `otherwise`."""
    words = [_word(key, value) for key, value in varied.items()]
    return _name(words or otherwise, trial.seed, trial.fingerprint)


def _name(words: Sequence[str], seed: Any, fingerprint: str) -> str:
    """A trial's name of bounded length: as many of the words as fit, its seed, and 8 digits of its
    fingerprint, which tell trials apart that have the same words."""
    end = fingerprint[:8] if seed is None else f"{_word('seed', seed)}-{fingerprint[:8]}"
    kept = words
    while len("-".join(kept)) > NAME_LENGTH - len(end) - 1 and len(kept) > 1:
        kept = kept[:-1]
    return f"{'-'.join(kept)[: NAME_LENGTH - len(end) - 1].lstrip('.-')}-{end}".lstrip("-")


def trial_at(search: Search, point: Point, scale: Scale, overrides: Mapping[str, Any]) -> Trial:
    """The trial of a search at one point. Raises InputError for a bad value."""
    for key in overrides:
        if key in search.searched.names or key in point:
            raise InputError(
                f"--set {key}={overrides[key]}: the search varies {key}",
                "leave it out, or write a definition of your own without it",
            )
    sweep = Sweep(base=search.base, space=(point,), task=search.trained_by)
    (trial,) = expand(sweep, scale=scale, overrides=overrides)
    return trial


def _at(sweep: Sweep, point: Point) -> Any:
    """The configuration at a point. Raises InputError that names the point."""

    def config() -> Any:
        base = sweep.base(point) if callable(sweep.base) else sweep.base
        task = sweep.task or task_of(base)
        if task is None:
            raise InputError(f"base gives a {type(base).__name__}", "return a TrainConfig from it")
        return task.override(base, point)

    return guarded(config, lambda _: f"at {_readable(point)}", "base fails with ")


def _readable(point: Point) -> str:
    words = [f"{key}={v if isinstance(v, str) else shown(v)}" for key, v in point.items()]
    return ", ".join(words)[:200] or "the only point"


def _word(key: str, value: Any) -> str:
    """A piece of a folder's name: `batch_size64`, or the value alone where the key is a `name`."""
    leaf = key.rpartition(".")[2]
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    if ".py:" in shown:  # code in a file, which would begin with its folders
        shown = references.short(shown)
    return re.sub(r"[^A-Za-z0-9._]+", "_", shown if leaf == "name" else f"{leaf}{shown}")
