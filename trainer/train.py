"""train(config, run): one trial, from its configuration to its metrics.

Exact resume: order, augmentation and dropout of an epoch are drawn from (seed, epoch) alone, and
what is saved holds everything else, so a run that was killed and resumed computes what an
undisturbed one computes. Selection is on validation accuracy; the test images are evaluated once,
at the end.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from local_machine import clock, origin
from local_machine.private_folder import use_private_caches
from sweeps.run.background import Writer
from sweeps.run.ends import StoppedError
from sweeps.run.handle import Run
from trainer import distributed, models, process_cache
from trainer.augment.batch import Draws, draw
from trainer.config import TrainConfig
from trainer.data.datasets import Dataset
from trainer.data.preflight import check_fits
from trainer.distributed import Group
from trainer.ema import Ema
from trainer.evaluate import Evaluation, evaluate
from trainer.hard_examples import HardExamples
from trainer.optim.optimizers import make_optimizer
from trainer.optim.schedule import EarlyStopping, lr_at, side_at
from trainer.own.metrics import Metrics, measured, own_metrics
from trainer.perf.device import device_name, forget_peak_memory
from trainer.perf.precision import Precision, resolve
from trainer.records.history import History, Partial, Row
from trainer.records.outcome import METRICS, outcome
from trainer.records.predictions import predictions
from trainer.step import Step, seed_dropout
from trial_records import tables
from trial_records.trial_files import CHECKPOINT, PREDICTIONS

log = logging.getLogger("trainer")

# Of what is saved: what images the trial began on.
_CONTENT = "data_sha256"
_PROXY = "proxy"


class NonFiniteLossError(Exception):
    """The training or validation loss of `epoch` (from 0) was not finite."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"the loss of epoch {epoch} is not finite")
        self.epoch = epoch


def train(config: TrainConfig, run: Run, on_epoch: Callable[[Row], None] | None = None) -> Row:
    """Run the trial, or what is left of it; the metrics that it ends with, by column of
    run.parquet. What is not one of these numbers is in `run.record`.

    Under torchrun (or any launcher that sets the env:// variables) all ranks call it alike.
    `on_epoch` gets each row once it is saved, on rank 0, on a GPU perhaps while it still is on its
    way to the disk.

    Raises InputError (bad data, a folder that holds another trial, a compiler's cache that others
    may write), NonFiniteLossError, StoppedError where it was stopped between two steps, OSError
    where the trial's folder cannot be written.
    """
    use_private_caches()
    with distributed.join() as group:
        training = _begin(config, run, group)
        history = training.history
        with Writer(group.device, constant=("best_weights",)) as writer:
            # Before the clock of the first epoch: compiling is not part of how fast it trains.
            _prepare_step(training)
            while not history.finished_training:
                before = history.partial
                row = _train_epoch(training, run)
                if row is None:
                    if history.partial is not before:
                        with contextlib.suppress(StoppedError):
                            run.save(training.state(), generators=False, writer=writer)
                    raise StoppedError(
                        f"stopped in epoch {len(history.rows)} after step {history.partial.step}"
                    )
                run.log(**row)
                try:
                    run.save(training.state(), generators=False, writer=writer)
                finally:
                    if on_epoch is not None and group.is_main:
                        on_epoch(row)
            writer.wait()
            return _finish(training, run)


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
    hard: HardExamples | None
    stopper: EarlyStopping
    history: History
    step: Step
    metrics: Metrics

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return math.ceil(len(self.data.train_labels) / self.config.batch_size)

    def draw(self, epoch: int) -> Draws:
        images, size = len(self.data.train_labels), self.data.side
        seed, device = self.config.seed, self.group.device
        return draw(self.config.augment, images, size, seed, epoch, device=device)

    def evaluate(self, model: nn.Module, images: Tensor, labels: Tensor, **how: Any) -> Evaluation:
        normalise = self.data.mean, self.data.std
        classes = len(self.data.classes)
        return evaluate(
            model, images, labels, normalise, classes, self.precision, self.group, **how
        )

    def measured(self, evaluation: Evaluation, labels: Any) -> Row:
        """By the metrics of a person's own, where there are some."""
        logits = evaluation.logits
        if logits is None:
            return {}
        return measured(self.metrics, logits, torch.as_tensor(labels).long())

    def state(self) -> dict[str, Any]:
        """What to save."""
        state = self.history.state(self.model, self.optimizer, self.average)
        if self.hard is not None and not self.history.finished_training:
            state[_PROXY] = self.hard.state_dict()
        return {**state, _CONTENT: self.data.sha256}

    def trained_on(self, batch: Tensor) -> int:
        """How many images of a batch, over all ranks."""
        parts = (len(part) for part in torch.tensor_split(batch, self.group.world))
        # A rank without an image takes part with one, which counts nothing.
        return sum(map(self.config.trained_on, parts))


def _begin(config: TrainConfig, run: Run, group: Group) -> _Training:
    """Where the trial was saved, or at its beginning."""
    state = run.load()
    data = process_cache.dataset(config.data)
    check_fits(config, data.side, len(data.train_labels), group.world)
    device = group.device
    precision = resolve(config.precision, device)
    _set_kernels(config.deterministic)
    forget_peak_memory(device)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    resident = process_cache.resident(config.data, config.augment, device, dtype)

    torch.manual_seed(config.seed)
    model = models.build(config.model, len(data.classes), data.side)
    model = model.to(device).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, config.optimizer)
    stopper = EarlyStopping(config.early_stopping, len(data.val_labels))
    average = Ema(model, decay) if (decay := config.optimizer.ema_decay) else None
    hard = None
    if config.hard_fraction < 1:
        hard = HardExamples(config, len(data.classes), data.side, group)
    history = History()
    if state is not None:
        data.check_same(state.get(_CONTENT), run.attempt.trial / CHECKPOINT)
        history = History.restore(state, run.loaded_rows, model, optimizer, average)
        if hard is not None and not history.finished_training:
            hard.load_state_dict(state[_PROXY])
        # Version 0.1 had its rows there, and no log.
        for row in state.get("rows", ()):
            run.log(**{name: value for name, value in row.items() if value is not None})
        stopper.best, stopper.waited = history.stopper
        log.info("resuming at epoch %d, step %d", len(history.rows), history.partial.step)
    machine = {
        "device": device_name(device), "precision": precision, "world_size": group.world,
    }  # fmt: skip
    history.begin({**origin.attempt(**run.attempt.facts), **machine})
    # At least that of the last epoch: what is left to do may be the evaluation alone.
    epochs = range(min(len(history.rows), config.epochs - 1), config.epochs)
    step = Step(
        distributed.parallel(model, group), optimizer, resident.augmenter, config, precision, group,
        average, sizes=_sizes(len(data.train_labels), config.batch_size, group),
        sides={side_at(config, epoch, data.side) for epoch in epochs}, hard=hard,
    )  # fmt: skip
    return _Training(
        config, data, group, precision, resident, model, optimizer, average, hard, stopper,
        history, step, own_metrics(config),
    )  # fmt: skip


def _prepare_step(training: _Training) -> None:
    history = training.history
    if training.step.kind != "eager" and not history.finished_training:
        training.step.prepare(training.draw(len(history.rows)))


def _train_epoch(training: _Training, run: Run) -> Row | None:
    """The rest of one epoch, then its validation; its row, which the history has by then.

    None where it was asked to stop: the history says after which step. Raises NonFiniteLossError.
    """
    config, history, group = training.config, training.history, training.group
    epoch, before, started = len(history.rows), history.partial, clock.perf_counter()
    seen = _take_steps(training, epoch, run)
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
        evaluated, resident.val_images, resident.val_labels, label_smoothing=smoothing,
        keep_logits=bool(training.metrics),
    )  # fmt: skip
    # The validation loss, too: it is the first to see what the epoch's last step did.
    if not math.isfinite(seen.loss + val.loss):
        raise NonFiniteLossError(epoch)
    images = len(training.data.train_labels)
    order = torch.empty(images)
    trained_on = sum(map(training.trained_on, torch.split(order, config.batch_size)))
    row = {
        "epoch": epoch,
        "lr": lr_at(config, epoch, 0, training.steps),
        "train_loss": seen.loss / trained_on,
        "train_accuracy": seen.correct / trained_on,
        "val_loss": val.loss,
        "val_loss_smoothed": val.loss_smoothed,
        "val_accuracy": val.top(1),
        "seconds": before.seconds + clock.perf_counter() - started,
        "images_per_second": images / train_seconds,
        **training.measured(val, training.data.val_labels),
    }
    stopper = training.stopper
    stop = stopper.update(val.correct[0])
    history.see(row, val.correct[0], evaluated, (stopper.best, stopper.waited))
    history.finished_training = stop or epoch + 1 == config.epochs
    return row


def epoch_line(row: Mapping[str, Any], epochs: int) -> str:
    """An epoch in a line; counts epochs from 1, as people do."""
    return (
        f"epoch {row['epoch'] + 1}/{epochs}  lr {row['lr']:.4g}  "
        f"train loss {row['train_loss']:.4f} accuracy {100 * row['train_accuracy']:.2f} %  "
        f"val loss {row['val_loss']:.4f} accuracy {100 * row['val_accuracy']:.2f} %  "
        f"{row['seconds']:.1f} s  {row['images_per_second']:.0f} images/s"
    )


def _take_steps(training: _Training, epoch: int, run: Run) -> Partial:
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
    step.start_epoch(draws, loss_before, correct_before, side_at(config, epoch, training.data.side))
    done = partial.step
    while done < len(batches) and not run.should_stop():
        batch = batches[done]
        # A person's own network may have dropout, too.
        if config.model.dropout or config.own:
            seed_dropout(config.seed, epoch, done, group.rank)
        # Fewer images than ranks: this one still takes part in DDP's sum, with nothing.
        part, weight = group.shard(batch), 1
        if not len(part):
            part, weight = batch[:1], 0
        # DDP averages gradients over ranks; scaled so, that is the mean over the global batch,
        # also where the ranks' parts differ in size.
        scale = group.world / training.trained_on(batch)
        lr = lr_at(config, epoch, done, len(batches))
        step(part, weight, scale, lr, learns=HardExamples.learns(done))
        done += 1
    return Partial(done, float(group.sum(step.loss)), int(group.sum(step.correct)))


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


def _finish(training: _Training, run: Run) -> Row:
    """The best weights on the plain training images, and, once, on the test images; the metrics
    that these give, beside what goes into the run's record and predictions.parquet."""
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
    row = outcome(
        training.config, data, history, clean, test, device=device, step_used=training.step.kind,
        parameters=sum(p.numel() for p in model.parameters()),
        final=training.measured(test, data.test_labels) if training.metrics else {},
    )  # fmt: skip
    logits = test.logits
    assert logits is not None
    digest = training.group.from_main(
        lambda: tables.write_table(
            run.files.open() / PREDICTIONS,
            predictions(data, logits),
            tables.PREDICTIONS_SCHEMA,
            run.attempt.whose,
        )
    )
    metrics = {name: row[name] for name in METRICS if row[name] is not None}
    others = {name: value for name, value in row.items() if name not in metrics}
    run.record |= {**others, tables.DIGESTS[PREDICTIONS]: digest}
    return metrics
