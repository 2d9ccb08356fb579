"""The outlook: how long a launch at full scale takes without a GPU, said before it starts."""

from __future__ import annotations

import sys
from collections.abc import Callable

from local_machine.devices import visible_gpus
from local_machine.errors import InputError
from sweeps.cost.estimate import CostEstimate, estimate_cost
from sweeps.execution import preparation
from sweeps.execution.request import LaunchRequest
from sweeps.spec.task_loader import load
from sweeps.state.plan import Plan
from sweeps.state.progress import Progress, look
from sweeps.state.trial_store import TrialStore

SECONDS = 1200.0
"""A launch that takes less, at the least, needs no outlook."""
SMALLER = ("smoke", "cpu")


def tell(
    store: TrialStore,
    plan: Plan,
    progress: list[Progress],
    request: LaunchRequest,
    at_scale: Callable[[str], Plan],
) -> None:
    """Say on stderr how long the trials take here, and how long at each smaller scale; nothing
    where that is short or nobody knows. `at_scale` makes the plan of another scale. Raises
    InputError for what a task refuses."""
    if request.on_slurm or plan.scale != "full" or visible_gpus():
        return
    model = load(plan.task).cost
    open_ones = [one for one in progress if not one.state.is_over and one.trial.problem is None]
    at_once = request.at_once or 1
    least = 0.0 if model is None else sum(model.at_least(one.trial.config) for one in open_ones)
    if least / at_once < SECONDS:
        return
    # What the task refuses is said before anything is measured.
    preparation.check([one.trial for one in open_ones], request.ranks)
    print(f"{store.sweep}: estimating how long that takes here ...", file=sys.stderr, flush=True)
    cost = _cost(store, progress, request)
    if cost.total is None:
        return
    smaller = []
    for scale in SMALLER:
        try:
            other = _cost(store, look(store, at_scale(scale).trials, {}), request)
        except InputError:  # the task has no such scale
            continue
        if other.total is not None:
            smaller.append(f"--scale {scale} takes {in_words(other.total / at_once)}")
    print(
        f"{store.sweep}: at full scale this takes {in_words(cost.total / at_once)} on this machine "
        f"without a GPU ({cost.device}), at the least"
        + (f"; {', '.join(smaller)}" if smaller else "")
        + ". Ctrl-C ends it, and the same command goes on",
        file=sys.stderr,
        flush=True,
    )


def _cost(store: TrialStore, progress: list[Progress], request: LaunchRequest) -> CostEstimate:
    return estimate_cost(
        store.folder.parent, progress, request.backend, request.at_once, request.ranks, measure=True
    )


def in_words(hours: float) -> str:
    """Such as "about 3 days"."""
    for limit, unit, of in ((48.0, "days", 24.0), (2.0, "hours", 1.0)):
        if hours >= limit:
            return f"about {hours / of:.0f} {unit}"
    minutes = max(1, round(60 * hours))
    return f"about {minutes} minute{'s' * (minutes != 1)}"
