"""What a trial was tested with: its configuration, its images, its weights, as they are on disk.

The images come from the data that the trial was tested on, the weights from its checkpoint: most
results are read where neither is. An InputError's exit_code is EXIT_IO where a file is damaged or
of something else, EXIT_USAGE where there is none, which is how results usually travel. The
trainer's parts that need torch are imported where they are needed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.data import dataset
from analysis.data.predictions import Predictions
from local_machine.errors import EXIT_IO, InputError, move_away
from trainer.config import DataConfig, TrainConfig
from trial_records.config import as_before, is_of
from trial_records.trial_files import CHECKPOINT, CONFIG, read_values

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.data.datasets import Dataset

Pixels = NDArray[np.uint8]


def config(folder: Path, fingerprint: str) -> TrainConfig:
    """The trial's configuration. Raises InputError where its config.json is missing, damaged,
    another trial's, or of a network that this version does not know.
    """
    path = folder / CONFIG
    try:
        values = read_values(folder)
    except FileNotFoundError:
        raise InputError(f"{path} is missing", "copy it from where the trial ran") from None
    if not is_of(values, fingerprint):
        raise InputError(
            f"{path} is of another configuration than the plan's",
            f"copy it again, or move it away: {move_away(path, 'other')}",
            exit_code=EXIT_IO,
        )
    try:
        return TrainConfig.from_json(json.dumps(as_before(values)), where=str(path))
    except InputError as error:
        raise InputError(
            f"this version cannot build the network of {error.what}",
            "use the program's version that trained it",
        ) from None


@dataclass(frozen=True, eq=False)
class Images:
    """The image of each prediction, and what a trial needs to look at it again."""

    images: Pixels  # (n, H, W, 3)
    classes: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def images(config: DataConfig, predictions: Predictions) -> Images:
    """The images that were tested, from the decoded cache; the digits from scikit-learn.

    A report neither downloads nor decodes. Raises InputError where the data or their cache are not
    on this machine, where they are damaged, and where they are not those that were tested: of
    another content, or with other places in the test set, labels or class names.
    """
    data = _load(config)
    order = np.argsort(predictions.index)
    if (
        not dataset.may_be(predictions.data, data.sha256)
        or data.classes != predictions.classes
        or not np.array_equal(data.test_index, predictions.index[order])
        or not np.array_equal(data.test_labels, predictions.labels[order])
    ):
        raise InputError(
            f"the test images on this machine are not those that {predictions.trial} was tested "
            "on: their content, number, labels or classes differ",
            "put back the data that the trial used, or run it again on these",
            exit_code=EXIT_IO,
        )
    return Images(data.test_images[np.argsort(order)], data.classes, data.mean, data.std)


def _load(config: DataConfig) -> Dataset:
    from trainer.data import datasets

    try:
        cache = datasets.cache(config)
        if cache is None or cache.exists():
            return datasets.load(config)
    except OSError as error:
        raise InputError(
            f"cannot read {error.filename}: {error.strerror}",
            "correct its permissions",
            exit_code=EXIT_IO,
        ) from None
    source = "CIFAR-10" if config.root is None else f"data.root={config.root}"
    raise InputError(
        f"{source} is not decoded on this machine: there is no {cache}",
        "export SWEEPS_CACHE=FOLDER with the folder that the trials used, or launch a trial of the "
        "same data here, which decodes them",
    )


def weights(folder: Path, fingerprint: str) -> dict[str, Tensor]:
    """The weights that were tested. Raises InputError where the trial's checkpoint.pt is missing,
    or is damaged, another trial's or another version's.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        raise InputError(f"{path} is missing", "copy it from where the trial ran")
    from trainer.records import saved_weights

    try:
        state = saved_weights.load(path, fingerprint)
        found: dict[str, Tensor] = (state or {}).get("best_weights", {})
        if not found:
            raise saved_weights.DamagedCheckpointError("it holds no tested weights")
    except saved_weights.DamagedCheckpointError as error:
        raise InputError(
            f"{path} is damaged: {error}",
            f"copy it again, or move it away: {move_away(path)}",
            exit_code=EXIT_IO,
        ) from None
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror}", "correct its permissions", exit_code=EXIT_IO
        ) from None
    return found
