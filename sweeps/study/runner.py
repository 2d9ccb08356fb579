"""The runner of a study: each stage run to its end, and its choice made and written down.

Everything is derived again from what lies in the results: trials that are done are not run again,
and a choice is made from their records. So a study that was killed goes on where it was, and one
whose definition changed runs what the change makes new.
"""

from __future__ import annotations

import functools
import hashlib
import json
import shlex
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from local_machine import processes
from local_machine.errors import (
    EXIT_DONE,
    EXIT_FLAGGED,
    EXIT_INTERRUPTED,
    EXIT_IO,
    InputError,
    move_away,
)
from local_machine.json_files import read_json, write_sealed_json
from local_machine.secrets import masked_values
from slurm import environment
from slurm.environment import Child
from sweeps.cli.options import ScaleName, parse_settings, plan_of, typed_after
from sweeps.cost.estimate import CostEstimate, estimate_cost
from sweeps.execution import preparation
from sweeps.execution.request import LaunchRequest
from sweeps.launching import dispatch
from sweeps.search.runner import Asked, through
from sweeps.spec.grid import Point
from sweeps.spec.scale import Scale
from sweeps.spec.sweep import Sweep, Trial
from sweeps.state.liveness import Liveness
from sweeps.state.plan import Plan
from sweeps.state.progress import Progress, look
from sweeps.state.trial_store import Standing, State, TrialStore
from sweeps.study.selection import (
    MIN_SEEDS,
    RULE,
    LeftOut,
    Measure,
    Selection,
    candidates,
    choose,
)  # fmt: skip
from sweeps.study.stages import SoFar, Stage, Study

SCHEMA_VERSION = 1
CHOICES = "choices.json"
REPORT = "report"
# How often a stage is sent again for trials that were lost while others ran.
PASSES = 3


@dataclass(frozen=True)
class Run:
    """A stage as it is run: the trials of a sweep, or what a search is asked for."""

    stage: Stage
    store: TrialStore
    request: LaunchRequest
    asked: Plan | Asked

    @property
    def trials(self) -> Sequence[Trial]:
        """Of a search, at the ends of its ranges."""
        return self.asked.trials if isinstance(self.asked, Plan) else self.asked.ends

    @property
    def identity(self) -> str:
        """16 hex digits of what the stage's choice follows from: its trials' content, or the
        search's definition and number of trials."""
        if isinstance(self.asked, Plan):
            content: Any = sorted(trial.fingerprint for trial in self.asked.trials)
        else:
            content = [self.asked.identity, self.asked.trials]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def progress(self) -> list[Progress]:
        """Of every trial that the stage has, so far: a search's are asked for one by one."""
        if isinstance(self.asked, Plan):
            return look(self.store, self.asked.trials, {})
        plans = [plan for plan in self.store.plans() if plan.id == self.asked.identity]
        return look(self.store, plans[0].trials if plans else [], {})

    def to_price(self) -> list[Progress]:
        """What it has, and those that its search has yet to ask for, each whole."""
        found = self.progress()
        if isinstance(self.asked, Plan):
            return found
        left = [Progress(Standing(self.asked.ends[0], State.PENDING))]
        open_ones = [one for one in found if not one.state.is_over]
        return open_ones + left * (self.asked.trials - len(found))

    @property
    def measure(self) -> Measure:
        """By what the stage's points are compared."""
        goal = self.asked.search.goal if isinstance(self.asked, Asked) else None
        return Measure.of(self.trials[0].task, goal)


@dataclass
class StudyRunner:
    """A study at a scale, with overrides, in a results folder."""

    name: str
    study: Study
    results: Path
    scale: ScaleName
    settings: list[str]
    seeds: int | None
    request: LaunchRequest
    """Of which each stage has its own resources."""
    job: dict[str, Any]
    """What `driver_lock.leave_job` says of the Slurm job that this runs in."""
    chosen: dict[str, Point] = field(default_factory=dict)
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of choices.json, by stage."""
    rules: dict[str, str] = field(default_factory=dict)
    """By which each stage has chosen, in words."""

    @functools.cached_property
    def liveness(self) -> Liveness:
        return Liveness.here(self.request.site.query_seconds)

    @property
    def folder(self) -> Path:
        return self.results / self.name

    @property
    def path(self) -> Path:
        return self.folder / CHOICES

    @property
    def command(self) -> str:
        return typed_after("python -m sweeps.study")

    def run_of(self, stage: Stage, chosen: Mapping[str, Point]) -> Run:
        """Raises InputError for a stage that cannot be made, or cannot take the settings."""
        made = stage.made(SoFar(Scale(str(self.scale)), chosen))
        store = TrialStore(self.results, stage.name, self.liveness)
        request = replace(self.request, resources=made.resources)
        try:
            overrides = parse_settings(self.settings)
            if isinstance(made, Sweep):
                asked: Plan | Asked = plan_of(
                    made, store, self.scale, overrides, self.seeds, self.command
                )
            else:
                asked = Asked.of(made, Scale(str(self.scale)), overrides).by_definition()
        except InputError as error:
            if error.exit_code == EXIT_IO:
                raise
            raise InputError(f"stage {stage.name}: {error.what}", error.help) from None
        return Run(stage, store, request, asked)

    def assumed(self) -> list[Run]:
        """Every stage, with what is chosen so far, and beyond it what is assumed.

        So a mistake anywhere in a study is told before its first trial. Raises InputError.
        """
        chosen = dict(self.chosen)
        runs = []
        for stage in self.study.stages:
            run = self.run_of(stage, chosen)
            self.check_data(run)
            runs.append(run)
            if stage.reported:
                chosen.setdefault(stage.name, stage.reported)
        return runs

    def check_data(self, run: Run) -> None:
        """Raises InputError where what a stage has yet to train could not be, by its data."""
        open_ones = [one.trial for one in run.to_price() if one.state is not State.DONE]
        if open_ones and isinstance(run.asked, Asked):
            open_ones += run.asked.ends
        try:
            preparation.check(open_ones, run.request.ranks)
        except InputError as error:
            raise InputError(
                f"stage {run.stage.name}: {error.what}", error.help, exit_code=error.exit_code
            ) from None

    def look_back(self) -> None:
        """Make the choices that the results allow already, for a look at what is left."""
        for stage in self.study.stages:
            if not stage.reported or stage.name in self.chosen:
                continue
            run = self.run_of(stage, self.chosen)
            progress = run.progress()
            wanted = run.asked.trials if isinstance(run.asked, Asked) else len(progress)
            if len(progress) < wanted or not all(one.state.is_over for one in progress):
                return
            try:
                self.choose(run, progress)
            except InputError:
                return

    def price(self, run: Run, shared: Collection[str] = ()) -> CostEstimate:
        """Of what it has yet to train; `shared` are fingerprints that another stage trains."""
        left = [one for one in run.to_price() if one.trial.fingerprint not in shared]
        one = run.request
        return estimate_cost(self.results, left, one.backend, one.at_once, one.ranks)

    def recall(self, first: int) -> None:
        """Take the choices before the stage of that number from choices.json.

        Raises InputError where it lacks one, is damaged, or speaks of other trials than these.
        """
        try:
            stages = read_json(self.path)["stages"]
            entries = {entry["stage"]: entry for entry in stages}
            for stage in self.study.stages[:first]:
                if not stage.reported:
                    continue
                entry = entries[stage.name]
                if entry["identity"] != self.run_of(stage, self.chosen).identity:
                    raise InputError(
                        f"{self.path}: {stage.name} was chosen from other trials than these",
                        f"choose again: --from {stage.name}, or leave --from out",
                    )
                self.chosen[stage.name] = {key: entry["chosen"][key] for key in stage.reported}
                self.entries[stage.name] = entry
                self.rules[stage.name] = self.run_of(stage, self.chosen).measure.rule
        except FileNotFoundError:
            raise InputError(
                f"--from {self.study.stages[first].name}: there is no {self.path}, which would say "
                "what the stages before it chose",
                "leave --from out: what is done is not run again",
            ) from None
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{self.path} does not say what the stages before chose: no {error}",
                f"leave --from out; if it is damaged, move it away: {move_away(self.path)}",
            ) from None

    def go(self, first: int, last: int, check: Callable[[], None] = lambda: None) -> int:
        """Run the stages of these numbers, both included; the command's exit code.

        Raises InputError where a stage cannot choose, as launch and search do, and as `check` does,
        which is called before each stage and each choice.
        """
        code = EXIT_DONE
        count = len(self.study.stages)
        for number in range(first, last + 1):
            check()
            stage = self.study.stages[number]
            run = self.run_of(stage, self.chosen)
            print(f"stage {number + 1} of {count}: {stage.name}", file=sys.stderr, flush=True)
            ended = self.train(run)
            if ended == EXIT_INTERRUPTED:
                return ended
            check()
            progress = run.progress()
            if stage.reported:
                line = self.choose(run, progress)
                self.write()
                print(f"{stage.name}: {line}", file=sys.stderr, flush=True)
            elif ended != EXIT_DONE:
                code = EXIT_FLAGGED
        return code

    def train(self, run: Run) -> int:
        """Run a stage to its end; what its own command would exit with."""
        if isinstance(run.asked, Asked):
            driver = through(run.asked, run.store, run.request, self.command, self.job)
            return EXIT_INTERRUPTED if driver is None else EXIT_DONE
        for _ in range(PASSES):
            code = dispatch.run(run.store, [run.asked], run.request, {})
            if code == EXIT_INTERRUPTED:
                return code
            # What an earlier driver sent goes on without it, and nobody else waits for it.
            waited = dispatch.wait(run.store, run.asked, run.request)
            states = {one.state for one in run.progress()}
            if not waited and states.isdisjoint({State.PENDING, State.LOST}):
                break
        return EXIT_DONE if states == {State.DONE} else EXIT_FLAGGED

    def choose(self, run: Run, progress: list[Progress]) -> str:
        """Choose from a stage's trials, and note it; in words, for a person.

        A point one of whose trials diverged is out, and is told. Raises InputError where a sweep's
        trial ended otherwise, which says nothing of its point: to choose from the rest would be no
        comparison; and where nothing is left.
        """
        name = run.stage.name
        found, left_out = candidates(run.store, (one.standing for one in progress), run.measure)
        what = "".join(f"; {one.trial}: {one.why}" for one in left_out[:3])
        more = f" and {len(left_out) - 3} more" if len(left_out) > 3 else ""
        if isinstance(run.asked, Plan) and not all(one.diverged for one in left_out):
            raise InputError(
                f"stage {name}: no choice with {len(left_out)} of {len(progress)} trials "
                f"without a result{what}{more}",
                f"{self._status(name)} says more; fix it, then the same command goes on",
                exit_code=EXIT_FLAGGED,
            )
        if not found:
            raise InputError(
                f"stage {name}: no point has a value of {run.measure.goal.metric} to choose by"
                f"{what}{more}",
                f"{self._status(name)} says more; correct the stage's definition",
                exit_code=EXIT_FLAGGED,
            )
        choice = choose(found, run.measure)
        chosen = {key: choice.chosen.point[key] for key in run.stage.reported}
        self.chosen[name] = chosen
        self.rules[name] = run.measure.rule
        kind = "sweep" if isinstance(run.asked, Plan) else "search"
        said = "" if kind == "search" else self._told(left_out)
        self.entries[name] = {
            "stage": name,
            "kind": kind,
            "identity": run.identity,
            "chosen": chosen,
            "reported": dict(run.stage.reported),
            **choice.to_json(left_out),
        }
        words = ", ".join(f"{key}={value}" for key, value in chosen.items())
        best = "the best of" if choice.chosen is choice.best else "the cheapest within one error of"
        return f"chose {words}, {best} {len(found)}: {_figures(choice)}{_noise(choice)}{said}"

    def _told(self, left_out: list[LeftOut]) -> str:
        return "".join(f"; out: {one.trial}, {one.why}" for one in left_out)

    def _status(self, stage: str) -> str:
        results = shlex.quote(str(self.results))
        return f"python -m sweeps.status {stage} --failures --results {results}"

    def write(self) -> None:
        """Raises OSError."""
        value = {
            "schema_version": SCHEMA_VERSION,
            "study": self.name,
            "scale": str(self.scale),
            "overrides": masked_values(parse_settings(self.settings)),
            "rule": "; ".join(dict.fromkeys(self.rules.values())) or RULE,
            "stages": list(self.entries.values()),
        }
        write_sealed_json(self.path, value)

    def report(self) -> int:
        """Write the report of the study's sweeps; its exit code. A process of its own: reports read
        what sweeps wrote, and nothing else binds the two."""
        names = [stage.name for stage in self.study.stages]
        folders = ["--results", str(self.results), "--out", str(self.folder / REPORT)]
        words = [sys.executable, "-m", "analysis.report", *names, *folders]
        return processes.run(words, check=False, env=environment.built(Child.WORKER)).returncode


def _figures(choice: Selection) -> str:
    """The mean of the chosen point and of the best, and how sure that is."""
    one, (error, of) = choice.measure, choice.best.standard_error
    best = one.words(choice.best.mean, "")
    if of:
        best += f" ± {one.words(error, '')} ({of})"
    return f"{one.what} {one.words(choice.chosen.mean)}, best {best}"


def _noise(choice: Selection) -> str:
    """What training again may change of the choice, in words."""
    other = choice.following
    if other is None or choice.told_apart:
        return ""
    point = ", ".join(f"{key}={value}" for key, value in other.point.items())
    next_best = f"the next, {point} with {choice.measure.words(other.mean)}"
    seeds = len(other.values)
    if choice.told_apart is None and seeds >= MIN_SEEDS:
        return f"; the seeds do not tell how sure it is before {next_best}"
    if choice.told_apart is None:
        return f"; {seeds} seed{'s' * (seeds != 1)} a point are too few to tell it from {next_best}"
    return f"; within the noise of training again: seeds do not tell it from {next_best}"
