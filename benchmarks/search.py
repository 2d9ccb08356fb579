"""What a search's driver costs beside the training: asking, noting, telling; and a restart.

    python benchmarks/search.py

A thousand trials of the weight-decay search over twelve epochs each, which a runner writes down
as done without training. The peer is Optuna alone: ask, report twelve values, tell, into the same
kind of journal. The driver's time leaves out the writing of the trials' Parquet files.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.storages.journal import JournalFileBackend, JournalStorage

from sweeps.execution.backends.backend import Backend, Work
from sweeps.search.driver import Driver
from sweeps.search.optuna_journal import Journal
from sweeps.spec.find import find_search
from sweeps.spec.scale import Scale
from sweeps.spec.sweep import Search, Trial
from sweeps.state.plan import Plan
from sweeps.state.trial_store import TrialStore
from trial_records import tables, trial_files

EPOCHS = 12
OVERRIDES = {"epochs": str(EPOCHS)}


def accuracy(weight_decay: float, epoch: int) -> float:
    distance = abs(math.log10(weight_decay) + 3)
    return (0.9 - 0.1 * distance) * (1 - 0.5 ** (epoch + 1))


@dataclass
class Instantly(Backend):
    """A backend whose trials are done at once."""

    store: TrialStore
    took: float = 0.0
    """Seconds."""
    seconds: float = 0.0
    goes_on: bool = False

    def room(self, trials: Sequence[Trial]) -> int:
        return 1

    def holds(self, trial: Trial) -> bool:
        return False

    def submit(self, work: Work) -> None:
        started = time.perf_counter()
        for trial in work.trials:
            weight_decay = trial.config.optimizer.weight_decay
            folder = self.store.folder_of(trial)
            folder.mkdir(parents=True)
            rows = [
                {"epoch": epoch, "lr": 0.1, "val_accuracy": accuracy(weight_decay, epoch),
                 "seconds": 1.0}
                for epoch in range(EPOCHS)
            ]  # fmt: skip
            tables.write_table(folder / trial_files.EPOCHS, rows, tables.EPOCHS_SCHEMA)
            run = {
                "fingerprint": trial.config.fingerprint, "status": "done",
                "val_accuracy": rows[-1]["val_accuracy"], "val_images": 5000,
                "stopped_early": False, **trial.config.flat(),
            }  # fmt: skip
            tables.write_table(folder / trial_files.RUN, [run], tables.run_schema())
        self.took += time.perf_counter() - started

    def poll(self) -> bool:
        return False

    def detach(self) -> None:
        """Nothing runs."""

    cancel = detach


def driver(results: Path, search: Search, trials: int) -> tuple[Driver, Instantly]:
    store = TrialStore(results, "weight_decay")
    folder = store.folder / "searches" / "00000000"
    folder.mkdir(parents=True, exist_ok=True)
    runner = Instantly(store)
    plan = Plan(
        "weight_decay", [], "full", OVERRIDES, list(search.space), "benchmark",
        search={"sampler": search.sampler}, search_id="00000000",
    )  # fmt: skip
    journal = Journal(folder, search, {}, EPOCHS)
    made = Driver(store, folder, search, Scale.FULL, OVERRIDES, trials, 1, journal, runner, plan)
    return made, runner


def alone(path: Path, search: Search, trials: int) -> float:
    """Seconds a trial of Optuna itself."""
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(path))),
        sampler=optuna.samplers.TPESampler(seed=0),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=2, reduction_factor=3),
        direction="maximize",
    )
    started = time.perf_counter()
    for _ in range(trials):
        trial = study.ask()
        weight_decay = trial.suggest_float("optimizer.weight_decay", 1e-5, 1e-2, log=True)
        for epoch in range(EPOCHS):
            trial.report(accuracy(weight_decay, epoch), epoch + 1)
            trial.should_prune()
        study.tell(trial, accuracy(weight_decay, EPOCHS - 1))
    return (time.perf_counter() - started) / trials


def main() -> None:
    parser = argparse.ArgumentParser(description="Time a search's driver at many told trials.")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--last", type=int, default=100, help="time these, after the others")
    options = parser.parse_args()
    _, search = find_search("weight_decay")
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder).resolve()
        made, runner = driver(results, search, options.trials)
        first = options.trials - options.last
        while made.journal.asked < first:
            made.step()
        runner.took = 0.0
        started = time.perf_counter()
        while not made.is_over:
            made.step()
        ours = (time.perf_counter() - started - runner.took) / options.last
        started = time.perf_counter()
        driver(results, search, options.trials)
        restart = time.perf_counter() - started
        peer = alone(results / "peer.log", search, options.trials)
    print(
        f"at {options.trials} told trials: {1000 * ours:.1f} ms a trial, restart {restart:.2f} s; "
        f"Optuna alone, mean over its first {options.trials}: {1000 * peer:.1f} ms a trial; "
        f"ratio {ours / peer:.2f}"
    )


if __name__ == "__main__":
    main()
