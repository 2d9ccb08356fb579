"""Workers on this machine: one a GPU, or one on a machine without; started, watched, restarted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from sweeps.ledger import LOGS, Ledger, Plan
from sweeps.sweep import Trial
from sweeps.worker import MAX_DEATHS
from trainer.errors import EXIT_IO, EXIT_USAGE, InputError

# How long a worker that was asked to stop may take before it is killed.
STOP_SECONDS = 20
# How long a detached launch waits for its workers to begin.
CLAIM_SECONDS = 30


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; [] for none."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name.strip() not in ("", "-1")]
    import pynvml

    try:
        pynvml.nvmlInit()
        return [str(number) for number in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []


@dataclass
class Pool:
    """The worker processes of one launch."""

    ledger: Ledger
    plans: list[Plan]
    launch: float
    workers: int
    retry: bool = False
    detach: bool = False
    processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)  # by slot
    logs: dict[int, Path] = field(default_factory=dict)
    restarts: int = 0

    def start(self) -> None:
        """Start the workers. Raises OSError where the log folder cannot be written."""
        (self.ledger.folder / LOGS).mkdir(parents=True, exist_ok=True)
        for slot in range(self.workers):
            self._start(slot)

    def _start(self, slot: int) -> None:
        gpus = visible_gpus()
        environment = dict(os.environ)
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
        # Threads of several workers on the same cores wait for each other, at a huge cost.
        cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        environment.setdefault("OMP_NUM_THREADS", str(max(1, cores // self.workers)))
        # By default threads spin while they wait: 6 % faster on an idle machine, five times slower
        # beside one busy process.
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(self.launch))
        log = self.ledger.folder / LOGS / f"{stamp}-{os.getpid()}-{slot}.log"
        command = [
            sys.executable, "-m", "sweeps.worker", str(self.ledger.folder),
            *(word for plan in self.plans for word in ("--plan", plan.id)),
            "--launch", repr(self.launch), "--log-file", f"{LOGS}/{log.name}",
            "--parent", "0" if self.detach else str(os.getpid()),
            *(["--retry"] if self.retry else []),
        ]  # fmt: skip
        with log.open("ab") as output:
            # A session of its own: Ctrl-C on the terminal reaches launch, which decides.
            self.processes[slot] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
        self.logs[slot] = log

    def wait_for_claims(self, trials: list[Trial]) -> None:
        """Wait until every worker holds a trial or has ended, so that status and cancel see it."""
        deadline = time.monotonic() + CLAIM_SECONDS
        while time.monotonic() < deadline:
            held = {one.claim.pid for one in self.ledger.standings(trials) if one.claim is not None}
            if all(p.pid in held or p.poll() is not None for p in self.processes.values()):
                return
            time.sleep(0.1)

    def poll(self) -> bool:
        """Look after the workers; False when none is left. One that was killed is replaced.

        Raises InputError where a worker gave up on the machine or the input, in its own words.
        """
        for slot, process in list(self.processes.items()):
            code = process.poll()
            if code is None:
                continue
            del self.processes[slot]
            if code in (EXIT_USAGE, EXIT_IO):
                raise self._words_of(slot, code)
            limit = MAX_DEATHS * sum(len(plan.trials) for plan in self.plans)
            if code < 0 and self.restarts < limit:
                self.restarts += 1
                self._start(slot)
        return bool(self.processes)

    def _words_of(self, slot: int, code: int) -> InputError:
        lines = self.logs[slot].read_text(errors="replace").splitlines()
        said = {
            word: next((x.removeprefix(word) for x in reversed(lines) if x.startswith(word)), "")
            for word in ("error: ", "help: ")
        }
        return InputError(
            said["error: "] or f"a worker ended with exit code {code}",
            said["help: "] or f"its log says more: {self.logs[slot]}",
            exit_code=code,
        )

    def stop(self) -> None:
        """Ask every worker to give its trial back, and wait until it has."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for process in self.processes.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()
