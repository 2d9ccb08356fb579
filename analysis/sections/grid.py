"""Batch size x epochs: every cell beside the reported one."""

from __future__ import annotations

from analysis import tables, words
from analysis.figures.grid import heatmap
from analysis.load import POINT, Plan, Study, reported
from analysis.page import Part, Picture, Table
from analysis.sections.sweep import choice, curve_pictures, notes


def parts(plan: Plan, study: Study) -> list[Part]:
    """Draws every figure."""
    figures = reported()["grid_bs_epoch"]
    cells = tables.grid_cells(plan.runs, figures)
    name = words.name(plan)
    caption = f"Mean test accuracy (%) of {plan.sweep}, batch size x epochs"
    footnotes = [_epochs(plan), *notes(cells)]
    changed = [
        f"{text} (text) and {printed} (table)"
        for text, printed in zip(figures["epochs"], figures["epochs_printed"], strict=True)
        if text != printed
    ]
    footnotes.insert(
        0,
        f"The study gives one row's epochs as {', '.join(changed)}; its figures stand beside the "
        "epochs of the text here.",
    )
    return [
        Part(
            words.title(plan),
            [words.preface(plan, figures["model"]), choice(cells, ["epochs", "batch_size"])],
            [
                Table(f"{name}-grid", f"{caption}: mean over seeds, n, flags", tables.grid(cells)),
                Table(f"{name}-cells", "The same cells in full, %", cells),
            ],
            [
                Picture(f"{name}-heatmap", f"{caption}; hatched cells are flagged", heatmap(cells)),
                *curve_pictures(plan),
            ],
            footnotes,
        )
    ]


def _epochs(plan: Plan) -> str:
    pairs = plan.runs[[POINT + "epochs", "epochs"]].drop_duplicates()
    scaled = [f"{ran} for {given}" for given, ran in pairs.itertuples(index=False) if given != ran]
    said = "Epochs are those of the sweep's definition"
    return said + (f"; the trials were planned with {', '.join(scaled)}." if scaled else ".")
