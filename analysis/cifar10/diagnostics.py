"""Diagnostics of launches without axes; of the final model, what was reported of it beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.answers.answer import answer
from analysis.answers.findings import of_launches
from analysis.cifar10 import beside
from analysis.cifar10.comparable import stands_beside
from analysis.cifar10.explain import section as explain
from analysis.cifar10.final_model import final, is_of_the_model
from analysis.cifar10.reported import reported
from analysis.data.study import Plan, Study
from analysis.output.model import Part, Section, Table
from analysis.sections import diagnostics, wording
from analysis.sections.one_run import ReportedRun
from analysis.sections.routing import Kind, kind

Run = Mapping[str, Any]
# The sweep of the model that a study chose.
_CHOSEN = "final"
_TITLE = "Diagnostics"


def sections(study: Study) -> list[Section]:
    """Of every launch without axes: the reported final model, the model that a study chose where
    that is another one, then any other. Draws every figure.
    """
    model = str(reported()["wrn_final"]["model"])
    plans = [plan for plan in study.plans if kind(plan) is Kind.SINGLE]
    shown = final(study)
    own = [plan for plan in plans if is_of_the_model(plan)]
    if shown is not None and not any(plan is shown for plan in own):
        own.append(shown)
    rest = [plan for plan in plans if not is_of_the_model(plan)]
    groups = {
        f"{_TITLE}: {model}, the reported final model": own,
        f"{_TITLE}: the chosen model": [plan for plan in rest if plan.sweep == _CHOSEN],
        _TITLE: [plan for plan in rest if plan.sweep != _CHOSEN],
    }
    return [
        Section(
            title,
            [part for plan in group for part in parts(plan, study)],
            of_launches(group, [answer(plan) for plan in group]),
        )
        for title, group in groups.items()
        if group
    ]


def parts(plan: Plan, study: Study) -> list[Part]:
    """Of a launch without axes. Draws every figure."""
    if not is_of_the_model(plan):
        return diagnostics.parts(plan, study, explain.parts)
    is_beside = stands_beside(plan)
    known = _reported_run() if is_beside else None
    first, *detail = diagnostics.parts(plan, study, explain.parts, known)
    if not detail:
        return [first]
    if not is_beside:
        title = f"{wording.title(plan)}: what the study draws"
        return [first, *detail, Part(title, tables=[_table_of_figures(plan, [first, *detail])])]
    run = diagnostics.median(diagnostics.finished(plan))
    return [first, _beside(plan, study, run, [first, *detail]), *detail]


def _reported_run() -> ReportedRun:
    one = reported()["wrn_final"]
    return ReportedRun(
        one["correct"],
        one["wrong"],
        {row["class"]: row["support"] for row in one["per_class"]},
        {(row["label"], row["predicted"]): row["count"] for row in one["confusions"]},
    )


def _beside(plan: Plan, study: Study, run: Run, drawn: Sequence[Part]) -> Part:
    """Every reported figure beside the same of our runs; `drawn` is the launch's other parts."""
    found = beside.figures(plan, study, run)
    name, sweep = wording.name(plan), plan.sweep
    captions = {
        beside.ACCURACY: ("reported", f"Accuracies and averages of {sweep} beside the reported"),
        beside.CLASS: ("classes-reported", f"Every class of {sweep} beside the reported"),
        beside.CONFUSION: (
            "confusions-reported",
            f"The reported largest confusions beside those of {sweep}",
        ),
    }
    tables_ = [
        Table(f"{name}-{ending}", caption, frame)
        for group, (ending, caption) in captions.items()
        if len(frame := beside.table(found, group))
    ]
    curves = losses(plan)
    if len(curves):
        caption = f"Smoothed validation loss (nats) of {sweep} beside the reported"
        tables_.append(Table(f"{name}-losses-reported", caption, curves))
    tables_.append(_table_of_figures(plan, drawn))
    footnotes = beside.footnotes(found)
    if any(one.key[0] == beside.CONFUSION for one in found):
        footnotes.append(
            "The reported pairs are the largest of one run. Picked so, they are likelier too high "
            "than too low, and another run of the same recipe tends to have fewer of them."
        )
    if len(curves):
        footnotes.append(
            "The study does not say which epochs are early, middle and late: here they are the "
            "first, second and last third, early and middle from the lowest to the highest, late "
            "the last epoch, as the mean over runs. That its losses are smoothed follows from "
            "their size: the least that a loss with this label smoothing can be is "
            f"{loss_floor():.2f}."
        )
    return Part(f"{wording.title(plan)}: beside the reported figures", beside.notes(found), tables_,
                [], footnotes)  # fmt: skip


def _table_of_figures(plan: Plan, drawn: Sequence[Part]) -> Table:
    caption = "What the study draws of its final model, and whether this report does"
    return Table(f"{wording.name(plan)}-figures-reported", caption, _figures_drawn(drawn))


def loss_floor() -> float:
    """The least smoothed cross-entropy, in nats, under the reported smoothing and classes."""
    protocol = reported()["protocol"]
    smoothing = float(protocol["loss"]["label_smoothing"])
    classes = int(protocol["data"]["classes"])
    rest = smoothing / classes
    right = 1 - smoothing + rest
    if not rest:
        return 0.0
    return -right * math.log(right) - (classes - 1) * rest * math.log(rest)


def losses(plan: Plan) -> pd.DataFrame:
    """The smoothed validation loss in each third of the epochs beside the reported, as text; empty
    where no run has one.
    """
    epochs = plan.epochs[plan.epochs["val_loss_smoothed"].notna()]
    if epochs.empty:
        return pd.DataFrame()
    means = epochs.groupby("epoch")["val_loss_smoothed"].mean().sort_index()
    third = max(1, len(means) // 3)
    given = reported()["wrn_final"]["val_loss"]
    early, middle = means.iloc[:third], means.iloc[third : 2 * third]
    rows = [
        ("early", _range(early), "{:g} to {:g}".format(*given["early"])),
        ("middle", _range(middle), "{:g} to {:g}".format(*given["middle"])),
        ("late", f"{means.iloc[-1]:.3f}", f"{given['late']:g}"),
    ]
    return pd.DataFrame(rows, columns=["part of training", "measured", "reported"])


def _range(found: pd.Series[float]) -> str:
    return f"{found.min():.3f} to {found.max():.3f}" if len(found) else "-"


def _figures_drawn(drawn: Sequence[Part]) -> pd.DataFrame:
    """A row a figure of the study, and each of its panels."""
    names = [picture.name for part in drawn for picture in part.pictures]
    figures, panels_ = (reported()["wrn_final"][key] for key in ("figures", "panels"))
    endings = ("panels", "confusion", "confusions", "classes", "grad-cam", "misclassified")
    rows = [(what, ending) for what, ending in zip(figures, endings, strict=True)]
    rows += [(f"panel: {what}", "panels") for what in panels_]
    return pd.DataFrame(
        [
            (what, "drawn" if any(name.endswith(f"-{end}") for name in names) else "not drawn")
            for what, end in rows
        ],
        columns=["the study draws", "here"],
    )
