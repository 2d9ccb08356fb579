"""Search: let Optuna choose what to train, and find the best values of some fields.

    python -m sweeps.search weight_decay --scale smoke --set data.name=digits
    python -m sweeps.search weight_decay --trials 40      # later: goes on to forty

Starting again goes on: what was asked and not finished is found in the trials' folders.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweeps.request import (
    AtScale,
    Gpus,
    Minutes,
    Nodes,
    On,
    PerGpuWord,
    Results,
    ScaleName,
    Settings,
    SiteName,
    parse_settings,
)
from sweeps.where import Where
from trainer.errors import EXIT_DONE, EXIT_FLAGGED, EXIT_INTERRUPTED, InputError, run_command

if TYPE_CHECKING:
    from sweeps.claim import Claim
    from sweeps.driver import Driver
    from sweeps.scale import Scale
    from sweeps.scheduler import Scheduler
    from sweeps.sweep import Search, Trial

# How many jobs a search has in Slurm's queue at once, unless it is told.
JOBS = 8

app = typer.Typer(add_completion=False)


@app.command()
def main(
    name: Annotated[str, typer.Argument(help="A search's name, or a definition file (.py).")],
    on: On = Where.AUTO,
    scale: AtScale = ScaleName.FULL,
    settings: Settings = None,
    trials: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="How many trials in all.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            help="Trials at once; if not given, --per-gpu on each GPU, one without a GPU, 8 jobs "
            "on Slurm.",
        ),
    ] = None,
    per_gpu: PerGpuWord = None,
    pruner: Annotated[
        str, typer.Option(help="Instead of the definition's: successive_halving, ..., none.")
    ] = "",
    site: SiteName = "default",
    nodes: Nodes = None,
    gpus_per_node: Gpus = None,
    minutes: Minutes = None,
    results: Results = Path("results"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be searched and touch nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Search for the best values, training as little as that takes. Goes on where it was."""
    from sweeps import dispatch, share
    from sweeps.claim import Claim
    from sweeps.display import Display
    from sweeps.driver import Driver, Jobs, Processes, Runner, drive
    from sweeps.journal import Journal, grid_size
    from sweeps.ledger import SEARCHES, Ledger, Plan
    from sweeps.scale import Scale
    from sweeps.scheduler import Scheduler
    from sweeps.stop import Stop, StopRequested
    from sweeps.sweep import find_search, trial_at
    from sweeps.worker import PATIENCE_SECONDS, check_data, prepare_data

    job = _leave_job()
    sweep_name, search = find_search(name)
    search = replace(search, pruner=pruner or search.pruner)
    place = dispatch.place(on)
    if place is Where.DEBUG:
        raise InputError(
            "--on debug", "a search runs its trials in workers: --on local --workers 1"
        )
    shared = share.parse(per_gpu)
    if place is Where.SLURM and shared not in (None, 1):
        raise InputError(
            "--per-gpu on Slurm: a search sends each trial as a job of its own",
            "drive it in a job on a GPU node: --on local --per-gpu N",
        )
    cluster = dispatch.cluster(site, search.resources, nodes, gpus_per_node, minutes)
    ledger = Ledger(results, sweep_name, Scheduler.here(dispatch.SLURM_SECONDS))
    overrides = parse_settings(settings or [])
    chosen = Scale(str(scale))
    wanted = min(trials or search.trials, grid_size(search) or sys.maxsize)
    ends = [_corner(search, last) for last in (False, True)]
    low, high = (trial_at(search, point, chosen, overrides) for point in ends)
    epochs = max(
        low.config.epochs, *(int(end) for end in _ends(search, "epochs")), high.config.epochs
    )
    identity = _identity(chosen, overrides)
    folder = ledger.folder / SEARCHES / identity
    check_data([low.config.data, high.config.data])
    if dry_run:
        return _print_search(search, epochs, wanted, folder, as_json)

    mine = Claim(1, 0, time.time(), "", **job)
    with _held(folder, mine, ledger.scheduler, sweep_name), contextlib.ExitStack() as stack:
        prepare_data([low.config.data, high.config.data])
        settled = _definition(search, low)
        journal = Journal(folder, search, settled, epochs)
        if journal.repaired:
            print(f"warning: {journal.repaired}", file=sys.stderr)
        if place is Where.SLURM:
            count = workers or JOBS
            runner: Runner = Jobs(ledger, cluster)
        else:
            stack.enter_context(dispatch.shared(shared, workers))
            settled_share = share.settled(shared, [low.config, high.config])
            count = share.at_once(workers, settled_share)
            runner = Processes(ledger, count)
        plan = Plan(
            sweep=sweep_name,
            trials=[],
            scale=str(chosen),
            overrides=overrides,
            axes=list(search.space),
            command=f"python -m sweeps.search {shlex.join(sys.argv[1:])}",
            search=_described(search, wanted),
            search_id=identity,
        )
        stop = Stop(PATIENCE_SECONDS, in_steps=True)
        stop.listen(signal.SIGTERM, signal.SIGINT)
        driver = Driver(
            ledger, folder, search, chosen, overrides, wanted, count, journal, runner, plan
        )
        print(
            f"{sweep_name}: {journal.asked} of {wanted} trials asked before, "
            f"{len(driver.running)} of them under way",
            file=sys.stderr,
            flush=True,
        )
        seconds = dispatch.SLURM_SECONDS if place is Where.SLURM else dispatch.LOCAL_SECONDS
        try:
            with Display(live=sys.stderr.isatty()) as display:
                ended = drive(driver, stop, lambda one: one.show(display), seconds)
        except StopRequested:
            ended = False
        if not ended:
            goes = "the jobs go on" if place is Where.SLURM else "its trials were given back"
            print(f"interrupted: {goes}; the same command goes on", file=sys.stderr)
            return EXIT_INTERRUPTED
        return _end(driver, as_json)


def _leave_job() -> dict[str, Any]:
    """What a claim says of the Slurm job that this runs in; its variables, which would make every
    sbatch a part of it, are taken away."""
    # In an interactive job a person works, who may drive several searches and go on afterwards.
    job = os.environ.get("SLURM_JOB_ID") if os.environ.pop("SWEEPS_DRIVER", None) else None
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    for key in list(os.environ):
        if key.startswith("SLURM_") and key != "SLURM_CONF":
            del os.environ[key]
    if job is None:
        return {}
    return {"submission": f"driver-{job}", "job": job, "started": True, "restarts": restarts}


@contextlib.contextmanager
def _held(folder: Path, wanted: Claim, scheduler: Scheduler, name: str) -> Iterator[None]:
    """The claim on a search's folder while it is driven. Raises InputError where another has it."""
    from sweeps import claim as claims

    def is_alive(held: Claim) -> bool:
        # A requeued job finds its own claim from before.
        is_own = bool(held.job) and held.job == wanted.job and held.restarts < wanted.restarts
        return not is_own and scheduler.is_alive(held)

    folder.mkdir(parents=True, exist_ok=True)
    taken = claims.take(folder, wanted, is_alive)
    if taken is None:
        held = claims.read(folder)
        who = "another driver" if held is None else f"process {held.pid} on {held.host}"
        if held is not None and held.job:
            who = f"job {held.job}"
        raise InputError(
            f"{who} drives this search already ({folder})",
            f"watch it: python -m sweeps.status {name} --watch",
        )
    try:
        yield
    finally:
        claims.release(folder, taken)


def _identity(scale: Scale, overrides: Mapping[str, Any]) -> str:
    """8 hex digits: the same sweep at another scale or with other overrides is another search."""
    text = json.dumps([str(scale), dict(sorted(overrides.items()))])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _ends(search: Search, key: str) -> Sequence[Any]:
    return search.space[key].ends if key in search.space else ()


def _corner(search: Search, last: bool) -> dict[str, Any]:
    return {key: values.ends[-1 if last else 0] for key, values in search.space.items()}


def _definition(search: Search, trial: Trial) -> dict[str, Any]:
    """What an earlier journal must agree with."""
    fields = trial.config.flat()
    return {
        "objective": search.objective,
        **{f"the range of {key}": str(values) for key, values in search.space.items()},
        **{key: value for key, value in fields.items() if key not in search.space},
    }


def _described(search: Search, trials: int) -> dict[str, Any]:
    """The search as its plan has it, for the report."""
    return {
        "sampler": search.sampler,
        "pruner": search.pruner,
        "objective": search.objective,
        "trials": trials,
        "seed": search.seed,
        "space": {key: values.to_json() for key, values in search.space.items()},
    }


def _end(driver: Driver, as_json: bool) -> int:
    from sweeps.driver import BEST
    from sweeps.finding import Finding

    finding = Finding.of(driver.plan.id, driver.journal, driver.folder / BEST)
    for line in finding.lines():
        print(line, file=sys.stderr)
    if as_json:
        print(json.dumps(finding.to_json(), indent=2))
    elif finding.complete:
        print(finding.config)
    return EXIT_FLAGGED if finding.causes or not finding.complete else EXIT_DONE


def _print_search(search: Search, epochs: int, wanted: int, folder: Path, as_json: bool) -> int:
    from sweeps import table

    if as_json:
        described = _described(search, wanted)
        value = {"schema_version": 1, "folder": str(folder), "search": described, "trials": []}
        print(json.dumps(value, indent=2))
        return EXIT_DONE
    rows = [(key, str(values)) for key, values in search.space.items()]
    table.show(("field", "range"), rows)
    print(
        f"{wanted} trials by {search.sampler}, pruner {search.pruner}, of at most "
        f"{epochs} epochs each; journal in {folder}; nothing was run or written",
        file=sys.stderr,
    )
    return EXIT_DONE


if __name__ == "__main__":
    run_command(app)
