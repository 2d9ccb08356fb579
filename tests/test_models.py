from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from local_machine.errors import InputError
from trainer.config import ModelConfig
from trainer.models import build, scaled
from trainer.models.registry import MODELS

EVERY = [
    *(("cifar", name) for name in [*MODELS, "wrn_16_4"]),
    *(("imagenet", name) for name in MODELS if name.startswith(("resnet", "dla"))),
]
CONVOLUTIONAL = [(stem, name) for stem, name in EVERY if name != "vit"]
every = pytest.mark.parametrize(("stem", "name"), EVERY)
convolutional = pytest.mark.parametrize(("stem", "name"), CONVOLUTIONAL)

LAST_SIDE = {"resnet": {"cifar": 4, "imagenet": 1}, "wrn": {"cifar": 8}}
LAST_SIDE["dla"] = LAST_SIDE["resnet"]


def small(name: str, stem: str = "cifar", classes: int = 10, seed: int = 0, **more: Any) -> Any:
    torch.manual_seed(seed)
    if name == "wrn_28_10":
        more.setdefault("width", 0.05)
    config = {"name": name, "stem": stem, "width": 0.125, **more}
    return build(ModelConfig.model_validate(config), classes)


def images(count: int = 8, side: int = 32) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def last_map(model: Any, batch: Tensor) -> tuple[Tensor, Tensor]:
    """The map at `cam_layer`, and the logits."""
    seen: list[Tensor] = []
    layer = model.get_submodule(model.cam_layer)
    handle = layer.register_forward_hook(lambda module, args, output: seen.append(output))
    logits = model(batch)
    handle.remove()
    (found,) = seen
    return found, logits


@pytest.mark.parametrize(
    ("name", "stem", "classes", "parameters"),
    [
        ("resnet18", "cifar", 10, 11_173_962),
        ("resnet34", "cifar", 10, 21_282_122),
        ("resnet50", "cifar", 10, 23_520_842),
        ("resnet18", "imagenet", 1000, 11_689_512),
        ("resnet50", "imagenet", 1000, 25_557_032),
        ("wrn_28_10", "cifar", 10, 36_479_194),
        ("wrn_40_4", "cifar", 10, 8_949_210),
        ("dla34", "imagenet", 1000, 15_742_104),
        ("vit", "cifar", 10, 8_335_114),
    ],
)
def test_parameters_at_full_width(name: str, stem: Any, classes: int, parameters: int) -> None:
    with torch.device("meta"):
        model = build(ModelConfig(name=name, stem=stem), classes)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == parameters


@pytest.mark.long
@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_resnet_with_imagenet_stem_is_torchvisions(name: str) -> None:
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    theirs = getattr(models, name)(num_classes=10).eval()
    ours = build(ModelConfig(name=name, stem="imagenet"), 10).eval()
    # Both register their layers in the order of the paper, so the values match one to one.
    values = zip(ours.state_dict(), theirs.state_dict().values(), strict=True)
    ours.load_state_dict(dict(values))
    batch = images(2, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(batch), theirs(batch))


@every
@pytest.mark.parametrize("width", [0.0625, 0.2])
def test_logits_have_one_column_a_class(stem: str, name: str, width: float) -> None:
    model = small(name, stem, classes=7, width=width).eval()
    with torch.no_grad():
        logits = model(images(3))
    assert logits.shape == (3, 7)
    assert logits.isfinite().all()


@convolutional
def test_cam_layer_is_the_map_that_the_head_pools(stem: str, name: str) -> None:
    model = small(name, stem).eval()
    with torch.no_grad():
        found, logits = last_map(model, images(3))
        side = LAST_SIDE[name.rstrip("0123456789_")][stem]
        assert found.shape[2:] == (side, side)
        assert found.min() >= 0
        torch.testing.assert_close(model.head(found.mean((2, 3))), logits)


def test_vit_has_no_map() -> None:
    assert small("vit").cam_layer is None


@every
def test_state_reloads_strictly(stem: str, name: str) -> None:
    first, second = small(name, stem, seed=1), small(name, stem, seed=2)
    first(images())  # moves the running statistics
    first.eval(), second.eval()
    with torch.no_grad():
        expected = first(images(2))
        assert not torch.equal(second(images(2)), expected)
        second.load_state_dict(first.state_dict(), strict=True)
        assert torch.equal(second(images(2)), expected)


@every
def test_every_parameter_learns(stem: str, name: str) -> None:
    """DistributedDataParallel waits for ever for a parameter that gets no gradient."""
    model = small(name, stem)
    labels = torch.arange(8)
    torch.autograd.backward(nn.functional.cross_entropy(model(images()), labels))
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None, path
        assert parameter.grad.isfinite().all(), path
        assert parameter.grad.abs().sum() > 0, path


@every
def test_one_seed_gives_one_model(stem: str, name: str) -> None:
    first, again, other = (small(name, stem, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.long
@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("cifar", "resnet50"),
        ("imagenet", "resnet18"),
        ("cifar", "wrn_16_4"),
        ("imagenet", "dla34"),
        ("cifar", "vit"),
    ],
)
def test_compiles_to_one_graph(stem: str, name: str) -> None:
    model = small(name, stem, width=0.0625)
    compiled: Any = torch.compile(model, backend="eager", fullgraph=True)  # type: ignore[no-untyped-call, unused-ignore]
    torch.testing.assert_close(compiled(images()), model(images()))


@convolutional
def test_bf16_stays_channels_last(stem: str, name: str) -> None:
    model = small(name, stem).to(memory_format=torch.channels_last)
    batch = images().contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        found, logits = last_map(model, batch)
    assert found.dtype == torch.bfloat16
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.autograd.backward(nn.functional.cross_entropy(logits.float(), torch.arange(8)))
    # Compared in evaluation: normalising a 1x1 map over the batch magnifies the rounding.
    model.eval()
    with torch.no_grad():
        exact = model(batch)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model(batch).float()
    assert (rounded - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("name", ["wrn_10_1", "wrn_16_4", "vit"])
def test_dropout_acts_in_training_only(name: str) -> None:
    model = small(name, dropout=0.5)
    assert not torch.equal(model(images()), model(images()))
    model.eval()
    assert torch.equal(model(images()), model(images()))
    plain = small(name)
    assert torch.equal(plain(images()), plain(images()))
    plain.load_state_dict(model.state_dict())
    assert torch.equal(plain.eval()(images()), model(images()))


@pytest.mark.parametrize(("name", "blocks"), [("wrn_10_1", 3), ("wrn_16_4", 6), ("wrn_40_2", 18)])
def test_wrn_reads_depth_and_width_from_its_name(name: str, blocks: int) -> None:
    model = small(name, width=1.0) if name == "wrn_10_1" else small(name)
    depth, widen = (int(part) for part in name.split("_")[1:])
    assert sum(len(stage) for stage in model.stages) == blocks
    # The paper's depth counts the three 1x1 shortcuts too, and not the classifier.
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert sum(m.kernel_size == (3, 3) for m in convolutions) + 3 == depth
    assert model.head.in_features == scaled(64 * widen, 1.0 if name == "wrn_10_1" else 0.125)


def test_wrn_blocks_activate_first() -> None:
    """Fresh in evaluation, so that normalisation is the identity: a negative input is silenced on
    the way to both convolutions, the shortcut's too, and goes by untouched where there is none."""
    changes, keeps = small("wrn_16_4").eval().stages[1]
    with torch.no_grad():
        negative = -torch.rand(2, changes.conv1.in_channels, 8, 8)
        assert changes(negative).eq(0).all()
        negative = -torch.rand(2, keeps.conv1.in_channels, 4, 4)
        assert torch.equal(keeps(negative), negative)


def test_convolutions_start_he_normal_and_norms_at_identity() -> None:
    torch.manual_seed(0)
    for name in ("resnet18", "wrn_16_4", "dla34"):
        model = build(ModelConfig(name=name), 10)
        for path, module in model.named_modules():
            if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
                fan_out = module.out_channels * module.kernel_size[0] ** 2
                assert module.bias is None
                assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
            elif isinstance(module, nn.BatchNorm2d):
                assert module.weight.eq(1).all(), path
                assert module.bias.eq(0).all(), path
            elif isinstance(module, nn.Linear):
                assert module.bias.eq(0).all(), path


def test_vit_starts_truncated_at_two_deviations() -> None:
    model = small("vit", width=1.0)
    for weight in (model.head.weight, model.positions, model.blocks[3].qkv.weight):
        assert weight.abs().max() <= 0.04
        # A normal cut at two deviations has 0.88 of its deviation.
        assert weight.std().item() == pytest.approx(0.0176, rel=0.05)
    assert model.head.bias.eq(0).all()


def test_vit_patches_tile_the_image() -> None:
    model = small("vit", patch=8)
    assert model.positions.shape[1] == 16
    with pytest.raises(InputError, match=r"patch=16 does not divide .* 24"):
        build(ModelConfig(name="vit", patch=16), 10, image_size=24)


@pytest.mark.parametrize("width", [0.0625, 0.1, 0.25, 0.5, 0.7, 1.0, 2.0])
def test_vit_heads_share_the_width(width: float) -> None:
    with torch.device("meta"):
        model: Any = build(ModelConfig(name="vit", width=width), 10)
    channels, heads = model.positions.shape[2], model.blocks[0].heads
    assert channels % (8 * heads) == 0
    assert channels == pytest.approx(384 * width, abs=8 * heads / 2 + 0.01)


@given(st.integers(1, 4096), st.floats(0.01, 4.0))
def test_scaled_is_the_nearest_multiple_of_8(channels: int, width: float) -> None:
    found = scaled(channels, width)
    assert found >= 8
    assert found % 8 == 0
    assert found == 8 or abs(found - channels * width) <= 4
    assert scaled(8 * channels, 1.0) == 8 * channels


def test_the_table_is_read_without_torch() -> None:
    code = "import sys, trainer.models, trainer.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", [name for name in MODELS if name != "vit"])
@pytest.mark.parametrize("side", [16, 24])
def test_small_images_are_for_convolutional_networks(name: str, side: int) -> None:
    """As augment.first_size brings them."""
    logits = small(name).train()(images(2, side))
    assert logits.shape == (2, 10) and logits.isfinite().all()
