"""Augmentation of whole batches as tensor operations, on any device.

TrivialAugment (Mueller and Hutter 2021), random crop, horizontal flip, normalisation, cutout
(DeVries and Taylor 2017), MixUp (Zhang et al. 2018) and CutMix (Yun et al. 2019). What happens to
a sample in an epoch is drawn at the epoch's start from (seed, epoch) alone and looked up by the
sample's index, so it does not depend on batch size, world size or where training was resumed.

Making a batch never waits for the device, and every shape in it follows from the batch's size, so
that it can be captured as a part of a step.

18 times as fast as torchvision's transforms on two idle cores: benchmarks/input_pipeline.py.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.augment.trivial_augment import VARIANTS, TrivialAugment, windows
from trainer.config import AugmentConfig

Channels = tuple[float, float, float]

# A random stream for each kind of parameter: turning one off does not move the others. From 1,
# since SeedSequence takes [seed, epoch] and [seed, epoch, 0] for the same.
_ORDER, _CROP, _FLIP, _CUTOUT, _MIXUP, _CUTMIX, _EITHER, _OPERATION = 1, 2, 3, 4, 5, 6, 7, 8


class Draws(NamedTuple):
    """One epoch's order and parameters, on the device, by sample: (N,), and (N, 4) the box."""

    order: Tensor
    """int64: the samples in the order of the epoch."""
    dy: Tensor
    """int64: the crop's first row in the padded image; dx its first column."""
    dx: Tensor
    flip: Tensor
    """bool."""
    cut_y: Tensor | None
    """int64: row of the cutout's centre in the cropped image; None without cutout."""
    cut_x: Tensor | None
    partner: Tensor | None
    """int64: the sample to mix with, each once an epoch under MixUp or CutMix alone; None without
    either."""
    lam: Tensor | None
    """float32: weight of the sample's own label, the partner's is 1 - lam."""
    box: Tensor | None
    """int64 (N, 4): first row, end row, first column and end column of the partner's pixels in the
    cropped image; empty where the sample is mixed by MixUp; None without CutMix."""
    operation: Tensor | None
    """int64: TrivialAugment's variant, below VARIANTS; None without it."""


def draw(
    config: AugmentConfig, n: int, size: int, seed: int, epoch: int, device: torch.device | str
) -> Draws:
    """Parameters for n samples of size x size pixels in one epoch, from (seed, epoch) alone."""

    def stream(kind: int) -> np.random.Generator:
        sequence = np.random.SeedSequence([seed, epoch, kind])
        return np.random.Generator(np.random.PCG64(sequence))

    def put(values: npt.NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(values).to(device)

    dy, dx = stream(_CROP).integers(0, 2 * config.crop_padding + 1, (2, n))
    cut_y = cut_x = partner = lam = box = operation = None
    if config.cutout:
        cut_y, cut_x = map(put, stream(_CUTOUT).integers(0, size, (2, n)))
    if config.mixup:
        mixup = stream(_MIXUP)
        partner = mixup.permutation(n)
        lam = mixup.beta(config.mixup, config.mixup, n).astype(np.float32)
    if config.cutmix:
        other, box = _boxes(stream(_CUTMIX), config.cutmix, n, size)
        kept = 1 - (box[:, 1] - box[:, 0]) * (box[:, 3] - box[:, 2]) / size**2
        # A sample that is mixed one way is mixed as it would be without the other way.
        by_box = stream(_EITHER).random(n) < 0.5 if config.mixup else np.ones(n, bool)
        partner = np.where(by_box, other, other if partner is None else partner)
        lam = np.where(by_box, kept, kept if lam is None else lam).astype(np.float32)
        box = np.where(by_box[:, None], box, 0)
    if config.trivial_augment:
        operation = put(stream(_OPERATION).integers(0, VARIANTS, n))
    return Draws(
        order=put(stream(_ORDER).permutation(n)),
        dy=put(dy),
        dx=put(dx),
        flip=put(stream(_FLIP).random(n) < config.flip),
        cut_y=cut_y,
        cut_x=cut_x,
        partner=None if partner is None else put(partner),
        lam=None if lam is None else put(lam),
        box=None if box is None else put(box),
        operation=operation,
    )


def _boxes(
    stream: np.random.Generator, alpha: float, n: int, size: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """CutMix's partners (n,) and boxes (n, 4): a square of Beta(alpha, alpha) of the image's area,
    around any pixel, clipped at the borders."""
    partner = stream.permutation(n)
    side = np.rint(size * np.sqrt(1 - stream.beta(alpha, alpha, n))).astype(np.int64)
    first = stream.integers(0, size, (2, n)) - side // 2
    edges = np.stack([first[0], first[0] + side, first[1], first[1] + side], axis=1)
    return partner, edges.clip(0, size)


class Augmenter:
    """The training images, resident on the device, and batches of them augmented.

    images: uint8 (N, S, S, 3). labels (N,) are kept on the device as `labels`: where samples are
    mixed the loss needs labels[index], labels[draws.partner[index]] and draws.lam[index].
    """

    def __init__(
        self,
        images: npt.NDArray[np.uint8] | Tensor,
        labels: npt.NDArray[np.int64] | Tensor,
        mean: Channels,
        std: Channels,
        config: AugmentConfig,
        device: torch.device | str,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        pixels = torch.as_tensor(images)
        n, size = pixels.shape[:2]
        pad = config.crop_padding
        self._trivial: TrivialAugment | None = None
        if config.trivial_augment:
            self._trivial = TrivialAugment(pixels, pad, device)
        else:
            side = size + 2 * pad
            # A fourth byte makes a pixel one int32, which is gathered and flipped as one number.
            padded = torch.zeros((n, side, side, 4), dtype=torch.uint8, device=device)
            padded[:, pad : pad + size, pad : pad + size, :3] = pixels.to(device)
            self._crops = windows(padded.view(torch.int32).squeeze(-1), size)
        self.labels = torch.as_tensor(labels).to(device)
        self._scale, self._shift = _affine(mean, std, size, self.labels.device)
        self._dtype = dtype
        self._half = config.cutout // 2
        self._rows = torch.arange(size, device=device)
        self._columns = self._rows.repeat_interleave(3)

    def batch(self, draws: Draws, index: Tensor, side: int | None = None) -> Tensor:
        """The samples `index` (B,), augmented: (B, 3, S, S), channels_last; brought to `side` x
        `side` pixels where that is not S."""
        images = self._view(draws, index)
        if draws.partner is not None and draws.lam is not None:
            # Lerp from the partner, who comes with the operation, crop, flip and cutout of its own.
            others = self._view(draws, draws.partner[index])
            weight = draws.lam[index, None, None]
            if draws.box is not None:
                weight = self._outside(draws.box[index], weight)
            images = others.lerp_(images, weight)
        if side is not None and side != images.shape[1]:
            return _resized(_channels_last(images, images.dtype), side).to(self._dtype)
        return _channels_last(images, self._dtype)

    def _view(self, draws: Draws, index: Tensor) -> Tensor:
        """Operated on, cropped, flipped, normalised, cut out: float32 (B, S, S * 3)."""
        dy, dx = draws.dy[index], draws.dx[index]
        if self._trivial is not None and draws.operation is not None:
            crops = self._trivial.crops(index, draws.operation[index], dy, dx)
        else:
            crops = self._crops[index, dy, dx]
        crops = torch.where(draws.flip[index, None, None], crops.flip(2), crops)
        pixels = crops.unsqueeze(-1).view(torch.uint8)[..., :3]
        images = _normalise(pixels, self._scale, self._shift)
        if draws.cut_y is not None and draws.cut_x is not None:
            y = (self._rows - draws.cut_y[index, None])[:, :, None]
            x = (self._columns - draws.cut_x[index, None])[:, None, :]
            half = self._half
            images.masked_fill_((y >= -half) & (y < half) & (x >= -half) & (x < half), 0.0)
        return images

    def _outside(self, box: Tensor, lam: Tensor) -> Tensor:
        """The weight of a sample's own pixels, (B, S, S * 3): 0 in its box and 1 beside it, or lam
        (B, 1, 1) where it has none."""
        top, bottom, left, right = box[:, :, None].unbind(1)
        rows = (self._rows >= top) & (self._rows < bottom)
        columns = (self._columns >= left) & (self._columns < right)
        beside = lam.masked_fill(((bottom > top) & (right > left))[:, :, None], 1.0)
        return beside.masked_fill(rows[:, :, None] & columns[:, None, :], 0.0)


def plain(
    images: Tensor, mean: Channels, std: Channels, dtype: torch.dtype = torch.float32
) -> Tensor:
    """uint8 (B, S, S, 3) on any device, normalised only: (B, 3, S, S), channels_last."""
    scale, shift = _affine(mean, std, images.shape[2], images.device)
    return _channels_last(_normalise(images, scale, shift), dtype)


def _normalise(pixels: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """uint8 (B, S, S, 3) to float32 (B, S, S * 3)."""
    # Whole rows, since a last dimension of 3 does not vectorise: half the time.
    return pixels.flatten(2).float().mul_(scale).add_(shift)


@functools.cache
def _affine(
    mean: Channels, std: Channels, size: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """(value / 255 - mean) / std as value * scale + shift, for a row of pixels.

    Cached because making a tensor on a GPU waits for it.
    """
    scale = 1 / (255 * np.array(std))
    shift = -np.array(mean) / np.array(std)
    with torch.inference_mode(False):
        return (
            torch.tensor(np.tile(scale, size), dtype=torch.float32, device=device),
            torch.tensor(np.tile(shift, size), dtype=torch.float32, device=device),
        )


def _resized(images: Tensor, side: int) -> Tensor:
    """(B, 3, S, S) to (B, 3, side, side), channels_last, each pixel a mean of those that it covers
    and that lie near."""
    small = F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)
    return small.contiguous(memory_format=torch.channels_last)


def _channels_last(images: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, S, S * 3) to (B, 3, S, S) without a copy: NHWC in memory is channels_last."""
    return images.view(*images.shape[:2], -1, 3).permute(0, 3, 1, 2).to(dtype)
