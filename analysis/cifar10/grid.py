"""Batch size x epochs: every cell beside the reported one, and what each cell cost."""

from __future__ import annotations

from analysis.cifar10 import reported_tables
from analysis.cifar10.comparable import why_no_evidence
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
    cells = reported_tables.grid_cells(plan.runs, figures)
    name = wording.name(plan)
    caption = f"Test accuracy (%) of {plan.sweep}, batch size x epochs"
    changed = [
        f"{text} (text) and {printed} (table)"
        for text, printed in zip(figures["epochs"], figures["epochs_printed"], strict=True)
        if text != printed
    ]
    footnotes = [
        f"The study gives one row's epochs as {', '.join(changed)}; its figures stand beside the "
        "epochs of the text here.",
        _epochs(plan),
        *notes(cells),
    ]
    heat = Picture(
        f"{name}-heatmap",
        f"{caption}: measured on the left ({wording.over_seeds(plan)}), reported on the right (one "
        "run a cell), on one colour scale; hatched cells are flagged, and named",
        heatmap(cells, reported_tables.reported_grid(figures)),
    )
    paid = cost.pictures(plan)
    if paid:
        footnotes.append(f"{cost.FRONT} The study does not report what its cells cost.")
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


def _epochs(plan: Plan) -> str:
    pairs = plan.runs[[POINT + "epochs", "epochs"]].drop_duplicates()
    scaled = [f"{ran} for {given}" for given, ran in pairs.itertuples(index=False) if given != ran]
    said = "Epochs are those of the sweep's definition"
    return said + (f"; the trials were planned with {', '.join(scaled)}." if scaled else ".")
