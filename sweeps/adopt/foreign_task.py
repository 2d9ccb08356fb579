"""What a plan says of foreign runs: what varies among them, and what nobody can train."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from local_machine.errors import InputError, nearest
from sweeps.spec.sweep import Trial
from sweeps.task import Objective
from trial_records.config import fingerprint_of
from trial_records.fields.sections import leaves
from trial_records.plan import PlannedTask

_SEEDS = ("seed", "random_seed", "manual_seed", "rng_seed", "global_seed")
_BUDGETS = ("epochs", "num_epochs", "max_epochs", "num_train_epochs", "steps", "max_steps")

Values = Mapping[str, Any]


def task_of(name: str, objective: Objective, configs: Sequence[Values], seed: str | None) -> Any:
    """The task of the runs under a sweep's name; `seed` is the field that says it, where a person
    names it. Raises InputError where no run has that field."""
    flat = [leaves(dict(values)) for values in configs]
    return PlannedTask(
        name=f"adopted:{name}",
        reference=f"adopted:{name}",
        budget=_field(flat, _BUDGETS),
        seed=_field(flat, _SEEDS) if seed is None else _named(flat, seed),
        metric=objective.metric,
        direction=objective.direction,
        reduction=objective.reduction,
        is_adopted=True,
    )


def _field(flat: Sequence[Values], usual: Sequence[str]) -> str | None:
    """The field that is called so, in a section or not, and is a whole number in every run."""
    names = dict.fromkeys(name for values in flat for name in values)
    for word in usual:
        for name in (word, *(name for name in names if name.endswith(f".{word}"))):
            if all(type(values.get(name)) is int for values in flat):
                return name
    return None


def _named(flat: Sequence[Values], seed: str) -> str:
    for values in flat:
        if type(values.get(seed)) is not int:
            known = {name for name, value in values.items() if type(value) is int}
            raise InputError(
                f"--seed {seed}: a run has {seed}={values.get(seed)!r}, not a whole number"
                if seed in values
                else f"--seed {seed}: a run has no such value",
                nearest(seed, known) if known else "leave it out",
            )
    return seed


def axes_of(configs: Sequence[Values], seed: str | None) -> list[str]:
    """The fields that differ from run to run, beside the seed."""
    flat = [leaves(dict(values)) for values in configs]
    names = dict.fromkeys(name for values in flat for name in values)
    return [
        name
        for name in names
        if name != seed
        and len({json.dumps(values[name]) if name in values else "" for values in flat}) > 1
    ]


def trials_of(task: PlannedTask, configs: Iterable[Values], axes: Sequence[str]) -> list[Trial]:
    """Without names."""
    found = []
    for values in configs:
        flat = leaves(dict(values))
        point = {axis: flat[axis] for axis in axes if axis in flat}
        found.append(Trial("", point, values, fingerprint_of(task.content(values)), task))
    return found
