"""Why a trial's network decided as it did: which images to show, and where it looked in them.

The images come from the data that the trial was tested on, the weights from its checkpoint. torch,
captum and the trainer's parts are imported only by the functions that need them: most results are
read where neither images nor weights are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.data import dataset
from analysis.data.predictions import Predictions
from local_machine.errors import EXIT_IO, InputError, move_away
from trainer.config import DataConfig, TrainConfig
from trial_records.config import as_before, is_of
from trial_records.trial_files import CHECKPOINT, CONFIG, read_values

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trainer.data.datasets import Dataset

Pixels = NDArray[np.uint8]
Places = NDArray[np.int64]

_BATCH = 20  # images in one forward pass: WRN-28-10's maps of so many take 0.2 GiB


# --- which images ------------------------------------------------------------------------------


class Pair(NamedTuple):
    """A class, and the rows of its two samples in the predictions; None where it has none."""

    label: int
    right: int | None
    wrong: int | None


def misclassified(predictions: Predictions) -> Places:
    """Rows of the wrong predictions, the most confident first; ties by index."""
    return _by_confidence(predictions, ~predictions.right)


def pairs(predictions: Predictions, most: int) -> list[Pair]:
    """For every true class its most confident right and its most confident wrong sample, ties by
    index, in the classes' order. Classes without test images are left out.

    Where there are more than `most` classes: those with the most misclassified images, ties by
    label.
    """
    labels, right = predictions.labels, predictions.right
    classes = len(predictions.classes)
    known = np.flatnonzero(np.bincount(labels, minlength=classes))
    wrong = np.bincount(labels[~right], minlength=classes)
    kept = np.sort(known[np.argsort(-wrong[known], kind="stable")][:most])
    return [
        Pair(int(label), *(_first(predictions, (labels == label) & of) for of in (right, ~right)))
        for label in kept
    ]


def _first(predictions: Predictions, among: NDArray[np.bool_]) -> int | None:
    found = _by_confidence(predictions, among)
    return int(found[0]) if len(found) else None


def _by_confidence(predictions: Predictions, among: NDArray[np.bool_]) -> Places:
    rows = np.flatnonzero(among)
    return rows[np.lexsort((predictions.index[rows], -predictions.confidence[rows]))]


# --- what is on disk ---------------------------------------------------------------------------
#
# An error's exit_code is EXIT_IO where a file is damaged or of something else, EXIT_USAGE where
# there is none, which is how results usually travel.


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
            f"cannot read {error.filename}: {error.strerror}", "mend its rights", exit_code=EXIT_IO
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
    from trainer import checkpoint

    try:
        state = checkpoint.load(path, fingerprint)
        found: dict[str, Tensor] = (state or {}).get("best_weights", {})
        if not found:
            raise checkpoint.DamagedCheckpointError("it holds no tested weights")
    except checkpoint.DamagedCheckpointError as error:
        raise InputError(
            f"{path} is damaged: {error}",
            f"copy it again, or move it away: {move_away(path)}",
            exit_code=EXIT_IO,
        ) from None
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror}", "mend its rights", exit_code=EXIT_IO
        ) from None
    return found


# --- where it looked ---------------------------------------------------------------------------


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
    `targets` (n,), on the model's `cam_layer`; None for an architecture that has none.

    The channels of the layer's map are weighted by the mean gradient of the target's logit and
    summed; what is negative becomes 0; the sum is brought to the image's size bilinearly and
    divided by its maximum. In evaluation mode, fp32, on the CPU. Raises InputError where the
    weights do not fit the model.
    """
    from local_machine.private_folder import use_private_caches

    use_private_caches()
    import torch
    from captum.attr import LayerAttribution, LayerGradCam

    from trainer.augment.batch import plain

    images = data.images[rows]
    model = _model(config, weights, len(data.classes), images.shape[1])
    name: str | None = model.cam_layer  # type: ignore[assignment]
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

    # Without storage, so that nothing is initialised for nothing, and no random number drawn.
    with torch.device("meta"):
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
