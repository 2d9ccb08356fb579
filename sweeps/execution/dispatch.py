"""Dispatch: send a plan's open trials to where they run, and see them through."""

from __future__ import annotations

import contextlib
import json
import math
import shlex
import signal
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from local_machine import clock
from local_machine.errors import EXIT_DONE, EXIT_FLAGGED, EXIT_INTERRUPTED, InputError, SlurmError
from local_machine.secrets import masked
from slurm import commands, environment
from slurm.environment import Child
from slurm.job_state import JobState
from slurm.queue import Queue
from slurm.site import Resources, Site, find_site
from sweeps.cli.live_view import Display
from sweeps.cost.estimate import seconds_alike
from sweeps.devices import visible_gpus
from sweeps.execution.backends.local import Pool
from sweeps.execution.gpu import mps, sharing
from sweeps.execution.gpu.sharing import PerGpu
from sweeps.execution.shutdown import Stop
from sweeps.execution.trial_order import write_seconds
from sweeps.execution.worker import (
    PATIENCE_SECONDS,
    Worker,
    check_data,
    prepare_data,
    start_logging,
)
from sweeps.spec.backend_name import BackendName
from sweeps.spec.sweep import Trial
from sweeps.state import job_log
from sweeps.state import lease as leases
from sweeps.state.adoption import adopt
from sweeps.state.elsewhere import way_out
from sweeps.state.plan import LOGS, Plan
from sweeps.state.progress import Progress, counts, look, lost_alike, summary, why_lost
from sweeps.state.trial_store import TrialStore

if TYPE_CHECKING:
    from slurm.send import Batch

# Between two looks at the trials' files; Slurm itself is asked more seldom (Site.query_seconds).
LOCAL_SECONDS = 0.5
SLURM_SECONDS = 5.0


@dataclass(frozen=True)
class Cluster:
    """Which cluster, and what a job asks of it."""

    site: Site
    resources: Resources


def place(on: BackendName) -> BackendName:
    """Where `on` means. Raises SlurmError where Slurm is asked for and not there."""
    if on is BackendName.AUTO:
        return BackendName.SLURM if commands.available() else BackendName.LOCAL
    if on is BackendName.SLURM and not commands.available():
        raise SlurmError(
            "there is no Slurm here: no sbatch on PATH, or no SLURM_CONF that it could read",
            "run on this machine with --on local, or try a small Slurm of your own: "
            "python -m slurm.dev_cluster up",
        )
    return on


def check_share(per_gpu: PerGpu, where: BackendName) -> PerGpu:
    """What is asked for of sharing GPUs. Raises InputError where that cannot be had there."""
    if where is BackendName.SLURM and per_gpu == "auto":
        raise InputError(
            "--per-gpu auto measures this machine's GPU, and the jobs run on others",
            "give a number; on a GPU node, --on local --per-gpu auto says which is best",
        )
    return per_gpu


def cluster(
    site: str,
    resources: Resources,
    nodes: int | None,
    gpus_per_node: int | None,
    minutes: int | None,
) -> Cluster:
    """The site by name or file, and the resources with what the command line says of them."""
    asked = {"nodes": nodes, "gpus_per_node": gpus_per_node, "minutes": minutes}
    given = {key: value for key, value in asked.items() if value is not None}
    return Cluster(find_site(site), replace(resources, **given))


def ranks(where: BackendName, cluster: Cluster) -> int:
    """On how many ranks a trial runs."""
    return cluster.resources.ranks if where is BackendName.SLURM else 1


def check(
    ledger: TrialStore,
    plan: Plan,
    trials: list[Trial],
    where: BackendName,
    cluster: Cluster,
    workers: int | None,
    per_gpu: PerGpu,
    *,
    defined_here: bool,
) -> Batch | None:
    """All that a launch of these trials looks at before it claims or writes anything; a dry run
    looks at the same. The jobs that would be sent first, on Slurm.

    `defined_here` says that a user's own file defines the trials. Raises InputError and SlurmError.
    """
    if not trials:
        return None
    check_data((trial.config for trial in trials), ranks(where, cluster))
    from sweeps.execution import preflight

    if defined_here and where is not BackendName.DEBUG:
        preflight.check_elsewhere(trial.config for trial in trials)
    if where is not BackendName.SLURM:
        return None
    from sweeps.execution.slurm_submit import Submission

    submission = Submission(ledger, plan, 0.0, cluster.site, cluster.resources, Queue())
    count, size, of_workers = _jobs(cluster, workers, per_gpu, len(trials))
    token = "0" * 12
    if of_workers:
        batch = submission.crew(token, count, [plan], False, size)
    else:
        batch = submission.array(token, min(count, cluster.site.max_array_size))
    preflight.check_batch(batch, count)
    return batch


def shown(batch: Batch | None) -> str | None:
    """The jobs' script for a person, without the secrets of the site's environment."""
    return None if batch is None else masked(batch.script())


def _jobs(
    where: Cluster, workers: int | None, per_gpu: PerGpu, trials: int
) -> tuple[int, int, bool]:
    """How many jobs to send for so many trials, of how many workers each, and whether of workers
    at all: else a job runs one trial."""
    size = min(per_gpu if isinstance(per_gpu, int) else 1, max(1, trials))
    if workers is None and size == 1:
        return trials, 1, False
    count = math.ceil(min(workers or trials, trials) / size)
    if workers is None:
        count = min(count, where.site.max_array_size, where.site.max_submit)
    return count, size, True


def to_run(ledger: TrialStore, progress: list[Progress]) -> list[Trial]:
    """The trials that a launch would run now."""
    return _wanted(Worker(ledger, clock.now(), log=""), progress)


def _wanted(worker: Worker, progress: list[Progress]) -> list[Trial]:
    return [one.trial for one in progress if worker.wants(one.standing)]


class Running(Protocol):
    """What works on the trials of a launch."""

    def poll(self) -> bool:
        """Look after it; False when it has ended."""


@dataclass
class Jobs:
    """Slurm's jobs as something to wait for: until every trial is done, or none is queued or
    running."""

    ledger: TrialStore
    trials: list[Trial]
    workers: list[str]
    queue: Queue

    def poll(self) -> bool:
        standings = self.ledger.standings(self.trials)
        # The files know it before Slurm does; a failure may be that of a launch before.
        if all(one.state == "done" for one in standings):
            return False
        if self.workers:
            jobs = self.queue.jobs(self.workers).values()
            return any(job is not None and job.state.is_alive for job in jobs)
        # Not for what processes elsewhere run, of which nobody may hear again.
        held = [one.state in ("queued", "running") and one.claim for one in standings]
        return any(claim and claim.submission for claim in held)

    def ended_early(self) -> list[str]:
        """Why jobs of workers ended before the work did, a line for each distinct cause."""
        logs = self.ledger.folder / LOGS
        causes: dict[str, list[str]] = {}
        for number, job in (self.queue.jobs(self.workers) if self.workers else {}).items():
            if job is not None and job.state.is_over and job.state is not JobState.COMPLETED:
                words = [job_log.ending(job), *job_log.last_words(logs, number)]
                causes.setdefault(": ".join(words), []).append(number)
        return [
            f"{len(numbers)} of {len(self.workers)} jobs of workers ended early: {numbers[0]} "
            f"{cause}"
            for cause, numbers in causes.items()
        ]


def run(
    ledger: TrialStore,
    plans: list[Plan],
    known: dict[str, Progress],
    where: BackendName,
    cluster: Cluster,
    workers: int | None,
    per_gpu: PerGpu = None,
    *,
    retry: bool = False,
    detach: bool = False,
    as_json: bool = False,
    defined_here: bool = False,
) -> int:
    """Run the open trials of the plans and see them through; the command's exit code.

    `defined_here` is check's.
    """
    if where is BackendName.DEBUG:
        environment.enter(Child.WORKER)
    trials = list({trial.name: trial for plan in plans for trial in plan.trials}.values())
    launch = clock.now()
    worker = Worker(ledger, launch, log="", retry_only=retry, stop=Stop(PATIENCE_SECONDS))
    progress = look(ledger, trials, known)
    wanted = _wanted(worker, progress)
    open_trials = [trial for trial in wanted if trial.problem is None]
    refused = [trial.problem for trial in wanted if trial.problem is not None]
    print(
        f"{ledger.sweep}: {summary(progress)}; {len(open_trials)} to run",
        file=sys.stderr,
        flush=True,
    )
    for problem in refused:
        print(f"warning: {problem.what}\nhelp: {problem.help}", file=sys.stderr, flush=True)
    flag = EXIT_FLAGGED if refused else EXIT_DONE
    check(
        ledger, plans[0], open_trials, where, cluster, workers, per_gpu, defined_here=defined_here
    )
    prepare_data(trial.config.data for trial in open_trials)
    for plan in plans:
        ledger.write_plan(plan)
    if adopted := adopt(ledger, open_trials, launch):
        print(
            f"{ledger.sweep}: {len(adopted)} of them are taken from other sweeps in "
            f"{ledger.folder.parent}, which trained the same",
            file=sys.stderr,
            flush=True,
        )
        open_trials = [trial for trial in open_trials if trial.name not in adopted]
        progress = look(ledger, trials, known)
    if not open_trials:
        # What others have queued or running is no failure where nobody waits for it.
        return max(flag, _end(ledger, progress, as_json, retry=retry or detach))
    if where is not BackendName.SLURM or workers is not None:
        # Workers take the trials in an order of their own.
        worker.seconds = seconds_alike(ledger.folder.parent, progress, where, workers)
        for plan in plans:
            write_seconds(ledger, plan.id, worker.seconds)
    if where is BackendName.DEBUG:
        start_logging(worker)
        worker.stop.listen(signal.SIGTERM)
        try:
            stopped = worker.stop.during(lambda: worker.run(trials))
        except KeyboardInterrupt:
            stopped = True
        if stopped:
            return _interrupted(ledger, "gave its trial")
        return max(flag, _end(ledger, look(ledger, trials, known), as_json, retry=retry))
    if where is BackendName.SLURM:
        running: Running = _submit(
            ledger, plans, open_trials, launch, cluster, workers, per_gpu, retry=retry
        )
        return max(flag, _watch(ledger, plans, trials, running, known, retry, detach, as_json))
    with shared(per_gpu, workers, detach=detach):
        per_gpu = sharing.settled(per_gpu, [trial.config for trial in open_trials])
        count = min(sharing.at_once(workers, per_gpu), len(open_trials))
        running = Pool(ledger, plans, launch, count, retry=retry, detach=detach)
        running.start()
        return max(flag, _watch(ledger, plans, trials, running, known, retry, detach, as_json))


def shared(
    per_gpu: PerGpu, workers: int | None, *, detach: bool = False
) -> contextlib.AbstractContextManager[None]:
    """MPS where local workers may share a GPU, and somebody is there to end it."""
    may = per_gpu == "auto" or sharing.at_once(workers, per_gpu) > len(visible_gpus())
    return contextlib.nullcontext() if detach or not may else mps.running()


def _watch(
    ledger: TrialStore,
    plans: list[Plan],
    trials: list[Trial],
    running: Running,
    known: dict[str, Progress],
    retry: bool,
    detach: bool,
    as_json: bool,
) -> int:
    """See what was started through, or leave it alone; the command's exit code."""
    seconds = LOCAL_SECONDS if isinstance(running, Pool) else SLURM_SECONDS
    if detach:
        if isinstance(running, Pool):
            running.wait_for_claims(trials)
            running.poll()
        print(f"launched; watch: {_command(ledger, 'status')} --watch", file=sys.stderr)
        _print(ledger, look(ledger, trials, known), as_json)
        return EXIT_DONE
    try:
        _see_through(ledger, plans, trials, running, known, seconds)
    except BaseException as error:
        if isinstance(running, Pool):
            running.stop()
        if not isinstance(error, KeyboardInterrupt):
            raise
        return (
            _interrupted(ledger, "gave their trials")
            if isinstance(running, Pool)
            else _left(ledger)
        )
    if isinstance(running, Jobs):
        # The work is done or not, whatever Slurm has to say of it.
        with contextlib.suppress(SlurmError):
            for line in running.ended_early():
                print(line, file=sys.stderr)
    return _end(ledger, look(ledger, trials, known), as_json, retry=retry)


def _submit(
    ledger: TrialStore,
    plans: list[Plan],
    trials: list[Trial],
    launch: float,
    where: Cluster,
    workers: int | None,
    per_gpu: PerGpu,
    *,
    retry: bool,
) -> Jobs:
    from sweeps.execution.slurm_submit import Submission

    queue = ledger.scheduler.queue or Queue()
    ids: list[str] = []
    count, size, of_workers = _jobs(where, workers, per_gpu, len(trials))
    if of_workers:
        submission = Submission(ledger, plans[0], launch, where.site, where.resources, queue)
        ids = submission.workers(count, plans, retry=retry, per_gpu=size)
        what = "workers" if size == 1 else f"jobs of {size} workers"
        print(f"sent {len(ids)} {what}: {', '.join(ids)}", file=sys.stderr, flush=True)
    else:
        names = {trial.name for trial in trials}
        for plan in plans:
            mine = [trial for trial in plan.trials if trial.name in names]
            names -= {trial.name for trial in mine}
            submission = Submission(ledger, plan, launch, where.site, where.resources, queue)
            print(f"sent {submission.trials(mine)} trials", file=sys.stderr, flush=True)
    return Jobs(ledger, trials, ids, queue)


def _see_through(
    ledger: TrialStore,
    plans: list[Plan],
    trials: list[Trial],
    running: Running,
    known: dict[str, Progress],
    seconds: float,
) -> None:
    """Show progress until it has ended: a live table on a terminal, a line a change off it."""
    with Display(live=sys.stderr.isatty() and len(plans) == 1) as display:
        while True:
            alive = running.poll()
            progress = look(ledger, trials, known)
            over = sum(one.state.is_over for one in progress)
            display.show(plans[0], progress, over, len(progress))
            if not alive:
                return
            clock.sleep(seconds)


def _end(ledger: TrialStore, progress: list[Progress], as_json: bool, *, retry: bool) -> int:
    print(f"{ledger.sweep}: {summary(progress)}", file=sys.stderr)
    _print(ledger, progress, as_json)
    failed = [one for one in progress if one.state == "failed"]
    if failed:
        print(
            f"{len(failed)} failed: {_command(ledger, 'status')} --failures says why, "
            f"{_command(ledger, 'retry')} tries them again",
            file=sys.stderr,
        )
    for alike in lost_alike(progress):
        print(f"{why_lost(alike)}; {_command(ledger, 'logs')} {alike[0].trial.name}",
              file=sys.stderr)  # fmt: skip
    for one in progress:
        if one.problem is not None:
            print(f"warning: {one.problem}", file=sys.stderr)
    silent = _print_elsewhere(ledger, progress)
    # Those that never ran, and those that others run, are not a retry's business.
    fine = ("done", "pending", "queued", "running") if retry else ("done",)
    bad = [one for one in progress if one.state not in fine or one.problem is not None]
    return EXIT_FLAGGED if bad or silent else EXIT_DONE


def _print_elsewhere(ledger: TrialStore, progress: list[Progress]) -> bool:
    """Say which trials other machines hold; whether nothing was heard of any of them for a while,
    by the file server's own clock."""
    by_host: dict[str, list[Progress]] = {}
    for one in progress:
        claim = one.standing.claim
        if one.state == "running" and claim is not None and claim.is_elsewhere:
            by_host.setdefault(claim.host, []).append(one)
    any_silent = False
    for host, ones in by_host.items():
        quiet = [leases.silence(ledger.folder_of(one.trial)) or 0.0 for one in ones]
        silent = min(quiet) > leases.SILENT_SECONDS
        any_silent |= silent
        names = ", ".join(one.trial.name for one in ones)
        since = leases.since(max((one.standing.heard or 0.0 for one in ones), default=None))
        print(f"{len(ones)} held on {host}{since if silent else ''}: {names}", file=sys.stderr)
        if silent:
            print(way_out(ledger.folder.parent, ledger.sweep, host), file=sys.stderr)
    return any_silent


def _print(ledger: TrialStore, progress: list[Progress], as_json: bool) -> None:
    """What the command has to say on stdout: the folder, or every trial as JSON."""
    ledger.seen.save()
    if not as_json:
        print(ledger.folder)
        return
    trials = [one.to_json() for one in progress]
    value = {"schema_version": 1, "trials": trials, "counts": counts(progress)}
    print(json.dumps(value))


def _command(ledger: TrialStore, name: str) -> str:
    results = shlex.quote(str(ledger.folder.parent))
    return f"python -m sweeps.{name} {ledger.sweep} --results {results}"


def _interrupted(ledger: TrialStore, gave: str) -> int:
    print(
        f"interrupted: {ledger.sweep} {gave} back; the same command goes on from where it stopped",
        file=sys.stderr,
    )
    return EXIT_INTERRUPTED


def _left(ledger: TrialStore) -> int:
    print(
        f"the jobs go on; watch: {_command(ledger, 'status')} --watch, "
        f"cancel: {_command(ledger, 'cancel')} --yes",
        file=sys.stderr,
    )
    return EXIT_INTERRUPTED
