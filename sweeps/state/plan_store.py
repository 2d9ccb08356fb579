"""The plans of a sweep: written before anything runs, read as they are stored, each read once."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from local_machine import json_files
from local_machine.errors import EXIT_IO, InputError
from local_machine.files import read_file, write_atomic
from sweeps.spec.sweep import Trial
from sweeps.spec.task_loader import check_one_of_a_name
from sweeps.state.plan import PLANS, Plan, trial_to_json
from trial_records import plan as plan_files
from trial_records.names import is_name
from trial_records.plan import PlannedTask


class PlanStore:
    """The plans in one sweep's folder under a results folder."""

    def __init__(self, results: Path, sweep: str) -> None:
        self.sweep = sweep
        self.folder = results / sweep
        self._plans: dict[Path, tuple[tuple[int, ...], Plan]] = {}

    def write_plan(self, plan: Plan) -> None:
        """Record what a launch is about to run. The same trials again leave the file as it is, but
        for another objective and other options of a command, which count from now on. Of a command
        line that is the definition, the definition file is written first.

        Raises InputError where the folder cannot be written, or holds a damaged plan of that id.
        """
        path = self._path(plan.id)
        is_there = self.has_plan(plan.id)
        self.keep_definition(plan)
        if is_there:
            stored = self.plan(plan.id)
            task = stored.task.as_told_by(plan.task)
            if task == stored.task:
                return
            plan = replace(stored, task=task)
        try:
            self.rewrite_plan(
                plan, (json.dumps(trial_to_json(trial), allow_nan=False) for trial in plan.trials)
            )
        except OSError as error:
            raise _not_written(path, error) from None

    def keep_definition(self, plan: Plan) -> None:
        """Write the definition file of a command line; another one that is there is kept beside it.

        Raises InputError where it cannot be written.
        """
        if plan.definition is None:
            return
        path, content = self.folder / f"{self.sweep}.py", plan.definition.encode()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            before = read_file(path) if os.path.lexists(path) else content
            if before != content:
                names = (path.with_name(f"{path.name}.before{n or ''}") for n in itertools.count())
                aside = next(name for name in names if not os.path.lexists(name))
                write_atomic(aside, lambda file: file.write(before))
                print(f"{path} is new; as it was before: {aside}", file=sys.stderr, flush=True)
            if before != content or not os.path.lexists(path):
                write_atomic(path, lambda file: file.write(content))
        except OSError as error:
            raise _not_written(path, error) from None

    def has_plan(self, identity: str) -> bool:
        """Whether there is a plan of that id. Raises InputError where it is damaged: its workers
        could not read it."""
        return os.path.lexists(self._path(identity)) and bool(self.plan(identity))

    def check_task(self, task: PlannedTask) -> None:
        """Raise InputError where the sweep has trials of another task of that name: nobody could
        tell which trained what; and where it has runs that were adopted."""
        self.refuse_adopted()
        check_one_of_a_name(task, [plan.task for plan in self.readable_plans()[0]])

    def refuse_adopted(self) -> None:
        """Raise InputError where the sweep has runs that were made elsewhere: nothing is trained
        beside them."""
        if any(plan.task.is_adopted for plan in self.readable_plans()[0]):
            raise InputError(
                f"{self.sweep} has runs that were made elsewhere and adopted, so nothing can be "
                "launched there",
                f"compare them: python -m analysis.report {self.sweep}; to launch a sweep, give "
                "its definition another name, or other results: --results DIR",
            )

    def rewrite_plan(self, plan: Plan, trials: Iterable[str]) -> None:
        """Rewrite a search's plan: it has more trials now, each given as `trial_to_json` has it,
        in JSON. To encode a thousand again for each one that is added would take longer than all
        else.

        Raises OSError as writing does.
        """
        path = self._path(plan.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        head = json.dumps(plan.head(), allow_nan=False).removesuffix("}")
        content = json_files.sealed(f'{head}, "trials": [{", ".join(trials)}]}}')
        write_atomic(path, lambda file: file.write(content))

    def _path(self, identity: str) -> Path:
        return self.folder / PLANS / f"{identity}.json"

    def plans(self) -> list[Plan]:
        """Every plan, oldest first. Raises InputError for a damaged one."""
        found, problems = self.readable_plans()
        for problem in problems:
            raise problem
        return found

    def readable_plans(self) -> tuple[list[Plan], list[InputError]]:
        """Every plan that can be read, oldest first, and what is wrong with the others."""
        found, problems = [], []
        try:
            paths = plan_files.paths(self.folder)
        except InputError as problem:
            return [], [problem]
        for path in paths:
            try:
                found.append(self._read_plan(path))
            except FileNotFoundError:
                continue  # moved away meanwhile
            except InputError as problem:
                problems.append(problem)
        return sorted(found, key=lambda plan: (plan.created, plan.id)), problems

    def plan(self, identity: str) -> Plan:
        """Raises InputError where there is none or it is damaged."""
        path = self._path(identity)
        try:
            return self._read_plan(path)
        except FileNotFoundError:
            raise InputError(
                f"no plan {path}", f"launch the sweep: python -m sweeps.launch {self.sweep}"
            ) from None

    def _read_plan(self, path: Path) -> Plan:
        """Raises InputError where it is damaged, FileNotFoundError where there is none. A plan that
        did not change is read once."""
        try:
            now = path.stat()
        except OSError:
            return self._parsed(path)  # says what is wrong
        stamp = now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns
        if path not in self._plans or self._plans[path][0] != stamp:
            self._plans[path] = stamp, self._parsed(path)
        return self._plans[path][1]

    def _parsed(self, path: Path) -> Plan:
        values = plan_files.read(path)
        for trial in values.trials:
            if not is_name(trial.name):
                raise plan_files.damaged(path, f"{trial.name!r} is not the name of a trial")
        return Plan(
            self.sweep,
            [
                Trial(one.name, one.point, one.config, one.fingerprint, values.task)
                for one in values.trials
            ],
            values.scale,
            values.overrides,
            values.axes,
            values.command,
            values.created,
            values.search,
            values.id if values.search is not None else "",
            values.task,
        )


def _not_written(path: Path, error: OSError) -> InputError:
    return InputError(
        f"cannot write {path}: {error.strerror}",
        "free some space there, or choose a folder that you may write with --results DIR",
        exit_code=EXIT_IO,
    )
