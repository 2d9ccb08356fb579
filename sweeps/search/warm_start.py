"""Warm start: what other sweeps have finished is told to a search that begins, with its values.

Only a trial that the search itself could have asked for is taken: of the same configuration but for
the fields of the space, which lie inside of it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from local_machine.errors import InputError
from sweeps.search.optuna_journal import FROM, GIVEN, POINT, TRIAL
from sweeps.search.outcome import outcome
from sweeps.spec.expand import trial_at
from sweeps.spec.loader import shown
from sweeps.spec.sweep import Trial
from sweeps.state.trial_store import State, TrialStore
from trial_records.config import flat_of

if TYPE_CHECKING:
    from sweeps.search.runner import Asked

# Of trials that are left out for one reason, and of fields that differ, so many are named.
_NAMED = 3


@dataclass(frozen=True)
class WarmStart:
    """The finished trials of some sweeps, as a search sees them."""

    taken: Sequence[FrozenTrial]
    """With their values, not yet in any study."""
    left_out: Mapping[str, Sequence[str]]
    """By reason, the names of the others."""

    @classmethod
    def of(cls, asked: Asked, sweeps: Iterable[str], results: Path) -> WarmStart:
        """From these sweeps, each a folder or a name in the results folder. Raises InputError where
        there is none, or its plans cannot be read."""
        taken: dict[str, FrozenTrial] = {}
        left_out: dict[str, list[str]] = {}
        for folder in (_folder(one, results) for one in sweeps):
            store = TrialStore(folder.parent, folder.name)
            trials = {one.fingerprint: one for plan in store.plans() for one in plan.trials}
            for standing in store.standings(trials.values()):
                trial = standing.trial
                if trial.fingerprint in taken:
                    continue
                try:
                    if standing.state is not State.DONE:
                        raise InputError("not finished", "")
                    taken[trial.fingerprint] = _taken(asked, store, trial)
                except InputError as error:
                    reason = error.what.removeprefix(f"{trial.name}: ")
                    left_out.setdefault(reason, []).append(f"{folder.name}/{trial.name}")
        return cls(list(taken.values()), left_out)

    def say(self, added: int | None = None) -> None:
        """On stderr, what is taken and what is not; `added`: how many the search did not know."""
        news = "" if added is None else f", {added} of them new to the search"
        lines = [f"--from: {len(self.taken)} finished trials are inside the space{news}"]
        for reason, names in self.left_out.items():
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            lines.append(f"left out: {', '.join(names[:_NAMED])}{more}: {reason}")
        print("\n".join(lines), file=sys.stderr, flush=True)


def _folder(given: str, results: Path) -> Path:
    for folder in (Path(given), results / given):
        if (folder / "plans").is_dir():
            return folder.resolve()
    raise InputError(
        f"--from {given}: there is no sweep's folder of that name, here or in {results}",
        f"give the folder of one that was launched: --from {results}/NAME",
    )


def _taken(asked: Asked, store: TrialStore, trial: Trial) -> FrozenTrial:
    """A finished trial as the study has it. Raises InputError that says why it has no part."""
    search = asked.search
    if trial.task.name != asked.ends[0].task.name:
        raise InputError(f"it is of the task {trial.task.name}", "")
    there = flat_of(trial.values)
    # As the definition had them, before any scaling.
    one = search.searched.at({**there, **trial.point})
    if not search.allows(one.point):
        raise InputError("its point does not satisfy where", "")
    ours = trial_at(search, one.point, asked.scale, asked.overrides)
    if ours.fingerprint != trial.fingerprint:
        raise InputError(_difference(flat_of(ours.values), there), "")
    value, images = outcome(search, store.folder_of(trial), trial.fingerprint)
    known = FixedTrial(one.params)
    search.searched.suggest(known)
    attributes: dict[str, Any] = {
        TRIAL: trial.name, FROM: f"{store.sweep}/{trial.name}", GIVEN: True,
    }  # fmt: skip
    if one.point != one.params:
        attributes[POINT] = one.point
    if images is not None:
        attributes["val_images"] = images
    return optuna.trial.create_trial(
        state=TrialState.COMPLETE,
        value=value,
        params=one.params,
        distributions=known.distributions,
        user_attrs=attributes,
    )


def _difference(here: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    differ = [
        f"{key} is {shown(there.get(key))} there, {shown(here.get(key))} here"
        for key in {**here, **there}
        if here.get(key) != there.get(key)
    ]
    return ", ".join(differ[:_NAMED]) or "its configuration is another one"
