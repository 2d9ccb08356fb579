"""The bridge to Hugging Face's Trainer: a callback that logs, commits, stops and resumes a trial.

    callback = SweepsCallback(run)
    trainer = Trainer(model, TrainingArguments(run.folder, ...), callbacks=[callback], ...)
    trainer.train(resume_from_checkpoint=callback.checkpoint)

It commits each checkpoint that the Trainer saves, so `save_strategy` and `save_steps` say how much
work a kill costs. A checkpoint lacks the losses since the last row, so each save comes with a row.
"""

import math
import os
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerState

from sweeps.run.handle import Run

TIMES = ("_runtime", "_per_second", "_time")
"""How the names of metrics end that no two runs share."""


class SweepsCallback(TrainerCallback):
    """Logs the Trainer's rows, with `step` and, counted from 0, `epoch`."""

    def __init__(self, run: Run) -> None:
        self._run, self._is_late = run, False

    @cached_property
    def checkpoint(self) -> str | None:
        """What `Trainer.train` resumes from: its `resume_from_checkpoint`. Raises as `Run.load`."""
        self._run.load()
        folder = self._run.load_checkpoint()
        return None if folder is None else str(folder)

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        control.should_save |= control.should_log and self._run.should_stop()
        control.should_log |= control.should_save
        if control.should_save and _is_whole(state):
            control.should_save, self._is_late = False, True  # until the epoch's evaluation

    def on_epoch_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        control.should_save |= self._is_late
        control.should_log |= control.should_save
        self._is_late = False

    def on_log(self, args: Any, state: TrainerState, control: Any, logs: Any, **_: Any) -> None:
        if "train_runtime" not in logs:  # that is a summary of this attempt alone
            kept = {name: one for name, one in logs.items() if not name.endswith(TIMES)}
            epoch = max(0, math.ceil(state.epoch or 0) - 1)
            self._run.log(**{**kept, "epoch": epoch, "step": state.global_step})

    def on_save(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        is_over = state.global_step >= state.max_steps and _is_whole(state)
        if control.should_training_stop and not is_over:
            return  # resumed from there, the Trainer would train on
        saved = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        with self._run.checkpoint(generators=False) as folder:  # the Trainer's has them
            if state.is_world_process_zero:
                shutil.copytree(saved, folder, copy_function=_link, dirs_exist_ok=True)


def _is_whole(state: TrainerState) -> bool:
    """Whether the last step was an epoch's last."""
    return float(state.epoch or 0).is_integer()


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links, or another one
        shutil.copy2(source, target)
