"""Augmentation against a slow reference written from the protocol, and its laws."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.augment import Augmenter, Draws, draw, plain
from trainer.config import AugmentConfig

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
N, SIZE = 60, 32
IMAGES = np.random.default_rng(0).integers(0, 256, (N, SIZE, SIZE, 3), dtype=np.uint8)
LABELS = np.arange(N) % 10
FULL = AugmentConfig(crop_padding=4, flip=0.5, cutout=12, mixup=0.4)


def augmenter(config: AugmentConfig, dtype: torch.dtype = torch.float32) -> Augmenter:
    return Augmenter(IMAGES, LABELS, MEAN, STD, config, "cpu", dtype)


def reference_view(config: AugmentConfig, draws: Draws, i: int) -> npt.NDArray[np.float64]:
    pad, half = config.crop_padding, config.cutout // 2
    padded = np.zeros((SIZE + 2 * pad, SIZE + 2 * pad, 3))
    padded[pad : pad + SIZE, pad : pad + SIZE] = IMAGES[i]
    out = np.zeros((3, SIZE, SIZE))
    for y in range(SIZE):
        for x in range(SIZE):
            if draws.cut_y is not None and draws.cut_x is not None:
                cy, cx = int(draws.cut_y[i]), int(draws.cut_x[i])
                if cy - half <= y < cy + half and cx - half <= x < cx + half:
                    continue
            column = SIZE - 1 - x if draws.flip[i] else x
            pixel = padded[int(draws.dy[i]) + y, int(draws.dx[i]) + column]
            out[:, y, x] = (pixel / 255 - MEAN) / STD
    return out


def reference(config: AugmentConfig, draws: Draws, i: int) -> npt.NDArray[np.float64]:
    own = reference_view(config, draws, i)
    if draws.partner is None or draws.lam is None:
        return own
    lam = float(draws.lam[i])
    return lam * own + (1 - lam) * reference_view(config, draws, int(draws.partner[i]))


@pytest.mark.parametrize(
    "config",
    [
        FULL,
        AugmentConfig(),
        AugmentConfig(crop_padding=0, flip=0.0, cutout=0),
        AugmentConfig(crop_padding=16, flip=1.0, cutout=5),
        AugmentConfig(cutout=0, mixup=1.0),
    ],
)
def test_equals_the_reference(config: AugmentConfig) -> None:
    draws = draw(config, N, SIZE, seed=42, epoch=3, device="cpu")
    index = draws.order[:12]
    batch = augmenter(config).batch(draws, index)
    expected = np.stack([reference(config, draws, int(i)) for i in index])
    assert batch.shape == (12, 3, SIZE, SIZE)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(batch.numpy(), expected, atol=2e-6)


def test_bf16_is_fp32_rounded_once() -> None:
    draws = draw(FULL, N, SIZE, 42, 0, "cpu")
    batch = augmenter(FULL, torch.bfloat16).batch(draws, draws.order)
    assert batch.dtype == torch.bfloat16
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch, augmenter(FULL).batch(draws, draws.order).bfloat16())


def test_plain_only_normalises() -> None:
    got = plain(torch.from_numpy(IMAGES), MEAN, STD)
    expected = ((IMAGES / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
    assert got.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(got.numpy(), expected, atol=2e-6)
    assert plain(torch.from_numpy(IMAGES), MEAN, STD, torch.bfloat16).dtype == torch.bfloat16


@settings(max_examples=30, deadline=None)
@given(
    st.permutations(range(N)),
    st.lists(st.integers(1, N - 1), max_size=5),
    st.integers(0, 2**63 - 1),
    st.integers(0, 1000),
)
def test_a_sample_does_not_depend_on_its_batch(
    order: list[int], cuts: list[int], seed: int, epoch: int
) -> None:
    augment = augmenter(FULL)
    whole = augment.batch(draw(FULL, N, SIZE, seed, epoch, "cpu"), torch.arange(N))
    again = draw(FULL, N, SIZE, seed, epoch, "cpu")  # as after a resume
    bounds = [0, *sorted(set(cuts)), N]
    for start, stop in pairwise(bounds):
        index = torch.tensor(order[start:stop])
        assert torch.equal(augment.batch(again, index), whole[index])


def test_draws_are_the_same_again_and_differ_by_epoch_and_seed() -> None:
    first = draw(FULL, N, SIZE, 42, 7, "cpu")
    same = draw(FULL, N, SIZE, 42, 7, "cpu")
    for name, value in first._asdict().items():
        assert torch.equal(value, getattr(same, name)), name
    for other in (draw(FULL, N, SIZE, 42, 8, "cpu"), draw(FULL, N, SIZE, 43, 7, "cpu")):
        for name, value in first._asdict().items():
            assert not torch.equal(value, getattr(other, name)), name


def test_turning_one_kind_off_leaves_the_others() -> None:
    full = draw(FULL, N, SIZE, 42, 0, "cpu")
    changes: list[tuple[dict[str, Any], set[str]]] = [
        ({"cutout": 0}, {"cut_y", "cut_x"}),
        ({"mixup": 0.0}, {"partner", "lam"}),
        ({"flip": 0.0}, {"flip"}),
        ({"crop_padding": 0}, {"dy", "dx"}),
    ]
    for change, moved in changes:
        fewer = draw(FULL.model_copy(update=change), N, SIZE, 42, 0, "cpu")
        for name in set(Draws._fields) - moved:
            assert torch.equal(getattr(fewer, name), getattr(full, name)), (change, name)


def test_kinds_are_independent_of_one_another() -> None:
    # One stream for two kinds of parameter would tie them together.
    draws = draw(FULL, 20_000, SIZE, 42, 0, "cpu")
    assert draws.partner is not None
    assert not torch.equal(draws.order, draws.partner)
    columns = [draws.dy, draws.dx, draws.flip, draws.cut_y, draws.cut_x, draws.lam]
    table = np.corrcoef(np.stack([np.asarray(column, float) for column in columns]))
    assert np.abs(table - np.eye(len(columns))).max() < 0.04


def test_distributions() -> None:
    n = 40_000
    draws = draw(FULL, n, SIZE, 42, 0, "cpu")
    assert draws.cut_y is not None and draws.cut_x is not None
    assert draws.partner is not None and draws.lam is not None
    assert torch.equal(draws.order.sort().values, torch.arange(n))
    assert torch.equal(draws.partner.sort().values, torch.arange(n))
    for values, kinds in [(draws.dy, 9), (draws.dx, 9), (draws.cut_y, SIZE), (draws.cut_x, SIZE)]:
        counts = np.bincount(values.numpy())
        assert len(counts) == kinds
        # Six standard deviations of a count.
        assert np.abs(counts - n / kinds).max() < 6 * (n / kinds) ** 0.5
    assert abs(draws.flip.float().mean().item() - 0.5) < 6 * 0.5 / n**0.5
    # Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)), symmetric.
    lam = draws.lam.double()
    assert lam.min() >= 0 and lam.max() <= 1
    assert abs(lam.mean().item() - 0.5) < 0.01
    assert abs(lam.var().item() - 1 / (4 * (2 * 0.4 + 1))) < 0.005
    assert abs(((lam < 0.1).double().mean() - (lam > 0.9).double().mean()).item()) < 0.015


@pytest.mark.parametrize(
    ("length", "y", "x", "zeroed"),
    [
        (12, 16, 16, 12 * 12),
        (12, 0, 0, 6 * 6),
        (12, 31, 31, 7 * 7),  # rows cy-6 .. cy+5: the centre is the second half's first
        (12, 0, 31, 6 * 7),
        (16, 16, 0, 16 * 8),
        (5, 16, 16, 4 * 4),
        (1, 16, 16, 0),
    ],
)
def test_cutout_counts(length: int, y: int, x: int, zeroed: int) -> None:
    config = AugmentConfig(crop_padding=0, flip=0.0, cutout=length)
    draws = draw(config, N, SIZE, 42, 0, "cpu")
    draws = draws._replace(cut_y=torch.full((N,), y), cut_x=torch.full((N,), x))
    batch = augmenter(config).batch(draws, torch.arange(4))
    # No value from 0 to 255 is normalised to exactly 0, so what is 0 was cut.
    assert ((batch == 0).all(1).sum((1, 2)) == zeroed).all()
    assert (batch == 0).sum() == 4 * 3 * zeroed


def test_padding_is_black_and_not_the_mean() -> None:
    config = AugmentConfig(flip=0.0, cutout=0)
    draws = draw(config, N, SIZE, 42, 0, "cpu")
    draws = draws._replace(dy=torch.zeros_like(draws.dy), dx=torch.zeros_like(draws.dx))
    batch = augmenter(config).batch(draws, torch.arange(2))
    black = -torch.tensor(MEAN) / torch.tensor(STD)
    assert torch.allclose(batch[:, :, :4, :], black[None, :, None, None])
    assert torch.allclose(batch[:, :, :, :4], black[None, :, None, None])
    assert torch.allclose(
        batch[:, :, 4:, 4:], plain(torch.from_numpy(IMAGES[:2]), MEAN, STD)[:, :, :28, :28]
    )


def test_mixup_with_weight_one_or_zero_is_one_of_the_two() -> None:
    augment = augmenter(FULL)
    draws = draw(FULL, N, SIZE, 42, 0, "cpu")
    assert draws.partner is not None
    index = torch.arange(N)
    unmixed = augment.batch(draws._replace(partner=None, lam=None), index)
    ones, zeros = torch.ones(N), torch.zeros(N)
    assert torch.equal(augment.batch(draws._replace(lam=ones), index), unmixed)
    assert torch.equal(augment.batch(draws._replace(lam=zeros), index), unmixed[draws.partner])
