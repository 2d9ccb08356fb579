"""The bridge to Lightning: a callback that logs, commits, stops and resumes a trial.

    callback = SweepsCallback(run)
    trainer = Trainer(max_epochs=20, callbacks=[callback])
    trainer.fit(model, data, ckpt_path=callback.checkpoint, weights_only=True)

It commits between two epochs and after the last, when all other callbacks and the schedulers are
done with the epoch: Lightning's checkpoint, the random generators, and whether training is over.
"""

import signal
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from local_machine import signals
from local_machine.errors import InputError
from sweeps.run.handle import Run


class SweepsCallback(Callback):
    """Logs a row for each epoch and each validation, with `epoch` and `step`."""

    def __init__(self, run: Run) -> None:
        self._run, self._seen, self._ended = run, dict[str, Any](), dict[str, int]()

    @cached_property
    def checkpoint(self) -> Path | None:
        """What `Trainer.fit` resumes from: its `ckpt_path`. Raises as `Run.load` does."""
        self._state = self._run.load() or {"should_stop": False}
        folder = self._run.load_checkpoint()
        return None if folder is None else folder / "lightning.ckpt"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and "checkpoint" not in vars(self):
            help_line = "trainer.fit(..., ckpt_path=callback.checkpoint)"
            raise InputError("Trainer.fit was not told where to resume from", help_line)
        self._on_term = signals.handler_of(signal.SIGTERM)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._run.restore_generators()
        trainer.should_stop = self._state["should_stop"]
        # While it has `max_steps`, Lightning ends the last epoch again where it resumes.
        loop = trainer.fit_loop.epoch_loop
        self._max_steps, loop.max_steps = loop.max_steps, -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if signals.handler_of(signal.SIGTERM) is not self._on_term:
            signals.handle(signal.SIGTERM, self._on_term)  # Lightning's leaves the epoch at once

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.should_stop |= 0 <= self._max_steps <= trainer.global_step

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._log(trainer, {"epoch": trainer.current_epoch, "step": trainer.global_step})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._ended = {"epoch": trainer.current_epoch, "step": trainer.global_step}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._ended:
            self._log(trainer, self._ended)
            self._ended = {}
            with self._run.checkpoint({"should_stop": trainer.should_stop}) as folder:
                trainer.save_checkpoint(folder / "lightning.ckpt")

    on_train_end = on_train_epoch_start

    def on_save_checkpoint(self, trainer: Trainer, _: Any, checkpoint: dict[str, Any]) -> None:
        for progress in checkpoint["loops"]["fit_loop"]["epoch_progress"].values():
            progress["ready"] = progress["started"]  # else an epoch that starts now is left out

    def _log(self, trainer: Trainer, at: dict[str, int]) -> None:
        new = {k: v for k, v in trainer.callback_metrics.items() if v is not self._seen.get(k)}
        self._seen = {**trainer.callback_metrics}  # which keeps all that was ever measured
        self._run.log(**{**new, **at})
