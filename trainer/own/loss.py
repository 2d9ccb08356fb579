"""A loss of a person's own: fn(logits, targets) -> scalar.

Logits are (N, classes) in fp32. Targets are class indices (N,), int64; where `label_smoothing`,
MixUp or CutMix are on, they are probabilities (N, classes) in fp32, which have them in. The scalar
is the mean over the images. F.cross_entropy takes both kinds of targets.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from local_machine.code import references
from local_machine.errors import InputError
from trainer.config import CROSS_ENTROPY, TrainConfig

Loss = Callable[[Tensor, Tensor], Tensor]


def own_loss(config: TrainConfig) -> Loss | None:
    """None: the trainer's own. Raises InputError where it cannot be imported."""
    if config.loss == CROSS_ENTROPY:
        return None
    return references.load_callable(config.loss, f"loss={config.loss}")


def is_soft(config: TrainConfig) -> bool:
    """Whether the loss gets probabilities."""
    return bool(config.label_smoothing or config.augment.mixup or config.augment.cutmix)


def targets(
    label: Tensor, other: Tensor | None, lam: Tensor | None, classes: int, config: TrainConfig
) -> Tensor:
    """What the loss gets for these labels; `other` and `lam` (N,) are of images that are mixed."""
    if not is_soft(config):
        return label
    found = F.one_hot(label, classes).float()
    if other is not None and lam is not None:
        part = lam[:, None]
        found = part * found + (1 - part) * F.one_hot(other, classes)
    smoothing = config.label_smoothing
    return (1 - smoothing) * found + smoothing / classes


def heavier(label: Tensor, other: Tensor | None, lam: Tensor | None) -> Tensor:
    """Of images that are mixed, the label of the larger part."""
    return label if other is None or lam is None else torch.where(lam >= 0.5, label, other)


def checked(loss: object, reference: str) -> Tensor:
    """The loss as it was returned. Raises InputError for what is not a scalar tensor."""
    if isinstance(loss, Tensor) and loss.ndim == 0 and loss.is_floating_point():
        return loss
    said = f"a {type(loss).__name__}"
    if isinstance(loss, Tensor):
        said = f"a tensor of {loss.dtype} and shape {list(loss.shape)}"
    raise InputError(
        f"loss={reference} returned {said}, not a scalar",
        "return the mean over the images, a tensor of one number: losses.mean()",
    )
