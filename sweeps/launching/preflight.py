"""What is looked at before a launch leases or writes anything; a dry run looks at the same.

python -m sweeps.launching.preflight < CONFIGURATIONS       # whether a worker can read them
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from local_machine import processes
from local_machine.errors import EXIT_DONE, EXIT_USAGE, InputError, print_error
from slurm import environment
from slurm.environment import Child
from slurm.site import Resources, Site
from sweeps.state.plan import LOGS
from sweeps.state.trial_store import TrialStore
from trainer.config import TrainConfig
from trainer.models.registry import MODELS

if TYPE_CHECKING:
    from slurm.send import Batch

SECONDS = 300


class _Asked(BaseModel):
    models: dict[str, str | None]
    configs: list[TrainConfig]


def check_elsewhere(configs: Iterable[TrainConfig]) -> None:
    """Whether a process that has not imported the definition can read what it defines: no worker
    imports it. Raises InputError where it cannot.

    Seeds change nothing about that, so one of them is looked at.
    """
    shapes: dict[str, str] = {}
    for one in configs:
        shapes.setdefault(one.model_copy(update={"seed": 0}).to_json(), one.model.name)
    models = json.dumps({name: MODELS.get(name) for name in sorted(set(shapes.values()))})
    asked = f'{{"models": {models}, "configs": [{",".join(sorted(shapes))}]}}'
    try:
        done = processes.run(
            [sys.executable, "-m", "sweeps.launching.preflight"], input=asked, capture_output=True,
            text=True, timeout=SECONDS, check=False,
            env=environment.built(Child.WORKER),
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"no process can be started here: {error}", "see ulimit -u") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise InputError(
            f"no worker could run these trials: {said[0].removeprefix('error: ')}",
            "workers do not import the definition: what it registers belongs into the project's "
            "code (trainer/models/registry.py); --on debug runs it in this process",
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


def check_jobs(site: Site, resources: Resources, store: TrialStore) -> None:
    """The same of jobs whose trials are not known yet, as those of a search."""
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
        asked = _Asked.model_validate_json(sys.stdin.read(), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"][2:]))
        print_error(f"{where}: {first['msg']}", "register it where workers import it")
        return EXIT_USAGE
    for name, function in asked.models.items():
        if function != MODELS.get(name):
            what = f"model.name {name!r} is {function} here, and {MODELS.get(name)} there"
            print_error(what, "give it a name of its own, where workers import it")
            return EXIT_USAGE
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
