"""train(config, out): one trial, from its configuration to its records.

Exact resume: order, augmentation and dropout of an epoch are drawn from (seed, epoch) alone, and a
checkpoint holds everything else, so a run that was killed and resumed computes what an undisturbed
one computes. Selection is on validation accuracy; the test images are evaluated once, at the end.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import statistics
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from local_machine import clock
from local_machine.errors import EXIT_IO, InputError
from local_machine.files import read_file, set_aside, write_atomic
from local_machine.private_folder import use_private_caches
from trainer import checkpoint, distributed, models, origin, process_cache
from trainer.augment.batch import Draws, draw
from trainer.config import TrainConfig
from trainer.data.class_names import join
from trainer.data.datasets import Dataset
from trainer.data.preflight import check_last_batch
from trainer.distributed import Group
from trainer.ema import Ema
from trainer.evaluate import evaluate
from trainer.history import History, Partial, Row
from trainer.optim import EarlyStopping, lr_at, make_optimizer
from trainer.perf.precision import resolve
from trainer.provenance import (
    device_name,
    forget_peak_memory,
    peak_memory_bytes,
    provenance,
    trained_by,
)
from trainer.step import Step, seed_dropout
from trial_records import tables, trial_files
from trial_records.config import is_of

log = logging.getLogger("trainer")

# Of a checkpoint: what images its trial began on.
_CONTENT = "data_sha256"
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
    with contextlib.ExitStack() as stack:
        group = stack.enter_context(distributed.join())
        finished = group.from_main(lambda: _open_folder(out, config))
        if finished is not None:
            return finished
        data = process_cache.dataset(config.data)
        check_last_batch(config, len(data.train_labels), group.world)
        device = group.device
        precision = resolve(config.precision, device)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        _set_kernels(config.deterministic)
        forget_peak_memory(device)
        augmenter, val_images, val_labels = process_cache.resident(
            config.data, config.augment, device, dtype
        )
        train_labels = augmenter.labels

        torch.manual_seed(config.seed)
        size = data.train_images.shape[1]
        model = models.build(config.model, len(data.classes), size)
        model = model.to(device).to(memory_format=torch.channels_last)
        optimizer = make_optimizer(model, config.optimizer)
        stopper = EarlyStopping(config.early_stopping, len(data.val_labels))
        average = Ema(model, decay) if (decay := config.optimizer.ema_decay) else None
        evaluated = model if average is None else average.model
        history = History()
        state = _resume(out / trial_files.CHECKPOINT, config, group)
        if state is not None:
            data.check_same(state.get(_CONTENT), out / trial_files.CHECKPOINT)
            history = History.restore(state, model, optimizer, average)
            stopper.best, stopper.waited = history.stopper
            log.info("resuming at epoch %d, step %d", len(history.rows), history.partial.step)
        machine = {
            "device": device_name(device), "precision": precision, "world_size": group.world,
        }  # fmt: skip
        history.begin({**(origin.attempt() if attempt is None else attempt), **machine})

        def write(state: dict[str, Any]) -> None:
            # The checkpoint first: epochs.parquet can be rewritten from it, not it from that.
            fence()
            whole = {**state, _CONTENT: data.sha256}
            checkpoint.save(out / trial_files.CHECKPOINT, whole, config.fingerprint)
            if state["rows"]:
                fence()
                tables.write_table(out / trial_files.EPOCHS, state["rows"], tables.EPOCHS_SCHEMA)

        writer = stack.enter_context(checkpoint.Writer(device))

        # DDP takes its copy of the weights from rank 0; statistics of BatchNorm are averaged below.
        network = _parallel(model) if group.world > 1 else model
        evaluation = (
            (data.mean, data.std), len(data.classes), precision, group,
        )  # fmt: skip

        steps = math.ceil(len(train_labels) / config.batch_size)
        drawn = functools.partial(
            draw, config.augment, len(train_labels), size, config.seed, device=device
        )
        step = Step(
            network, optimizer, augmenter, config, precision, group, average,
            sizes=_sizes(len(train_labels), config.batch_size, group),
        )  # fmt: skip
        if step.kind != "eager" and not history.finished_training:
            # Before the clock of the first epoch: what compiling takes is no pace of training.
            step.prepare(drawn(len(history.rows)))
        while not history.finished_training:
            epoch, before, started = len(history.rows), history.partial, clock.perf_counter()
            draws = drawn(epoch)
            network.train()
            seen = _train_epoch(step, draws, config, epoch, group, before, should_stop)
            train_seconds = before.seconds + clock.perf_counter() - started
            _average_statistics(model, group)
            if average is not None:
                _average_statistics(average.model, group)
            if seen.step < steps:
                if seen.step > before.step:
                    history.partial = replace(seen, seconds=train_seconds)
                    if group.is_main:
                        writer(history.state(model, optimizer, average), write)
                        writer.wait()  # a disk that is full is what ends the attempt, then
                raise PreemptedError(f"stopped in epoch {epoch} after step {seen.step}")
            val = evaluate(
                evaluated, val_images, val_labels, *evaluation,
                label_smoothing=config.label_smoothing,
            )  # fmt: skip
            # The validation loss, too: it is the first to see what the epoch's last step did.
            if not math.isfinite(seen.loss + val.loss):
                raise NonFiniteLossError(epoch)
            row = {
                "epoch": epoch,
                "lr": lr_at(config, epoch, 0, steps),
                "train_loss": seen.loss / len(train_labels),
                "train_accuracy": seen.correct / len(train_labels),
                "val_loss": val.loss,
                "val_loss_smoothed": val.loss_smoothed,
                "val_accuracy": val.top(1),
                "seconds": before.seconds + clock.perf_counter() - started,
                "images_per_second": len(train_labels) / train_seconds,
            }
            stop = stopper.update(val.correct[0])
            history.see(row, val.correct[0], evaluated, (stopper.best, stopper.waited))
            history.finished_training = stop or epoch + 1 == config.epochs
            if group.is_main:
                writer(history.state(model, optimizer, average), write)
                if on_epoch is not None:
                    on_epoch(row)

        writer.wait()
        model.load_state_dict(history.best_weights)
        clean = evaluate(
            model, torch.from_numpy(data.train_images).to(device), train_labels, *evaluation
        )
        test_labels = torch.from_numpy(data.test_labels).to(device)
        test = evaluate(
            model, torch.from_numpy(data.test_images).to(device), test_labels, *evaluation,
            keep_logits=True,
        )  # fmt: skip
        # A quarter of a second that no first step waits for.
        from trainer.perf.roofline import utilisation

        rows, best = history.rows, history.rows[history.best_epoch]
        trained, alike = trained_by(history.attempts, len(rows))
        pace = statistics.median(rows[epoch]["images_per_second"] for epoch in alike)
        run: Row = {
            "fingerprint": config.fingerprint,
            "status": "done",
            "best_epoch": history.best_epoch,
            "epochs_run": len(rows),
            "stopped_early": len(rows) < config.epochs,
            "train_accuracy": best["train_accuracy"],
            "train_accuracy_clean": clean.top(1),
            "train_accuracy_last": rows[-1]["train_accuracy"],
            "val_accuracy": best["val_accuracy"],
            "val_accuracy_last": rows[-1]["val_accuracy"],
            "val_loss": best["val_loss"],
            "test_accuracy": test.top(1),
            "test_loss": test.loss,
            "top_1": test.top(1),
            # Of no more classes than that, every image would be right.
            "top_3": test.top(3) if len(data.classes) > 3 else None,
            "top_5": test.top(5) if len(data.classes) > 5 else None,
            "train_images": len(data.train_labels),
            "val_images": len(data.val_labels),
            "test_images": len(data.test_labels),
            "split_sha256": data.split_sha256,
            "classes": join(data.classes),
            "num_classes": len(data.classes),
            "data_sha256": data.sha256,
            "data_mean": ",".join(map(str, data.mean)),
            "data_std": ",".join(map(str, data.std)),
            "parameters": sum(p.numel() for p in model.parameters()),
            "seconds": sum(row["seconds"] for row in rows),
            "images_per_second": pace,
            "peak_memory_bytes": peak_memory_bytes(device),
            **(
                utilisation(
                    config.model, len(data.classes), size, precision, device, pace, group.world
                )
                if all(trained.get(key) == value for key, value in machine.items())
                else {}
            ),
            "precision_used": trained.get("precision"),
            "step_used": step.kind,
            "device": trained.get("device"),
            "world_size": trained.get("world_size"),
            **provenance(device, history.attempts),
            **config.flat(),
        }

        def write_records() -> Row:
            assert test.logits is not None
            fence()
            digests = {"predictions_sha256": _write_predictions(out, data, test.logits)}
            fence()
            digests["epochs_sha256"] = tables.write_table(
                out / trial_files.EPOCHS, rows, tables.EPOCHS_SCHEMA
            )
            fence()
            return tables.write_run(out, run | digests)

        return group.from_main(write_records)


def epoch_line(row: Row, epochs: int) -> str:
    """An epoch in a line; counts epochs from 1, as people do."""
    return (
        f"epoch {row['epoch'] + 1}/{epochs}  lr {row['lr']:.4g}  "
        f"train loss {row['train_loss']:.4f} accuracy {100 * row['train_accuracy']:.2f} %  "
        f"val loss {row['val_loss']:.4f} accuracy {100 * row['val_accuracy']:.2f} %  "
        f"{row['seconds']:.1f} s  {row['images_per_second']:.0f} images/s"
    )


def _train_epoch(
    step: Step,
    draws: Draws,
    config: TrainConfig,
    epoch: int,
    group: Group,
    partial: Partial,
    should_stop: Callable[[], bool] | None,
) -> Partial:
    """The rest of one pass over the training images, from `partial` on.

    The steps, loss and correct count of the whole pass so far, over all ranks; fewer steps than an
    epoch has where it was asked to stop.
    """
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


def _parallel(model: nn.Module) -> DistributedDataParallel:
    with warnings.catch_warnings():
        # The argument that newer versions of torch want instead is unknown to those before.
        warnings.filterwarnings("ignore", ".*broadcast_buffers", FutureWarning)
        return DistributedDataParallel(model, broadcast_buffers=False)


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


def _average_statistics(model: nn.Module, group: Group) -> None:
    """BatchNorm's running statistics: each rank saw its own part, all continue with the mean."""
    for buffer in model.buffers() if group.world > 1 else ():
        if buffer.is_floating_point():
            group.sum(buffer).div_(group.world)


def _open_folder(out: Path, config: TrainConfig) -> Row | None:
    """Make the trial's folder, or see that it is this trial's; its run's row if it is finished."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(
            f"cannot make the folder {out}: {error.strerror}", "give a folder, or a new name"
        ) from None
    # A writer that was killed left its part, and nobody else writes these while we do.
    for name in (
        trial_files.CHECKPOINT,
        trial_files.EPOCHS,
        trial_files.PREDICTIONS,
        trial_files.RUN,
    ):
        for part in out.glob(f".{name}.*.part"):
            part.unlink(missing_ok=True)
    path = out / trial_files.CONFIG
    if not path.exists():
        write_atomic(path, lambda file: file.write(config.to_json().encode()))
    elif not is_of(trial_files.parse_values(path, read_file(path)), config.fingerprint):
        raise InputError(
            f"{out} holds another trial: its {trial_files.CONFIG} differs from the one given",
            "give a folder of its own to each trial",
            exit_code=EXIT_IO,
        )
    try:
        return tables.read_run(out, config.fingerprint)
    except FileNotFoundError:
        return None


def _resume(path: Path, config: TrainConfig, group: Group) -> dict[str, Any] | None:
    """The checkpoint's state on every rank; None to start anew.

    A damaged checkpoint is set aside under another name and the trial starts from nothing.
    """
    state = None
    if group.is_main:
        try:
            state = checkpoint.load(path, config.fingerprint)
        except checkpoint.DamagedCheckpointError as error:
            aside = set_aside(path, "damaged")
            log.warning(
                "%s is damaged (%s): kept as %s, the trial starts anew", path, error, aside.name
            )
    if group.world > 1 and group.broadcast(state is not None) and not group.is_main:
        state = checkpoint.load(path, config.fingerprint)
        if state is None:
            raise InputError(
                f"rank {group.rank} does not see {path}, which rank 0 resumes from",
                "put the results on a filesystem that all nodes share",
                exit_code=EXIT_IO,
            )
    return state


def _write_predictions(out: Path, data: Dataset, logits: torch.Tensor) -> str:
    """Their digest."""
    rows = [
        {"index": index, "label": label, "logits": values}
        for index, label, values in zip(
            data.test_index.tolist(), data.test_labels.tolist(), logits.tolist(), strict=True
        )
    ]
    return tables.write_table(out / trial_files.PREDICTIONS, rows, tables.PREDICTIONS_SCHEMA)
