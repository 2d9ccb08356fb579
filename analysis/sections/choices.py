"""Choices: what each stage of a study chose, from how many, and beside what was reported."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.data.study import Study
from analysis.data.study_choices import Choice, read_all
from analysis.output.model import Part, Section, Table
from analysis.reading.exclusions import EXCLUDED
from analysis.stats import selection_bias
from analysis.stats.paired import value_words
from analysis.text import words
from analysis.text.numbers import count, percent
from local_machine.errors import EXIT_IO, InputError

_FOOTNOTE = (
    "Accuracies are of validation images, the mean over a point's seeds; the test images chose "
    "nothing. Those of the chosen point are of the very seeds and images that chose it, which is "
    "too high on average; fresh seeds: the mean over other seeds of the same configuration, whose "
    "runs no choice was made from, and their number. Best is that of the best point; where the "
    "chosen one's is lower, it was the cheapest within one standard error of it, as so many points "
    "are. The error is the larger of the best point's over its seeds and that of as many "
    "validation images."
)


_FOOTNOTE_OF_OTHERS = (
    "Means over a point's seeds. That of the chosen point is of the very seeds that chose it, and "
    "is too good on average; fresh seeds: the mean over other seeds of the same configuration, "
    "whose runs no choice was made from, and their number. The error is the best point's over its "
    "seeds."
)


def choices(study: Study) -> Section:
    """The stages that belong to the report's sweeps, of every study in the results folder.

    A choice whose values are not those of the records becomes a problem, and is left out.
    """
    known = _values_by_trial(study)
    parts = []
    for path, found in read_all(study.results, study.problems):
        mine = [one for one in found.stages if one.stage in known]
        good = [
            one
            for one in mine
            if not _contradicts(path, one, known, study.problems, _excluded(study, one.stage))
        ]
        if not good:
            continue
        ours, others = (
            [one for one in good if one.is_trainers is is_so] for is_so in (True, False)
        )
        said = [
            f"The rule: {found.rule}.",
            *(_left_out(one) for one in good if one.left_out),
            *(said for one in good for said in _of_excluded(one, study)),
            *(_lead(one) for one in good if len(one.candidates) > 1),
            *(selection_bias.best_epoch(_runs(study, ours)) if ours else []),
        ]
        tables, footnotes = [], []
        name = words.file_name(f"choices-{found.study}")
        what = f"What the stages of {found.study} chose"
        if ours:
            frame = pd.DataFrame([_row(one, study) for one in ours])
            tables.append(Table(name, f"{what}, % on validation", frame))
            footnotes.append(_FOOTNOTE)
        if others:
            frame = pd.DataFrame([_row_of_other(one, study) for one in others])
            tables.append(Table(f"{name}-others" if ours else name, what, frame))
            footnotes.append(_FOOTNOTE_OF_OTHERS)
        title = f"{found.study}, {found.scale} scale"
        parts.append(Part(title, said, tables, footnotes=footnotes))
    return Section("What was chosen", parts)


def _values_by_trial(study: Study) -> dict[str, dict[str, set[float]]]:
    """The values that a choice can be made by, of the trainer the validation accuracies of the best
    epoch and of the last, by sweep and trial."""
    found: dict[str, dict[str, set[float]]] = {}
    for plan in study.plans:
        names = ("val_accuracy", "val_accuracy_last") if plan.is_trainers else ("objective",)
        rows = zip(*(plan.runs[name] for name in names), strict=True)
        for trial, values in zip(plan.runs["trial"], rows, strict=True):
            found.setdefault(plan.sweep, {}).setdefault(trial, set()).update(values)
    return found


def _contradicts(
    path: Path,
    choice: Choice,
    values: Mapping[str, Mapping[str, set[float]]],
    problems: list[InputError],
    excluded: Collection[str],
) -> bool:
    """Whether the records say otherwise, which is added to the problems; those of the excluded
    trials were not read."""
    known = values[choice.stage]
    for one in choice.candidates:
        for trial, value in zip(one.trials, one.values, strict=False):
            if trial not in excluded and value not in known.get(trial, ()):
                shown = _figure(choice, value, " %")
                what = f"{path}: {choice.stage} was chosen with {trial} at {shown}"
                problems.append(
                    InputError(
                        f"{what}, which its records do not say",
                        "run the study's command again: it chooses from the records",
                        exit_code=EXIT_IO,
                    )
                )
                return True
    return False


def _figure(choice: Choice, value: float, unit: str = "") -> str:
    return f"{percent(value)}{unit}" if choice.is_trainers else f"{value:.6g}"


def _runs(study: Study, good: list[Choice]) -> pd.DataFrame:
    """Of all candidates of the choices."""
    runs = study.trials
    stages = {one.stage for one in good}
    return runs[runs["sweep"].isin(stages)].drop_duplicates("fingerprint")


def _row(choice: Choice, study: Study) -> dict[str, Any]:
    fresh = selection_bias.of_choice(study, choice)
    of = choice.standard_error_of.removeprefix("validation ")
    near = sum(one.within_one_standard_error for one in choice.candidates)
    return {
        "stage": choice.stage,
        "points": len(choice.candidates),
        "chosen": _values(choice.chosen),
        "reported": _values(choice.reported),
        "validation": choice.mean,
        "fresh seeds": "-" if fresh is None else f"{percent(fresh.mean)} ({len(fresh.seeds)})",
        "best": percent(choice.best_mean),
        "standard error": f"{percent(choice.standard_error)} ({of})",
        "within it": near,
    }


def _row_of_other(choice: Choice, study: Study) -> dict[str, Any]:
    fresh = selection_bias.of_choice(study, choice)
    error = choice.standard_error
    return {
        "stage": choice.stage,
        "points": len(choice.candidates),
        "chosen": _values(choice.chosen),
        "assumed before": _values(choice.reported),
        "by": f"{'highest' if choice.sign == 1 else 'lowest'} {choice.metric}",
        "mean value": _figure(choice, choice.mean),
        "fresh seeds": "-" if fresh is None else f"{fresh.mean:.6g} ({len(fresh.seeds)})",
        "standard error": "-" if error is None else _figure(choice, error),
    }


def _values(point: Mapping[str, Any]) -> str:
    """`batch_size 128, epochs 100`; of `model.name` the `model`."""
    short = {key.removesuffix(".name").rpartition(".")[2]: value for key, value in point.items()}
    return ", ".join(f"{word} {value_words(value)}" for word, value in short.items())


def _lead(choice: Choice) -> str:
    """How far the best is ahead of the next, and whether training again may turn it round."""
    found = selection_bias.lead(choice)
    assert found is not None
    ahead = f"{percent(found.mean)} points" if choice.is_trainers else f"{found.mean:.4g}"
    said = (
        f"{choice.stage}: {_values(choice.best)} is {ahead} ahead of the "
        f"next, {_values(found.following.point)}"
    )
    if found.told_apart is None:
        seeds = count(len(found.following.values), "seed")
        return f"{said}: with {seeds} a point it is not known whether training again explains that."
    if found.told_apart:
        return f"{said}: more than seeds explain."
    return f"{said}, within the noise of training again: seeds do not tell them apart."


def _left_out(choice: Choice) -> str:
    trials = count(len(choice.left_out), "trial")
    first = choice.left_out[0]
    return f"{choice.stage}: {trials} left out, such as {first.trial}, {first.why}."


def _excluded(study: Study, sweep: str) -> set[str]:
    """The excluded trials of a sweep."""
    frames = [plan.runs for plan in study.plans if plan.sweep == sweep]
    return {name for runs in frames for name in runs["trial"][runs["state"] == EXCLUDED]}


def _of_excluded(choice: Choice, study: Study) -> list[str]:
    excluded = _excluded(study, choice.stage)
    trials = [trial for one in choice.candidates for trial in one.trials if trial in excluded]
    return [
        f"{choice.stage}: {trial} is excluded from this report, and the study chose with it."
        for trial in trials
    ]
