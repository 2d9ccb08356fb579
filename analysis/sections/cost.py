"""Cost: what training took, and what accuracy it bought.

Hours of different devices are never added up: an hour on a GPU and one on a CPU have nothing in
common but the clock.
"""

from __future__ import annotations

from textwrap import shorten

import pandas as pd

from analysis import tables, words
from analysis.figures import cost as figures
from analysis.load import Plan, Study
from analysis.page import Part, Picture, Section, Table

FRONT = (
    "The Pareto front holds the points to which no other is both no dearer and no less accurate on "
    "the validation images, which select. Its line runs through the test accuracies of those "
    "points, which select nothing, so that it may fall where the two disagree."
)


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
    for (data, scale, device), points in _everything(study).items():
        name = words.file_name(f"cost-{data}-{scale}-{device}")
        where = f"all launches on {data} at {scale} scale on {device}"
        # One point is no picture of what accuracy costs.
        if len(points) > 1:
            pictures.append(_picture(name, where, device, points))
        table = points[points["front"]].drop(columns="front")
        table["minutes"] = table["minutes"].round(2)
        shown.append(Table(name, f"The points on the Pareto front of {where}, %", table))
    footnotes = [
        "Hours are the seconds of training and validation, over all attempts, of the trials that "
        "have a result, times the number of their devices; of a GPU that K trials shared, 1/K. An "
        "hour on a CPU is one of a process, "
        "however many cores it had. Of peak: the FLOPs of the training steps' convolutions and "
        "matrix products a second, of what the device was measured to do at best."
    ]
    if pictures:
        footnotes.append(f"{FRONT} The study reports no cost.")
    return Section("Cost", [Part("", notes, shown, pictures, footnotes)])


def spent(trials: pd.DataFrame) -> pd.DataFrame:
    """A row a sweep and device, from Study.trials: how many trials have a result, their hours, on
    GPUs and on CPUs in columns of their own, the median minutes of one, and the median share of the
    device's measured peak that its products of matrices and convolutions took.
    """
    seconds = tables.device_seconds(trials)
    trained = trials["status"].notna() & trials["shared_from"].isna()
    known = trials.assign(hours=seconds / 3600)[trained & seconds.notna()]
    rows = []
    for (sweep, device), group in known.groupby(["sweep", "device"], sort=True):
        hours = round(float(group["hours"].sum()), 3)
        gpu = tables.is_gpu(str(device))
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
            trials = words.count(int(of["trials"].sum()), "trial")
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
    runs = study.trials
    told = runs[["seconds", "world_size", "device"]].notna().all(axis="columns")
    n = int((runs["status"].notna() & ~told).sum())
    if n == 0:
        return []
    return [f"{words.count(n, 'result')} left out: how long, or on what, the trial ran is unknown."]


def shared(study: Study) -> list[str]:
    """How many trials cost nothing here, since another sweep trained them."""
    n = int(study.trials["shared_from"].notna().sum())
    if n == 0:
        return []
    return [
        f"{words.count(n, 'trial')} not counted: another sweep had trained the same configuration, "
        "and its hours are counted there (shared_from in run.parquet names the trial)."
    ]


def standstills(study: Study) -> list[str]:
    """A sentence for each trial in which an epoch took a minute and ten times its usual longer."""
    said = []
    for plan in study.plans:
        trained = plan.runs.loc[plan.runs["shared_from"].isna(), "trial"]
        epochs = plan.epochs[plan.epochs["trial"].isin(trained)]
        seconds = epochs.groupby("trial", observed=True, sort=False)["seconds"]
        usual, longest = seconds.median(), seconds.max()
        for trial in usual.index[longest > 10 * usual + 60]:
            said.append(
                f"{plan.sweep}: an epoch of {trial} took {longest[trial]:,.0f} s, where its usual "
                f"is {usual[trial]:,.0f} s: the machine stood still, or was busy with something "
                "else. Hours and minutes here count it."
            )
    # Two launches can plan one trial.
    return list(dict.fromkeys(said))


def pictures(plan: Plan) -> list[Picture]:
    """Accuracy over cost of a launch's points, a figure a device."""
    found = []
    for device, runs in plan.runs.groupby("device", sort=True):
        points = _with_front(tables.costs(runs))
        if len(points) > 1:
            name = f"{words.name(plan)}-cost-{words.file_name(str(device))}"
            found.append(_picture(name, f"{plan.sweep} on {device}", str(device), points))
    return found


def _everything(study: Study) -> dict[tuple[str, str, str], pd.DataFrame]:
    """The points of all launches, by data set, scale and device: at another size neither minutes
    nor accuracies compare.
    """
    found: dict[tuple[str, str, str], list[pd.DataFrame]] = {}
    for plan in study.plans:
        for (data, device), runs in plan.runs.groupby(["data_set", "device"], sort=True):
            points = tables.costs(runs)
            names = plan.sweep + points["point"].map(lambda point: f": {point}" if point else "")
            if len(points):
                key = str(data), plan.scale, str(device)
                found.setdefault(key, []).append(points.assign(point=names))
    # Two launches can plan one trial.
    return {
        key: _with_front(pd.concat(some).drop_duplicates(["point", "minutes", "test"]))
        for key, some in sorted(found.items())
    }


def _with_front(points: pd.DataFrame) -> pd.DataFrame:
    points = points.sort_values(["minutes", "point"], kind="stable", ignore_index=True)
    front = tables.front(points["minutes"].tolist(), points["validation"].tolist())
    return points.assign(front=front)


def _picture(name: str, where: str, device: str, points: pd.DataFrame) -> Picture:
    caption = (
        f"Mean test accuracy over minutes of training, {where}: a dot a point, hollow where it is "
        "flagged; the numbered ones are on the Pareto front by validation"
    )
    unit = f"minutes of training x devices ({shorten(device, 40, placeholder=' ...')}), logarithmic"
    return Picture(name, caption, figures.cost(points, unit))
