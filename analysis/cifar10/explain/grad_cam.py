"""Grad-CAM: where in an image a trial's network looked.

torch, captum and the trainer's models are imported by the functions that need them.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.cifar10.explain.samples import Places
from analysis.cifar10.explain.tested import Images
from local_machine.code import references
from local_machine.errors import EXIT_IO, InputError
from trainer.config import TrainConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

_BATCH = 20  # images in one forward pass: WRN-28-10's maps of so many take 0.2 GiB


@dataclass(frozen=True, eq=False)
class Look:
    """What a network says of some images, and where in them it saw it."""

    logits: NDArray[np.float32]  # (n, classes)
    maps: NDArray[np.float32]  # (n, H, W), each from 0 to a maximum of 1, or zero everywhere
    layer: str  # the name of the submodule whose map it is


def grad_cam(
    config: TrainConfig,
    weights: dict[str, Tensor],
    data: Images,
    rows: Places,
    targets: Places,
) -> Look | None:
    """Grad-CAM (Selvaraju et al. 2017) of the images in `rows` (n,), each for its class of
    `targets` (n,), on the model's `cam_layer`, or the last one with a map of a person's own
    network; None for an architecture that has none.

    The channels of the layer's map are weighted by the mean gradient of the target's logit and
    summed; what is negative becomes 0; the sum is brought to the image's size bilinearly and
    divided by its maximum. In evaluation mode, fp32, on the CPU. Raises InputError where the
    weights do not fit the model, and where a person's own network is not to be run here.
    """
    from local_machine.private_folder import use_private_caches

    use_private_caches()
    import torch
    from captum.attr import LayerAttribution, LayerGradCam

    from trainer.augment.batch import plain
    from trainer.models.own import cam_layer

    images = data.images[rows]
    model = _model(config, weights, len(data.classes), images.shape[1])
    first = plain(torch.from_numpy(images[:1]), data.mean, data.std)
    name = cam_layer(model, first)
    if name is None:
        return None
    layer = model.get_submodule(name)
    # Gradients are asked for from the layer on: nothing before it is kept for a backward pass.
    layer.requires_grad_()
    logits, maps = [], []

    def forward(batch: Tensor) -> Tensor:
        found: Tensor = model(batch)
        logits.append(found.detach().numpy())
        return found

    cam = LayerGradCam(forward, layer)
    for start in range(0, len(images), _BATCH):
        some = slice(start, start + _BATCH)
        batch = plain(torch.from_numpy(images[some]), data.mean, data.std)
        target = torch.from_numpy(targets[some])
        small = cam.attribute(batch, target, relu_attributions=True).detach()
        full = LayerAttribution.interpolate(small, images.shape[1:3], "bilinear")
        maps.append(full[:, 0].numpy())
    found = np.concatenate(maps)
    top = found.max(axis=(1, 2), keepdims=True)
    scaled = np.divide(found, top, out=np.zeros_like(found), where=top > 0)
    return Look(np.concatenate(logits), scaled, name)


def _model(config: TrainConfig, weights: dict[str, Tensor], classes: int, size: int) -> nn.Module:
    import torch

    from trainer import models

    if config.model.is_own:
        _refuse_others_code(config.model.name)
    # A person's own network may keep in it what no weights hold, so it is made as for training.
    place = "cpu" if config.model.is_own else "meta"
    # Without storage, so that nothing is initialised for nothing, and no random number drawn.
    with torch.random.fork_rng(devices=[]), torch.device(place):
        model = models.build(config.model, classes, size)
    try:
        model.load_state_dict(weights, assign=True)
    except (RuntimeError, AttributeError, TypeError) as error:
        first = str(error).partition("\n")[0]
        raise InputError(
            f"the checkpoint's weights do not fit {config.model.name}: {first}",
            "use the program's version that trained it",
            exit_code=EXIT_IO,
        ) from None
    model.requires_grad_(False)
    return model.to(memory_format=torch.channels_last).eval()


def _refuse_others_code(name: str) -> None:
    """A results folder that others may write names a file: it is run where it is this user's own.
    Raises InputError where it is not."""
    place = references.code_of(name)
    if place is None or not place.exists() or references.is_installed(place):
        return  # who builds it says so
    facts = place.stat()
    if facts.st_uid not in (os.geteuid(), 0) or facts.st_mode & stat.S_IWOTH:
        raise InputError(
            f"{place}, which has the network, is a file that others may write, so it is not run",
            "copy it from where the trial ran into the place that its results name, as your own",
        )
