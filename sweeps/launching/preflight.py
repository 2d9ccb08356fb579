"""What is looked at before a launch leases or writes anything; a dry run looks at the same.

python -m sweeps.launching.preflight < TRIALS               # whether a worker can run them
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_machine import processes
from local_machine.code import snapshot
from local_machine.errors import EXIT_DONE, EXIT_USAGE, InputError, print_error
from slurm import environment
from slurm.environment import Child
from slurm.site import Resources, Site
from sweeps.code.launched import LaunchedCode
from sweeps.spec.sweep import Trial, by_task
from sweeps.spec.task_loader import load
from sweeps.state.plan import LOGS
from sweeps.state.trial_store import TrialStore
from sweeps.task import Task, Values, without
from trial_records.config import fingerprint_of
from trial_records.plan import PlannedTask

if TYPE_CHECKING:
    from slurm.send import Batch

SECONDS = 300
# What a warned job may take to commit what was read and to have itself requeued.
COMMIT_SECONDS = 20.0
ELSEWHERE = "workers do not import the definition: what it sets up belongs into the task's module"


def check_elsewhere(trials: Iterable[Trial], code: LaunchedCode | None = None) -> None:
    """Whether a process that has not imported the definition can import the trials' tasks and read
    their values, from the code snapshot where there is one: no worker imports it. Raises InputError
    where it cannot.

    Seeds change nothing about that, so one of them is looked at.
    """
    asked: list[dict[str, Any]] = []
    for task, group in by_task(trials):
        shapes = {
            json.dumps(without(one.values, {one.task.seed}), sort_keys=True): one for one in group
        }
        chosen = list(shapes.values())
        asked.append(
            {
                "task": task.planned.model_dump(),
                "registered": task.registered(one.config for one in chosen),
                "values": [one.values for one in chosen],
            }
        )
    try:
        with tempfile.TemporaryDirectory(prefix="sweeps-") as private:
            start = () if code is None else code.keep(Path(private))
            done = processes.run(
                [sys.executable, *start, "-m", "sweeps.launching.preflight"],
                input=json.dumps(asked),
                capture_output=True, text=True, timeout=SECONDS, check=False,
                env=environment.built(Child.WORKER),
            )  # fmt: skip
    except subprocess.TimeoutExpired:
        where = ", ".join(dict.fromkeys(one["task"]["reference"] for one in asked))
        raise InputError(
            f"a worker would still be importing {where} after {SECONDS} s",
            'put what trains or loads data under `if __name__ == "__main__":`, or into the task',
        ) from None
    except OSError as error:
        raise InputError(f"no process can be started here: {error}", "see ulimit -u") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        what, help_line = (
            next((x.removeprefix(word) for x in said if x.startswith(word)), "")
            for word in ("error: ", "help: ")
        )
        raise InputError(
            f"no worker could run these trials: {what or said[-1]}",
            f"{help_line or ELSEWHERE}; --on debug runs it in this process",
        )


def check_stop(task: PlannedTask, site: Site) -> None:
    """Raises InputError where a job would be killed before its program has ended."""
    seconds = load(task).stop_seconds
    if seconds and seconds + COMMIT_SECONDS > site.signal_seconds:
        raise InputError(
            f"the program may take {seconds:g} s to end when it is asked to, and {COMMIT_SECONDS:g}"
            f" s go to saving and requeueing: site {site.name!r} warns a job {site.signal_seconds} "
            "s before its end",
            f"set signal_seconds = {math.ceil(seconds + COMMIT_SECONDS)} in the site's file, or "
            "give a shorter grace to the command",
        )


def check_batch(batch: Batch, trials: int) -> None:
    """What can be known of jobs before they are sent. Raises SlurmError for what no script can
    say; says on stderr what will surprise."""
    batch.script()
    if ignored := environment.ignored():
        _warn(
            f"sbatch does not get your shell's {', '.join(ignored)}: the site file says what a "
            f"job asks for ({batch.site.name!r})"
        )
    if trials > batch.site.max_submit:
        _warn(
            f"site {batch.site.name!r} takes {batch.site.max_submit} jobs at once (max_submit): "
            f"launch again for the others of {trials}"
        )


def check_jobs(site: Site, resources: Resources, store: TrialStore, task: PlannedTask) -> None:
    """The same of jobs whose trials are not known yet, as those of a search."""
    check_stop(task, site)
    from slurm.send import Batch

    logs = (store.folder / LOGS).resolve()
    check_batch(
        Batch(site, resources, store.sweep, "0" * 12, logs, "sweeps.execution.job_entry"), 1
    )


def ask_slurm(batch: Batch) -> None:
    """Whether Slurm would take the jobs, which sends nothing. Raises SlurmError where it says that
    what they ask for is not there; says on stderr what else it says.

    That nodes are down for now is not a refusal: the jobs would wait.
    """
    refusal = batch.refusal()
    if refusal is None:
        return
    if "invalid" in refusal.what.lower():
        raise refusal
    _warn(refusal.what)


def _warn(what: str) -> None:
    print(f"warning: {what}", file=sys.stderr, flush=True)


def main() -> int:
    try:
        for one in json.load(sys.stdin):
            task = load(PlannedTask(**one["task"]))
            task.check_registered(one["registered"])
            task.try_out([_parse(task, values) for values in one["values"]])
    except InputError as error:
        said = snapshot.missing(error)
        print_error(f"{error.what}; {said}" if said else error.what, error.help)
        return EXIT_USAGE
    return EXIT_DONE


def _parse(task: Task, values: Values) -> Any:
    """The configuration. Raises InputError where the task would not train just these values."""
    content = task.planned.content
    try:
        config = task.parse(values)
        again = task.values(config)
    except InputError as error:
        raise InputError(error.what, f"{error.help}; {ELSEWHERE}") from None
    if fingerprint_of(content(again)) != fingerprint_of(content(values)):
        raise InputError(f"{task.name} makes other values of those of a trial", ELSEWHERE)
    return config


if __name__ == "__main__":
    sys.exit(main())
