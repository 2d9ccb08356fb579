"""Final: which launch's runs stand beside the reported final model."""

from __future__ import annotations

from dataclasses import replace

from analysis.cifar10.comparable import is_studys, why_no_evidence
from analysis.cifar10.reported import reported
from analysis.data.study import POINT, Plan, Study
from analysis.sections.routing import Kind, kind

_AXIS = "model.name"
# The sweep of that model whatever a study chose.
_OWN_SWEEP = "wrn_final"


def is_of_the_model(plan: Plan) -> bool:
    """Whether the launch is of the reported final model alone, on the study's images."""
    model = reported()["wrn_final"]["model"]
    return (
        kind(plan) is Kind.SINGLE
        and set(plan.runs["model.name"]) == {model}
        and is_studys(plan.runs)
    )


def final(study: Study) -> Plan | None:
    """The launch of the reported final model: one whose figures compare with the reported ones
    before others, the sweep of that model before one that chose it, and both before its runs among
    the architectures; of equals the newest. None where no run of the model has a result.
    """
    model = str(reported()["wrn_final"]["model"])
    found = [plan for plan in study.plans if is_of_the_model(plan)]
    found += [
        _of_model(plan, model)
        for plan in study.plans
        if kind(plan) is Kind.ARCHITECTURES and model in set(plan.runs["model.name"])
    ]
    done = [plan for plan in found if is_of_the_model(plan) and _has_results(plan)]
    return max(done, key=lambda plan: _rank(plan, model, study), default=None)


def _rank(plan: Plan, model: str, study: Study) -> tuple[bool, bool, bool, str]:
    compares = not why_no_evidence(plan, model)
    is_launched = any(plan is other for other in study.plans)
    return compares, plan.sweep == _OWN_SWEEP, is_launched, plan.created


def _has_results(plan: Plan) -> bool:
    return bool(plan.runs["test_accuracy"].notna().any())


def _of_model(plan: Plan, model: str) -> Plan:
    """The model's runs of a launch of architectures, as a launch of their own."""
    runs = plan.runs[plan.runs["model.name"] == model].drop(columns=POINT + _AXIS)
    runs = runs.reset_index(drop=True)
    epochs = plan.epochs[plan.epochs["trial"].isin(runs["trial"])].reset_index(drop=True)
    return replace(plan, id=f"{plan.id}, {model}", axes=[], runs=runs, epochs=epochs)
