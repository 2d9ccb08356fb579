"""A command line as a task: `Sweep(command="python train.py --lr {lr} --out {folder}", ...)`.

Its name is the command line with its placeholders, so another command is another task. A plan holds
all of it, and a worker imports nothing. The program goes on by itself from what it saved in its
folder, which is TRIAL/files in every attempt; what counts of its metrics is what one attempt at a
time has read.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_machine.code import snapshot
from local_machine.errors import InputError, nearest
from sweeps.command_task import command as commands
from sweeps.command_task.metrics import kinds
from sweeps.command_task.rank_environment import is_found
from sweeps.command_task.template import Template
from sweeps.task import Objective, Task, Values
from trial_records.fields.sections import leaves
from trial_records.plan import PlannedCommand, PlannedTask
from trial_records.schema import Schema
from trial_records.trial_files import Cause

if TYPE_CHECKING:
    from sweeps.run.handle import Run

BUDGETS = ("epochs", "max_epochs", "steps", "max_steps")
SEED = "seed"


class CommandTask(Task):
    def __init__(self, planned: PlannedTask) -> None:
        assert planned.command is not None
        self.command: PlannedCommand = planned.command
        self.template = Template(self.command.template, self.command.args, self.command.shell)
        self.name, self.reference = planned.name, planned.reference
        self.budget, self.seed = planned.budget, planned.seed
        self.objective = Objective(planned.metric or "", planned.direction, planned.reduction)
        self.stop_seconds = commands.stop_seconds(self.command)
        self.timings = self.command.timings
        self.__dict__["planned"] = planned

    @classmethod
    def of(
        cls,
        command: str | Sequence[str],
        base: Values,
        objective: object,
        options: commands.CommandOptions,
        what: str = "sweep",
    ) -> CommandTask:
        """The task of a command line and of the values of its placeholders; `what` it is for.
        Raises InputError for what cannot be run, read or compared."""
        if not isinstance(objective, Objective):
            raise InputError(
                f"a {what} of a command without an objective"
                if objective is None
                else f"the objective of a command is a {type(objective).__name__}",
                'say what is compared: objective=minimize("val_loss")',
            )
        if objective.reduction == "final":
            raise InputError(
                f"the objective is the final {objective.metric}, and a command returns nothing",
                f'take the last row: minimize("{objective.metric}", "last")',
            )
        planned = commands.command_of(command, options)
        template = Template(planned.template, planned.args, planned.shell)
        flat = leaves(dict(base))
        seed = _field("seed_field", options.get("seed_field"), flat, (SEED,))
        template.check(flat, seed, resumes=planned.resume is not None)
        if planned.resume is not None:
            Template(planned.resume).check_known(flat, "resume")
        return cls(
            PlannedTask(
                name=template.name,
                reference=f"{_program(template, _place(planned))}:command",
                budget=_field("budget_field", options.get("budget_field"), flat, BUDGETS),
                seed=seed,
                metric=objective.metric,
                direction=objective.direction,
                reduction=objective.reduction,
                command=planned,
            )
        )

    def parse(self, values: Values, where: str = "configuration") -> Any:
        return Schema.of(dict(values)).parse(values, where)

    def values(self, config: Any) -> dict[str, Any]:
        return Schema.of(config).values(config)

    def override(self, config: Any, changes: Values) -> Any:
        return Schema.of(config).override(config, changes)

    def words(self, config: Any) -> list[str]:
        return [Path(_program(self.template, _place(self.command))).stem]

    def check(self, configs: Iterable[Any], ranks: int) -> None:
        """Raises InputError where the program is not there, or a value has no text."""
        of_attempt = dict.fromkeys(("folder", "master_addr"), "x") | dict.fromkeys(
            ("nnodes", "node_rank", "nproc_per_node", "master_port"), 1
        )
        for config in configs:
            self.template.fill(config, of_attempt, self.command.resume)
        place = _place(self.command)
        if not place.is_dir():
            raise InputError(
                f"the directory {place}, in which the command works, is not there",
                "put it back, or correct directory= and launch again",
            )
        if not self.command.shell:
            _check_program(
                self.template.words, place, self.command.directory, self._launched_from(place)
            )
        kinds.check(self.command.metrics)

    def _launched_from(self, place: Path) -> Path | None:
        """Where the command was launched from, as the file says that it ran, which it names by a
        path from there; None where that is here, or is not known."""
        file = Path(self.reference.rpartition(":")[0])
        for word in self.template.words:
            parts = Path(word).parts
            if (
                file.is_absolute()
                and not Path(word).is_absolute()
                and file.parts[-len(parts) :] == parts
            ):
                folder = Path(*file.parts[: -len(parts)])
                return folder if folder != place and file.is_file() else None
        return None

    def cause(self, error: Exception) -> Cause | None:
        from sweeps.command_task.supervisor import ProgramFailedError

        if isinstance(error, ProgramFailedError):
            said = "\n".join([str(error), *error.tail]).lower()
            words = ("out of memory", "outofmemoryerror", "memoryerror", "cannot allocate memory")
            return "OUT_OF_MEMORY" if any(word in said for word in words) else "ERROR"
        return None

    def train(self, config: Any, run: Run) -> None:
        """Run the program until it is complete. Raises ProgramFailedError, InputError, OSError;
        StoppedError, LostTrialError."""
        from sweeps.command_task.attempt import ProgramAttempt

        attempt = ProgramAttempt(self.command, run)
        attempt.begin(
            lambda placeholders, goes_on: self.template.fill(
                config, placeholders, self.command.resume if goes_on else None, _found
            ),
            self.stored(config, self.seed),
        )
        attempt.until_complete(self.stored(config, self.budget), self.objective.metric)


def _found(word: str) -> str:
    """A word of the command; a file of the project is the snapshot's, where there is one."""
    if not word.startswith("/"):
        return word
    file = snapshot.found(Path(word))
    return str(file) if file.is_file() else word


def _field(what: str, given: object, flat: Mapping[str, Any], usual: Sequence[str]) -> str | None:
    """A value's name as it was given, or the usual one. Raises InputError where there is none."""
    if given is None:
        return next((name for name in usual if _is_count(flat.get(name))), None)
    if not isinstance(given, str) or given not in flat:
        raise InputError(
            f"{what} is {given!r}, and there is no such value",
            nearest(str(given), flat) if flat else f"leave out {what}",
        )
    return given


def _is_count(value: Any) -> bool:
    return type(value) is int or (isinstance(value, float) and math.isfinite(value))


def _place(command: PlannedCommand) -> Path:
    """Where the paths of the command line begin."""
    own = command.directory in (None, commands.OWN_FOLDER)
    return Path.cwd() if own else Path(command.directory or "")


def _program(template: Template, place: Path) -> str:
    """The file that the command runs, as an absolute path, where one of its words names one; else
    its first word."""
    words = template.words
    if template.shell:
        return words[0]
    for word in words:
        if "{" not in word and not word.startswith("-") and (place / word).is_file():
            return str((place / word).resolve())
    return words[0]


def _check_program(
    words: list[str], place: Path, directory: str | None, launched_from: Path | None
) -> None:
    """Raises InputError where the program, or the script that an interpreter would run, is not
    there."""
    first, path = words[0], place / words[0]
    if "{" not in first and not is_found(first, place):
        if launched_from is not None and first.count("/"):
            raise _elsewhere(first, place, launched_from)
        raise InputError(
            f"the program {first!r} is not found"
            + (", or may not be executed" if path.exists() else ""),
            f"chmod +x {path}" if path.exists() else "name it by its path, or install it",
        )
    script = next((word for word in words[1:] if not word.startswith("-")), "")
    if not script.endswith((".py", ".sh", ".R", ".jl")) or "{" in script:
        return
    if directory == commands.OWN_FOLDER and not Path(script).is_absolute():
        raise InputError(
            f"{script} is not in the trial's folder, where the command works",
            f"name it by its absolute path: {(place / script).resolve()}",
        )
    if not (place / script).is_file():
        if launched_from is not None:
            raise _elsewhere(script, place, launched_from)
        raise InputError(
            f"{script} is not there, in {place}",
            'launch from the folder in which the command works, or name it: directory="..."',
        )


def _elsewhere(script: str, place: Path, launched_from: Path) -> InputError:
    return InputError(
        f"{script} is not there, in {place}: it was launched from {launched_from}",
        f"go there first: cd {shlex.quote(str(launched_from))}",
    )
