"""Search: let Optuna choose what to train, and find the best values of some fields.

    python -m sweeps.search weight_decay --scale smoke --set data.name=digits
    python -m sweeps.search weight_decay --trials 40      # later: goes on to forty

Starting again goes on: what was asked and not finished is found in the trials' folders.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweeps.cli.options import (
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
from sweeps.spec.backend import Where
from trial_records.errors import EXIT_DONE, EXIT_FLAGGED, EXIT_INTERRUPTED, InputError, run_command
from trial_records.secrets import masked_words

if TYPE_CHECKING:
    from sweeps.execution.dispatch import Cluster
    from sweeps.execution.gpu_sharing import PerGpu
    from sweeps.search.driver import Driver
    from sweeps.spec.scale import Scale
    from sweeps.spec.sweep import Search, Trial
    from sweeps.state.trial_store import Ledger
    from trainer.config import DataConfig

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
    from sweeps.execution import dispatch, gpu_sharing, preflight
    from sweeps.execution.worker import check_data
    from sweeps.spec.scale import Scale
    from sweeps.spec.sweep import find_search
    from sweeps.state import driver_lock
    from sweeps.state.access import warn_of_writers
    from sweeps.state.liveness import Scheduler
    from sweeps.state.trial_store import Ledger

    job = driver_lock.leave_job()
    sweep_name, search = find_search(name)
    warn_of_writers(results)
    search = replace(search, pruner=pruner or search.pruner)
    place = dispatch.place(on)
    shared = check_place(place, gpu_sharing.parse(per_gpu))
    cluster = dispatch.cluster(site, search.resources, nodes, gpus_per_node, minutes)
    ledger = Ledger(results, sweep_name, Scheduler.here(cluster.site.query_seconds))
    overrides = parse_settings(settings or [])
    asked = Asked.of(search, Scale(str(scale)), overrides, trials)
    check_data((end.config for end in asked.ends), dispatch.ranks(place, cluster))
    if name.endswith(".py"):
        preflight.check_elsewhere(end.config for end in asked.ends)
    if place is Where.SLURM:
        preflight.check_jobs(cluster.site, cluster.resources, ledger)
    if dry_run:
        return _print_search(asked, ledger, as_json)
    command = f"python -m sweeps.search {shlex.join(masked_words(sys.argv[1:]))}"
    driver = through(asked, ledger, place, cluster, workers, shared, command, job)
    return EXIT_INTERRUPTED if driver is None else _end(driver, as_json)


def check_place(place: Where, shared: PerGpu) -> PerGpu:
    """What is asked for of sharing GPUs. Raises InputError where a search cannot run so."""
    if place is Where.DEBUG:
        raise InputError(
            "--on debug", "a search runs its trials in workers: --on local --workers 1"
        )
    if place is Where.SLURM and shared not in (None, 1):
        raise InputError(
            "--per-gpu on Slurm: a search sends each trial as a job of its own",
            "drive it in a job on a GPU node: --on local --per-gpu N",
        )
    return shared


@dataclass(frozen=True)
class Asked:
    """A search as it is asked for: at a scale, with overrides, for so many trials."""

    search: Search
    scale: Scale
    overrides: Mapping[str, Any]
    trials: int
    """In all."""
    ends: tuple[Trial, Trial]
    """The trials at the lower ends of all ranges, and at the upper ones."""
    epochs: int
    """The most that a trial has."""
    identity: str
    """8 hex digits, which name its folder and its plan."""

    @classmethod
    def of(
        cls, search: Search, scale: Scale, overrides: Mapping[str, Any], trials: int | None = None
    ) -> Asked:
        """Raises InputError for overrides that the search cannot take."""
        from sweeps.search.optuna_journal import grid_size
        from sweeps.spec.sweep import trial_at

        corners = [_corner(search, last) for last in (False, True)]
        low, high = (trial_at(search, point, scale, overrides) for point in corners)
        return cls(
            search,
            scale,
            overrides,
            min(trials or search.trials, grid_size(search) or sys.maxsize),
            (low, high),
            max(low.config.epochs, *map(int, _ends(search, "epochs")), high.config.epochs),
            _identity([str(scale), dict(sorted(overrides.items()))]),
        )

    def by_definition(self) -> Asked:
        """The same under an identity of its definition too: with another base or other ranges it
        is another search, where a person would be asked what to do with the first one's journal."""
        head = [str(self.scale), dict(sorted(self.overrides.items()))]
        return replace(self, identity=_identity([*head, self.definition]))

    @property
    def data(self) -> list[DataConfig]:
        return [trial.config.data for trial in self.ends]

    @property
    def definition(self) -> dict[str, Any]:
        """What an earlier journal must agree with."""
        fields = self.ends[0].config.flat()
        space = self.search.space
        return {
            "objective": self.search.objective,
            **{f"the range of {key}": str(values) for key, values in space.items()},
            **{key: value for key, value in fields.items() if key not in space},
        }

    def describe(self) -> dict[str, Any]:
        """The search as its plan has it, for the report."""
        return {
            "sampler": self.search.sampler,
            "pruner": self.search.pruner,
            "objective": self.search.objective,
            "trials": self.trials,
            "seed": self.search.seed,
            "space": {key: values.to_json() for key, values in self.search.space.items()},
        }


def through(
    asked: Asked,
    ledger: Ledger,
    place: Where,
    cluster: Cluster,
    workers: int | None,
    shared: PerGpu,
    command: str,
    job: dict[str, Any],
) -> Driver | None:
    """Drive a search to its end; None where it was interrupted. `job` is seat.leave_job's.

    Only in the main thread: while it runs, it takes SIGTERM and SIGINT. Raises InputError where
    another drives it, where its journal is of another definition, and where all trials fail.
    """
    from sweeps.cli.live_view import Display
    from sweeps.execution import dispatch, gpu_sharing
    from sweeps.execution.shutdown import Stop
    from sweeps.execution.worker import PATIENCE_SECONDS, prepare_data
    from sweeps.search.driver import Driver, Jobs, Processes, Runner, drive
    from sweeps.search.optuna_journal import Journal
    from sweeps.state import driver_lock
    from sweeps.state.trial_store import SEARCHES, Plan

    search, folder = asked.search, ledger.folder / SEARCHES / asked.identity
    advice = f"watch it: python -m sweeps.status {ledger.sweep} --watch"
    with (
        driver_lock.held(
            folder, ledger.folder.parent, job, ledger.scheduler, "search", advice
        ) as check_seat,
        contextlib.ExitStack() as stack,
    ):
        prepare_data(asked.data)
        journal = Journal(folder, search, asked.definition, asked.epochs)
        if journal.repaired:
            print(f"warning: {journal.repaired}", file=sys.stderr)
        if place is Where.SLURM:
            count = workers or JOBS
            runner: Runner = Jobs(ledger, cluster)
        else:
            stack.enter_context(dispatch.shared(shared, workers))
            settled_share = gpu_sharing.settled(shared, [end.config for end in asked.ends])
            count = gpu_sharing.at_once(workers, settled_share)
            runner = Processes(ledger, count)
        plan = Plan(
            sweep=ledger.sweep,
            trials=[],
            scale=str(asked.scale),
            overrides=asked.overrides,
            axes=list(search.space),
            command=command,
            search=asked.describe(),
            search_id=asked.identity,
        )
        # It was made when it was first asked for, and is only gone on with.
        with contextlib.suppress(InputError):
            plan = replace(plan, created=ledger.plan(plan.id).created)
        stop = Stop(PATIENCE_SECONDS, in_steps=True)
        stack.enter_context(_handlers_kept())
        stop.listen(signal.SIGTERM, signal.SIGINT)
        driver = Driver(
            ledger, folder, search, asked.scale, asked.overrides, asked.trials, count, journal,
            runner, plan,
        )  # fmt: skip
        print(
            f"{ledger.sweep}: {journal.asked} of {asked.trials} trials asked before, "
            f"{len(driver.running)} of them under way",
            file=sys.stderr,
            flush=True,
        )
        seconds = dispatch.SLURM_SECONDS if place is Where.SLURM else dispatch.LOCAL_SECONDS

        def should_stop() -> bool:
            check_seat()
            return stop()

        try:
            with Display(live=sys.stderr.isatty()) as display:
                stopped = stop.during(
                    lambda: not drive(driver, should_stop, lambda one: one.show(display), seconds)
                )
        finally:
            # The workers may take longer than this process's own patience.
            runner.stop()
        if stopped:
            goes = "the jobs go on" if place is Where.SLURM else "its trials were given back"
            print(f"interrupted: {goes}; the same command goes on", file=sys.stderr)
            return None
        return driver


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Signals are taken as before once the search has ended."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _identity(parts: list[Any]) -> str:
    """8 hex digits: the same sweep at another scale or with other overrides is another search."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]


def _ends(search: Search, key: str) -> Sequence[Any]:
    return search.space[key].ends if key in search.space else ()


def _corner(search: Search, last: bool) -> dict[str, Any]:
    return {key: values.ends[-1 if last else 0] for key, values in search.space.items()}


def _end(driver: Driver, as_json: bool) -> int:
    from sweeps.search.driver import BEST
    from sweeps.search.summary import Finding

    finding = Finding.of(driver.plan.id, driver.journal, driver.folder / BEST)
    for line in finding.lines():
        print(line, file=sys.stderr)
    if as_json:
        print(json.dumps(finding.to_json(), indent=2))
    elif finding.complete:
        print(finding.config)
    return EXIT_FLAGGED if finding.causes or not finding.complete else EXIT_DONE


def _print_search(asked: Asked, ledger: Ledger, as_json: bool) -> int:
    from sweeps.cli import table
    from sweeps.state.trial_store import SEARCHES

    search, folder = asked.search, ledger.folder / SEARCHES / asked.identity
    if as_json:
        described = asked.describe()
        value = {"schema_version": 1, "folder": str(folder), "search": described, "trials": []}
        print(json.dumps(value, indent=2))
        return EXIT_DONE
    rows = [(key, str(values)) for key, values in search.space.items()]
    table.show(("field", "range"), rows)
    print(
        f"{asked.trials} trials by {search.sampler}, pruner {search.pruner}, of at most "
        f"{asked.epochs} epochs each; journal in {folder}; nothing was run or written",
        file=sys.stderr,
    )
    return EXIT_DONE


if __name__ == "__main__":
    run_command(app)
