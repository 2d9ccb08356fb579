"""What it costs to render the page again when one trial of a hundred has logged a row.

    python benchmarks/live.py [--trials 100] [--changes 10] [--profile]

Two sweeps of ten points with ten seeds each: a plain function's, and one of the project's own
trainer; all trials but five are done, and those log 50 epochs one after the other. What is counted
is the processor time of the whole process from the change to the page that is served: reading,
drawing and writing it, as `python -m analysis.report --serve` does. The first page is made before
anything changes. The files of the report's folder are written later, when nothing changes.

Last measured on two cores that ten other processes shared, which makes processor time itself
longer: a function's sweep 0.92 s (0.87 to 0.99), the trainer's 1.59 s (1.21 to 1.95). At the same
time the version before took 1.55 and 2.33 s, which read every file again and made a frame for each
trial. What is left is one figure of curves, which a new point changes, and the tables of sections.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from analysis.live.server import Server
from analysis.live.watch import Watch
from sweeps.spec.expand import expand
from sweeps.spec.find import find
from sweeps.spec.grid import axes_of
from sweeps.spec.sweep import Trial
from sweeps.state import lease as leases
from sweeps.state.lease import Lease
from sweeps.state.plan import LOGS, Plan
from sweeps.state.trial_store import TrialStore
from trial_records import tables
from trial_records.config import TRAINER
from trial_records.log import LogWriter
from trial_records.metrics import configured, measured, whose
from trial_records.trial_files import ATTEMPT, CONFIG, EPOCHS, FILES, LOG

SEEDS = 10
LENGTH = 50
OPEN = 5
DEFINITIONS = {
    "a function": """
from sweeps import Sweep, grid, maximize

def train(config, run):
    raise NotImplementedError

sweep = Sweep(
    train, base={"lr": 0.1, "width": 64, "epochs": LENGTH, "seed": 0},
    space=grid({"lr": [0.01 * (1 + i) for i in range(POINTS)]}), seeds=SEEDS,
    objective=maximize("val_accuracy"),
)
""",
    "the trainer": """
from sweeps import Sweep, grid
from trainer.config import TrainConfig

sweep = Sweep(
    TrainConfig(epochs=LENGTH),
    grid({"optimizer.lr": [0.01 * (1 + i) for i in range(POINTS)]}), seeds=SEEDS,
)
""",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--changes", type=int, default=10)
    parser.add_argument("--profile", action="store_true", help="say where the time goes")
    given = parser.parse_args()
    for what, definition in DEFINITIONS.items():
        with tempfile.TemporaryDirectory() as folder:
            first, found = costs(Path(folder), definition, given)
        spread = f"{statistics.median(found):.2f} s ({min(found):.2f} to {max(found):.2f})"
        print(f"{what}: the first page {first:.2f} s of processor time, a change {spread}")


def costs(folder: Path, definition: str, given: argparse.Namespace) -> tuple[float, list[float]]:
    """Seconds of processor time: of the first page, and of each change."""
    path = folder / "mine.py"
    words = {"LENGTH": LENGTH, "SEEDS": SEEDS, "POINTS": given.trials // SEEDS}
    for word, number in words.items():
        definition = definition.replace(word, str(number))
    path.write_text(definition)
    changes = begun(folder / "results", path)
    watched = Watch([], folder / "results", folder / "report", Server(0, folder / "report"))
    start = time.process_time()
    watched.make()
    first = time.process_time() - start
    found = []
    profile = cProfile.Profile(time.process_time) if given.profile else None
    next(changes), watched.make()  # what is imported only once something has changed
    for _ in range(given.changes):
        next(changes)
        with profile or nullcontext():
            start = time.process_time()
            watched.make()
            found.append(time.process_time() - start)
    if profile:
        pstats.Stats(profile).sort_stats("cumulative").print_stats(60)
    return first, found


def begun(results: Path, path: Path) -> Iterator[None]:
    """Leave what the trials of the definition would, but the last ones; each step of the iterator
    is an epoch of one of these."""
    name, sweep = find(str(path))
    trials = expand(sweep)
    store = TrialStore(results, name)
    task = trials[0].task
    store.write_plan(Plan(name, trials, "full", {}, axes_of(sweep.space), "made up", task=task))
    (store.folder / LOGS).mkdir()
    draw = np.random.default_rng(0)
    for trial in trials:
        folder = store.folder_of(trial)
        folder.mkdir()
        (folder / CONFIG).write_text(trial.to_json())
    for trial in trials[:-OPEN]:
        finish(store.folder_of(trial), trial, rows_of(trial, draw))
    return grow(store, trials[-OPEN:], draw)


def grow(store: TrialStore, trials: list[Trial], draw: np.random.Generator) -> Iterator[None]:
    """This process holds the trials, and each of them logs an epoch in turn."""
    logs = []
    for trial in trials:
        folder = store.folder_of(trial)
        lease = leases.take(folder, Lease(1, 0, 0.0, ""), store.liveness.is_alive)
        assert lease is not None
        files = folder / f"{ATTEMPT}{lease.token}" / FILES
        files.mkdir(parents=True)
        logs.append(LogWriter(files / LOG, b"", 1, lease.token))
    rows = [rows_of(trial, draw) for trial in trials]
    for epoch in range(LENGTH):
        for log, found in zip(logs, rows, strict=True):
            log.append("row", found[epoch])
            yield


def rows_of(trial: Trial, draw: np.random.Generator) -> list[dict[str, Any]]:
    """What it logs: the columns of the trainer's epochs, the metric rising to a level of its
    own."""
    names = tables.EPOCHS_SCHEMA.names if trial.task.name == TRAINER else ("val_accuracy", "loss")
    level = 0.9 + draw.normal(0, 0.01)
    return [
        dict.fromkeys(names, float(draw.uniform())) | {
            "epoch": epoch, "val_accuracy": level - 0.5 / (epoch + 1) + draw.normal(0, 1e-3),
        }
        for epoch in range(LENGTH)
    ]  # fmt: skip


def finish(folder: Path, trial: Trial, rows: list[dict[str, Any]]) -> None:
    best = max(range(LENGTH), key=lambda epoch: float(rows[epoch]["val_accuracy"]))
    named = whose(folder, trial.fingerprint, trial.task.name)
    run: dict[str, Any] = {"status": "done", "seconds": 60.0, "device": "cpu"}
    if trial.task.name == TRAINER:
        digest = tables.write_table(folder / EPOCHS, rows, tables.EPOCHS_SCHEMA, named)
        accuracy = rows[best]["val_accuracy"]
        run |= trial.config.flat() | {
            "fingerprint": trial.fingerprint, "stopped_early": False, "best_epoch": best,
            "epochs_run": LENGTH, "val_accuracy": accuracy, "val_accuracy_last": accuracy,
            "test_accuracy": accuracy - 0.002, "test_images": 10_000, "val_images": 5_000,
            "train_images": 45_000, "classes": "a,b,c,d,e,f,g,h,i,j", "world_size": 1,
            "split_sha256": "ab" * 32,
        }  # fmt: skip
    else:
        digest = tables.write_rows(folder / EPOCHS, rows, named)
        run |= configured(trial.values) | measured(rows, {}, "val_accuracy", "maximize", "best")
    tables.write_run(folder, named | run | {tables.DIGESTS[EPOCHS]: digest})


if __name__ == "__main__":
    main()
