"""python -m analysis.report: results/ to report.html, report.md, tables and figures.

The same results give the same bytes: nothing in a report depends on when or where it was made.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analysis import words
from trainer.errors import EXIT_DONE, EXIT_FLAGGED, run_command

if TYPE_CHECKING:
    import pandas as pd

    from analysis.load import Plan, Study
    from analysis.page import Page, Part, Picture, Section

SCHEMA_VERSION = 1

app = typer.Typer(add_completion=False)


@app.command(epilog="With --debug an error shows its traceback.")
def report(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Sweeps; none: all of them.")
    ] = None,
    results: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the sweeps' results lie.")
    ] = Path("results"),
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to write; default: report/ in the results folder."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 where anything is flagged or damaged.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object: the path, flags and problems.")
    ] = False,
) -> int:
    """Turn the results of sweeps into a report: HTML, Markdown, tables and figures."""
    from analysis.load import load

    print(f"reading {results}", file=sys.stderr)
    study = load(results, list(dict.fromkeys(names or [])))
    for problem in study.problems:
        print(f"warning: {problem.what}", file=sys.stderr)
    print(f"drawing {sum(len(plan.runs) for plan in study.plans)} trials", file=sys.stderr)
    path = build(study).write(out or results / "report")
    flags = [
        {"sweep": plan.sweep, "plan": plan.id, "trial": trial, "codes": codes}
        for plan in study.plans
        for trial, codes in zip(plan.runs["trial"], plan.runs["flags"], strict=True)
        if codes
    ]
    if as_json:
        answer = {
            "schema_version": SCHEMA_VERSION,
            "report": str(path),
            "flags": flags,
            "problems": [{"what": one.what, "help": one.help} for one in study.problems],
        }
        print(json.dumps(answer, indent=2))
    else:
        print(path)
    return EXIT_FLAGGED if strict and (flags or study.problems) else EXIT_DONE


def build(study: Study) -> Page:
    """The report's page. Draws every figure."""
    from analysis import search
    from analysis.load import reported
    from analysis.page import Page, Section
    from analysis.tables import kind

    figures = reported()
    parts: dict[str, list[Part]] = {"grid": [], "architectures": [], "search": [], "sweep": []}
    for plan in study.plans:
        if plan.search is not None:
            others = [other for other in study.plans if other is not plan]
            parts["search"] += search.parts(plan, plan.search, others, figures)
            continue
        found = kind(plan.axes, plan.runs)
        part = {"grid": _grid, "architectures": _architectures}.get(found, _sweep)
        parts[found].append(part(plan, figures))
    titles = {
        "grid": "Batch size x epochs",
        "architectures": "Architectures",
        "search": "Searches",
        "sweep": "Other sweeps",
    }
    return Page(
        "Report on " + ", ".join(sweep.name for sweep in study.sweeps),
        [
            _summary(study),
            *(Section(title, parts[key]) for key, title in titles.items() if parts[key]),
            _trials(study),
            _provenance(study),
            _problems(study),
        ],
    )


# --- sections --------------------------------------------------------------------------------


def _summary(study: Study) -> Section:
    import pandas as pd

    from analysis import tables
    from analysis.load import FLAGS
    from analysis.page import Part, Section, Table

    launches, flagged = [], []
    runs = _distinct(study)
    totals = runs["state"].value_counts()
    states_seen = list(dict.fromkeys(["done", "failed", "missing", *totals.index]))
    for plan in study.plans:
        states = plan.runs["state"].value_counts()
        rows = tables.flagged(plan.runs)
        launches.append(
            {
                "sweep": plan.sweep,
                "launch": plan.id,
                "scale": plan.scale,
                "data set": words.values(plan.runs["data.name"]),
                "planned": len(plan.runs),
                **{state: int(states.get(state, 0)) for state in states_seen},
                "flagged": len(rows),
            }
        )
        rows.insert(0, "sweep", plan.sweep)
        flagged.append(rows)
    told = ", ".join(f"{totals.get(state, 0)} {state}" for state in states_seen)
    flags = pd.concat(flagged).drop_duplicates(["sweep", "trial"])
    notes = [f"{words.count(len(runs), 'planned trial')}: {told}. {len(flags)} flagged."]
    notes.append(_caveat(runs))
    shown = [Table("launches", "Launches and what became of their trials", pd.DataFrame(launches))]
    if len(flags):
        # Of every launch: a trial can be flagged in one and, pruned by itself, not in another.
        seen = {code for plan in study.plans for codes in plan.runs["flags"] for code in codes}
        rules = [(code, rule) for code, rule in FLAGS.items() if code in seen]
        shown.append(Table("flagged", "Flagged trials", flags))
        legend = pd.DataFrame(rules, columns=["flag", "rule"])
        shown.append(Table("flags", "What the flags mean", legend))
    return Section("Summary", [Part(notes=notes, tables=shown)])


def _caveat(runs: pd.DataFrame) -> str:
    from analysis.stats import MIN_SEEDS, sample_interval

    done = runs[runs["test_accuracy"].notna() & runs["test_images"].notna()]
    if done.empty:
        return "No trial has a result, so there is nothing to conclude from."
    # A trial that exists, not the mean of two: in the middle by test accuracy.
    middle = done.sort_values("test_accuracy", kind="stable").iloc[(len(done) - 1) // 2]
    images, accuracy = int(middle["test_images"]), float(middle["test_accuracy"])
    low, high = sample_interval(accuracy, images)
    return (
        f"How sure: the {images:,} test images alone leave an accuracy of {100 * accuracy:.2f} % "
        f"anywhere between {100 * low:.2f} and {100 * high:.2f} % (Wilson, 95 %), and training "
        "again with another seed moves it too. The two are shown apart. Under "
        f"{MIN_SEEDS} seeds there is no interval over seeds: a difference between two single runs "
        "may then be the seed's luck."
    )


def _grid(plan: Plan, figures: dict[str, Any]) -> Part:
    from analysis import tables
    from analysis.figures import heatmap
    from analysis.page import Part, Picture, Table

    reported = figures["grid_bs_epoch"]
    cells = tables.grid_cells(plan.runs, reported)
    name = words.name(plan)
    caption = f"Mean test accuracy (%) of {plan.sweep}, batch size x epochs"
    footnotes = [_epochs(plan), *_notes(cells)]
    changed = [
        f"{text} (text) and {printed} (table)"
        for text, printed in zip(reported["epochs"], reported["epochs_printed"], strict=True)
        if text != printed
    ]
    footnotes.insert(
        0,
        f"The study gives one row's epochs as {', '.join(changed)}; its figures stand beside the "
        "epochs of the text here.",
    )
    return Part(
        words.title(plan),
        [words.preface(plan, reported["model"]), _choice(cells, ["epochs", "batch_size"])],
        [
            Table(f"{name}-grid", f"{caption}: mean over seeds, n, flags", tables.grid(cells)),
            Table(f"{name}-cells", "The same cells in full, %", cells),
        ],
        [
            Picture(f"{name}-heatmap", f"{caption}; hatched cells are flagged", heatmap(cells)),
            *_curves(plan),
        ],
        footnotes,
    )


def _architectures(plan: Plan, figures: dict[str, Any]) -> Part:
    from analysis import tables
    from analysis.page import Part, Table

    table = tables.architectures(plan.runs, figures["architectures"])
    caption = f"Accuracy (%) of the architectures of {plan.sweep}: mean ± sd over seeds"
    return Part(
        words.title(plan),
        [words.preface(plan), _choice(table, ["model"])],
        [Table(words.name(plan), caption, table)],
        _curves(plan),
        [
            "train: running mean over the augmented images of the best epoch. train clean: plain "
            "training images under the tested weights. The study does not say which its training "
            "accuracy is.",
            *_notes(table),
        ],
    )


def _sweep(plan: Plan, _: dict[str, Any]) -> Part:
    from analysis import tables
    from analysis.page import Part, Table

    table = tables.sweep(plan.runs)
    caption = f"Accuracy (%) of {plan.sweep}: mean ± sd over seeds"
    return Part(
        words.title(plan),
        [words.preface(plan), _choice(table, plan.axes)],
        [Table(words.name(plan), caption, table)],
        _curves(plan),
        _notes(table),
    )


def _trials(study: Study) -> Section:
    from analysis import tables
    from analysis.page import Part, Section, Table

    return Section(
        "Every trial",
        [
            Part(
                words.title(plan),
                tables=[
                    Table(
                        f"{words.name(plan)}-trials",
                        f"Every planned trial of {plan.sweep}; accuracies in %, epochs from 0",
                        tables.trials(plan.runs),
                    )
                ],
            )
            for plan in study.plans
        ],
    )


def _provenance(study: Study) -> Section:

    from analysis import tables
    from analysis.page import Part, Section, Table

    runs = _distinct(study)
    notes = []
    if runs["git_dirty"].eq(True).any():
        notes.append("Some trials ran with uncommitted changes: their commit does not tell all.")
    for plan in study.plans:
        splits = plan.runs.groupby("data.name")["split_sha256"].nunique()
        if (splits > 1).any():
            notes.append(
                f"The trials of {plan.sweep} ({plan.id}) do not share one split into training and "
                "validation images."
            )
        for column, noun in (("precision_used", "precisions"), ("world_size", "numbers of ranks")):
            ran = plan.runs[column].dropna()
            if ran.nunique() > 1:
                notes.append(
                    f"The trials of {plan.sweep} ({plan.id}) ran with different {noun}: "
                    f"{words.values(ran.sort_values())}."
                )
    for sweep in study.sweeps:
        if sweep.superseded:
            notes.append(
                f"{sweep.name}: left out since another launch holds all of their trials: "
                + ", ".join(sweep.superseded)
            )
    launches = [
        {
            "sweep": plan.sweep,
            "launch": plan.id,
            "created": plan.created,
            "overrides": words.overrides(plan),
            "seeds": ", ".join(map(str, plan.seeds)),
            "command": plan.command,
        }
        for plan in study.plans
    ]
    return Section(
        "Provenance",
        [
            Part(
                notes=notes,
                tables=[
                    Table("commands", "The commands that planned the trials", _frame(launches)),
                    Table("sources", "What the finished trials ran on", tables.sources(runs)),
                ],
            )
        ],
    )


def _problems(study: Study) -> Section:
    from analysis.page import Part, Section, Table

    if not study.problems:
        return Section("Problems", [Part(notes=["Every file was read."])])
    rows = [{"file": one.what, "what to do": one.help} for one in study.problems]
    notes = ["These files could not be used. They were left in place; the rest was used."]
    table = Table("problems", "Files that could not be used", _frame(rows))
    return Section("Problems", [Part(notes=notes, tables=[table])])


# --- words -----------------------------------------------------------------------------------


def _epochs(plan: Plan) -> str:
    from analysis.load import POINT

    pairs = plan.runs[[POINT + "epochs", "epochs"]].drop_duplicates()
    scaled = [f"{ran} for {given}" for given, ran in pairs.itertuples(index=False) if given != ran]
    said = "Epochs are those of the sweep's definition"
    return said + (f"; the trials were planned with {', '.join(scaled)}." if scaled else ".")


def _choice(table: pd.DataFrame, axes: list[str]) -> str:
    """Which row validation selects, so that nobody picks one by its test accuracy."""
    from analysis.tables import chosen

    best = chosen(table)
    if best is None:
        return "No trial has a result."
    point = ", ".join(f"{axis} {best[axis]}" for axis in axes) or "the only point"
    return (
        "Validation images select the epoch whose weights are tested, and the point: the best "
        f"mean validation accuracy, {100 * best['validation']:.2f} %, is that of {point}, with "
        f"{100 * best['test']:.2f} % on the test images, which select nothing."
    )


def _notes(table: pd.DataFrame) -> list[str]:
    from analysis.stats import MIN_SEEDS
    from analysis.tables import DIFFERENCE_95, SAMPLE, SEEDS

    notes = [f"{SAMPLE}: Wilson's interval of the mean, from the number of test images alone."]
    if table[SEEDS].isna().any():
        notes.append(f"{SEEDS}: none under {MIN_SEEDS} seeds.")
    if DIFFERENCE_95 in table:
        notes.append(
            f"difference: test minus reported, in points; {DIFFERENCE_95}: Newcombe's, from both "
            "numbers of test images. It leaves out the seed, and the study has one run a cell."
        )
    if (table["n"] < table["planned"]).any():
        notes.append("Where n is below the planned number, the mean is over those n alone.")
    if table["flags"].str.contains("EARLY_STOP|DIVERGED").any():
        notes.append("Early-stopped and diverged runs count in the means, and are marked.")
    return notes


def _curves(plan: Plan) -> list[Picture]:
    from analysis.figures import curves
    from analysis.load import POINT
    from analysis.page import Picture

    if plan.epochs.empty:
        return []
    seeds = plan.runs["seed"].nunique() > 1
    labels = {}
    for run in plan.runs.to_dict("records"):
        parts = [f"{axis} {run[POINT + axis]}" for axis in plan.axes]
        labels[str(run["trial"])] = ", ".join([*parts, *([f"seed {run['seed']}"] * seeds)])
    flagged = plan.runs["trial"][plan.runs["flags"].map(bool)].tolist()
    caption = f"Validation accuracy of {plan.sweep} over epochs; a cross ends a flagged trial"
    figure = curves(plan.epochs, labels, flagged)
    return [Picture(f"{words.name(plan)}-curves", caption, figure)]


def _distinct(study: Study) -> pd.DataFrame:
    """The trials of all plans, each once."""
    import pandas as pd

    frames = [plan.runs.assign(sweep=plan.sweep) for plan in study.plans]
    return pd.concat(frames, ignore_index=True).drop_duplicates(["sweep", "trial"])


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows)


def main() -> None:
    run_command(app)


if __name__ == "__main__":
    main()
