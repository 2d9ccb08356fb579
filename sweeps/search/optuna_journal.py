"""The journal: an Optuna study in a file, owned by one driver at a time.

It is Optuna's own JournalStorage and opens in optuna-dashboard as it is. A driver that was killed
may leave half a last line, or Optuna's lock; its successor, who holds the lease, repairs both.
"""

from __future__ import annotations

import json
import os
import random
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from local_machine.errors import EXIT_IO, InputError, move_away
from local_machine.files import read_file
from sweeps.search_space.allowed import drawn
from sweeps.spec.sweep import Search

JOURNAL = "journal.log"
DEFINITION = "definition"
# Of a trial: why it failed or diverged.
CAUSE = "cause"
# Numbers of trials that failed and were asked for again.
RETRIED = "retried"
# Of a trial: the name of the store's that it is.
TRIAL = "trial"
# Of a trial that another sweep has trained: which one of it; and whether it was given by --from, or
# asked for later.
FROM, GIVEN = "from", "given"
# Of a trial: its point, where that is not what Optuna calls its params.
POINT = "point"
# The constraint of Optuna's that a refused point breaks.
WHERE = "where"
# Refused points of the sampler in a row, after which one is drawn at random.
REFUSALS = 20

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class Journal:
    """The study of one search. The caller holds the lease on the folder."""

    def __init__(
        self,
        folder: Path,
        search: Search,
        definition: Mapping[str, Any],
        epochs: int,
        given: Sequence[FrozenTrial] = (),
    ) -> None:
        """Open the study, or make it. `epochs` is how long a trial that is not pruned runs, in
        units of its task's budget.

        `definition` is what a journal must agree with: base configuration, space and objective.
        `given` are finished trials, which it is told of once.
        Raises InputError where the journal is damaged or of another definition, OSError where the
        folder cannot be written.
        """
        self.search = search
        self.path = (folder / JOURNAL).resolve()
        self.repaired = _repair(self.path)
        # Ours alone is the right to write, so a lock is a dead driver's.
        lock = self.path.with_name(f"{JOURNAL}.lock")
        if lock.is_symlink():
            lock.unlink()
        try:
            self.study = _open(self.path, search.goal.direction)
            self.study.pruner = _pruner(search.pruner, epochs)
            self._agree(folder, definition)
            self.added = self._add(given)
            self._enqueue()
        except (OSError, InputError):
            raise
        # Whole lines that are not a record of Optuna's make it raise whatever it runs into.
        except Exception as error:
            raise InputError(
                f"{self.path} is damaged: {type(error).__name__}: {error}",
                f"start a new one beside what it found: {move_away(folder)}",
                exit_code=EXIT_IO,
            ) from None

    def _add(self, given: Sequence[FrozenTrial]) -> int:
        """Tell the study of those that it does not know; how many they are."""
        trials = self.study.get_trials(deepcopy=False)
        known = _words_of(trials)
        new = [one for one in given if _word(one.params) not in known]
        self.study.add_trials(new)
        return len(new)

    def _enqueue(self) -> None:
        """Queue the points that come first, and those that failed before, each once."""
        trials = [one for one in self.study.get_trials(deepcopy=False) if not is_refused(one)]
        known = _words_of(trials)
        for first in self.search.first:
            if _word(first.params) not in known:
                self.study.enqueue_trial(first.params)
        # Whoever starts again has fixed what failed, as with a launch.
        failed = [one for one in trials if one.state is TrialState.FAIL]
        retried = self.study.user_attrs.get(RETRIED, [])
        for one in failed:
            if one.number not in retried:
                retried = [*retried, one.number]
                self.study.set_user_attr(RETRIED, retried)
                self.study.enqueue_trial(one.params)

    def _agree(self, folder: Path, definition: Mapping[str, Any]) -> None:
        known = self.study.user_attrs.get(DEFINITION)
        if known is None:
            self.study.set_user_attr(DEFINITION, dict(definition))
            return
        differences = [
            f"{key} is {definition.get(key)} now, {known.get(key)} there"
            for key in {**known, **definition}
            if known.get(key) != definition.get(key)
        ]
        if differences:
            raise InputError(
                f"{self.path} is of another search: {'; '.join(differences)}",
                "go back to that definition, or start over beside it (what is asked again is not "
                f"trained again, and --from {folder.parent.parent} tells it of what fits): "
                f"{move_away(folder, 'before')}",
            )

    def ask(self) -> Trial:
        """The next trial, its values chosen and allowed. One that was begun and not finished comes
        first. Raises InputError where no point that is allowed is found."""
        refused = 0
        while True:
            count = self._count
            if refused >= REFUSALS:
                source = random.Random(_seed(self.search, count))
                found = drawn(self.search.searched, self.search.allows, source)
                self.study.enqueue_trial(found.params)
            # A new generator for each trial: a driver that starts again goes on as if it had not
            # been away, where one generator would repeat its first numbers.
            self.study.sampler = _sampler(self.search, count)
            trial = self.study.ask()
            if self._is_allowed(trial):
                return trial
            refused += 1

    def running(self) -> list[Trial]:
        """The trials that were asked and not told, in order, each with all of its values."""
        found = self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
        trials = []
        for frozen in found:
            self.study.sampler = _sampler(self.search, frozen.number)
            # A driver that was killed while it asked may have left some values unchosen.
            trial = Trial(self.study, frozen._trial_id)
            if self._is_allowed(trial):
                trials.append(trial)
        return trials

    def _is_allowed(self, trial: Trial) -> bool:
        """Have the trial's values chosen; a point that `where` refuses is told as one that breaks a
        constraint, from which TPE learns."""
        point = self.search.searched.suggest(trial)
        known = self.frozen(trial)
        if known.user_attrs.keys() & {POINT, TRIAL}:  # what was asked stays what it was
            return True
        if not self.search.allows(point):
            if WHERE not in known.constraints:  # by a driver that was killed then
                trial.set_constraint(WHERE, 1.0)
            self.study.tell(trial.number, state=TrialState.PRUNED)
            return False
        if point != known.params:
            trial.set_user_attr(POINT, point)
        return True

    def point_of(self, trial: Trial | FrozenTrial) -> dict[str, Any]:
        """The values of the fields that a trial is of."""
        frozen = trial if isinstance(trial, FrozenTrial) else self.frozen(trial)
        return dict(frozen.user_attrs.get(POINT, frozen.params))

    @property
    def _count(self) -> int:
        return sum(
            one.state is not TrialState.WAITING for one in self.study.get_trials(deepcopy=False)
        )

    @property
    def refused(self) -> int:
        """How many points `where` has refused."""
        return sum(map(is_refused, self.study.get_trials(deepcopy=False)))

    @property
    def asked(self) -> int:
        """How many were asked, less those that failed and are asked again. What it was given is
        not asked.

        With sampler grid, how many of its points: another sampler's trials may be among them.
        """
        if self.search.sampler == "grid":
            trials = self.study.get_trials(deepcopy=False)
            retried = self.study.user_attrs.get(RETRIED, [])
            asked = {
                _word(one.params)
                for one in trials
                if one.state is not TrialState.WAITING and one.number not in retried
            }
            return len(asked & {_word(one.params) for one in self.search.first})
        less = self.refused + self.given + len(self.study.user_attrs.get(RETRIED, []))
        return self._count - less

    @property
    def given(self) -> int:
        """How many it was told of by --from."""
        return sum(GIVEN in one.user_attrs for one in self.study.get_trials(deepcopy=False))

    def told(self) -> list[FrozenTrial]:
        """The finished trials, in the order of asking; no refused points."""
        over = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        found = self.study.get_trials(deepcopy=False, states=over)
        return [one for one in found if not is_refused(one)]

    def complete(self) -> list[FrozenTrial]:
        """Those that trained to a value and that today's `where` allows, the best first. A
        divergence is told as the worst, and has none."""
        sign = -1 if self.search.goal.direction == "maximize" else 1
        found = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        trained = [
            trial
            for trial in found
            if not cause_of(trial) and self.search.allows(self.point_of(trial))
        ]
        return sorted(trained, key=lambda trial: (sign * (trial.value or 0.0), trial.number))

    def frozen(self, trial: Trial) -> FrozenTrial:
        """What the study has of a trial, without a copy: copies of a thousand take seconds."""
        return self.study.get_trials(deepcopy=False)[trial.number]


def cause_of(trial: FrozenTrial) -> str:
    """Why the trial failed or diverged; "" where it did neither."""
    return str(trial.user_attrs.get(CAUSE, ""))


def is_refused(trial: FrozenTrial) -> bool:
    """Whether its point was refused, so that nothing is trained at it."""
    return trial.state is TrialState.PRUNED and trial.constraints.get(WHERE, 0.0) > 0


def load(path: Path) -> optuna.Study:
    """The study of a journal, under whatever name: earlier versions called each one "search".
    Raises LookupError where there is none, and what Optuna raises for a damaged one."""
    storage = JournalStorage(JournalFileBackend(str(path)))
    return optuna.load_study(storage=storage, study_name=optuna.get_all_study_names(storage)[0])


def _open(path: Path, direction: Literal["maximize", "minimize"]) -> optuna.Study:
    if path.exists() and path.stat().st_size:
        return load(path)
    storage = JournalStorage(JournalFileBackend(str(path)))
    # results/SWEEP/searches/ID: optuna-dashboard shows several journals by these names.
    name = f"{path.parents[2].name}-{path.parent.name}"
    return optuna.create_study(storage=storage, study_name=name, direction=direction)


def grid_size(search: Search) -> int | None:
    """How many points sampler grid has, those to start with included; None for another sampler."""
    if search.sampler != "grid":
        return None
    return len({_word(one.params) for one in search.first})


def _words_of(trials: Sequence[FrozenTrial]) -> set[str]:
    """What they were asked at: as it was queued, and as Optuna has it."""
    queued = (one.system_attrs.get("fixed_params", one.params) for one in trials)
    return {_word(point) for point in (*queued, *(one.params for one in trials))}


def _word(point: Mapping[str, Any]) -> str:
    return json.dumps(point, sort_keys=True)


def _sampler(search: Search, number: int) -> optuna.samplers.BaseSampler:
    seed = _seed(search, number)
    if search.sampler == "tpe":
        # Parallel trials repel each other; several parameters are modelled together, those that go
        # together where not all do.
        space = search.searched
        several = len(space.fields) > 1 or not space.is_flat
        return optuna.samplers.TPESampler(
            seed=seed, multivariate=several, group=not space.is_flat, constant_liar=True
        )
    if search.sampler == "cmaes":
        return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
    if search.sampler == "gp":
        return optuna.samplers.GPSampler(seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)


def _seed(search: Search, number: int) -> int:
    # Numbers far apart, so that seeds 0 and 1 share no trial's generator.
    return (search.seed * 1_000_003 + number) % 2**32


def _pruner(name: str, epochs: int) -> optuna.pruners.BasePruner:
    """Resources are epochs trained, or what else the task counts; no trial is judged before a fifth
    of them, at least two."""
    first = max(2, epochs // 5)
    if name == "successive_halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=3)
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(
            min_resource=first, max_resource=max(first, epochs), reduction_factor=3
        )
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=first)
    return optuna.pruners.NopPruner()


def _repair(path: Path) -> str | None:
    """Cut a half-written last line off, kept beside the journal; what was done, in words.

    Raises InputError where another line is damaged.
    """
    try:
        content = read_file(path)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return None
    lines = content.splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            whole = line.endswith(b"\n") and isinstance(json.loads(line), dict)
        except (ValueError, RecursionError):
            whole = False
        if whole:
            continue
        if number < len(lines):
            raise InputError(
                f"{path} is damaged in line {number} of {len(lines)}",
                f"start a new one beside it: {move_away(path.parent)}",
                exit_code=EXIT_IO,
            )
        aside = path.with_name(f"{path.name}.cut")
        with aside.open("ab") as file:
            file.write(line.rstrip(b"\n") + b"\n")
        os.truncate(path, len(content) - len(line))
        return f"{path}: half a last line was cut off and kept in {aside.name}"
    return None
