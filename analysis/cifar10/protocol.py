"""Protocol: the reported facts of how was trained, each held against the trials that ran."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.cifar10.reported import reported
from analysis.data import dataset
from analysis.data.study import POINT, Plan, Study
from analysis.sections.routing import WEIGHT_DECAY, Kind, kind
from analysis.stats.paired import value_words
from trainer.data.known import CIFAR10

Values = Iterator[Any]
Run = Mapping[str, Any]
MODEL, _LR = "model.name", "optimizer.lr"
_COLUMNS = [
    "trial", "seed", "train_images", "val_images", "test_images", "status", "classes",
    "num_classes", "data", "data_set", MODEL, "epochs", "schedule.warmup_epochs",
]  # fmt: skip


@dataclass(frozen=True)
class Ran:
    """What ran: the launches with a result, and a row of each of their trials with one, as in
    Plan.runs, with `varied`, the fields that every launch of it varies."""

    plans: list[Plan]
    trials: list[dict[str, Any]]
    epochs: Mapping[tuple[str, str], pd.DataFrame]
    """Of a sweep's trial: the epochs that it has, by number."""


@dataclass(frozen=True)
class Fact:
    """`path` leads to the fact in reported.json; `ran` gives the same of each trial or launch that
    says it. A rule of this trainer, which no configuration changes, is `always`."""

    what: str
    path: str
    ran: Callable[[Ran], Values] | None = None
    always: str = ""


def rows(study: Study) -> pd.DataFrame:
    """A row a fact, as text: what is reported, what ran (with how many trials), the answer."""
    ran = what_ran(study)
    found = [_row(fact, ran) for fact in (*FACTS, *_decays())]
    return pd.DataFrame(found, columns=["fact", "reported", "ran", "answer"])


def _row(fact: Fact, ran: Ran) -> tuple[str, str, str, str]:
    said = _text(_at(fact.path))
    if fact.ran is None:
        answer = "not run" if not ran.trials else "equal" if said == fact.always else "differs"
        return fact.what, said, fact.always if ran.trials else "-", answer
    counts = Counter(map(_text, fact.ran(ran)))
    answer = "not run"
    if counts:
        equal = counts[said]
        answer = "equal" if equal == counts.total() else "differs"
        if 0 < equal < counts.total():
            answer = f"equal in {equal} of {counts.total()}"
    listed = ", ".join(f"{text} ({count})" for text, count in counts.most_common())
    return fact.what, said, listed or "-", answer


def _at(path: str) -> Any:
    found: Any = reported()
    for key in path.split("."):
        found = found[int(key) if key.isdigit() else key]
    return found


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return value_words(value)


# --- what ran --------------------------------------------------------------------------------


def what_ran(study: Study) -> Ran:
    plans = [plan for plan in study.plans if plan.runs["test_accuracy"].notna().any()]
    trials: dict[tuple[str, str], dict[str, Any]] = {}
    epochs: dict[tuple[str, str], pd.DataFrame] = {}
    for plan in plans:
        if not plan.is_of_today:
            continue
        varied = frozenset({*plan.axes, *(plan.search.space if plan.search else ())})
        fields = [name for name in plan.fields if name not in _COLUMNS]
        done = plan.runs.loc[plan.runs["test_accuracy"].notna(), [*_COLUMNS, *fields]]
        records: list[dict[str, Any]] = done.to_dict("records")  # type: ignore[assignment]
        for run in records:
            key = plan.sweep, run["trial"]
            before = trials.get(key, {}).get("varied", varied)
            trials[key] = run | {"sweep": plan.sweep, "varied": varied & before}
        for trial, rows in plan.epochs.groupby("trial", observed=True):
            epochs[plan.sweep, str(trial)] = rows
    return Ran(plans, list(trials.values()), epochs)


def _field(name: str, chosen: Callable[[str], bool] = lambda model: True) -> Any:
    """The field's value in every trial of the chosen models whose launch does not vary it."""

    def ran(found: Ran) -> Values:
        return (
            run[name]
            for run in found.trials
            if name not in run["varied"] and chosen(str(run[MODEL]))
        )

    return ran


def _is_wide(model: str) -> bool:
    return model == "wrn_28_10"


def _is_other(model: str) -> bool:
    return not _is_wide(model)


def _each(value: Callable[[Run], Any]) -> Any:
    """What each trial's row gives."""
    return lambda found: map(value, found.trials)


def _sum(*columns: str) -> Any:
    """Images of each trial that says how many."""

    def ran(found: Ran) -> Values:
        for run in found.trials:
            counts = [run[name] for name in columns]
            if not any(map(pd.isna, counts)):
                yield int(sum(counts))

    return ran


def _ratio(found: Ran) -> Values:
    for run in found.trials:
        ratio = run["train_images"] / run["val_images"]
        if not pd.isna(ratio):
            yield f"{ratio:g}:1"


def _data(run: Run) -> str:
    return "CIFAR-10" if run["data_set"] == CIFAR10.name else str(run["data_set"])


def _wide(part: int) -> Any:
    """Depth or widen factor of the WRNs that ran, which their name says."""

    def ran(found: Ran) -> Values:
        for run in found.trials:
            if (name := str(run[MODEL])).startswith("wrn_"):
                yield int(name.split("_")[part])

    return ran


def _axis(plan_kind: Kind, value: Callable[[Plan], Any]) -> Any:
    """What each launch of the kind gives."""
    return lambda found: (value(plan) for plan in found.plans if kind(plan) is plan_kind)


def _last_rate(found: Ran) -> Values:
    """The learning rate of epoch 99 of 100, to the reported digits, under the reported schedule."""
    for run, epochs in _cosines(found):
        if run["epochs"] == 100 and (last := epochs.loc[epochs["epoch"] == 99, "lr"]).size:
            yield float(f"{last.iloc[0]:.2e}")


def _cosines(found: Ran) -> Iterator[tuple[Run, pd.DataFrame]]:
    """Trials under the reported learning rate and a cosine that moves every epoch."""
    protocol = reported()["protocol"]
    asked = (
        protocol["optimizer"]["lr"], protocol["schedule"]["name"], protocol["schedule"]["every"], 0
    )  # fmt: skip
    names = (_LR, "schedule.name", "schedule.every", "schedule.warmup_epochs")
    for run in found.trials:
        key = run["sweep"], run["trial"]
        if tuple(run[name] for name in names) == asked and key in found.epochs:
            yield run, found.epochs[key]


def _annealed(yes: Any) -> Any:
    """`yes` of each trial whose every learning rate is that of a cosine from its first to 0 over
    its configured epochs, which is what T_max and eta_min say."""

    def ran(found: Ran) -> Values:
        for run, epochs in _cosines(found):
            phase = math.pi * epochs["epoch"].to_numpy() / run["epochs"]
            expected = run[_LR] * (1 + np.cos(phase)) / 2
            yield yes if np.allclose(epochs["lr"], expected, rtol=1e-6) else "otherwise"

    return ran


def _runs_per_point(found: Ran) -> Values:
    return (len(plan.seeds) for plan in found.plans if plan.search is None)


def _names(plan: Plan) -> str:
    return _text(plan.runs[MODEL].drop_duplicates().tolist())


def _values(axis: str) -> Callable[[Plan], str]:
    return lambda plan: _text(sorted(set(plan.runs[POINT + axis])))


def _decays() -> Iterator[Fact]:
    """A fact for each of the architectures."""
    for i, row in enumerate(reported()["architectures"]):
        model = row["model"]
        path = f"architectures.{i}.weight_decay"
        yield Fact(f"weight decay of {model}", path, _field(WEIGHT_DECAY, model.__eq__))


_AUGMENT, _OPTIMIZER = "protocol.augmentation", "protocol.optimizer"

FACTS = (
    Fact("seed", "source.seed", _field("seed")),
    Fact("runs per cell", "source.runs_per_cell", _runs_per_point),
    Fact("data set", "protocol.data.name", _each(_data)),
    Fact("classes", "protocol.data.classes",
         _each(lambda run: dataset.class_count(run["classes"], run["num_classes"]))),
    Fact("image", "protocol.data.image", always="32, 32, 3"),
    Fact("training images before the split", "protocol.data.original_train_images",
         _sum("train_images", "val_images")),
    Fact("training images", "protocol.data.train_images",
         _sum("train_images")),
    Fact("validation images", "protocol.data.val_images",
         _sum("val_images")),
    Fact("test images", "protocol.data.test_images", _sum("test_images")),
    Fact("training to validation", "protocol.data.train_to_val", _ratio),
    Fact("random crop, size", f"{_AUGMENT}.crop.size", always="32"),
    Fact("random crop, padding", f"{_AUGMENT}.crop.padding", _field("augment.crop_padding")),
    Fact("horizontal flip", f"{_AUGMENT}.flip", _field("augment.flip")),
    Fact("cutout, all but WRN-28-10", f"{_AUGMENT}.cutout.length",
         _field("augment.cutout", _is_other)),
    Fact("cutout, WRN-28-10", f"{_AUGMENT}.cutout.length_wrn_28_10",
         _field("augment.cutout", _is_wide)),
    Fact("cutout, half of its side", f"{_AUGMENT}.cutout.half_width", always="length // 2"),
    Fact("cutout, centre", f"{_AUGMENT}.cutout.centre",
         always="uniform over the image's pixels, clipped at its borders"),
    Fact("cutout, filled with", f"{_AUGMENT}.cutout.fill", always="0"),
    Fact("cutout, place", f"{_AUGMENT}.cutout.place", always="last, on the normalised tensor"),
    Fact("augmentation at evaluation", f"{_AUGMENT}.at_evaluation",
         always="none beyond normalisation"),
    Fact("loss", "protocol.loss.name", _field("loss")),
    Fact("label smoothing", "protocol.loss.label_smoothing", _field("label_smoothing")),
    Fact("optimizer", f"{_OPTIMIZER}.name", _field("optimizer.name")),
    Fact("learning rate", f"{_OPTIMIZER}.lr", _field(_LR)),
    Fact("momentum", f"{_OPTIMIZER}.momentum", _field("optimizer.momentum")),
    Fact("weight decay, all but WRN-28-10", f"{_OPTIMIZER}.weight_decay",
         _field(WEIGHT_DECAY, _is_other)),
    Fact("weight decay, WRN-28-10", f"{_OPTIMIZER}.weight_decay_wrn_28_10",
         _field(WEIGHT_DECAY, _is_wide)),
    Fact("schedule", "protocol.schedule.name", _field("schedule.name")),
    Fact("schedule moves every", "protocol.schedule.every", _field("schedule.every")),
    Fact("cosine, T_max", "protocol.schedule.t_max", _annealed("epochs")),
    Fact("cosine, eta_min", "protocol.schedule.eta_min", _annealed(0.0)),
    Fact("learning rate in the last of 100 epochs", "protocol.schedule.lr_in_last_of_100_epochs",
         _last_rate),
    Fact("early stopping looks at", "protocol.early_stopping.monitor", always="val_accuracy"),
    Fact("early stopping, patience", "protocol.early_stopping.patience",
         _field("early_stopping.patience")),
    Fact("early stopping, least gain", "protocol.early_stopping.min_delta",
         _field("early_stopping.min_delta")),
    Fact("batch size", "protocol.batch_size", _field("batch_size")),
    Fact("epochs", "protocol.epochs", _field("epochs")),
    Fact("WRN, depth", "protocol.wrn_28_10.depth", _wide(1)),
    Fact("WRN, widen factor", "protocol.wrn_28_10.widen_factor", _wide(2)),
    Fact("WRN-28-10, dropout", "protocol.wrn_28_10.dropout", _field("model.dropout", _is_wide)),
    Fact("model of the grid", "grid_bs_epoch.model", _axis(Kind.GRID, _names)),
    Fact("batch sizes of the grid", "grid_bs_epoch.batch_sizes",
         _axis(Kind.GRID, _values("batch_size"))),
    Fact("epochs of the grid, as in the text", "grid_bs_epoch.epochs",
         _axis(Kind.GRID, _values("epochs"))),
    Fact("epochs of the grid, as in the table", "grid_bs_epoch.epochs_printed",
         _axis(Kind.GRID, _values("epochs"))),
    Fact("final model", "wrn_final.model", _axis(Kind.SINGLE, _names)),
)  # fmt: skip
