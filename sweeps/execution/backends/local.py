"""Trials in worker processes on this machine: some a GPU, or on a machine without."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from local_machine import clock, processes
from local_machine.devices import cores_here, visible_gpus
from local_machine.errors import EXIT_IO, EXIT_USAGE, InputError
from local_machine.files import read_file
from slurm import environment as environments
from slurm.environment import Child
from sweeps.execution.backends.backend import Backend, Work
from sweeps.execution.gpu import mps, sharing
from sweeps.execution.holder_proof import LAUNCH
from sweeps.execution.request import LaunchRequest
from sweeps.execution.shutdown import was_killed
from sweeps.execution.worker import MAX_DEATHS
from sweeps.spec.sweep import Trial
from sweeps.spec.task_loader import load
from sweeps.state.plan import LOGS
from sweeps.state.trial_store import TrialStore
from trial_records import trial_files

# How long a worker that was asked to stop may take before it is killed.
STOP_SECONDS = 20
# After how long a person is told what the command waits for.
_SILENT_SECONDS = 2.0
# How long a detached launch waits for its workers to begin.
BEGIN_SECONDS = 30


def environment(slot: int, workers: int) -> dict[str, str]:
    """The variables of worker number `slot` of `workers`: its GPU, with how many it shares that,
    and its threads."""
    gpus = visible_gpus()
    found = environments.built(Child.WORKER)
    if gpus:
        gpu = slot % len(gpus)
        found["CUDA_VISIBLE_DEVICES"] = gpus[gpu]
        found[trial_files.PER_GPU] = str(len(range(gpu, workers, len(gpus))))
    # Threads of several workers on the same cores wait for each other, at a huge cost.
    found.setdefault("OMP_NUM_THREADS", str(max(1, cores_here() // workers)))
    # By default threads spin while they wait: 6 % faster on an idle machine, five times slower
    # beside one busy process.
    found.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return found


def start_worker(
    store: TrialStore,
    words: list[str],
    launch: float,
    slot: int,
    workers: int,
    *,
    stays: bool,
    start: Sequence[str] = (),
) -> tuple[processes.Process[bytes], Path]:
    """Start a `sweeps.execution.worker` as number `slot` of `workers` on this machine; it, and its
    log.

    `start` has it run from a code snapshot. It ends with this process unless it `stays`. Raises
    OSError where the log cannot be written.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(launch))
    log = store.folder / LOGS / f"{stamp}-{os.getpid()}-{slot}.log"
    command = [
        sys.executable, *start,
        "-m", "sweeps.execution.worker", str(store.folder.absolute()), *words,
        "--launch", repr(launch), "--log-file", f"{LOGS}/{log.name}",
        "--slot", str(slot),
        "--parent", "0" if stays else str(os.getpid()),
    ]  # fmt: skip
    with log.open("ab") as output:
        # A session of its own: Ctrl-C on the terminal reaches its parent, which decides.
        process = processes.start(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(slot, workers) | {LAUNCH: repr(launch)},
            start_new_session=True,
        )
    return process, log


def words_of(log: Path, code: int) -> InputError:
    """The error with which a worker ended, in its own words."""
    lines = read_file(log).decode(errors="replace").splitlines()
    said = {
        word: next((x.removeprefix(word) for x in reversed(lines) if x.startswith(word)), "")
        for word in ("error: ", "help: ")
    }
    return InputError(
        said["error: "] or f"a worker ended with exit code {code}",
        said["help: "] or f"its log says more: {log}",
        exit_code=code,
    )


def stop_all(workers: Sequence[processes.Process[bytes]], more_seconds: float = 0.0) -> None:
    """Ask the workers to give their trials back, and wait until they have; for so much longer than
    usual."""
    for process in workers:
        process.send_signal(signal.SIGTERM)
    seconds = STOP_SECONDS + more_seconds
    deadline = clock.monotonic() + seconds
    _tell_if_slow(workers, seconds)
    for process in workers:
        try:
            process.wait(max(0.1, deadline - clock.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _tell_if_slow(workers: Sequence[processes.Process[bytes]], seconds: float) -> None:
    until = clock.monotonic() + _SILENT_SECONDS
    while running := sum(process.poll() is None for process in workers):
        if (left := until - clock.monotonic()) <= 0:
            print(
                f"waiting up to {seconds - _SILENT_SECONDS:.0f} s until "
                + ("a worker has stopped its trial" if running == 1
                   else f"{running} workers have stopped their trials")
                + "; Ctrl-C ends this command at once, and they stop all the same",
                file=sys.stderr, flush=True,
            )  # fmt: skip
            return
        clock.sleep(min(left, 0.1))


@dataclass
class Started:
    """A worker process, and what to start again where it is killed."""

    process: processes.Process[bytes]
    log: Path
    words: list[str]
    only: str
    """The name of the one trial that it runs; "" for one that takes trial after trial."""


class Local(Backend):
    """Worker processes that take trial after trial, or have one trial each."""

    seconds: float = 0.5

    def __init__(self, store: TrialStore, request: LaunchRequest) -> None:
        self.store = store
        self.request = request
        self.goes_on = request.detach
        self.running: dict[int, Started] = {}
        """By slot, which says which GPU is a worker's."""
        self._work: Work | None = None
        self._slots = 0
        self._replacements = 0
        self._context = contextlib.ExitStack()

    def __exit__(self, *_: object) -> None:
        self._context.close()

    def room(self, trials: Sequence[Trial]) -> int:
        """Measures where `--per-gpu auto` asks for it."""
        if not self._slots:
            # MPS where workers may share a GPU, and this process is there to end it.
            request = self.request
            may = request.per_gpu == "auto" or request.at_once > len(visible_gpus())
            if may and not request.detach:
                self._context.enter_context(mps.running())
            per_gpu = sharing.settled(request.per_gpu, trials)
            self._slots = sharing.at_once(request.workers, per_gpu)
        return self._slots

    def submit(self, work: Work) -> None:
        """Start workers. Raises OSError where the log folder cannot be written."""
        self._work = work
        (self.store.folder / LOGS).mkdir(parents=True, exist_ok=True)
        plans = [word for plan in work.plans for word in ("--plan", plan.id)]
        if work.apart:
            for trial in work.trials:
                slot = next(n for n in range(len(self.running) + 1) if n not in self.running)
                self._start(slot, [*plans, "--only", trial.name], trial.name)
            return
        self._slots = min(self.room(work.trials), len(work.trials))
        self._replacements = MAX_DEATHS * sum(len(plan.trials) for plan in work.plans)
        for slot in range(self._slots):
            self._start(slot, [*plans, *["--retry"] * work.retry])

    def _start(self, slot: int, words: list[str], only: str = "") -> None:
        assert self._work is not None
        start = () if self.code is None else self.code.keep(self.store.folder)
        process, log = start_worker(
            self.store, words, self._work.launch, slot, self._slots, stays=self.request.detach,
            start=start,
        )  # fmt: skip
        self.running[slot] = Started(process, log, words, only)

    def poll(self) -> bool:
        """One of the workers that take trial after trial is replaced where it was killed, but not
        where it was asked to stop; whoever gave a trial to a worker of its own sees to that."""
        for slot, one in list(self.running.items()):
            code = one.process.poll()
            if code is None:
                continue
            del self.running[slot]
            if code in (EXIT_USAGE, EXIT_IO):
                raise words_of(one.log, code)
            if one.only and code > 0:
                raise InputError(
                    f"the worker of {one.only} was stopped", "the same command goes on", exit_code=1
                )
            if was_killed(code) and self._replacements:
                self._replacements -= 1
                self._start(slot, one.words)
        return bool(self.running)

    def holds(self, trial: Trial) -> bool:
        return trial.name in [one.only for one in self.running.values()]

    def detach(self) -> None:
        """Wait until every worker holds a trial or has ended, so that status and cancel see it.
        Raises as `poll` does."""
        assert self._work is not None
        deadline = clock.monotonic() + BEGIN_SECONDS
        workers = [one.process for one in self.running.values()]
        while clock.monotonic() < deadline:
            standings = self.store.standings(self._work.trials)
            held = {one.lease.pid for one in standings if one.lease is not None}
            if all(worker.pid in held or worker.poll() is not None for worker in workers):
                break
            clock.sleep(0.1)
        self.poll()

    def cancel(self) -> None:
        """Ask every worker to give its trial back, and wait until it has. Those of a detached
        launch go on, also where it ends before it has seen them all begin."""
        if self.goes_on:
            return
        plans = [] if self._work is None else self._work.plans
        more = max((load(plan.task).stop_seconds for plan in plans), default=0.0)
        stop_all([one.process for one in self.running.values()], more)
        self.running.clear()
