"""The report's part on a search: what it asked for, what came of it, how sure its best value is.

Only validation accuracy is compared: it is what the search maximised, and the test images select
nothing. The best of many noisy figures flatters itself, so that the best value is shown with all
that one standard error does not tell from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.cifar10 import reported as reported_figures
from analysis.data.search_space import EDGE, Choice, Range, Search
from analysis.data.study import POINT
from analysis.figures import search as figures
from analysis.output.model import Part, Picture, Table
from analysis.sections import wording
from analysis.stats import selection_bias
from analysis.stats.importance import importances
from analysis.stats.intervals import MIN_SEEDS, POWER_NOTE, binomial_error
from analysis.stats.seed_values import difference, judged, would_tell

if TYPE_CHECKING:
    from analysis.data.study import Plan, Study

OBJECTIVES = {
    "best": ("val_accuracy", "validation accuracy of the best epoch"),
    "last": ("val_accuracy_last", "validation accuracy of the last epoch"),
}
_TABLE_ROWS = 10


def parts(plan: Plan, study: Study) -> list[Part]:
    """What came of the plan's search, then how flat its optimum is. Draws every figure."""
    search = plan.search
    assert search is not None
    others = [other for other in study.plans if other is not plan]
    reported = reported_figures.reported()
    trials = asked(plan, search)
    best = chosen(trials)
    table = _best_ten(trials, search)
    which, what = f"{plan.sweep} ({plan.id})", OBJECTIVES[search.objective][1]
    name, title = wording.name(plan), wording.title(plan)
    error = _error(plan, best)[0]
    history = Picture(
        f"{name}-history",
        f"The {what} in the order in which {which} asked for its trials, and the best so far",
        figures.history(trials, error, _pruned_label(search)),
    )
    pictures, footnotes = [], []
    for field, space in search.space.items():
        means = grid_means(others, _like(plan, search, best, field), field, search.objective)
        footnotes += _unplaced(field, means, space)
        caption = f"The {what} of {which} over {field}"
        caption += "; the band is one standard error under the best" if error else ""
        lines = _lines(field, space, best, reported_values(field, reported))
        figure = figures.parameter(trials, field, space, means, lines, error, _pruned_label(search))
        pictures.append(Picture(f"{name}-{wording.file_name(field)}", caption, figure))
    if len(search.space) > 1 and best is not None:
        footnotes.append("A parameter's values are counted whatever the other parameters are.")
    if best is not None:
        footnotes.append(POWER_NOTE)
    return [
        Part(
            title,
            [wording.preface(plan), *account(plan, search), *_flattered(plan, study, best)],
            [Table(f"{name}-best", f"The best trials of {which}, in %", table)] * bool(len(table)),
            [history],
            _pruned_note(search, trials),
        ),
        Part(
            f"{title}: how flat is the optimum",
            judgement(plan, search, others, reported),
            [],
            pictures,
            footnotes,
        ),
    ]


def account(plan: Plan, search: Search) -> list[str]:
    """What was asked for, what became of it, what it cost, and what is chosen: a sentence each."""
    trials = asked(plan, search)
    return [
        _asked_for(search),
        _outcome(search, trials),
        _effort(plan, trials),
        _choice(plan, search, trials, chosen(trials)),
    ]


def _flattered(plan: Plan, study: Study, best: pd.Series[Any] | None) -> list[str]:
    if best is None:
        return []
    by_best = plan.search is not None and plan.search.objective == "best"
    return [
        *selection_bias.of_best(study, plan, plan.runs.iloc[best["order"] - 1]),
        *(selection_bias.best_epoch(plan.runs) if by_best else []),
    ]


def judgement(
    plan: Plan, search: Search, others: list[Plan], reported: Mapping[str, Any]
) -> list[str]:
    """How sure the chosen values are: from one standard error, from seeds, and importances. Nothing
    where nothing is chosen.
    """
    trials = asked(plan, search)
    best = chosen(trials)
    if best is None:
        return []
    error, images = _error(plan, best)
    values = {field: reported_values(field, reported) for field in search.space}
    comparisons = sum(
        value != best[field] for field, named in values.items() for value in named.values()
    )
    return [
        _error_words(best, error, images),
        *(
            flat(trials, best, error, field, space, values[field])
            for field, space in search.space.items()
        ),
        *(
            seeds(plan, search, best, others, field, label, value, comparisons)
            for field in search.space
            for label, value in values[field].items()
        ),
        *importances(trials, search),
    ]


# --- trials ----------------------------------------------------------------------------------


def asked(plan: Plan, search: Search) -> pd.DataFrame:
    """A row a configuration in the order of asking: `trial`, `order` (from 1), each searched field,
    `mark`, `value`, `epochs` (trained) and `flags`.

    `mark` is done, pruned, nonfinite, failed, or open for one without an end. `value` is the
    objective as a fraction: of a pruned trial what its epochs so far give, NaN where there is none.
    """
    runs = plan.runs
    epochs = plan.epochs.sort_values("epoch", kind="stable").groupby("trial", observed=True)
    validation = epochs["val_accuracy"]
    so_far = (validation.max() if search.objective == "best" else validation.last()).to_dict()
    trained = epochs.size().to_dict()
    rows = []
    for order, run in enumerate(runs.to_dict("records"), start=1):
        name, state = run["trial"], run["state"]
        value, mark = math.nan, "failed"
        if state == "done":
            value = _float(run[OBJECTIVES[search.objective][0]])
            # A run that has no validation accuracy is no result of a search.
            mark = "failed" if math.isnan(value) else "done"
        elif state == "pruned":
            value, mark = _float(so_far.get(name)), "pruned"
        elif state == "missing":
            mark = "open"
        elif "NONFINITE" in run["flags"]:
            mark = "nonfinite"
        ran = run["epochs_run"] if state == "done" else None
        rows.append(
            {
                "trial": name,
                "order": order,
                **{field: run[POINT + field] for field in search.space},
                "mark": mark,
                "value": value,
                "epochs": int(trained.get(name, 0) if pd.isna(ran) else ran),
                "flags": ", ".join(run["flags"]),
            }
        )
    return pd.DataFrame(rows)


def chosen(trials: pd.DataFrame) -> pd.Series[Any] | None:
    """The completed trial with the best objective, of equals the first that was asked for."""
    done = trials[trials["mark"] == "done"]
    return None if done.empty else done.iloc[int(done["value"].argmax())]


def _best_ten(trials: pd.DataFrame, search: Search) -> pd.DataFrame:
    done = trials[trials["mark"] == "done"]
    best = done.sort_values("value", ascending=False, kind="stable").head(_TABLE_ROWS)
    return pd.DataFrame(
        {
            "asked": best["order"],
            **{field: best[field].map(number) for field in search.space},
            "validation": best["value"],
            "epochs": best["epochs"],
            "flags": best["flags"],
            "trial": best["trial"],
        }
    )


# --- sentences -------------------------------------------------------------------------------


def _asked_for(search: Search) -> str:
    spaces = []
    for field, values in search.space.items():
        if isinstance(values, Range):
            scale = " (logarithmic)" if values.log else ""
            spaces.append(f"{field} from {number(values.low)} to {number(values.high)}{scale}")
        else:
            spaces.append(f"{field} among {', '.join(map(number, values.values))}")
    return (
        f"Sampler {search.sampler}, pruner {search.pruner}, seed {search.seed}. The search "
        f"maximises the {OBJECTIVES[search.objective][1]} over {'; '.join(spaces)}."
    )


def _outcome(search: Search, trials: pd.DataFrame) -> str:
    marks = trials["mark"].value_counts()
    nonfinite = int(marks.get("nonfinite", 0))
    failed = nonfinite + int(marks.get("failed", 0))
    said = (
        f"It was to ask for {wording.count(search.trials, 'trial')} and has asked for "
        f"{wording.count(len(trials), 'configuration')}: {marks.get('done', 0)} done, "
        f"{marks.get('pruned', 0)} pruned, {failed} failed"
    )
    if nonfinite:
        said += f" ({nonfinite} NONFINITE, which counts as the worst value)"
    return said + (f", {marks['open']} without an end yet." if "open" in marks else ".")


def _effort(plan: Plan, trials: pd.DataFrame) -> str:
    trained = int(trials["epochs"].sum())
    pruned = (trials["mark"] == "pruned").to_numpy()
    said = f"They trained {wording.count(trained, 'epoch')}"
    if not pruned.any():
        return said + "; none was pruned."
    planned = pd.to_numeric(plan.runs["epochs"], errors="coerce")[pruned]
    if planned.isna().any():
        return said + "; how many pruning spared is not known."
    spared = int((planned.to_numpy() - trials["epochs"].to_numpy()[pruned]).sum())
    whole = trained + spared
    return (
        f"{said}; without pruning it would have been at most {whole:,}, every pruned trial "
        f"running to its last planned epoch: pruning spared up to {100 * spared / whole:.0f} %."
    )


def _choice(plan: Plan, search: Search, trials: pd.DataFrame, best: pd.Series[Any] | None) -> str:
    if best is None:
        return "No trial was completed, so that nothing is chosen."
    point = ", ".join(f"{field} {number(best[field])}" for field in search.space)
    done = trials[trials["mark"] == "done"]
    said = (
        f"The {'best ' * (len(done) > 1)}{OBJECTIVES[search.objective][1]}, "
        f"{100 * best['value']:.2f} %, is that of "
        f"{'the one completed trial, ' * (len(done) == 1)}{point} (asked as number {best['order']})"
    )
    test = _float(plan.runs["test_accuracy"].iloc[best["order"] - 1])
    if not math.isnan(test):
        said += f", with {100 * test:.2f} % on the test images, which select nothing"
    said += "."
    equal = int((done["value"] == best["value"]).sum())
    if equal > 1:
        said += f" {equal} completed trials have it; the first that was asked for is taken."
    elif len(done) > 1:
        second = done["value"].nlargest(2).iloc[1]
        said += (
            f" The next best has {100 * second:.2f} %: of one run each, nothing tells the two "
            "apart from what another seed would do."
        )
    return said + (f" It is flagged {best['flags']}." if best["flags"] else "")


def _error(plan: Plan, best: pd.Series[Any] | None) -> tuple[float | None, int]:
    """The chosen accuracy's standard error, and the number of validation images behind it."""
    images = None if best is None else plan.runs["val_images"].iloc[best["order"] - 1]
    if best is None or pd.isna(images) or not images > 0:
        return None, 0
    return binomial_error(float(best["value"]), int(images)), int(images)


def _error_words(best: pd.Series[Any], error: float | None, images: int) -> str:
    if error is None:
        return (
            "The chosen run does not say how many validation images it had, so that there is no "
            "standard error to compare with."
        )
    return (
        f"One standard error is {100 * error:.2f} points: the binomial one of "
        f"{100 * best['value']:.2f} % on {images:,} validation images. It leaves out the seed, "
        "which moves an accuracy too."
    )


def flat(
    trials: pd.DataFrame,
    best: pd.Series[Any],
    error: float | None,
    field: str,
    space: Range | Choice,
    reported: Mapping[str, float],
) -> str:
    """Which values of the field are as good as the best, within one standard error; whether each
    reported value is among them; and whether the best is at an edge of its range.
    """
    done = trials[trials["mark"] == "done"]
    said = f"{field}: "
    if error is not None:
        # Two equal counts of images can differ in their quotient's last digit.
        good = done["value"] >= best["value"] - error - 1e-12
        values = sorted(set(done[field][good])) if isinstance(space, Range) else []
        count = f"{good.sum()} of {wording.count(len(done), 'completed trial')}"
        if len(done) == 1:
            said += f"the one completed trial has {number(best[field])}."
        elif good.sum() == 1:
            said += f"of {wording.count(len(done), 'completed trial')}, only the best, "
            said += f"{number(best[field])}, is within one standard error of it."
        elif isinstance(space, Range):
            said += f"{count} are within one standard error of the best, with "
            said += (
                f"values from {number(values[0])} to {number(values[-1])}."
                if values[0] < values[-1]
                else f"the value {number(values[0])}."
            )
            below = int((done[field].between(values[0], values[-1]) & ~good).sum())
            if below:
                said += f" {below} more "
                said += "has a value" if below == 1 else "have values"
                said += f" in that range and {'was' if below == 1 else 'were'} seen further below."
        else:
            among = [value for value in space.values if value in set(done[field][good])]
            said += f"{count} are within one standard error of the best, with "
            said += f"{'the value' if len(among) == 1 else 'values'} "
            said += f"{', '.join(map(number, among))}."
        for label, value in reported.items():
            said += " " + _place(label, value, field, space, done[good])
    else:
        said += f"the best value is {number(best[field])}."
    end = space.edge(float(best[field])) if isinstance(space, Range) else None
    if end is not None:
        said += (
            f" The best value, {number(best[field])}, lies in the {end} {100 * EDGE:.0f} % of the "
            "searched range: a better one may lie beyond it, where the search did not look."
        )
    return said


def _place(label: str, value: float, field: str, space: Range | Choice, good: pd.DataFrame) -> str:
    said = f"The reported {number(value)}{label} "
    if not space.holds(value):
        return said + "was not in the searched range."
    if len(good) == 1:
        return said + f"is {'that' if value == good[field].iloc[0] else 'another'} value."
    if isinstance(space, Range):
        inside = good[field].min() <= value <= good[field].max()
        return said + f"lies {'inside' if inside else 'outside'} that range."
    return said + f"is {'' if value in set(good[field]) else 'not '}among them."


# --- what others know ------------------------------------------------------------------------


def reported_values(field: str, reported: Mapping[str, Any]) -> dict[str, float]:
    """What the study reports for a field, by the words that say for which models; empty where it
    reports nothing. `reported` is reported.json.
    """
    given = reported["protocol"]
    optimizer, cutout = given["optimizer"], given["augmentation"]["cutout"]
    general, wide = " (every model but WRN-28-10)", " (WRN-28-10)"
    table: dict[str, dict[str, float]] = {
        "optimizer.weight_decay": {
            general: optimizer["weight_decay"],
            wide: optimizer["weight_decay_wrn_28_10"],
        },
        "augment.cutout": {general: cutout["length"], wide: cutout["length_wrn_28_10"]},
        "optimizer.lr": {"": optimizer["lr"]},
        "optimizer.momentum": {"": optimizer["momentum"]},
        "label_smoothing": {"": given["loss"]["label_smoothing"]},
        "batch_size": {"": given["batch_size"]},
        "epochs": {"": given["epochs"]},
    }
    return table.get(field, {})


def _like(
    plan: Plan, search: Search, best: pd.Series[Any] | None, field: str
) -> pd.Series[Any] | None:
    """The row that another launch's trial must equal, but for the field and the seed: the chosen
    one's. Where nothing is chosen, every trial of a search of one field will do.
    """
    if best is None and len(search.space) > 1:
        return None
    return plan.runs.iloc[0 if best is None else int(best["order"]) - 1]


def _equal_settings(
    others: list[Plan], like: pd.Series[Any], field: str, objective: str
) -> pd.DataFrame:
    """The other launches' trials that equal `like` in everything but the field and the seed, each
    configuration once: `x` (the field, as the definition has it), `seed`, `value`.
    """
    fixed = list(dict.fromkeys(key for plan in others for key in plan.fields))
    fixed = [key for key in fixed if key not in (field, "seed")]
    frames = [pd.DataFrame({"x": [], "seed": [], "value": [], "fingerprint": []})]
    for plan in others:
        same = pd.Series(True, index=plan.runs.index)
        for key in fixed:
            wanted, column = like.get(key), plan.runs.get(key, pd.Series(None, plan.runs.index))
            same &= column.isna() if pd.isna(wanted) else column == wanted
        found = plan.runs[same]
        x = found[POINT + field] if POINT + field in found else found[field]
        value = found[OBJECTIVES[objective][0]].astype(float)
        value = value.where(found["state"].eq("done") & ~found["repeated"])
        frames.append(
            pd.DataFrame(
                {
                    "x": x,
                    "seed": found["seed"],
                    "value": value,
                    "fingerprint": found["fingerprint"],
                }
            )
        )
    table = pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)
    # One that was run in two sweeps counts once, the one with a result before the other.
    table = table.sort_values("value", kind="stable", na_position="last")
    return table.drop_duplicates("fingerprint").sort_values(["x", "seed"], kind="stable")


def grid_means(
    others: list[Plan], like: pd.Series[Any] | None, field: str, objective: str
) -> pd.DataFrame:
    """A row a value of the field in the launches that vary it under otherwise equal settings: `x`,
    `value` (mean over seeds), `n` and `planned`.
    """
    launches = [plan for plan in others if plan.search is None and field in plan.axes]
    if like is None or not launches:
        return pd.DataFrame(columns=["x", "value", "n", "planned"])
    groups = _equal_settings(launches, like, field, objective).groupby("x", sort=True)["value"]
    table = pd.DataFrame({"value": groups.mean(), "n": groups.count(), "planned": groups.size()})
    return table.reset_index()


def seeds(
    plan: Plan,
    search: Search,
    best: pd.Series[Any],
    others: list[Plan],
    field: str,
    label: str,
    value: float,
    comparisons: int = 1,
) -> str:
    """Whether seeds tell the chosen value of the field from a reported one: means and the paired
    difference, from the other launches' trials under otherwise equal settings, adjusted for the
    number of such comparisons. The run that the search chose is none of them.
    """
    mine = f"the chosen {field} {number(best[field])}"
    theirs = f"the reported {number(value)}{label}"
    if best[field] == value:
        return f"{mine[0].upper()}{mine[1:]} is {theirs}."
    like = plan.runs.iloc[best["order"] - 1]
    table = _equal_settings(others, like, field, search.objective).dropna(subset="value")
    table = table[table["fingerprint"] != like["fingerprint"]]
    by_seed = [
        dict(zip(rows["seed"], rows["value"], strict=True))
        for rows in (table[table["x"] == best[field]], table[table["x"] == value])
    ]
    a, b = by_seed
    found = difference(a, b, None if pd.isna(like["val_images"]) else int(like["val_images"]))
    if found is None or found.told_apart is None:
        would = "" if found is None else f": {would_tell(found)}"
        return (
            f"There are not enough seeds to tell {mine} from {theirs}{would}. The report's other "
            f"launches have {len(a)} and {len(b)} under otherwise equal settings (the run that "
            "the search chose is left out, since it is the best of many), and a test needs "
            f"{MIN_SEEDS} that both have."
        )
    found = found.bonferroni(comparisons, "comparisons with a reported value")
    means = [math.fsum(values.values()) / len(values) for values in by_seed]
    said = (
        "Over seeds, from the report's other launches under otherwise equal settings, without the "
        "run that the search chose, which is the best of many: "
    )
    said += ", ".join(
        f"{100 * mean:.2f} % for {who} (n {len(values)})"
        for mean, who, values in zip(means, (mine, theirs), by_seed, strict=True)
    )
    return f"{said}; difference {found}: {judged(found)}."


# --- text ------------------------------------------------------------------------------------


def number(value: Any) -> str:
    """A value of a parameter: a float to four digits, anything else as it is."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _float(value: Any) -> float:
    return math.nan if value is None or pd.isna(value) else float(value)


def _pruned_label(search: Search) -> str:
    return "pruned, at its " + ("best so far" if search.objective == "best" else "last epoch")


def _lines(
    field: str, space: Range | Choice, best: pd.Series[Any] | None, reported: Mapping[str, float]
) -> dict[str, Any]:
    """Labels and places of the vertical lines."""
    lines: dict[str, Any] = {}
    if best is not None and best[field] not in reported.values():
        lines[f"chosen: {number(best[field])}"] = best[field]
    for label, value in reported.items():
        if space.holds(value):
            who = "reported" if best is None or best[field] != value else "chosen and reported"
            lines[f"{who}: {number(value)}{label}"] = value
    return lines


def _unplaced(field: str, means: pd.DataFrame, space: Range | Choice) -> list[str]:
    if isinstance(space, Range) and space.log and (means["x"] <= 0).any():
        return [f"Launches with {field} 0 have no place on a logarithmic axis and are not drawn."]
    return []


def _pruned_note(search: Search, trials: pd.DataFrame) -> list[str]:
    if (trials["mark"] != "pruned").all():
        return []
    where = "best epoch so far" if search.objective == "best" else "last epoch"
    return [
        f"A pruned trial stands at its {where}. It had not been trained to its end, so that it "
        "does not compare with a completed one."
    ]
