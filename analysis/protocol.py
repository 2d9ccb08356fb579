"""Protocol: the reported facts of how was trained, each held against the trials that ran."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis import dataset
from analysis.compare import value_words
from analysis.kind import WEIGHT_DECAY, Kind, kind
from analysis.load import Plan, Study, reported

Values = Iterator[Any]
MODEL, _LR = "model.name", "optimizer.lr"


@dataclass(frozen=True)
class Fact:
    """`path` leads to the fact in reported.json; `ran` gives the same of each trial or launch that
    says it. A rule of this trainer, which no configuration changes, is `always`."""

    what: str
    path: str
    ran: Callable[[Study], Values] | None = None
    always: str = ""


def rows(study: Study) -> pd.DataFrame:
    """A row a fact, as text: what is reported, what ran (with how many trials), the answer."""
    found = [_row(fact, study) for fact in (*FACTS, *_decays())]
    return pd.DataFrame(found, columns=["fact", "reported", "ran", "answer"])


def _row(fact: Fact, study: Study) -> tuple[str, str, str, str]:
    said = _at(fact.path)
    if fact.ran is None:
        has_run = bool(study.trials["test_accuracy"].notna().any())
        answer = "not run" if not has_run else "equal" if _text(said) == fact.always else "differs"
        return fact.what, _text(said), fact.always if has_run else "-", answer
    counts = Counter(map(_text, fact.ran(study)))
    answer = "not run"
    if counts:
        equal = counts[_text(said)]
        answer = "equal" if equal == counts.total() else "differs"
        if 0 < equal < counts.total():
            answer = f"equal in {equal} of {counts.total()}"
    ran = ", ".join(f"{text} ({count})" for text, count in counts.most_common())
    return fact.what, _text(said), ran or "-", answer


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


def _plans(study: Study, field: str) -> Iterator[tuple[Plan, pd.DataFrame]]:
    """Launches that do not vary the field, and their trials that have a result."""
    for plan in study.plans:
        varied = {*plan.axes, *(plan.search.space if plan.search else ())}
        if plan.is_of_today and field not in varied:
            yield plan, plan.runs[plan.runs["test_accuracy"].notna()]


def _field(name: str, chosen: Callable[[str], bool] = lambda model: True) -> Any:
    """The field's value in every trial of the chosen models."""

    def ran(study: Study) -> Values:
        seen: dict[tuple[str, str], Any] = {}
        for plan, runs in _plans(study, name):
            for model, trial, value in zip(runs[MODEL], runs["trial"], runs[name], strict=True):
                if chosen(str(model)):
                    seen[plan.sweep, trial] = value
        yield from seen.values()

    return ran


def _is_wide(model: str) -> bool:
    return model == "wrn_28_10"


def _is_other(model: str) -> bool:
    return not _is_wide(model)


def _column(value: Callable[[Mapping[str, Any]], Any]) -> Any:
    """What each trial's row gives."""

    def ran(study: Study) -> Values:
        runs = study.trials
        for _, run in runs[runs["test_accuracy"].notna()].iterrows():
            yield value({str(key): one for key, one in run.items()})

    return ran


def _images(run: Mapping[str, Any]) -> Any:
    return int(run["train_images"] + run["val_images"])


def _ratio(run: Mapping[str, Any]) -> str:
    return f"{run['train_images'] / run['val_images']:g}:1"


def _is_cifar(run: Mapping[str, Any]) -> str:
    return "CIFAR-10" if dataset.of(run).title == "cifar10" else str(run["data_set"])


def _wide(part: int) -> Any:
    """Depth or widen factor of the WRNs that ran, which their name says."""

    def ran(study: Study) -> Values:
        runs = study.trials[study.trials["test_accuracy"].notna()]
        names = runs.loc[runs[MODEL].astype(str).str.startswith("wrn_"), MODEL]
        yield from (int(str(name).split("_")[part]) for name in names)

    return ran


def _axis(plan_kind: Kind, value: Callable[[Plan], Any]) -> Any:
    """What each launch of the kind gives, once it has a result."""

    def ran(study: Study) -> Values:
        for plan in study.plans:
            if kind(plan) is plan_kind and plan.runs["test_accuracy"].notna().any():
                yield value(plan)

    return ran


def _last_rate(study: Study) -> Values:
    """The learning rate of epoch 99 of 100, to the reported digits, under the reported schedule."""
    for run, epochs in _cosines(study):
        if run["epochs"] == 100 and (last := epochs.loc[epochs["epoch"] == 99, "lr"]).size:
            yield float(f"{last.iloc[0]:.2e}")


def _cosines(study: Study) -> Iterator[tuple[Mapping[str, Any], pd.DataFrame]]:
    """Trials under SGD's reported learning rate and a cosine, with their epochs."""
    for plan, runs in _plans(study, "schedule.name"):
        fits = (runs["schedule.name"] == "cosine") & (runs["schedule.every"] == "epoch")
        fits &= (runs["schedule.warmup_epochs"] == 0) & (runs[_LR] == 0.1)
        by_trial = dict(list(plan.epochs.groupby("trial", observed=True)))
        records: list[Any] = runs[fits].to_dict("records")
        for run in records:
            if run["trial"] in by_trial:
                yield run, by_trial[run["trial"]]


def _annealed(yes: Any) -> Any:
    """`yes` of each trial whose every learning rate is that of a cosine from its first to 0 over
    its configured epochs, which is what T_max and eta_min say."""

    def ran(study: Study) -> Values:
        for run, epochs in _cosines(study):
            phase = math.pi * epochs["epoch"] / run["epochs"]
            expected = run[_LR] * (1 + np.cos(phase)) / 2
            yield yes if np.allclose(epochs["lr"], expected, rtol=1e-6) else "otherwise"

    return ran


def _runs_per_point(study: Study) -> Values:
    for plan in study.plans:
        if plan.search is None and plan.runs["test_accuracy"].notna().any():
            yield len(plan.seeds)


def _decays() -> Iterator[Fact]:
    """A fact for each of the architectures."""
    for i, row in enumerate(reported()["architectures"]):
        model = row["model"]
        path = f"architectures.{i}.weight_decay"
        yield Fact(f"weight decay of {model}", path, _field(WEIGHT_DECAY, model.__eq__))


def _printed(plan: Plan) -> str:
    return _text(sorted(set(plan.runs["point.epochs"])))


_AUGMENT, _OPTIMIZER = "protocol.augmentation", "protocol.optimizer"

FACTS = (
    Fact("seed", "source.seed", _column(lambda run: int(run["seed"]))),
    Fact("runs per cell", "source.runs_per_cell", _runs_per_point),
    Fact("data set", "protocol.data.name", _column(_is_cifar)),
    Fact("classes", "protocol.data.classes",
         _column(lambda run: dataset.class_count(run["classes"], run["num_classes"]))),
    Fact("image", "protocol.data.image", always="32, 32, 3"),
    Fact("training images before the split", "protocol.data.original_train_images",
         _column(_images)),
    Fact("training images", "protocol.data.train_images",
         _column(lambda run: int(run["train_images"]))),
    Fact("validation images", "protocol.data.val_images",
         _column(lambda run: int(run["val_images"]))),
    Fact("test images", "protocol.data.test_images", _column(lambda run: int(run["test_images"]))),
    Fact("training to validation", "protocol.data.train_to_val", _column(_ratio)),
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
    Fact("loss", "protocol.loss.name", always="cross_entropy"),
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
    Fact("model of the grid", "grid_bs_epoch.model",
         _axis(Kind.GRID, lambda plan: _text(plan.runs[MODEL].drop_duplicates().tolist()))),
    Fact("batch sizes of the grid", "grid_bs_epoch.batch_sizes",
         _axis(Kind.GRID, lambda plan: _text(sorted(set(plan.runs["point.batch_size"]))))),
    Fact("epochs of the grid, as in the text", "grid_bs_epoch.epochs", _axis(Kind.GRID, _printed)),
    Fact("epochs of the grid, as in the table", "grid_bs_epoch.epochs_printed",
         _axis(Kind.GRID, _printed)),
    Fact("final model", "wrn_final.model",
         _axis(Kind.SINGLE, lambda plan: _text(plan.runs[MODEL].drop_duplicates().tolist()))),
)  # fmt: skip
