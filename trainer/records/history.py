"""History: how far a trial's training has come, and what was best; half of what is saved."""

from __future__ import annotations

from dataclasses import astuple, dataclass, field
from typing import Any

import torch
from torch import nn

from trainer.ema import Ema

Row = dict[str, Any]


@dataclass(frozen=True)
class Partial:
    """An epoch that was broken off: its steps so far, and their sums over all ranks."""

    step: int = 0
    loss: float = 0.0
    correct: int = 0
    seconds: float = 0.0


@dataclass
class History:
    """All that is saved besides the model and the optimizer, and the rows of the log."""

    rows: list[Row] = field(default_factory=list)
    """Of epochs.parquet."""
    partial: Partial = Partial()
    best_epoch: int = -1
    best_correct: int = -1
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    stopper: tuple[int, int] = (-1, 0)
    """EarlyStopping's best and waited."""
    finished_training: bool = False
    attempts: list[dict[str, Any]] = field(default_factory=list)
    """What each attempt that added to this says of itself, and from where it went on."""

    def begin(self, attempt: dict[str, Any]) -> None:
        """Another attempt goes on from here."""
        so_far = {"from_epoch": len(self.rows), "from_step": self.partial.step}
        self.attempts.append({**attempt, **so_far})

    def see(self, row: Row, correct: int, model: nn.Module, stopper: tuple[int, int]) -> None:
        """Add an epoch; keep its weights where no epoch before it was as good."""
        if correct > self.best_correct:
            self.best_epoch, self.best_correct = row["epoch"], correct
            self.best_weights = {
                name: value.detach().to("cpu", copy=True)
                for name, value in model.state_dict().items()
            }
        self.rows.append(row)
        self.stopper = stopper
        self.partial = Partial()

    def state(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, average: Ema | None = None
    ) -> dict[str, Any]:
        """What to save. Once training has finished only the best weights are needed."""
        state = {**vars(self), "attempts": list(self.attempts), "partial": astuple(self.partial)}
        del state["rows"]
        if not self.finished_training:
            state |= {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            if average is not None:
                state["average"] = average.state_dict()
        return state

    @classmethod
    def restore(
        cls,
        state: dict[str, Any],
        rows: list[Row],
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: Ema | None = None,
    ) -> History:
        """From what was saved and the log's rows, which version 0.1 saved too; model, optimizer and
        average are set where training goes on."""
        if not state["finished_training"]:
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            if average is not None:
                average.load_state_dict(state["average"])
        return cls(
            rows=list(state.get("rows", rows)),
            partial=Partial(*state["partial"]),
            best_epoch=state["best_epoch"],
            best_correct=state["best_correct"],
            best_weights=state["best_weights"],
            stopper=state["stopper"],
            finished_training=state["finished_training"],
            # Before they were kept: some attempt, of which no more is known.
            attempts=state.get("attempts", [{"from_epoch": 0, "from_step": 0}]),
        )
