"""Augmentation against a slow reference written from the protocol, and its laws.

TrivialAugment's operations are held against torchvision's on Pillow images, which are the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from trainer.augment.batch import Augmenter, Draws, draw, plain
from trainer.augment.trivial_augment import OPERATIONS, VARIANTS, TrivialAugment, variant
from trainer.config import AugmentConfig

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
N, SIZE = 60, 32
IMAGES = np.random.default_rng(0).integers(0, 256, (N, SIZE, SIZE, 3), dtype=np.uint8)
LABELS = np.arange(N) % 10
FULL = AugmentConfig(crop_padding=4, flip=0.5, cutout=12, mixup=0.4)
EVERYTHING = FULL.model_copy(update={"cutmix": 1.0, "trivial_augment": True})


def augmenter(
    config: AugmentConfig, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> Augmenter:
    return Augmenter(IMAGES, LABELS, MEAN, STD, config, device, dtype)


# TrivialAugment's tables take a while to make.
AUGMENTERS = {
    "full": (FULL, augmenter(FULL)),
    "everything": (EVERYTHING, augmenter(EVERYTHING)),
}


def drawn(draws: Draws) -> dict[str, torch.Tensor]:
    return {name: value for name, value in draws._asdict().items() if value is not None}


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
    if draws.box is not None:
        top, bottom, left, right = draws.box[i].tolist()
        if top < bottom and left < right:
            other = reference_view(config, draws, int(draws.partner[i]))
            own[:, top:bottom, left:right] = other[:, top:bottom, left:right]
            return own
    return lam * own + (1 - lam) * reference_view(config, draws, int(draws.partner[i]))


@pytest.mark.parametrize(
    "config",
    [
        FULL,
        AugmentConfig(),
        AugmentConfig(crop_padding=0, flip=0.0, cutout=0),
        AugmentConfig(crop_padding=16, flip=1.0, cutout=5),
        AugmentConfig(cutout=0, mixup=1.0),
        AugmentConfig(cutmix=1.0),
        FULL.model_copy(update={"cutmix": 0.5}),
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
    st.sampled_from(sorted(AUGMENTERS)),
)
def test_a_sample_does_not_depend_on_its_batch(
    order: list[int], cuts: list[int], seed: int, epoch: int, name: str
) -> None:
    config, augment = AUGMENTERS[name]
    whole = augment.batch(draw(config, N, SIZE, seed, epoch, "cpu"), torch.arange(N))
    again = draw(config, N, SIZE, seed, epoch, "cpu")  # as after a resume
    bounds = [0, *sorted(set(cuts)), N]
    for start, stop in pairwise(bounds):
        index = torch.tensor(order[start:stop])
        assert torch.equal(augment.batch(again, index), whole[index])


def test_draws_are_the_same_again_and_differ_by_epoch_and_seed() -> None:
    first = drawn(draw(EVERYTHING, N, SIZE, 42, 7, "cpu"))
    assert set(first) == set(Draws._fields)
    same = draw(EVERYTHING, N, SIZE, 42, 7, "cpu")
    for name, value in first.items():
        assert torch.equal(value, getattr(same, name)), name
    for other in (
        draw(EVERYTHING, N, SIZE, 42, 8, "cpu"),
        draw(EVERYTHING, N, SIZE, 43, 7, "cpu"),
    ):
        for name, value in first.items():
            assert not torch.equal(value, getattr(other, name)), name


def test_turning_one_kind_off_leaves_the_others() -> None:
    full = drawn(draw(EVERYTHING, N, SIZE, 42, 0, "cpu"))
    changes: list[tuple[dict[str, Any], set[str]]] = [
        ({"cutout": 0}, {"cut_y", "cut_x"}),
        ({"mixup": 0.0}, {"partner", "lam", "box"}),
        ({"cutmix": 0.0}, {"partner", "lam", "box"}),
        ({"mixup": 0.0, "cutmix": 0.0}, {"partner", "lam", "box"}),
        ({"trivial_augment": False}, {"operation"}),
        ({"flip": 0.0}, {"flip"}),
        ({"crop_padding": 0}, {"dy", "dx"}),
    ]
    for change, moved in changes:
        fewer = draw(EVERYTHING.model_copy(update=change), N, SIZE, 42, 0, "cpu")
        for name in set(Draws._fields) - moved:
            assert torch.equal(getattr(fewer, name), full[name]), (change, name)


def test_kinds_are_independent_of_one_another() -> None:
    # One stream for two kinds of parameter would tie them together.
    n = 20_000
    both = draw(EVERYTHING, n, SIZE, 42, 0, "cpu")
    mixup = draw(EVERYTHING.model_copy(update={"cutmix": 0.0}), n, SIZE, 42, 0, "cpu")
    cutmix = draw(EVERYTHING.model_copy(update={"mixup": 0.0}), n, SIZE, 42, 0, "cpu")
    assert both.partner is not None and cutmix.partner is not None and mixup.partner is not None
    permutations = [both.order, mixup.partner, cutmix.partner]
    assert not any(torch.equal(one, other) for one, other in pairwise(permutations))
    columns = [
        both.dy, both.dx, both.flip, both.cut_y, both.cut_x, both.operation, mixup.lam, cutmix.lam,
        both.partner == cutmix.partner,
    ]  # fmt: skip
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


def ready_made(seed: int = 0) -> Draws:
    """What was drawn before CutMix and TrivialAugment were, written down with numpy alone."""

    def stream(kind: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 0, kind])))

    put = torch.from_numpy
    dy, dx = stream(2).integers(0, 9, (2, N))
    cut_y, cut_x = stream(4).integers(0, SIZE, (2, N))
    mixup = stream(5)
    return Draws(
        order=put(stream(1).permutation(N)),
        dy=put(dy),
        dx=put(dx),
        flip=put(stream(3).random(N) < 0.5),
        cut_y=put(cut_y),
        cut_x=put(cut_x),
        partner=put(mixup.permutation(N)),
        lam=put(mixup.beta(0.4, 0.4, N).astype(np.float32)),
        box=None,
        operation=None,
    )


def test_the_streams_are_what_they_were() -> None:
    expected, got = ready_made(), draw(FULL, N, SIZE, 0, 0, "cpu")
    assert drawn(expected).keys() == drawn(got).keys()
    for name, value in drawn(expected).items():
        assert torch.equal(value, getattr(got, name)), name


# --- CutMix ----------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**63 - 1), st.sampled_from([0.05, 0.3, 1.0, 5.0]), st.booleans())
def test_cutmix_takes_every_pixel_from_one_of_the_two_and_weighs_by_their_count(
    seed: int, alpha: float, cutout: bool
) -> None:
    config = AugmentConfig(cutmix=alpha, cutout=12 if cutout else 0)
    draws = draw(config, N, SIZE, seed, 0, "cpu")
    assert draws.partner is not None and draws.lam is not None
    augment = augmenter(config)
    index = torch.arange(N)
    mixed = augment.batch(draws, index)
    own = augment.batch(draws._replace(partner=None), index)
    other = own[draws.partner]
    assert torch.equal(draws.partner.sort().values, index)
    assert ((mixed == own) | (mixed == other)).all()
    # A number for each image in the place of its pixels shows whose a pixel is, also by chance.
    marks = torch.arange(N, dtype=torch.uint8)[:, None, None, None].expand(N, SIZE, SIZE, 3)
    unmoved = AugmentConfig(cutmix=alpha, crop_padding=0, flip=0.0, cutout=0)
    still = draw(unmoved, N, SIZE, seed, 0, "cpu")
    assert still.partner is not None and torch.equal(still.partner, draws.partner)
    painted = Augmenter(marks, LABELS, (0.0,) * 3, (1 / 255,) * 3, unmoved, "cpu")
    seen = painted.batch(still, index).round()
    share = (seen == index[:, None, None, None]).double().mean((1, 2, 3))
    both = draws.partner == index  # its own partner: all pixels are its own, whatever the weight
    assert torch.equal(share[~both], draws.lam.double()[~both])


def test_boxes_are_squares_clipped_at_the_borders() -> None:
    n = 40_000
    draws = draw(AugmentConfig(cutmix=1.0), n, SIZE, 42, 0, "cpu")
    assert draws.box is not None and draws.lam is not None
    top, bottom, left, right = draws.box.unbind(1)
    assert draws.box.min() >= 0 and draws.box.max() <= SIZE
    within = (top > 0) & (bottom < SIZE) & (left > 0) & (right < SIZE)
    assert within.sum() > 1000
    assert torch.equal((bottom - top)[within], (right - left)[within])
    area = (bottom - top) * (right - left)
    assert torch.equal(draws.lam, (1 - area / SIZE**2).float())
    # The mean area that the borders leave, by sampling it without pixels.
    side = np.sqrt(np.random.default_rng(1).random(n))
    centre = np.random.default_rng(2).random((2, n))
    kept = (centre + side / 2).clip(0, 1) - (centre - side / 2).clip(0, 1)
    assert abs(1 - draws.lam.double().mean().item() - kept.prod(0).mean()) < 0.01


def test_with_mixup_too_each_takes_half_and_mixes_as_it_would_alone() -> None:
    n = 4000
    both = draw(AugmentConfig(mixup=0.4, cutmix=1.0), n, SIZE, 42, 0, "cpu")
    alone = {
        True: draw(AugmentConfig(cutmix=1.0), n, SIZE, 42, 0, "cpu"),
        False: draw(AugmentConfig(mixup=0.4), n, SIZE, 42, 0, "cpu"),
    }
    boxes, blends = alone[True], alone[False]
    assert both.partner is not None and both.lam is not None and both.box is not None
    assert boxes.partner is not None and boxes.box is not None and blends.partner is not None
    unlike = boxes.partner.ne(blends.partner)  # chance gives a few the same partner twice
    assert unlike.sum() > n - 20
    by_box = both.partner.eq(boxes.partner)
    assert abs(by_box.double().mean().item() - 0.5) < 6 * 0.5 / n**0.5
    for boxed, one in alone.items():
        assert one.partner is not None and one.lam is not None
        chosen = (by_box if boxed else ~by_box) & unlike
        assert torch.equal(both.partner[chosen], one.partner[chosen])
        assert torch.equal(both.lam[chosen], one.lam[chosen])
    assert torch.equal(both.box[unlike], (boxes.box * by_box[:, None])[unlike])


# --- TrivialAugment --------------------------------------------------------------------------


def pictures() -> npt.NDArray[np.uint8]:
    """Smooth ones, as photographs are, at full and at low contrast; noise; one even image."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    waves = [
        np.stack([np.sin(k * x + c) * np.cos(k * y - c) for c in range(3)], -1) for k in (3, 9)
    ]
    smooth = [(127.5 + 127.5 * wave).astype(np.uint8) for wave in waves]
    faint = (90 + 40 * waves[0]).astype(np.uint8)
    return np.stack([*smooth, faint, IMAGES[0], np.full_like(faint, 77)])


def pillow(name: str, strength: float) -> Callable[[Image.Image], Any]:
    from torchvision.transforms import functional as of

    def affine(image: Image.Image) -> Any:
        along_x = name.endswith("x")
        move = int(strength) if name.startswith("translate") else 0
        shear = math.degrees(math.atan(strength)) if name.startswith("shear") else 0.0
        return of.affine(
            image,
            angle=0.0,
            translate=[move, 0] if along_x else [0, move],
            scale=1.0,
            shear=[shear, 0.0] if along_x else [0.0, shear],
            center=[0, 0],
        )

    operations: dict[str, Callable[[Image.Image], Any]] = {
        "identity": lambda image: image,
        "auto_contrast": of.autocontrast,
        "equalize": of.equalize,
        "rotate": lambda image: of.rotate(image, strength),
        "solarize": lambda image: of.solarize(image, 255 - strength),
        "posterize": lambda image: of.posterize(image, 8 - round(strength)),
        "colour": lambda image: of.adjust_saturation(image, 1 + strength),
        "contrast": lambda image: of.adjust_contrast(image, 1 + strength),
        "brightness": lambda image: of.adjust_brightness(image, 1 + strength),
        "sharpness": lambda image: of.adjust_sharpness(image, 1 + strength),
    }
    return operations.get(name, affine)


def test_variants_are_the_wide_space() -> None:
    found: dict[str, list[float]] = {name: [] for name in OPERATIONS}
    for number in range(VARIANTS):
        name, strength = variant(number)
        found[name].append(strength)
    assert len(found) == 14
    assert {len(strengths) for strengths in found.values()} == {62}
    assert (min(found["rotate"]), max(found["rotate"])) == (-135, 135)
    assert (min(found["colour"]), max(found["colour"])) == (-0.99, 0.99)
    assert (min(found["translate_y"]), max(found["translate_y"])) == (-32, 32)
    assert (min(found["posterize"]), max(found["posterize"])) == (0, 6)
    assert (min(found["solarize"]), max(found["solarize"])) == (0, 255)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_torchvisions(name: str) -> None:
    images = pictures()
    index = torch.arange(len(images))
    trivial = TrivialAugment(torch.from_numpy(images), 0, "cpu")
    zero = torch.zeros_like(index)
    kind = OPERATIONS.index(name)
    changed = []
    for number in range(kind * 62, (kind + 1) * 62):
        assert variant(number)[0] == name
        pixels = trivial.crops(index, zero + number, zero, zero)
        got = pixels.unsqueeze(-1).view(torch.uint8)[..., :3].numpy().astype(int)
        operate = pillow(*variant(number))
        expected = np.stack([np.asarray(operate(Image.fromarray(image))) for image in images])
        apart = np.abs(got - expected)
        if name == "rotate":
            # Pillow rounds the slope to 16 bits, so that a place between two pixels may go either
            # way.
            assert (apart > 0).mean() < 0.05
        else:
            # One, where a product lies beside a whole number and is cut off.
            assert apart.max() <= 1
            assert (apart > 0).mean() < 0.02
        changed.append((got != images).any())
    assert any(changed) == (name != "identity")


def test_the_operation_comes_before_crop_flip_and_cutout() -> None:
    config = AugmentConfig(trivial_augment=True)
    draws = draw(config, N, SIZE, 42, 0, "cpu")
    assert draws.operation is not None
    index = torch.arange(N)
    zero = torch.zeros_like(index)
    trivial = TrivialAugment(torch.from_numpy(IMAGES), 0, "cpu")
    pixels = trivial.crops(index, draws.operation, zero, zero).unsqueeze(-1).view(torch.uint8)
    before = Augmenter(pixels[..., :3], LABELS, MEAN, STD, AugmentConfig(), "cpu")
    expected = before.batch(draws, index)
    assert torch.equal(augmenter(config).batch(draws, index), expected)


def test_identity_and_no_trivial_augment_are_the_same_bits() -> None:
    draws = draw(EVERYTHING, N, SIZE, 42, 0, "cpu")
    assert draws.operation is not None
    index = torch.arange(N)
    same = draws._replace(operation=torch.zeros_like(draws.operation))
    without = augmenter(EVERYTHING.model_copy(update={"trivial_augment": False}))
    got = AUGMENTERS["everything"][1].batch(same, index)
    assert torch.equal(got, without.batch(same, index))


def test_a_batch_has_static_shapes_and_does_not_ask_for_values() -> None:
    # On the meta device there are no values: what needs one, or a shape that hangs on one, fails.
    draws = draw(EVERYTHING, N, SIZE, 42, 0, "meta")
    augment = augmenter(EVERYTHING, device="meta")
    batch = augment.batch(draws, draws.order[:7])
    assert batch.shape == (7, 3, SIZE, SIZE)
    assert batch.is_contiguous(memory_format=torch.channels_last)
