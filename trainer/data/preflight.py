"""Preflight: what of a configuration depends on its data and its number of ranks.

Asked before a launch begins, and again by each trial. Decodes no image and imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from local_machine.errors import InputError
from trainer.config import TrainConfig
from trainer.data import datasets
from trainer.optim.schedule import FULL_SIDE


def check(configs: Iterable[TrainConfig], ranks: int) -> None:
    """Raise InputError where a trial on so many ranks could not be: its data are not there or bad,
    a class would be without images, its last batch is too small, its network or augmentation
    takes no images of this size. Touches nothing."""
    sources: dict[Any, datasets.Facts] = {}
    seen: dict[Any, datasets.Counts] = {}
    for config in configs:
        key = config.data
        source = key.name, key.root, key.size, key.image_column, key.label_column
        if source not in sources:
            sources[source] = datasets.facts(key)
        if key not in seen:
            seen[key] = datasets.counts(sources[source].labels, key)
        check_fits(config, sources[source].side, seen[key].train, ranks)


def check_fits(config: TrainConfig, side: int, images: int, ranks: int) -> None:
    """Raise InputError where a trial on so many ranks cannot train on so many images of this side
    (pixels)."""
    _check_last_batch(config, side, images, ranks)
    model, augment = config.model, config.augment
    if model.name == "vit" and side % model.patch:
        raise InputError(
            f"model.patch={model.patch} does not divide the images' side of {side} pixels",
            _other_size(config, side, model.patch, "choose another model.patch"),
        )
    # Its pooled shortcuts round odd sides down, its convolutions up.
    stride = 8 if model.stem == "cifar" else 32
    if model.name == "dla34" and side % stride:
        raise InputError(
            f"dla34 with stem={model.stem} takes images whose side is a multiple of {stride} "
            f"pixels, not {side}",
            _other_size(config, side, stride, "choose another model.name"),
        )
    if augment.first_size < FULL_SIDE != side:
        raise InputError(
            f"augment.first_size={augment.first_size} is for images of {FULL_SIDE} pixels, and "
            f"these have {side}",
            f"set augment.first_size={FULL_SIDE}, or data.size={FULL_SIDE}",
        )
    for field in ("crop_padding", "cutout"):
        if (value := getattr(augment, field)) > side:
            raise InputError(
                f"augment.{field}={value} pixels would cover whole images of {side} pixels",
                f"set augment.{field}={side // 8 if field == 'crop_padding' else side // 3}",
            )


def _other_size(config: TrainConfig, side: int, step: int, otherwise: str) -> str:
    if config.data.root is None:
        return otherwise
    size = max(8, step, round(side / step) * step)
    return f"set data.size={size}, or {otherwise}"


def _check_last_batch(config: TrainConfig, side: int, images: int, ranks: int) -> None:
    """Raise InputError where an epoch over so many images ends in a batch that is too small."""
    last = images % config.batch_size or config.batch_size
    # Its last map is 1x1, so that one image has no variance to normalise by.
    is_one_pixel = config.model.stem == "imagenet" and side <= 32
    if is_one_pixel and config.trained_on(last // ranks) < 2:
        raise InputError(
            f"batch_size={config.batch_size} leaves {last} of {images} images for the last batch"
            + f", of which hard_fraction={config.hard_fraction:g}" * (config.hard_fraction < 1)
            + f", and batch normalisation behind stem=imagenet needs two on each of {ranks} ranks",
            "choose another batch_size, or fewer ranks",
        )
