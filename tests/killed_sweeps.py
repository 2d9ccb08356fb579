"""Sweeps whose trials are killed: a plain function's and the trainer's, a trial for each seed, with
dropout and shuffling in both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import plain_task
import torch
from test_checkpoint import leaves

from sweeps.run import checkpoint_file
from sweeps.spec.expand import expand
from sweeps.spec.find import find
from sweeps.spec.sweep import Trial
from trial_records import tables, trial_files

DEFINITIONS = {
    "function": """
from plain_task import train
from sweeps import Sweep, grid, maximize

sweep = Sweep(train, base={"seed": 0}, space=grid({"seed": list(range(SEEDS))}),
              objective=maximize("accuracy"))
""",
    "trainer": """
import os
from sweeps import Sweep, grid
from trainer.recipes import reported

base = reported("wrn_10_1").override({
    "data.root": os.environ["DRILL_DATA"], "data.train_limit": 120, "model.width": 0.25,
    "model.dropout": 0.3, "epochs": 3, "batch_size": 50, "augment.mixup": 0.2,
})
sweep = Sweep(base=base, space=grid({"seed": list(range(SEEDS))}))
""",
}
EPOCHS = {"function": plain_task.EPOCHS, "trainer": 3}
FILES = {
    "function": {
        trial_files.CHECKPOINT, trial_files.CONFIG, trial_files.EPOCHS, trial_files.RUN,
    },
    "trainer": {
        trial_files.CHECKPOINT, trial_files.CONFIG, trial_files.EPOCHS, trial_files.PREDICTIONS,
        trial_files.RUN,
    },
}  # fmt: skip
TIMING = {"seconds", "images_per_second"}
# In what the trainer saves, of each attempt.
OF_ATTEMPT = {"attempts", "train_seconds", *TIMING}


def write(folder: Path, task: str, seeds: int) -> Path:
    """The definition of a sweep called as its task."""
    path = folder / f"{task}.py"
    path.write_text(DEFINITIONS[task].replace("SEEDS", str(seeds)))
    return path


def trials(definition: Path) -> list[Trial]:
    return expand(find(str(definition))[1])


def result(folder: Path, trial: Trial) -> dict[str, Any]:
    """All that a trial has come to but times."""
    saved = checkpoint_file.read(folder / trial_files.CHECKPOINT, trial.fingerprint)
    assert saved is not None
    run = tables.read_run(folder, trial.fingerprint)
    predictions = folder / trial_files.PREDICTIONS
    return {
        "rows": [
            {name: one for name, one in row.items() if name not in TIMING}
            for row in tables.read_epochs(folder).to_pylist()
        ],
        "run": {
            name: one for name, one in run.items()
            if name in ("status", "objective") or name.startswith("final.") or "accuracy" in name
        },
        "state": plain(saved.state),
        "generators": [plain(one) for one in saved.generators],
        "predictions": predictions.read_bytes() if predictions.exists() else b"",
    }  # fmt: skip


def plain(state: Any) -> dict[str, Any]:
    """Each value in it but times, arrays as their bytes."""
    return {
        name: one.numpy().tobytes() if isinstance(one, torch.Tensor)
        else one.tobytes() if isinstance(one, np.ndarray) else one
        for name, one in leaves(state) if not OF_ATTEMPT & {*name.split(".")}
    }  # fmt: skip
