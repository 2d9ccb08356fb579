"""Augmentation of whole batches as tensor operations, on any device.

Random crop, horizontal flip, normalisation, cutout (DeVries and Taylor 2017) and MixUp (Zhang et
al. 2018). What happens to a sample in an epoch is drawn at the epoch's start from (seed, epoch)
alone and looked up by the sample's index, so it does not depend on batch size, world size or
where training was resumed.

18 times as fast as torchvision's transforms on two idle cores: benchmarks/input_pipeline.py.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainer.config import AugmentConfig

Channels = tuple[float, float, float]

# A random stream for each kind of parameter: turning one off does not move the others. From 1,
# since SeedSequence takes [seed, epoch] and [seed, epoch, 0] for the same.
_ORDER, _CROP, _FLIP, _CUTOUT, _MIXUP = 1, 2, 3, 4, 5


class Draws(NamedTuple):
    """One epoch's order and parameters, all (N,), on the device, by sample."""

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
    """int64: the sample to mix with, each once an epoch; None without MixUp."""
    lam: Tensor | None
    """float32: weight of the sample itself, the partner's is 1 - lam."""


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
    cut_y = cut_x = partner = lam = None
    if config.cutout:
        cut_y, cut_x = map(put, stream(_CUTOUT).integers(0, size, (2, n)))
    if config.mixup:
        mixup = stream(_MIXUP)
        partner = put(mixup.permutation(n))
        lam = put(mixup.beta(config.mixup, config.mixup, n).astype(np.float32))
    return Draws(
        order=put(stream(_ORDER).permutation(n)),
        dy=put(dy),
        dx=put(dx),
        flip=put(stream(_FLIP).random(n) < config.flip),
        cut_y=cut_y,
        cut_x=cut_x,
        partner=partner,
        lam=lam,
    )


class Augmenter:
    """The training images, resident on the device, and batches of them augmented.

    images: uint8 (N, S, S, 3). labels (N,) are kept on the device as `labels`: with MixUp the loss
    needs labels[index], labels[draws.partner[index]] and draws.lam[index].
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
        side = size + 2 * pad
        # A fourth byte makes a pixel one int32, which is gathered and flipped as one number.
        padded = torch.zeros((n, side, side, 4), dtype=torch.uint8, device=device)
        padded[:, pad : pad + size, pad : pad + size, :3] = pixels.to(device)
        # (N, 2 pad + 1, 2 pad + 1, S, S): all crops of all images, as a view.
        whole = padded.view(torch.int32).squeeze(-1)
        self._crops = whole.unfold(1, size, 1).unfold(2, size, 1)
        self.labels = torch.as_tensor(labels).to(device)
        self._mean, self._std, self._dtype = mean, std, dtype
        self._half = config.cutout // 2
        self._rows = torch.arange(size, device=device)
        self._columns = self._rows.repeat_interleave(3)

    def batch(self, draws: Draws, index: Tensor) -> Tensor:
        """The samples `index` (B,), augmented: (B, 3, S, S), channels_last. Never waits for the
        device."""
        images = self._view(draws, index)
        if draws.partner is not None and draws.lam is not None:
            # Lerp from the partner, who comes with the crop, flip and cutout of its own.
            others = self._view(draws, draws.partner[index])
            images = others.lerp_(images, draws.lam[index, None, None])
        return _channels_last(images, self._dtype)

    def _view(self, draws: Draws, index: Tensor) -> Tensor:
        """Cropped, flipped, normalised, cut out: float32 (B, S, S * 3)."""
        crops = self._crops[index, draws.dy[index], draws.dx[index]]
        crops = torch.where(draws.flip[index, None, None], crops.flip(2), crops)
        pixels = crops.unsqueeze(-1).view(torch.uint8)[..., :3]
        images = _normalise(pixels, self._mean, self._std)
        if draws.cut_y is not None and draws.cut_x is not None:
            y = (self._rows - draws.cut_y[index, None])[:, :, None]
            x = (self._columns - draws.cut_x[index, None])[:, None, :]
            half = self._half
            images.masked_fill_((y >= -half) & (y < half) & (x >= -half) & (x < half), 0.0)
        return images


def plain(
    images: Tensor, mean: Channels, std: Channels, dtype: torch.dtype = torch.float32
) -> Tensor:
    """uint8 (B, S, S, 3) on any device, normalised only: (B, 3, S, S), channels_last."""
    return _channels_last(_normalise(images, mean, std), dtype)


def _normalise(pixels: Tensor, mean: Channels, std: Channels) -> Tensor:
    """uint8 (B, S, S, 3) to float32 (B, S, S * 3)."""
    # Whole rows, since a last dimension of 3 does not vectorise: half the time.
    scale, shift = _affine(mean, std, pixels.shape[2], pixels.device)
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


def _channels_last(images: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, S, S * 3) to (B, 3, S, S) without a copy: NHWC in memory is channels_last."""
    return images.view(*images.shape[:2], -1, 3).permute(0, 3, 1, 2).to(dtype)
