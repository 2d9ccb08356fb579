"""The programs that simulated processes run: our commands, called as their command lines do."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import signal
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from analysis.data.study import Study
from analysis.data.task import Task as KnownTask
from analysis.reading import frames, loading
from local_machine import origin
from local_machine.code import packages
from local_machine.errors import EXIT_INTERRUPTED, GuidedError, storage_error
from simulation.cluster import NAME, Job
from simulation.machine import hosts
from simulation.machine.filesystem import ROOT
from simulation.machine.hosts import Body, Host, Process
from simulation.machine.scheduler import Scheduler
from simulation.task import TASK, Columns, Training, trials
from slurm.site import Resources, Site
from sweeps import cancel as cancel_command
from sweeps import retry as retry_command
from sweeps.compact import __main__ as compact_command
from sweeps.execution import job_entry, slurm_job, worker
from sweeps.execution.backends import local, slurm
from sweeps.execution.request import LaunchRequest
from sweeps.launching import dispatch
from sweeps.run import attempt_files, checkpoint_file
from sweeps.run.checkpoint_file import ZIP_END, DamagedCheckpointError
from sweeps.spec.backend_name import BackendName
from sweeps.spec.sweep import Trial
from sweeps.state.liveness import Liveness
from sweeps.state.plan import Plan
from sweeps.state.progress import Progress, look
from sweeps.state.trial_store import TrialStore
from trial_records import config, tables

RESULTS = Path(ROOT) / "results"
ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "", "HOME": "/nowhere", "PATH": "/bin"}


def plan_of(sweep: str, chosen: Sequence[Trial]) -> Plan:
    """What a launch of these trials plans."""
    created = "2026-01-01T00:00:00+00:00"
    axes, task = ["seed", "epochs"], TASK.planned
    return Plan(sweep, list(chosen), "full", {}, axes, "launch", created, task=task)


def launch(
    sweep: str,
    count: int,
    backend: BackendName,
    workers: int | None,
    *,
    detach: bool = False,
    minutes: int | None = None,
) -> int:
    """`sweeps.launch SWEEP`, of the first `count` trials."""
    store = TrialStore(RESULTS, sweep, Liveness.here())
    plan = plan_of(sweep, store.settle_names(trials()[:count]))
    store.has_plan(plan.id)
    store.readable_plans()
    resources = Resources(minutes=minutes)
    request = LaunchRequest(backend, Site(), resources, workers, detach=detach)
    return dispatch.run(store, [plan], request, {})


def retry(
    sweep: str, backend: BackendName, host_gone: str | None = None, *, fresh: bool = False
) -> int:
    """`sweeps.retry SWEEP`."""
    where = dict.fromkeys(("per_gpu", "nodes", "gpus_per_node", "minutes", "code"))
    return retry_command.main(  # type: ignore[call-arg]
        name=sweep, fresh=fresh, host_gone=host_gone, on=backend, site="default",
        workers=None if backend is BackendName.SLURM else 1, results=RESULTS, no_snapshot=True,
        **where,
    )  # fmt: skip


def cancel(sweep: str) -> int:
    """`sweeps.cancel SWEEP --yes`."""
    return cancel_command.main(sweep, yes=True, results=RESULTS)


def compact(sweep: str, *, undo: bool = False) -> int:
    """`sweeps.compact SWEEP`."""
    return compact_command.main(
        sweep, results=RESULTS, undo=undo, drop=False, yes=False, as_json=False
    )


def status(sweep: str) -> list[Progress]:
    """What `sweeps.status SWEEP` would show."""
    store = TrialStore(RESULTS, sweep, Liveness.here())
    plans, problems = store.readable_plans()
    for problem in problems:
        raise problem
    return [one for plan in plans for one in look(store, plan.trials, {})]


def report(sweep: str) -> Study:
    """What `analysis.report RESULTS --sweep SWEEP` reads of the trials."""
    return loading.load(RESULTS, [sweep], KnownTask({}, ()))


def as_command(body: Callable[[], int | None]) -> Body:
    """What the body does, with the exit codes of our commands."""

    def run() -> int | None:
        try:
            return body()
        except GuidedError as error:
            return error.exit_code
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED
        except OSError as error:
            if (storage := storage_error(error)) is None:
                raise
            return storage.exit_code

    return run


def worker_of(words: Sequence[str]) -> Body:
    """The body of a worker process, by its command line."""

    def value(name: str) -> str:
        return words[words.index(name) + 1] if name in words else ""

    def run() -> int:
        plans = [words[at + 1] for at, word in enumerate(words) if word == "--plan"]
        return worker.main(
            Path(words[words.index("-m") + 2]), plans, float(value("--launch")),
            log_file=value("--log-file"), parent=int(value("--parent") or 0),
            retry="--retry" in words, only=value("--only"), slot=int(value("--slot") or 0),
        )  # fmt: skip

    return as_command(run)


def job_of(words: Sequence[str]) -> Body:
    """The body of a Slurm job's one process."""

    def run() -> None:
        job_entry.main(words[1])

    return as_command(run)


def environment_of(job: Job, host: Host) -> dict[str, str]:
    """What Slurm tells a job of itself."""
    array = {"SLURM_ARRAY_JOB_ID": str(job.array), "SLURM_ARRAY_TASK_ID": str(job.task)}
    return {
        **ENVIRONMENT,
        **(array if job.array is not None else {}),
        "SLURM_JOB_ID": str(job.number),
        "SLURM_RESTART_COUNT": str(job.restarts),
        "SLURM_PROCID": "0",
        "SLURM_NTASKS": "1",
        "SLURM_LOCALID": "0",
        "SLURMD_NODENAME": host.name,
        "SLURM_CLUSTER_NAME": NAME,
    }


def start_job(scheduler: Scheduler, host: Host, job: Job) -> Process:
    words = ["python", "-m", *job.words]
    environment = environment_of(job, host)
    made = Process(scheduler, host, words, job_of(job.words), environment)
    made.memory["sweep"] = Path(json.loads(job.words[1])["folder"]).name
    made.memory["job"] = (job.id, job.restarts)
    return made


class Starter:
    """As subprocess.Popen, for what our code starts."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def __call__(self, words: Sequence[str], *, env: dict[str, str], **_: Any) -> hosts.Child:
        parent = self._scheduler.process
        assert parent is not None and words[2] == "sweeps.execution.worker", words
        self._scheduler.call("start")
        made = Process(self._scheduler, parent.host, words, worker_of(words), env, parent)
        return hosts.Child(made, self._scheduler)


class NoDisplay:
    def __init__(self, live: bool) -> None:
        del live

    def __enter__(self) -> NoDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def show(self, *_: object) -> None:
        return


@contextlib.contextmanager
def in_place(scheduler: Scheduler, training: Training, poll: float) -> Iterator[None]:
    """What our programs need in the place of the trainer, of torch and of a terminal. A launch
    looks at its trials every `poll` seconds."""

    def die_with(parent: int, stop: Any) -> None:
        process = scheduler.process
        assert process is not None and process.parent is not None
        process.dies_with_parent = True
        stop.warned |= not process.parent.alive

    with contextlib.ExitStack() as stack:

        def put(where: Any, **what: Any) -> None:
            for name, value in what.items():
                stack.enter_context(mock.patch.object(where, name, value))

        nothing = types.SimpleNamespace(code={})
        put(packages, keep=lambda folder: folder)
        put(origin, begin=lambda *_: nothing, attempt=lambda **known: known, now=lambda: "now")
        put(attempt_files, device_here=lambda workers: "CPU")
        put(checkpoint_file, encoded=encoded, decoded=decoded)
        stack.enter_context(mock.patch.object(TASK, "training", training, create=True))
        put(worker, start_logging=lambda worker: None, die_with=die_with)
        put(worker.log, disabled=True)
        put(slurm_job, start_logging=lambda worker: None, die_with=die_with)
        put(slurm_job, address=lambda place: "127.0.0.1", free_port=lambda: 1)
        put(slurm_job.log, disabled=True)
        put(dispatch, seconds_alike=lambda *_: {}, Display=NoDisplay)
        # Records know the schemas of the programs that this process happens to have imported.
        put(config, _declared=[Columns])
        put(frames, run_schema=functools.cache(frames.run_schema.__wrapped__))
        # Pure, and most of the time that a world takes.
        put(tables, checked=checked)
        put(local.Local, seconds=poll)
        put(slurm.Slurm, seconds=poll)
        put(sys.modules["sweeps.execution.watch"], SLICE_SECONDS=poll)
        yield


def encoded(value: Any) -> memoryview:
    """A checkpoint, with the end by which one is known."""
    return memoryview(json.dumps(value).encode() + ZIP_END)


def decoded(content: io.BytesIO) -> Any:
    try:
        return json.loads(content.getvalue().removesuffix(ZIP_END))
    except ValueError as error:
        raise DamagedCheckpointError(str(error)) from None


_checked = tables.checked


@functools.lru_cache(maxsize=4096)
def _checked_once(
    path: Path, content: bytes, columns: tuple[str, ...] | None, digest: str | None
) -> tables.Checked:
    return _checked(path, content, columns, digest)


def checked(
    path: Path, content: bytes, columns: Sequence[str] | None = None, digest: str | None = None
) -> tables.Checked:
    """As `tables.checked`, of each content once."""
    return _checked_once(path, content, None if columns is None else tuple(columns), digest)


def handlers() -> dict[int, Any]:
    """Of a command that a person started."""
    return {signal.SIGINT: signal.default_int_handler}
