"""Cost: what training took, and what accuracy it bought.

What a point costs is the number of its floating-point operations, which another machine, or the
same one with more work, does not change. Minutes stand beside it, of quiet runs alone.

Hours of different devices are never added up: an hour on a GPU and one on a CPU have nothing in
common but the clock.
"""

from __future__ import annotations

import itertools
import math

import pandas as pd

from analysis.data.study import Plan, Study
from analysis.figures import cost as figures
from analysis.figures.cost import PETA
from analysis.output.model import Part, Picture, Section, Table
from analysis.sections import wording
from analysis.stats import costs, summary_tables
from analysis.stats.intervals import ALPHA, POWER_NOTE
from analysis.stats.seed_values import PAIRS, Difference, by_seed, difference, judged
from analysis.text import words
from analysis.text.numbers import be, count

FRONT = (
    "What a point costs is the number of floating-point operations of its training: those of a "
    "step for one image, times the training images, times the epochs; not seconds, which are also "
    "those of whatever else the machine did. The Pareto front holds the points to which no other "
    "is both as cheap and as accurate on the validation images, which select, and better in one of "
    "the two. Its line runs through the test accuracies of those points, which select nothing, so "
    "that it may fall where the two disagree."
)
TOLD = "more accurate than the cheaper one before it"


def cost(study: Study) -> Section:
    """Hours a sweep and device, those of trials without a result apart, and accuracy over cost.
    Draws every figure.
    """
    hours = spent(study.trials)
    notes = [
        totals(hours), *unfinished(study), *untold(study), *shared(study), *standstills(study),
    ]  # fmt: skip
    shown = []
    if len(hours):
        shown.append(Table("cost-hours", "Hours of training a sweep and device", hours))
    pictures = []
    for (data, scale), points in _everything(study).items():
        name = words.file_name(f"cost-{data}-{scale}")
        where = f"all launches on {data} at {scale} scale"
        # One point does not show what accuracy costs.
        if len(points) > 1:
            pictures.append(_picture(name, where, points))
            caption = f"The points on the Pareto front of {where}, accuracies in %"
            shown.append(Table(name, f"{caption}: {_family(points)}", _front_table(points)))
    footnotes = [
        "Hours are the seconds of training and validation, over all attempts, of the trials that "
        "have a result, times the number of their devices; of a GPU that K trials shared, 1/K. An "
        "hour on a CPU is one of a process, "
        "however many cores it had. Of peak: the FLOPs of the training steps' convolutions and "
        "matrix products a second, of what the device was measured to do at best."
    ]
    if pictures:
        footnotes.append(f"{FRONT} The study reports no cost.")
        footnotes.append(
            "minutes: of training and validation times devices, only of runs on one kind of device "
            "that shared it with no other worker and never stood still, as far as the records "
            f"tell; the front does not depend on them. {TOLD}: {POWER_NOTE}"
        )
    return Section("Cost", [Part("", notes, shown, pictures, footnotes)], totals(hours))


def spent(trials: pd.DataFrame) -> pd.DataFrame:
    """A row a sweep and device, from Study.trials: how many trials have a result, their hours, on
    GPUs and on CPUs in columns of their own, the median minutes of one, and the median share of the
    device's measured peak that its products of matrices and convolutions took.
    """
    seconds = summary_tables.device_seconds(trials)
    trained = trials["status"].notna() & trials["shared_from"].isna()
    known = trials.assign(hours=seconds / 3600)[trained & seconds.notna()]
    rows = []
    for (sweep, device), group in known.groupby(["sweep", "device"], sort=True):
        hours = round(float(group["hours"].sum()), 3)
        gpu = costs.is_gpu(str(device))
        rows.append(
            {
                "sweep": sweep,
                "device": device,
                "trials": len(group),
                "GPU-hours": hours if gpu else None,
                "CPU-hours": None if gpu else hours,
                "median minutes a trial": round(60 * float(group["hours"].median()), 2),
                "of peak, %": _of_peak(group),
            }
        )
    return pd.DataFrame(rows)


def _of_peak(runs: pd.DataFrame) -> float | None:
    """The median over the runs that say it; None where none does."""
    done, peak = (runs[f"{name}_per_second"].astype(float) for name in ("flops", "peak_flops"))
    share = (done / peak).dropna()
    return round(100 * float(share.median()), 1) if len(share) else None


def totals(hours: pd.DataFrame) -> str:
    """The sum over GPUs and the sum over CPUs, a sentence."""
    if hours.empty:
        return "No trial has a result that says how long it took."
    said = []
    for unit in ("GPU-hours", "CPU-hours"):
        of = hours[hours[unit].notna()]
        if len(of):
            trials = count(int(of["trials"].sum()), "trial")
            said.append(f"{of[unit].sum():.2f} {unit} for {trials} with a result")
    return "; ".join(said) + "."


def unfinished(study: Study) -> list[str]:
    """The hours of trials without a result, by what became of them: nothing where none began."""
    rows = []
    for plan in study.plans:
        states = plan.runs.loc[plan.runs["state"] != "done", ["trial", "state"]]
        seconds = plan.epochs.groupby("trial", observed=True)["seconds"].sum()
        rows.append(states.assign(sweep=plan.sweep, seconds=states["trial"].map(seconds)))
    found = pd.concat(rows).drop_duplicates(["sweep", "trial"]).dropna(subset="seconds")
    if found.empty:
        return []
    told = [
        f"{group['seconds'].sum() / 3600:.2f} hours in {len(group)} {state}"
        for state, group in found.groupby("state", sort=True)
    ]
    return [
        f"Beside these, {', '.join(told)}: trials without a result, by the epochs that they left. "
        "What they ran on, and on how many devices, is not recorded."
    ]


def untold(study: Study) -> list[str]:
    """How many results are left out since they do not say what they cost."""
    runs = study.trials[study.trials["status"].notna()]
    told = runs[["seconds", "world_size", "device"]].notna().all(axis="columns")
    said = []
    if n := int((~told).sum()):
        what = "how long, or on what, the trial ran is unknown"
        said.append(f"{count(n, 'result')} left out: {what}.")
    if n := int(costs.train_flops(runs).isna().sum()):
        what = "how many operations its training took is unknown"
        said.append(f"{count(n, 'result')} left out of accuracy over cost: {what}.")
    return said


def shared(study: Study) -> list[str]:
    """How many trials cost nothing here, since another sweep trained them."""
    n = int(study.trials["shared_from"].notna().sum())
    if n == 0:
        return []
    return [
        f"{count(n, 'trial')} not counted: another sweep had trained the same "
        "configuration, "
        "and its hours are counted there (shared_from in run.parquet names the trial)."
    ]


def standstills(study: Study) -> list[str]:
    """A sentence for each trial in which an epoch took a minute and ten times its usual longer."""
    said = []
    for plan in study.plans:
        trained = set(plan.runs.loc[plan.runs["shared_from"].isna(), "trial"])
        usual, longest = _usual_and_longest(plan)
        for trial in (one for one in _stood_still(plan) if one in trained):
            said.append(
                f"{plan.sweep}: an epoch of {trial} took {longest[trial]:,.0f} s, where its usual "
                f"is {usual[trial]:,.0f} s: the machine stood still, or was busy with something "
                "else. Hours and minutes here count it."
            )
    # Two launches can plan one trial.
    return list(dict.fromkeys(said))


def _usual_and_longest(plan: Plan) -> tuple[pd.Series[float], pd.Series[float]]:
    """Seconds of an epoch, by trial."""
    seconds = plan.epochs.groupby("trial", observed=True, sort=False)["seconds"]
    return seconds.median(), seconds.max()


def _stood_still(plan: Plan) -> list[str]:
    usual, longest = _usual_and_longest(plan)
    return list(usual.index[longest > 10 * usual + 60])


def quiet(plan: Plan) -> pd.Series[bool]:
    """Whose seconds measure the run and nothing else, as far as the records tell: it had its
    devices for itself, and no epoch of it stood still."""
    alone = plan.runs["device_share"].astype(float).fillna(1.0) == 1
    return alone & ~plan.runs["trial"].isin(_stood_still(plan))


def uncertain(plan: Plan) -> str:
    """How many steps along a launch's front seeds tell from chance: a sentence."""
    points = _with_front(_points(plan, plan.runs))
    told = [gap is not None and bool(gap.told_apart) for gap in steps(points)]
    if not told:
        return "One point alone is on the front: the cheapest is the most accurate one as well."
    return (
        f"Of the {count(len(told), 'step')} along the front to a more costly point, "
        f"{sum(told)} {be(sum(told))} told from chance over seeds; {_family(points)}."
    )


def pictures(plan: Plan) -> list[Picture]:
    """Accuracy over cost of a launch's points, where several are known."""
    points = _with_front(_points(plan, plan.runs))
    if len(points) < 2:
        return []
    return [_picture(f"{wording.name(plan)}-cost", plan.sweep, points)]


def _points(plan: Plan, runs: pd.DataFrame) -> pd.DataFrame:
    """costs.costs with minutes of quiet runs alone, and the validation accuracies by seed."""
    table = costs.costs(runs.assign(seconds=runs["seconds"].where(quiet(plan)[runs.index])))
    seeds = [by_seed(plan, at) for at in table.pop("at")]
    return table.assign(seeds=pd.Series(seeds, dtype=object), images=runs["val_images"].max())


def _everything(study: Study) -> dict[tuple[str, str], pd.DataFrame]:
    """The points of all launches, by data set and scale: at another size neither costs nor
    accuracies compare.
    """
    found: dict[tuple[str, str], list[pd.DataFrame]] = {}
    for plan in study.plans:
        for data, runs in plan.runs.groupby("data_set", sort=True):
            points = _points(plan, runs)
            names = plan.sweep + points["point"].map(lambda point: f": {point}" if point else "")
            if len(points):
                found.setdefault((str(data), plan.scale), []).append(points.assign(point=names))
    # Two launches can plan one trial.
    return {
        key: _with_front(pd.concat(some).drop_duplicates(["point", "flops", "test"]))
        for key, some in sorted(found.items())
    }


def _with_front(points: pd.DataFrame) -> pd.DataFrame:
    points = points.sort_values(["flops", "point"], kind="stable", ignore_index=True)
    front = costs.front(points["flops"].tolist(), points["validation"].tolist())
    return points.assign(front=front)


def steps(points: pd.DataFrame) -> list[Difference | None]:
    """Of each point on the front but the first, by how much it is more accurate on validation than
    the cheaper one before it: picked among all pairs of all points, whose Bonferroni corrects it.
    """
    front = points[points["front"]]
    pairs = itertools.pairwise(zip(front["seeds"], front["images"], strict=True))
    found = []
    for (before, _), (after, images) in pairs:
        gap = difference(after, before, None if pd.isna(images) else int(images))
        found.append(gap and gap.bonferroni(math.comb(len(points), 2), PAIRS))
    return found


def _family(points: pd.DataFrame) -> str:
    pairs = count(math.comb(len(points), 2), "pair")
    return (
        f"a point is {TOLD} where Student's paired t test over seeds says so at {100 * ALPHA:g} %, "
        f"adjusted by Bonferroni for the {pairs} of all {count(len(points), 'point')}"
    )


def _front_table(points: pd.DataFrame) -> pd.DataFrame:
    front = points[points["front"]].reset_index(drop=True)
    told = ["-"] + [
        "no seed has both" if gap is None else "yes" if gap.told_apart else judged(gap)
        for gap in steps(points)
    ]
    front.insert(1, "PFLOPs", front.pop("flops").map(lambda flops: f"{flops / PETA:.3g}"))
    front["minutes"] = front["minutes"].round(2)
    front.insert(list(front.columns).index("n"), TOLD, told)
    return front.drop(columns=["front", "seeds", "images"])


def _picture(name: str, where: str, points: pd.DataFrame) -> Picture:
    caption = (
        f"Mean test accuracy over the floating-point operations of training, {where}: a dot a "
        "point, hollow where it is flagged; the numbered ones are on the Pareto front by validation"
    )
    return Picture(name, caption, figures.cost(points))
