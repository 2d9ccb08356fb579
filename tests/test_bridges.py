"""A trial that a framework's own loop trains ends with the rows of an undisturbed one, wherever it
was killed or stopped."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from test_run import begun
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from transformers import (
    EarlyStoppingCallback,
    GPT2Config,
    GPT2LMHeadModel,
    TrainingArguments,
    set_seed,
)
from transformers import Trainer as HuggingFaceTrainer

from local_machine import signals
from local_machine.errors import InputError
from sweeps.bridges import hugging_face, lightning
from sweeps.run.ends import StoppedError
from sweeps.run.handle import Run

pytestmark = pytest.mark.filterwarnings("ignore")  # of frameworks, about how small all is

Rows = list[dict[str, Any]]
Train = Callable[[Run, Callable[[], None]], object]
"""Trains, and calls what it is given before each batch."""


class KilledError(BaseException):
    """In the place of a SIGKILL."""


def ended(trial: Path, train: Train, *events: tuple[int, str]) -> Rows:
    """The rows of a trial that was killed, or asked to stop, in such a batch of each attempt, or
    killed late, when it has trained."""
    for batch, how in (*events, (0, "")):
        asked: list[str] = []
        run = begun(trial, stop=lambda asked=asked: bool(asked))
        batches = itertools.count(1)

        def on_batch(batch: int = batch, how: str = how, asked: list[str] = asked) -> None:
            if next(batches) == batch:  # noqa: B023
                if how == "kill":
                    raise KilledError
                asked.append(how)

        try:
            train(run, on_batch)
        except (KilledError, StoppedError) as error:
            assert isinstance(error, StoppedError) == (how == "stop")
            run.end()
        else:
            assert not batch, "it was over before"
            rows = run.rows()
            if how == "late":
                run.end()
            else:
                run.finish({})
    return rows


class Net(L.LightningModule):
    """It draws random numbers in every place where a program may."""

    def __init__(self, on_batch: Callable[[], None], scheduler: str) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 1))
        self.on_batch, self.scheduler = on_batch, scheduler

    def training_step(self, batch: Any, number: int) -> torch.Tensor:
        self.on_batch()
        loss = (self.layers(batch[0]) - batch[1]).square().mean()
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, number: int) -> None:
        self.log("val_loss", (self.layers(batch[0]) - batch[1]).square().mean())

    def on_train_epoch_end(self) -> None:
        self.log("drawn", torch.rand(()))
        self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)
        if self.scheduler == "step":
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.9)]
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"},
        }


def by_lightning(scheduler: str = "step", stop_early: bool = False, **options: Any) -> Train:
    def train(run: Run, on_batch: Callable[[], None]) -> None:
        torch.manual_seed(0)
        x = torch.randn(40, 4)
        data = TensorDataset(x, x.sum(1, keepdim=True))
        callback = lightning.SweepsCallback(run)
        early = [EarlyStopping("val_loss", patience=0)] if stop_early else []
        trainer = L.Trainer(
            **{"max_epochs": 5, **options}, callbacks=[callback, *early], accelerator="cpu",
            logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False,
        )  # fmt: skip
        loaders = DataLoader(data, 8, shuffle=True), DataLoader(data, 8)
        net = Net(on_batch, scheduler)
        trainer.fit(net, *loaders, ckpt_path=callback.checkpoint, weights_only=True)

    return train


LIGHTNING = {
    "plain": {},
    "plateau": {"scheduler": "plateau"},
    "early stopping": {"stop_early": True, "max_epochs": 40},
    "rare validation": {"check_val_every_n_epoch": 2},
    "frequent validation": {"val_check_interval": 0.4},
    "accumulation": {"accumulate_grad_batches": 2},
    "steps": {"max_epochs": -1, "max_steps": 22},
}


@pytest.mark.long
@pytest.mark.parametrize("case", LIGHTNING)
def test_lightning(tmp_path: Path, case: str) -> None:
    train = by_lightning(**LIGHTNING[case])
    whole = ended(tmp_path / "whole", train)
    assert (
        ended(tmp_path / "hit", train, (1, "kill"), (8, "stop"), (6, "kill"), (0, "late")) == whole
    )
    measured = {"epoch", "step", "train_loss", "val_loss", "drawn", "lr"}
    assert measured <= {name for row in whole for name in row}


@pytest.mark.long
def test_lightning_ends_an_epoch_in_which_it_is_asked_to_stop(tmp_path: Path) -> None:
    """Its own handler of SIGTERM would end it in the middle, and call that an exit."""
    asked: list[int] = []
    run = begun(tmp_path / "trial", stop=lambda: bool(asked))
    batches = itertools.count(1)

    def on_batch() -> None:
        if next(batches) == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    with signals.kept(signal.SIGTERM):
        signals.handle(signal.SIGTERM, lambda number, _: asked.append(number))
        with pytest.raises(StoppedError):
            by_lightning()(run, on_batch)
    assert [row["epoch"] for row in run.rows()] == [0, 1]
    assert asked == [signal.SIGTERM]


def test_lightning_is_told_where_to_resume_from(tmp_path: Path) -> None:
    callback = lightning.SweepsCallback(begun(tmp_path / "trial"))
    trainer = L.Trainer(callbacks=[callback], logger=False, enable_checkpointing=False)
    with pytest.raises(InputError) as error:
        trainer.fit(Net(lambda: None, "step"), DataLoader(TensorDataset(torch.zeros(8, 4))))
    assert "ckpt_path=callback.checkpoint" in error.value.help


def by_hugging_face(**options: Any) -> Train:
    def train(run: Run, on_batch: Callable[[], None]) -> None:
        callback = hugging_face.SweepsCallback(run)
        checkpoint = callback.checkpoint  # on several ranks, before run.folder
        early = [EarlyStoppingCallback(4)] if "load_best_model_at_end" in options else []
        given = {
            "num_train_epochs": 4, "logging_steps": 2, "eval_strategy": "epoch",
            "learning_rate": 0.01, **options,
        }  # fmt: skip
        arguments = TrainingArguments(
            str(run.folder / "saved"), per_device_train_batch_size=4,
            use_cpu=True, disable_tqdm=True, report_to="none", seed=3,
            restore_callback_states_from_checkpoint=True, **given,
        )  # fmt: skip
        set_seed(3)
        size = {"n_positions": 8, "n_embd": 16, "n_layer": 1, "n_head": 2}
        model = GPT2LMHeadModel(GPT2Config(vocab_size=16, bos_token_id=0, eos_token_id=0, **size))
        model.register_forward_pre_hook(lambda *_: on_batch() if model.training else None)
        tokens = torch.randint(16, (28, 8), generator=torch.Generator().manual_seed(0))
        rows = [{"input_ids": one, "labels": one} for one in tokens]
        trainer = HuggingFaceTrainer(
            model, arguments, train_dataset=rows[:24], eval_dataset=rows[24:],
            callbacks=[callback, *early],
        )  # fmt: skip
        trainer.train(resume_from_checkpoint=checkpoint)

    return train


HUGGING_FACE: dict[str, dict[str, Any]] = {
    "epochs": {"save_strategy": "epoch"},
    "steps": {"save_steps": 3, "eval_strategy": "steps", "eval_steps": 5},
    "max_steps": {"save_steps": 5, "max_steps": 22},
    "accumulation": {"save_steps": 1, "gradient_accumulation_steps": 2, "logging_steps": 3},
    "early stopping": {
        "save_strategy": "epoch", "load_best_model_at_end": True, "save_total_limit": 1,
        "num_train_epochs": 30,
    },
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("case", HUGGING_FACE)
def test_hugging_face(tmp_path: Path, case: str) -> None:
    train = by_hugging_face(**HUGGING_FACE[case])
    whole = ended(tmp_path / "whole", train)
    events = (1, "kill"), (8, "stop"), (7, "kill"), (0, "late")
    assert ended(tmp_path / "hit", train, *events) == whole
    assert {"epoch", "step", "loss", "eval_loss"} <= {name for row in whole for name in row}
