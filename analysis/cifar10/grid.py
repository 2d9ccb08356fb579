"""Batch size x epochs: every cell beside the reported one, and what each cell cost."""

from __future__ import annotations

from analysis.cifar10 import reported_tables
from analysis.cifar10.comparable import stands_beside, why_no_evidence
from analysis.cifar10.reported import reported
from analysis.data.study import POINT, Plan, Study
from analysis.figures.grid import heatmap
from analysis.output.model import Part, Picture, Table
from analysis.sections import cost, wording
from analysis.sections.sweep import choice, curve_pictures, lacking, notes, unflagged
from analysis.stats import selection_bias


def parts(plan: Plan, study: Study) -> list[Part]:
    """Draws every figure."""
    figures = reported()["grid_bs_epoch"]
    is_beside = stands_beside(plan)
    cells = reported_tables.grid_cells(plan.runs, figures if is_beside else {"cells": []})
    if not is_beside:
        cells = reported_tables.without_reported(cells)
    name = wording.name(plan)
    caption = f"Test accuracy (%) of {plan.sweep}, batch size x epochs"
    changed = [
        f"{text} (text) and {printed} (table)"
        for text, printed in zip(figures["epochs"], figures["epochs_printed"], strict=True)
        if text != printed
    ]
    footnotes = [
        *[
            f"The study gives one row's epochs as {', '.join(changed)}; its figures stand beside "
            "the epochs of the text here."
        ]
        * is_beside,
        _epochs(plan),
        *notes(cells),
    ]
    heat = Picture(
        f"{name}-heatmap",
        f"{caption}: {_what_is_drawn(plan, is_beside)}; hatched cells are flagged, and named",
        heatmap(cells, reported_tables.reported_grid(figures) if is_beside else None),
    )
    paid = cost.pictures(plan)
    if paid:
        footnotes.append(cost.FRONT)
        footnotes.append(cost.uncertain(plan))
    return [
        Part(
            wording.title(plan),
            [
                wording.preface(plan, why_no_evidence(plan, figures["model"])),
                choice(plan),
                *selection_bias.notes(plan, study),
                *lacking(plan),
            ],
            [
                Table(
                    f"{name}-grid",
                    f"{caption}: {wording.over_seeds(plan)}, n, flags",
                    reported_tables.grid(cells),
                ),
                Table(f"{name}-cells", "The same cells in full, %", cells),
                *unflagged(plan),
            ],
            [heat, *paid, *curve_pictures(plan)],
            footnotes,
        )
    ]


def _what_is_drawn(plan: Plan, is_beside: bool) -> str:
    over = wording.over_seeds(plan)
    if not is_beside:
        return over
    return f"measured on the left ({over}), reported on the right (one run a cell), on one scale"


def _epochs(plan: Plan) -> str:
    pairs = plan.runs[[POINT + "epochs", "epochs"]].drop_duplicates()
    scaled = [f"{ran} for {given}" for given, ran in pairs.itertuples(index=False) if given != ran]
    said = "Epochs are those of the sweep's definition"
    return said + (f"; the trials were planned with {', '.join(scaled)}." if scaled else ".")
