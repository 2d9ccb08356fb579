"""The worker: lease, train, record, next.

    python -m sweeps.execution.worker RESULTS/SWEEP --plan ID --launch SECONDS

A worker runs trial after trial of a sweep until none is left. `launch` starts it; any number may
run at once, in any process that sees the folder.
"""

from __future__ import annotations

import collections
import ctypes
import logging
import math
import os
import signal
import sys
import traceback
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from local_machine import clock, processes
from local_machine.errors import run_command, storage_error
from local_machine.secrets import masked
from slurm import environment
from slurm.environment import Child
from sweeps.execution.shutdown import Stop
from sweeps.execution.trial_order import Order, read_seconds, shape_of
from sweeps.spec.sweep import Trial
from sweeps.state.lease import Lease
from sweeps.state.lease_watch import LostTrialError, Watch
from sweeps.state.liveness import Liveness
from sweeps.state.trial_store import Standing, State, TrialStore
from trainer import origin
from trainer.config import DataConfig, TrainConfig
from trial_records import trial_files

if TYPE_CHECKING:
    from trainer.data.datasets import Counts

log = logging.getLogger("sweeps.execution.worker")

# A trial whose worker dies so often within one launch is given up until the next.
MAX_DEATHS = 3
LOG_TAIL = 30
# How long a local worker's step may take once it was asked to stop; a launch kills it a bit later.
PATIENCE_SECONDS = 10.0
# How often a running trial looks whether a search has pruned it.
LOOK_SECONDS = 0.5
# What a trial takes beside its epochs as predicted: a slower node, the evaluation at its end.
SAFETY, AROUND_SECONDS = 1.1, 10.0
START = "=== trial"
END = "=== end of"


@dataclass
class Worker:
    """One process's run through a sweep's open trials."""

    store: TrialStore
    launch: float  # whose worker it is: what failed within it is not tried again within it
    log: str  # the file that this process's output goes to, in the sweep's folder
    retry_only: bool = False  # lost and failed trials, not those that never ran
    stop: Stop = field(default_factory=Stop)
    job: dict[str, Any] | None = None  # what its leases say of the Slurm job that it runs in
    slot: int = 0  # which of the workers that start together
    seconds: Mapping[str, float] = field(default_factory=dict)  # predicted, by trial
    ends: float = math.inf  # when its time is up, seconds since 1970
    limit: float = math.inf  # how many seconds it has in all, each time that it starts
    paces: dict[Hashable, float] = field(default_factory=dict)  # its own seconds an epoch, by shape
    has_run: bool = False
    tail: collections.deque[str] = field(default_factory=lambda: collections.deque(maxlen=LOG_TAIL))

    def run(self, trials: Iterable[Trial]) -> bool:
        """Run every trial that is open and not held by another worker.

        True where it stopped before that, because `stop` said so or those that are left would not
        be done in its time. A trial is looked at once, before it is run, and again only where
        another had it. Raises InputError where the disk is full or may not be written: that is the
        machine's trouble, so the trial is given back unharmed and no other is begun.
        """
        order = Order(trials, self.seconds, self.slot)
        while True:
            held: list[Trial] = []  # by others, who may lose them or give them back
            too_long: list[Trial] = []
            ran = False
            while (trial := order.next()) is not None:
                if self.stop():
                    return True
                standing = self.store.standing(trial)
                if not self.wants(standing):
                    if not standing.state.is_over:
                        held.append(trial)
                    continue
                if trial.problem is not None:
                    log.error("%s; %s", trial.problem.what, trial.problem.help)
                    continue
                if not self.fits(trial):
                    too_long.append(trial)
                    continue
                lease = self.store.lease(trial, self.launch, self.log, **(self.job or {}))
                if lease is None:
                    held.append(trial)
                    continue
                ran = self.has_run = True
                try:
                    stopped = self.run_leased(trial, lease)
                except LostTrialError:
                    # A job was started again elsewhere, and takes its trials there.
                    if self.job is not None:
                        raise
                    log.warning("another attempt holds %s now", trial.name)
                    held.append(trial)
                    continue
                if stopped:
                    self.store.release(trial, lease)
                    return True
            if self.stop():
                return True
            if not ran:
                if too_long:
                    log.info("%d open trials need more time than is left", len(too_long))
                return bool(too_long)
            # Time has passed: look again at those that were not ours to run.
            order = Order(held + too_long, self.seconds, self.slot)

    def fits(self, trial: Trial) -> bool:
        """Whether the trial would be done before this worker's time is up, as far as one can tell.

        One that takes longer than all the time that a worker has is begun at any time: whoever
        takes it next goes on from its checkpoint.
        """
        pace = self.paces.get(shape_of(trial))
        seconds = self.seconds.get(trial.name) if pace is None else pace * (trial.epochs or 0)
        if seconds is None or not self.has_run:
            return True
        needed = SAFETY * seconds + AROUND_SECONDS
        return needed <= self.ends - clock.now() or needed > self.limit

    def wants(self, standing: Standing) -> bool:
        """Whether this worker should run the trial now."""
        if standing.failure is not None:
            return self.launch not in standing.failure.launches
        if standing.pruned is not None:
            return not self.retry_only and self.launch not in standing.pruned.launches
        if standing.state is State.PENDING:
            return not self.retry_only
        return standing.state is State.LOST

    def run_leased(self, trial: Trial, lease: Lease) -> bool:
        """Run a trial that this process holds. True where it was stopped and is still held."""
        self.tail.clear()
        log.info("%s %s, attempt %d", START, trial.name, lease.attempt)
        try:
            if lease.deaths >= MAX_DEATHS:
                self._give_up(trial, lease)
                return False
            with Watch(self.store.folder_of(trial), lease) as watch:
                return self._train(trial, lease, watch)
        except BaseException:
            self.store.release(trial, lease)
            raise
        finally:
            self.stop.in_steps = False
            log.info("%s %s", END, trial.name)

    def follow(self, trial: Trial) -> bool:
        """Train as one of the other ranks of a trial that rank 0 holds. True where it was stopped.

        Rank 0 alone writes down what became of it.
        """
        from trainer.train import PreemptedError, train

        folder = self.store.folder_of(trial)
        try:
            train(trial.config, folder, should_stop=self.stop)
        except PreemptedError:
            return not (folder / trial_files.PRUNED).exists()
        return False

    def _train(self, trial: Trial, lease: Lease, watch: Watch) -> bool:
        from trainer import process_cache

        if trial.problem is None:
            # While torch is imported.
            process_cache.read_ahead(trial.config.data)
        from trainer.train import PreemptedError, epoch_line, train

        folder = self.store.folder_of(trial)
        about = origin.attempt(attempt=lease.attempt, launch=lease.launch)
        looked = clock.monotonic()

        def say(row: dict[str, Any]) -> None:
            log.info("%s", epoch_line(row, trial.config.epochs))

        def should_stop() -> bool:
            nonlocal looked
            self.stop.in_steps = True
            watch.check()
            if self.stop():
                return True
            if clock.monotonic() - looked < LOOK_SECONDS:
                return False
            looked = clock.monotonic()
            return (folder / trial_files.PRUNED).exists()

        try:
            run = train(
                trial.config, folder, on_epoch=say, should_stop=should_stop, attempt=about,
                fence=watch.look,
            )  # fmt: skip
        except PreemptedError:
            if not (folder / trial_files.PRUNED).exists():
                return True
            log.info("pruned: a search wants no more of it")
            self.store.release(trial, lease)
        except Exception as error:
            if isinstance(error, OSError) and (storage := storage_error(error)) is not None:
                raise storage from error
            watch.look()  # the failure of an attempt that lost its trial is nothing to the next
            log.error("%s", traceback.format_exc().rstrip())
            self.store.fail(trial, lease, self._failure(error, lease, about))
        else:
            log.info(
                "done: validation %.2f %%, test %.2f %%",
                100 * run["val_accuracy"],
                100 * run["test_accuracy"],
            )
            self.store.finish(trial, lease)
            self.paces[shape_of(trial)] = run["seconds"] / run["epochs_run"]
        return False

    def _failure(
        self, error: Exception, lease: Lease, about: dict[str, Any] | None = None
    ) -> trial_files.Failure:
        return trial_files.Failure(
            cause=cause_of(error),
            exception=f"{type(error).__name__}: {error}",
            traceback=traceback.format_exc(),
            log_tail=list(self.tail),
            attempt=lease.attempt,
            failed_at=clock.now(),
            host=processes.host_name(),
            epoch=getattr(error, "epoch", None),
            origin=about,
        )

    def _give_up(self, trial: Trial, lease: Lease) -> None:
        error = ChildProcessError(
            f"its worker died {lease.deaths} times without a word; the kernel kills a process that "
            "takes too much memory (dmesg tells)"
        )
        log.error("%s", error)
        self.store.fail(trial, lease, self._failure(error, lease))


def cause_of(error: Exception) -> trial_files.Cause:
    """The word for what ended an attempt."""
    import torch

    from trainer.train import NonFiniteLossError

    text = str(error).lower()
    if isinstance(error, NonFiniteLossError):
        return "NONFINITE"
    no_memory = ("not enough memory", "can't allocate memory")
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        word in text for word in no_memory
    ):
        return "OUT_OF_MEMORY"
    # NCCL stands for the talk between ranks, over gloo too: one that died shows itself so.
    talk = ("nccl", "gloo", "connection closed by peer", "connection reset by peer")
    if isinstance(error, torch.distributed.DistError) or any(word in text for word in talk):
        return "NCCL"
    from_data = any(
        frame.filename.endswith("trainer/data/datasets.py")
        for frame in traceback.extract_tb(error.__traceback__)
    )
    return "DATA" if from_data else "ERROR"


def prepare_data(configs: Iterable[DataConfig]) -> None:
    """Bring the data sets into the cache before any worker needs them. Raises InputError."""
    from trainer.data.datasets import prepare

    for config in dict.fromkeys(configs):
        prepare(config)


def check_data(configs: Iterable[TrainConfig], ranks: int = 1) -> None:
    """Raises InputError where a trial on so many ranks could not be, by its data; touches
    nothing."""
    from trainer.data.preflight import check

    check(configs, ranks)


def count_data(config: DataConfig) -> Counts:
    """How many images the configuration leaves. Raises InputError as `check_data` does."""
    from trainer.data.datasets import check

    return check(config)


class _Masking(logging.Formatter):
    """What an error or a command says of a secret stays out of the log."""

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


class _Tail(logging.Handler):
    """Keeps the last lines for failure.json."""

    def __init__(self, lines: collections.deque[str]) -> None:
        super().__init__()
        self.lines = lines

    def emit(self, entry: logging.LogRecord) -> None:
        self.lines.extend(self.format(entry).splitlines())


def start_logging(worker: Worker) -> None:
    """Log lines to stderr, which is the worker's log file where launch started it."""
    form = _Masking("%(asctime)s %(message)s")
    for handler in (logging.StreamHandler(sys.stderr), _Tail(worker.tail)):
        handler.setFormatter(form)
        logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)


def die_with(parent: int, stop: Stop) -> None:
    """Have Linux send SIGTERM when the parent dies, so that a killed launch leaves no worker."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
    if os.getppid() != parent:
        stop.warned = True  # it died before we asked


app = typer.Typer(add_completion=False)


@app.command()
def main(
    folder: Annotated[Path, typer.Argument(help="The sweep's folder, RESULTS/SWEEP.")],
    plan: Annotated[list[str], typer.Option(help="Run the trials of this plan.")],
    launch: Annotated[float, typer.Option(help="When the launch began, seconds since 1970.")],
    log_file: Annotated[str, typer.Option(help="This process's log, in the sweep's folder.")] = "",
    parent: Annotated[int, typer.Option(help="Stop when this process is gone; 0: never.")] = 0,
    retry: Annotated[bool, typer.Option(help="Only trials that failed or were lost.")] = False,
    only: Annotated[str, typer.Option(help="Only the trial of this name.")] = "",
    slot: Annotated[int, typer.Option(help="Which of the workers that start together.")] = 0,
) -> int:
    """Run the open trials of a sweep, one after another.

    Ends with 0 when none is left to run, 143 when it was asked to stop, else as every command.
    """
    environment.enter(Child.WORKER)
    origin.begin()
    stop = Stop(PATIENCE_SECONDS)
    stop.listen(signal.SIGTERM)

    def work() -> bool:
        # It may take over what a job has lost, where there is a Slurm to say so.
        store = TrialStore(folder.parent, folder.name, Liveness.here())
        seconds = read_seconds(store, plan)
        worker = Worker(store, launch, log_file, retry, stop=stop, slot=slot, seconds=seconds)
        start_logging(worker)
        if parent:
            die_with(parent, stop)
        trials = [trial for identity in plan for trial in store.plan(identity).trials]
        return worker.run(one for one in trials if one.name == only or not only)

    if not stop.during(work):
        return 0
    log.info("stopped on request; the trial was given back")
    return 128 + signal.SIGTERM


if __name__ == "__main__":
    run_command(app)
