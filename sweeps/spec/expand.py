"""From a sweep to its trials: points, scale, overrides and seeds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from local_machine.errors import InputError
from sweeps.spec.grid import Point, axes_of, check_count
from sweeps.spec.loader import guarded, shown
from sweeps.spec.scale import Scale, scaled
from sweeps.spec.sweep import NAME_LENGTH, Search, Sweep, Trial
from trainer.config import TrainConfig


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
    _check_overrides(sweep, overrides, count)
    # Not applied last: the offset counts from it.
    seed = {"seed": overrides.pop("seed")} if "seed" in overrides else {}
    configs: list[TrainConfig] = []
    points: list[Point] = []
    for point in sweep.space:
        config = _at(sweep, point)
        configs += _seeded(config.override(seed) if seed else config, sweep.seed_offset, count)
        points += [point] * count
    # What the scale looks at. Not the epochs: the warm-up shrinks by those of the definition.
    seen_by_scale = {key: value for key, value in overrides.items() if key != "epochs"}
    chosen = [config.override(seen_by_scale) if seen_by_scale else config for config in configs]
    changes = [{**by_scale, **overrides} for by_scale in scaled(chosen, scale)]
    configs = [
        config.override(change) if change else config
        for config, change in zip(configs, changes, strict=True)
    ]
    axes = axes_of(sweep.space)
    seen: dict[str, Point] = {}
    trials = []
    for config, point in zip(configs, points, strict=True):
        trial = Trial.of("", point, config)
        if trial.fingerprint in seen:
            first = _readable(seen[trial.fingerprint])
            raise InputError(
                f"the same trial twice: {first} and {_readable(point)} have one configuration",
                "remove one of the points from the definition's space",
            )
        seen[trial.fingerprint] = point
        words = [_word(key, point[key]) for key in axes if key in point and key != "seed"]
        trials.append(
            trial.renamed(_name(words or [config.model.name], config.seed, trial.fingerprint))
        )
    return trials


def _check_overrides(sweep: Sweep, overrides: Mapping[str, Any], count: int) -> None:
    """Raises InputError for an override that the sweep cannot take."""
    for key in overrides:
        if key in axes_of(sweep.space):
            raise InputError(
                f"--set {key}={overrides[key]}: the sweep varies {key}",
                "leave it out, or write a definition of your own with the values that you want",
            )
    if "seed" in overrides and count > 1:
        raise InputError(
            f"--set seed={overrides['seed']} with {count} seeds gives the same trial {count} times",
            "use --seeds N alone, or --seeds 1 with --set seed=S",
        )


def _name(words: Sequence[str], seed: int, fingerprint: str) -> str:
    """A trial's name of bounded length: as many of the words as fit, its seed, and 8 digits of its
    fingerprint, which tell trials apart that have the same words."""
    end = f"seed{seed}-{fingerprint[:8]}"
    kept = words
    while len("-".join(kept)) > NAME_LENGTH - len(end) - 1 and len(kept) > 1:
        kept = kept[:-1]
    return f"{'-'.join(kept)[: NAME_LENGTH - len(end) - 1].lstrip('.-')}-{end}".lstrip("-")


def _seeded(config: TrainConfig, offset: int, count: int) -> list[TrainConfig]:
    """The configuration under so many seeds, one after another. Raises InputError for the last one
    where it is too large: the others need no look, which of thousands takes seconds."""
    first = config.seed + offset
    last = config.override({"seed": first + count - 1}) if offset or count > 1 else config
    seeds = range(first, last.seed)
    return [*(config.model_copy(update={"seed": seed}) for seed in seeds), last]


def trial_at(search: Search, point: Point, scale: Scale, overrides: Mapping[str, Any]) -> Trial:
    """The trial of a search at one point. Raises InputError for a bad value."""
    for key in overrides:
        if key in search.space:
            raise InputError(
                f"--set {key}={overrides[key]}: the search varies {key}",
                "leave it out, or write a definition of your own without it",
            )
    sweep = Sweep(base=search.base, space=(point,))
    (trial,) = expand(sweep, scale=scale, overrides=overrides)
    return trial


def _at(sweep: Sweep, point: Point) -> TrainConfig:
    """The configuration at a point. Raises InputError that names the point."""

    def config() -> TrainConfig:
        base = sweep.base(point) if callable(sweep.base) else sweep.base
        if not isinstance(base, TrainConfig):
            raise InputError(f"base gives a {type(base).__name__}", "return a TrainConfig from it")
        return base.override(point)

    return guarded(config, lambda _: f"at {_readable(point)}", "base fails with ")


def _readable(point: Point) -> str:
    words = [f"{key}={v if isinstance(v, str) else shown(v)}" for key, v in point.items()]
    return ", ".join(words)[:200] or "the only point"


def _word(key: str, value: Any) -> str:
    """A piece of a folder's name: `batch_size64`, or the value alone where the key is a `name`."""
    leaf = key.rpartition(".")[2]
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return re.sub(r"[^A-Za-z0-9._]+", "_", shown if leaf == "name" else f"{leaf}{shown}")
