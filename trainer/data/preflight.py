"""Preflight: what of a configuration depends on its data and its number of ranks.

Asked before a launch begins, and again by each trial. Decodes no image and imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from local_machine.errors import InputError
from trainer.config import TrainConfig
from trainer.data import datasets
from trainer.data.layouts import Labels


def check(configs: Iterable[TrainConfig], ranks: int) -> None:
    """Raise InputError where a trial on so many ranks could not be: its data are not there or bad,
    a class would be without images, its last batch is too small. Touches nothing."""
    sources: dict[tuple[str, str | None], Labels] = {}
    seen: dict[Any, datasets.Counts] = {}
    for config in configs:
        key = config.data
        if key not in seen:
            source = key.name, key.root
            if source not in sources:
                sources[source] = datasets.labels(key)
            seen[key] = datasets.counts(sources[source], key)
        check_last_batch(config, seen[key].train, ranks)


def check_last_batch(config: TrainConfig, images: int, ranks: int) -> None:
    """Raise InputError where an epoch over so many images ends in a batch that is too small."""
    last = images % config.batch_size or config.batch_size
    # Its last map is 1x1, so that one image has no variance to normalise by.
    if config.model.stem == "imagenet" and config.trained_on(last // ranks) < 2:
        raise InputError(
            f"batch_size={config.batch_size} leaves {last} of {images} images for the last batch"
            + f", of which hard_fraction={config.hard_fraction:g}" * (config.hard_fraction < 1)
            + f", and batch normalisation behind stem=imagenet needs two on each of {ranks} ranks",
            "choose another batch_size, or fewer ranks",
        )
