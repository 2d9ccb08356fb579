"""A search as it leaves a results folder, with made-up figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from results_folder import fail, finish, name_of, write_plan

from analysis.cifar10.task import load, trainer
from analysis.data.study import Plan
from analysis.output.model import Part
from analysis.sections.search import flatness
from analysis.sections.search import section as search
from analysis.sections.search.outcome import account
from trainer.config import TrainConfig
from trial_records.tables import EPOCHS_SCHEMA, write_table
from trial_records.trial_files import EPOCHS, Pruned

DECAY = "optimizer.weight_decay"

DECAYS = {DECAY: {"kind": "float", "low": 1e-5, "high": 1e-2, "log": True}}

ID = "5ea4c400"


# --- a results folder ------------------------------------------------------------------------


def begin(folder: Path, accuracies: Sequence[float]) -> None:
    """What a trial has left after so many epochs."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        dict.fromkeys(EPOCHS_SCHEMA.names, 0.5) | {"epoch": epoch, "val_accuracy": accuracy}
        for epoch, accuracy in enumerate(accuracies)
    ]
    write_table(folder / EPOCHS, rows, EPOCHS_SCHEMA)


def prune(folder: Path, accuracies: Sequence[float], by: str = ID) -> None:
    if accuracies:
        begin(folder, accuracies)
    folder.mkdir(parents=True, exist_ok=True)
    Pruned(by, 0, max(len(accuracies) - 1, 0), 0.0).write(folder)


def end(folder: Path, config: TrainConfig, outcome: Any) -> None:
    """The trial's end: a validation accuracy, columns of run.parquet, the accuracies of epochs
    after which it was pruned, a cause of failure, or None for none yet.
    """
    if isinstance(outcome, float):
        outcome = {"val_accuracy": outcome}
    if isinstance(outcome, Mapping):
        finish(folder, config, **outcome)
    elif isinstance(outcome, list):
        prune(folder, outcome)
    elif outcome is not None:
        fail(folder, outcome)


def search_in(
    results: Path,
    outcomes: Sequence[tuple[Any, Any]],
    space: dict[str, Any] | None = None,
    sweep: str = "decays",
    **changes: Any,
) -> None:
    """A search whose trials ended as told, in that order: (value or point, outcome)."""
    space = DECAYS if space is None else space
    about: dict[str, Any] = {
        "sampler": "tpe",
        "pruner": "median",
        "objective": "best",
        "trials": 20,
        "seed": 0,
        "space": space,
    }
    points = []
    for value, outcome in outcomes:
        point = value if isinstance(value, dict) else {next(iter(space)): value}
        config = TrainConfig().override(point)
        points.append((point, config))
        end(results / sweep / name_of(config), config, outcome)
    about |= {key: changes.pop(key) for key in about.keys() & changes}
    changes = {"axes": list(space), "search": about} | changes
    write_plan(results, points, sweep, changes.pop("id", ID), **changes)


def launch_in(
    results: Path,
    outcomes: Mapping[float, Mapping[int, Any]],
    sweep: str = "decays",
    id: str = "00000001",
    **changes: Any,
) -> None:
    """A launch over weight decays and seeds: {decay: {seed: outcome}}."""
    points = []
    for decay, by_seed in outcomes.items():
        for seed, outcome in by_seed.items():
            config = TrainConfig().override({DECAY: decay, "seed": seed, **changes})
            points.append(({DECAY: decay}, config))
            end(results / sweep / name_of(config), config, outcome)
    write_plan(results, points, sweep, id)


def searched(results: Path) -> tuple[Plan, list[Plan]]:
    """The search's plan, and the others."""
    plans = load(results, []).plans
    (plan,) = [plan for plan in plans if plan.id == ID]
    return plan, [other for other in plans if other is not plan]


def drawn(results: Path) -> list[Part]:
    study = load(results, [])
    (plan,) = [plan for plan in study.plans if plan.id == ID]
    return search.parts(plan, study)


def said(results: Path) -> str:
    plan, others = searched(results)
    assert plan.search is not None
    notes = account(plan, plan.search)
    reported = trainer().reported
    return "\n".join([*notes, *flatness.judgement(plan, plan.search, others, reported)])
