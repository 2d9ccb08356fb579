"""Workers on this machine: some a GPU, or on a machine without; started, watched, restarted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from local_machine import clock, processes
from local_machine.errors import EXIT_IO, EXIT_USAGE, InputError
from local_machine.files import read_file
from slurm import environment as environments
from slurm.environment import Child
from sweeps.devices import cores_here, visible_gpus
from sweeps.execution.shutdown import was_killed
from sweeps.execution.worker import MAX_DEATHS
from sweeps.spec.sweep import Trial
from sweeps.state.plan import LOGS, Plan
from sweeps.state.trial_store import TrialStore
from trial_records import trial_files

# The variable by which `cancel` knows a process to be a worker of a launch.
LAUNCH = "SWEEPS_LAUNCH"
# How long a worker that was asked to stop may take before it is killed.
STOP_SECONDS = 20
# How long a detached launch waits for its workers to begin.
CLAIM_SECONDS = 30


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
    ledger: TrialStore, words: list[str], launch: float, slot: int, workers: int, *, stays: bool
) -> tuple[processes.Process[bytes], Path]:
    """Start a `sweeps.execution.worker` as number `slot` of `workers` on this machine; it, and its
    log.

    It ends with this process unless it `stays`. Raises OSError where the log cannot be written.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(launch))
    log = ledger.folder / LOGS / f"{stamp}-{os.getpid()}-{slot}.log"
    command = [
        sys.executable, "-m", "sweeps.execution.worker", str(ledger.folder), *words,
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


def stop_all(processes: Iterable[processes.Process[bytes]]) -> None:
    """Ask the workers to give their trials back, and wait until they have."""
    processes = list(processes)
    for process in processes:
        process.send_signal(signal.SIGTERM)
    deadline = clock.monotonic() + STOP_SECONDS
    for process in processes:
        try:
            process.wait(max(0.1, deadline - clock.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass
class Pool:
    """The worker processes of one launch."""

    ledger: TrialStore
    plans: list[Plan]
    launch: float
    workers: int
    retry: bool = False
    detach: bool = False
    processes: dict[int, processes.Process[bytes]] = field(default_factory=dict)  # by slot
    logs: dict[int, Path] = field(default_factory=dict)
    restarts: int = 0

    def start(self) -> None:
        """Start the workers. Raises OSError where the log folder cannot be written."""
        (self.ledger.folder / LOGS).mkdir(parents=True, exist_ok=True)
        for slot in range(self.workers):
            self._start(slot)

    def _start(self, slot: int) -> None:
        words = [word for plan in self.plans for word in ("--plan", plan.id)]
        words += ["--retry"] if self.retry else []
        self.processes[slot], self.logs[slot] = start_worker(
            self.ledger, words, self.launch, slot, self.workers, stays=self.detach
        )

    def wait_for_claims(self, trials: list[Trial]) -> None:
        """Wait until every worker holds a trial or has ended, so that status and cancel see it."""
        deadline = clock.monotonic() + CLAIM_SECONDS
        while clock.monotonic() < deadline:
            held = {one.claim.pid for one in self.ledger.standings(trials) if one.claim is not None}
            if all(p.pid in held or p.poll() is not None for p in self.processes.values()):
                return
            clock.sleep(0.1)

    def poll(self) -> bool:
        """Look after the workers; False when none is left. One that was killed is replaced, but
        not one that was asked to stop.

        Raises InputError where a worker gave up on the machine or the input, in its own words.
        """
        for slot, process in list(self.processes.items()):
            code = process.poll()
            if code is None:
                continue
            del self.processes[slot]
            if code in (EXIT_USAGE, EXIT_IO):
                raise words_of(self.logs[slot], code)
            limit = MAX_DEATHS * sum(len(plan.trials) for plan in self.plans)
            if was_killed(code) and self.restarts < limit:
                self.restarts += 1
                self._start(slot)
        return bool(self.processes)

    def stop(self) -> None:
        """Ask every worker to give its trial back, and wait until it has."""
        stop_all(self.processes.values())
        self.processes.clear()
