"""train(config, out): one trial, from its configuration to its records.

Exact resume: order, augmentation and dropout of an epoch are drawn from (seed, epoch) alone, and a
checkpoint holds everything else, so a run that was killed and resumed computes what an undisturbed
one computes. Selection is on validation accuracy; the test images are evaluated once, at the end.
"""

from __future__ import annotations

import functools
import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from local_machine import clock
from local_machine.private_folder import use_private_caches
from trainer import checkpoint, distributed, models, origin, process_cache
from trainer.augment.batch import Draws, draw
from trainer.config import TrainConfig
from trainer.data.datasets import Dataset
from trainer.data.preflight import check_last_batch
from trainer.distributed import Group
from trainer.ema import Ema
from trainer.evaluate import Evaluation, evaluate
from trainer.optim import EarlyStopping, lr_at, make_optimizer
from trainer.perf.device import device_name, forget_peak_memory
from trainer.perf.precision import Precision, resolve
from trainer.records.history import History, Partial, Row
from trainer.records.outcome import outcome
from trainer.records.trial_folder import TrialFolder
from trainer.step import Step, seed_dropout

log = logging.getLogger("trainer")

# How many steps apart several ranks ask each other whether to stop.
AGREE_STEPS = 10


class NonFiniteLossError(Exception):
    """The training or validation loss of `epoch` (from 0) was not finite."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"the loss of epoch {epoch} is not finite")
        self.epoch = epoch


class PreemptedError(Exception):
    """Training stopped because it was asked to; the checkpoint holds all that was done."""


def train(
    config: TrainConfig,
    out: Path,
    on_epoch: Callable[[Row], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    attempt: Mapping[str, Any] | None = None,
    fence: Callable[[], None] = lambda: None,
) -> Row:
    """Run the trial, or what is left of it, in the folder `out`; return the row of run.parquet.

    Under torchrun (or any launcher that sets the env:// variables) all ranks call it alike.
    `on_epoch` gets each new row of epochs.parquet, on rank 0, which on a GPU may still be on its
    way to the disk. `should_stop` is asked between steps; once any rank's says yes, all of them
    stop. `attempt` is what the caller has from `origin.attempt`, where it knows more than that.
    `fence` is called on rank 0 right before each file that is put in place, and raises where this
    attempt may write no more.

    Raises InputError (bad data, a folder that holds another trial, a compiler's cache that others
    may write), NonFiniteLossError,
    PreemptedError where it was stopped, OSError where `out` cannot be written.
    """
    use_private_caches()
    folder = TrialFolder(out, config, fence)
    with distributed.join() as group:
        finished = group.from_main(folder.open)
        if finished is not None:
            return finished
        training = _begin(config, folder, group, attempt)
        history, save = training.history, functools.partial(folder.save, data=training.data)
        with checkpoint.Writer(group.device) as writer:
            # Before the clock of the first epoch: compiling is not part of how fast it trains.
            _prepare_step(training)
            while not history.finished_training:
                before = history.partial
                row = _train_epoch(training, should_stop)
                if row is None:
                    if group.is_main and history.partial is not before:
                        writer(training.state(), save)
                        writer.wait()  # a disk that is full is what ends the attempt, then
                    raise PreemptedError(
                        f"stopped in epoch {len(history.rows)} after step {history.partial.step}"
                    )
                if group.is_main:
                    writer(training.state(), save)
                    if on_epoch is not None:
                        on_epoch(row)
            writer.wait()
            return _finish(training, folder)


@dataclass
class _Training:
    """One trial in training, on one of its ranks."""

    config: TrainConfig
    data: Dataset
    group: Group
    precision: Precision
    resident: process_cache.Resident
    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: Ema | None
    stopper: EarlyStopping
    history: History
    step: Step

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return math.ceil(len(self.data.train_labels) / self.config.batch_size)

    def draw(self, epoch: int) -> Draws:
        images, size = len(self.data.train_labels), self.data.train_images.shape[1]
        seed, device = self.config.seed, self.group.device
        return draw(self.config.augment, images, size, seed, epoch, device=device)

    def evaluate(self, model: nn.Module, images: Tensor, labels: Tensor, **how: Any) -> Evaluation:
        normalise = self.data.mean, self.data.std
        classes = len(self.data.classes)
        return evaluate(
            model, images, labels, normalise, classes, self.precision, self.group, **how
        )

    def state(self) -> dict[str, Any]:
        """What to save."""
        return self.history.state(self.model, self.optimizer, self.average)


def _begin(
    config: TrainConfig, folder: TrialFolder, group: Group, attempt: Mapping[str, Any] | None
) -> _Training:
    """Where the trial's checkpoint has it, or at its beginning."""
    data = process_cache.dataset(config.data)
    check_last_batch(config, len(data.train_labels), group.world)
    device = group.device
    precision = resolve(config.precision, device)
    _set_kernels(config.deterministic)
    forget_peak_memory(device)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    resident = process_cache.resident(config.data, config.augment, device, dtype)

    torch.manual_seed(config.seed)
    model = models.build(config.model, len(data.classes), data.train_images.shape[1])
    model = model.to(device).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, config.optimizer)
    stopper = EarlyStopping(config.early_stopping, len(data.val_labels))
    average = Ema(model, decay) if (decay := config.optimizer.ema_decay) else None
    history = History()
    state = folder.resume(data, group)
    if state is not None:
        history = History.restore(state, model, optimizer, average)
        stopper.best, stopper.waited = history.stopper
        log.info("resuming at epoch %d, step %d", len(history.rows), history.partial.step)
    machine = {
        "device": device_name(device), "precision": precision, "world_size": group.world,
    }  # fmt: skip
    history.begin({**(origin.attempt() if attempt is None else attempt), **machine})
    step = Step(
        distributed.parallel(model, group), optimizer, resident.augmenter, config, precision, group,
        average, sizes=_sizes(len(data.train_labels), config.batch_size, group),
    )  # fmt: skip
    return _Training(
        config, data, group, precision, resident, model, optimizer, average, stopper, history, step
    )


def _prepare_step(training: _Training) -> None:
    history = training.history
    if training.step.kind != "eager" and not history.finished_training:
        training.step.prepare(training.draw(len(history.rows)))


def _train_epoch(training: _Training, should_stop: Callable[[], bool] | None) -> Row | None:
    """The rest of one epoch, then its validation; its row, which the history has by then.

    None where it was asked to stop: the history says after which step. Raises NonFiniteLossError.
    """
    config, history, group = training.config, training.history, training.group
    epoch, before, started = len(history.rows), history.partial, clock.perf_counter()
    seen = _take_steps(training, epoch, should_stop)
    train_seconds = before.seconds + clock.perf_counter() - started
    averaged = None if training.average is None else training.average.model
    for model in (training.model, averaged):
        if model is not None:
            distributed.average_statistics(model, group)
    if seen.step < training.steps:
        if seen.step > before.step:
            history.partial = replace(seen, seconds=train_seconds)
        return None
    evaluated = training.model if averaged is None else averaged
    resident, smoothing = training.resident, config.label_smoothing
    val = training.evaluate(
        evaluated, resident.val_images, resident.val_labels, label_smoothing=smoothing
    )
    # The validation loss, too: it is the first to see what the epoch's last step did.
    if not math.isfinite(seen.loss + val.loss):
        raise NonFiniteLossError(epoch)
    images = len(training.data.train_labels)
    row = {
        "epoch": epoch,
        "lr": lr_at(config, epoch, 0, training.steps),
        "train_loss": seen.loss / images,
        "train_accuracy": seen.correct / images,
        "val_loss": val.loss,
        "val_loss_smoothed": val.loss_smoothed,
        "val_accuracy": val.top(1),
        "seconds": before.seconds + clock.perf_counter() - started,
        "images_per_second": images / train_seconds,
    }
    stopper = training.stopper
    stop = stopper.update(val.correct[0])
    history.see(row, val.correct[0], evaluated, (stopper.best, stopper.waited))
    history.finished_training = stop or epoch + 1 == config.epochs
    return row


def epoch_line(row: Row, epochs: int) -> str:
    """An epoch in a line; counts epochs from 1, as people do."""
    return (
        f"epoch {row['epoch'] + 1}/{epochs}  lr {row['lr']:.4g}  "
        f"train loss {row['train_loss']:.4f} accuracy {100 * row['train_accuracy']:.2f} %  "
        f"val loss {row['val_loss']:.4f} accuracy {100 * row['val_accuracy']:.2f} %  "
        f"{row['seconds']:.1f} s  {row['images_per_second']:.0f} images/s"
    )


def _take_steps(training: _Training, epoch: int, should_stop: Callable[[], bool] | None) -> Partial:
    """The rest of one pass over the training images, from the history's partial epoch on.

    The steps, loss and correct count of the whole pass so far, over all ranks; fewer steps than an
    epoch has where it was asked to stop.
    """
    config, group, step = training.config, training.group, training.step
    partial, draws = training.history.partial, training.draw(epoch)
    training.model.train()
    batches = torch.split(draws.order, config.batch_size)
    # What was summed before a break is every rank's, and counted by the first alone.
    loss_before, correct_before = (partial.loss, partial.correct) if group.is_main else (0.0, 0)
    step.start_epoch(draws, loss_before, correct_before)
    done = partial.step
    while done < len(batches) and not _agree_to_stop(should_stop, done, group):
        batch = batches[done]
        if config.model.dropout:
            seed_dropout(config.seed, epoch, done, group.rank)
        # Fewer images than ranks: this one still takes part in DDP's sum, with nothing.
        part, weight = group.shard(batch), 1
        if not len(part):
            part, weight = batch[:1], 0
        # DDP averages gradients over ranks; scaled so, that is the mean over the global batch,
        # also where the ranks' parts differ in size.
        step(part, weight, group.world / len(batch), lr_at(config, epoch, done, len(batches)))
        done += 1
    return Partial(done, float(group.sum(step.loss)), int(group.sum(step.correct)))


def _agree_to_stop(should_stop: Callable[[], bool] | None, step: int, group: Group) -> bool:
    """Whether any rank was asked to stop. Several ranks ask each other at every tenth step only."""
    if should_stop is None or (group.world > 1 and step % AGREE_STEPS):
        return False
    return group.any(should_stop())


def _sizes(images: int, batch_size: int, group: Group) -> set[int]:
    """How many images a step of this rank can have."""
    batches = {min(batch_size, images), images % batch_size} - {0}
    return {max(1, len(group.shard(torch.empty(size)))) for size in batches}


def _set_kernels(deterministic: bool) -> None:
    """For all that follows in this process."""
    # cuDNN's fastest algorithm for each shape, of which an epoch has two.
    torch.backends.cudnn.benchmark = not deterministic
    # cuBLAS is not deterministic without, and reads it once a process: also where it is another
    # trial in the same process that has to be.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # The call imports torch's compiler, a third of a worker's start.
    if deterministic != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(deterministic)


def _finish(training: _Training, folder: TrialFolder) -> Row:
    """The best weights on the plain training images, and, once, on the test images; the row of
    run.parquet, written after all other records."""
    data, history, device = training.data, training.history, training.group.device
    model = training.model
    model.load_state_dict(history.best_weights)
    clean = training.evaluate(
        model, torch.from_numpy(data.train_images).to(device), training.resident.augmenter.labels
    )
    test = training.evaluate(
        model,
        torch.from_numpy(data.test_images).to(device),
        torch.from_numpy(data.test_labels).to(device),
        keep_logits=True,
    )
    run = outcome(
        training.config, data, history, clean, test, device=device, step_used=training.step.kind,
        parameters=sum(p.numel() for p in model.parameters()),
    )  # fmt: skip
    logits = test.logits
    assert logits is not None
    return training.group.from_main(lambda: folder.finish(run, history.rows, data, logits))
