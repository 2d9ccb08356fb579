"""Evaluation: every image exactly once, counted in integers, the same at any world size."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from trainer.augment.batch import plain
from trainer.distributed import Group
from trainer.perf.precision import Precision, autocast

Normalisation = tuple[tuple[float, float, float], tuple[float, float, float]]

# The set is cut into chunks of this many images before they are dealt to the ranks, so that an
# image meets the same batch, and gets the same logits to the last bit, at any world size.
CHUNK = 500


@dataclass(frozen=True)
class Evaluation:
    """Counts and losses over one set of images."""

    images: int
    correct: tuple[int, ...]  # with the label among the k highest logits, k = 1 .. classes
    loss: float  # mean cross-entropy, nats
    loss_smoothed: float  # with the label smoothing of the training loss
    logits: torch.Tensor | None  # (images, classes), fp32, on the CPU

    def top(self, k: int) -> float:
        """Fraction with the label among the k highest logits."""
        return self.correct[min(k, len(self.correct)) - 1] / self.images


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    normalise: Normalisation,
    classes: int,
    precision: Precision,
    group: Group,
    *,
    label_smoothing: float = 0.0,
    keep_logits: bool = False,
) -> Evaluation:
    """Evaluate `model` on uint8 images (N, H, W, 3) with int64 labels (N,), both on the device.

    Ties between logits are broken towards the lower class, so that the counts are those of
    `argmax`. The model is left in evaluation mode.
    """
    model.eval()
    total = len(labels)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    column = torch.arange(classes, device=group.device)
    # places[k]: images whose label is the k-th most likely class, from 0.
    places = torch.zeros(classes, dtype=torch.int64, device=group.device)
    losses = torch.zeros(2, dtype=torch.float64, device=group.device)
    kept = torch.zeros(total if keep_logits else 0, classes, device=group.device)
    for start in range(group.rank * CHUNK, total, group.world * CHUNK):
        chunk = slice(start, start + CHUNK)
        label = labels[chunk]
        with autocast(precision, group.device):
            logits = model(plain(images[chunk], *normalise, dtype)).float()
        own = logits.gather(1, label[:, None])
        # Said by what is not ahead, so that a label whose logit is NaN is never counted as right.
        behind = (logits < own) | ((logits == own) & (column >= label[:, None]))
        ahead = ~behind
        places += (ahead.sum(1, keepdim=True) == column).sum(0)
        losses[0] += F.cross_entropy(logits, label, reduction="sum")
        losses[1] += F.cross_entropy(
            logits, label, reduction="sum", label_smoothing=label_smoothing
        )
        if keep_logits:
            kept[chunk] = logits
    # A row of `kept` is zero on all ranks but one, so that its sum is exact.
    places, losses, kept = group.sum(places), group.sum(losses), group.sum(kept)
    loss, smoothed = (losses / total).tolist()
    correct = tuple(torch.cumsum(places, 0).tolist())
    return Evaluation(total, correct, loss, smoothed, kept.cpu() if keep_logits else None)
