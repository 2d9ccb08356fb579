"""Whether a launch is evidence about the reported study: of its images, under its settings."""

from __future__ import annotations

import pandas as pd

from analysis.cifar10.reported import recipe
from analysis.data.study import Plan
from trainer.data.known import CIFAR10


def is_studys(runs: pd.DataFrame) -> bool:
    """Whether the images are those of the reported study. Where no run has a result, there is
    nothing but the configuration to go by."""
    known = set(runs["data"]) - {""}
    return known == {CIFAR10.sha256} if known else set(runs["data.name"]) == {CIFAR10.name}


def stands_beside(plan: Plan) -> bool:
    """Whether reported figures stand beside those of the launch: it is of the same images, at full
    scale. At another size a difference would say nothing of either."""
    return plan.scale == "full" and is_studys(plan.runs)


def _unlike_reported(plan: Plan) -> list[str]:
    """Fields, not varied by the sweep, in which a trial differs from the reported recipe."""
    free = {"seed", "schema_version", "data.root", *plan.axes}
    found: dict[str, None] = {}
    for _, run in plan.runs.iterrows():
        known = recipe(str(run["model.name"]))
        if not known and "model.name" not in free:
            found["model.name"] = None
        for key, value in known.items():
            same = pd.isna(run[key]) if value is None else run[key] == value
            if key not in free and not same:
                found[key] = None
    return list(found)


def why_no_evidence(plan: Plan, model: str | None = None) -> list[str]:
    """In what the launch is not the reported study: nothing where its figures compare with it.

    `model` is the one that was reported; None where the launch has several, each beside its own.
    """
    runs = plan.runs
    reasons = [f"{plan.scale} scale"] * (plan.scale != "full")
    reasons += ["another data set"] * (not is_studys(runs))
    reasons += [f"a model other than {model}"] * (
        model is not None and set(runs["model.name"]) != {model}
    )
    # Where the data lies changes nothing of what is trained.
    reasons += ["overrides"] * bool(plan.overrides.keys() - {"data.root"})
    if not reasons and (others := _unlike_reported(plan)):
        reasons.append("other settings than reported: " + ", ".join(others))
    return reasons
