"""Many trials that are done: a sweep's definition, and the records that it would have left."""

from __future__ import annotations

import shutil
from pathlib import Path

EPOCHS = 100
SEEDS = 10

_DEFINITION = """from sweeps import Sweep, grid
from trainer.config import TrainConfig

rates = [0.1 * (1 + i) / {rates} for i in range({rates})]
sweep = Sweep(TrainConfig(epochs={epochs}), grid({{"optimizer.lr": rates}}), seeds={seeds})
"""


def define(path: Path, trials: int) -> Path:
    """Write the definition of a sweep of so many trials, a multiple of SEEDS, at the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_DEFINITION.format(rates=trials // SEEDS, epochs=EPOCHS, seeds=SEEDS))
    return path


def build(results: Path, definition: Path) -> None:
    """Leave what its trials would leave at their end, but checkpoints and predictions, and a plan.

    The records have the schemas of real ones and every figure in them is made up.
    """
    from sweeps.spec.expand import expand
    from sweeps.spec.find import find
    from sweeps.spec.grid import axes_of
    from sweeps.state.plan import LOGS, Plan
    from sweeps.state.trial_store import TrialStore
    from trial_records import tables, trial_files

    name, sweep = find(str(definition))
    trials = expand(sweep)
    store = TrialStore(results, name)
    store.write_plan(
        Plan(name, trials, "full", {}, axes_of(sweep.space), f"python -m sweeps.launch {name}")
    )
    (store.folder / LOGS).mkdir()
    rows = [
        dict.fromkeys(tables.EPOCHS_SCHEMA.names, 1 / (epoch + 1)) | {"epoch": epoch}
        for epoch in range(EPOCHS)
    ]
    epochs = store.folder / trial_files.EPOCHS
    digest = tables.write_table(epochs, rows, tables.EPOCHS_SCHEMA)
    for trial in trials:
        folder = store.folder_of(trial)
        folder.mkdir()
        (folder / trial_files.CONFIG).write_text(trial.config.to_json())
        shutil.copyfile(epochs, folder / trial_files.EPOCHS)
        run = {
            "fingerprint": trial.config.fingerprint, "status": "done", "stopped_early": False,
            "best_epoch": EPOCHS - 1, "epochs_run": EPOCHS, "val_accuracy": 0.9,
            "val_accuracy_last": 0.9, "test_accuracy": 0.9, "test_images": 10_000,
            "classes": "a,b,c,d,e,f,g,h,i,j", "device": "cpu", "world_size": 1,
            "split_sha256": "ab" * 32, "command": f"python -m sweeps.launch {name}",
            "epochs_sha256": digest,
        }  # fmt: skip
        tables.write_run(folder, trial.config.flat() | run)
    epochs.unlink()
