"""The roofline: what is counted is known by hand; what is measured is kept; a run never fails."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from trainer import models
from trainer.config import DataConfig, ModelConfig, OptimizerConfig
from trainer.data import datasets
from trainer.models.registry import MODELS
from trainer.perf import device_peaks, roofline, step_cost
from trainer.perf.device import device_name
from trainer.perf.device_peaks import DevicePeaks
from trainer.perf.step_cost import Cost, Op, Step

CPU = torch.device("cpu")
FAST = DevicePeaks("a device", 4e12, 1e12, 1e11, 1e-6)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SWEEPS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def forward_products(name: str) -> float:
    """Multiply-adds an image of the forward pass."""
    cost = roofline.count(ModelConfig(name=name), "fp32", 4)
    return sum(op.flops for op in cost.forward) / 2 / 4


def test_resnet18_has_the_multiply_adds_that_are_known() -> None:
    # By the layers: the stem, four 3x3 at full size, three stages of four and a 1x1, the head.
    stem, first, head = 3 * 64 * 9 * 1024, 4 * 64 * 64 * 9 * 1024, 5120
    later = 3 * (64 * 128 * 9 * 256 + 3 * 128 * 128 * 9 * 256 + 64 * 128 * 256)
    assert forward_products("resnet18") == stem + first + later + head
    # The often seen 0.5566 G counts two more for each number that is normalised.
    normalised = 5 * (64 * 1024 + 128 * 256 + 256 * 64 + 512 * 16)
    assert forward_products("resnet18") + 2 * normalised == pytest.approx(0.5566e9, rel=1e-4)


def test_a_training_step_of_wrn_28_10_is_31_5_gflop() -> None:
    cost = roofline.count(ModelConfig(name="wrn_28_10"), "bf16", 2)
    assert cost.flops_per_image == pytest.approx(31.5e9, rel=2e-3)
    assert cost.parameters == 36_479_194


@pytest.mark.long
@pytest.mark.parametrize("name", MODELS)
def test_a_step_is_three_forward_passes_in_products(name: str) -> None:
    """But the first layer, whose images need no gradient; attention computes its scores again."""
    cost = roofline.count(ModelConfig(name=name), "fp32", 2)
    forward = sum(op.flops for op in cost.forward)
    assert 2.85 * forward < cost.flops_per_image * 2 < (3.05 if name == "vit" else 3) * forward
    assert cost.optimizer_bytes == 20 * cost.parameters


@pytest.mark.parametrize("name", ["resnet18", "vit"])
def test_products_grow_with_the_batch_and_bytes_a_little_less(name: str) -> None:
    small, large = (roofline.count(ModelConfig(name=name), "fp32", batch) for batch in (2, 64))
    assert large.flops_per_image == small.flops_per_image
    assert large.bytes_per_image < small.bytes_per_image
    assert large.seconds(FAST) > small.seconds(FAST)
    assert large.seconds(FAST) / 64 < small.seconds(FAST) / 2


def test_bf16_halves_what_activations_move() -> None:
    fp32, bf16 = (roofline.count(ModelConfig(), precision, 256) for precision in ("fp32", "bf16"))
    assert 0.5 < bf16.bytes_per_image / fp32.bytes_per_image < 0.54
    assert bf16.flops_per_image == fp32.flops_per_image
    assert bf16.seconds(FAST) < fp32.seconds(FAST)


def test_the_count_is_of_what_really_runs() -> None:
    """The same kinds of operation, as often, as one real step on the CPU has."""
    config = ModelConfig(name="vit", width=0.2)
    cost = roofline.count(config, "fp32", 2)
    real = roofline._Counter()
    network = models.build(config, 10)
    with real:
        network(torch.zeros(2, 3, 32, 32)).sum().backward()
    for word in ("addmm", "layer_norm", "gelu", "attention"):
        counted = sum(word in op.name for op in cost.forward + cost.backward)
        assert counted == sum(word in op.name for op in real.ops), word


def test_a_view_is_free_and_an_operation_in_place_is_read_and_written() -> None:
    counter = roofline._Counter()
    with counter:
        x = torch.zeros(8, 4)
        counter.ops.clear()
        x.t().reshape(2, 4, 4).transpose(1, 2)
        free = len(counter.ops)
        x.add_(x[:1].expand(8, 4))
    assert [op.name for op in counter.ops[:free]] == ["aten::clone"]  # the transposed cannot be one
    assert counter.ops[-1].bytes == 4 * (8 * 4 + 4 + 8 * 4)


def test_seconds_are_the_larger_of_arithmetic_and_traffic_and_the_start() -> None:
    op = Op("a", 8_000, 100, "bf16")
    other = Op("b", 10, 1_000, "fp32")
    cost = Cost(1, (op,), (other,), 5, 200)
    peak = DevicePeaks("a device", 1_000.0, 100.0, 50.0, 0.25)
    assert cost.seconds(peak, captured=True) == pytest.approx(8 + 20 + 4 + 3 * 2.5e-6)
    assert cost.seconds(peak) == 8 + 20 + 4 + 3 * 0.25


def test_the_optimizer_moves_what_it_keeps() -> None:
    sgd, adamw, averaged = (
        roofline.count(ModelConfig(width=0.125), "fp32", 2, OptimizerConfig(**more))
        for more in ({}, {"name": "adamw"}, {"ema_decay": 0.9})
    )
    assert adamw.optimizer_bytes - sgd.optimizer_bytes == 8 * sgd.parameters
    assert averaged.optimizer_bytes - sgd.optimizer_bytes == 12 * sgd.parameters


def test_counting_leaves_the_random_stream_alone() -> None:
    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    roofline.count(ModelConfig(width=0.3), "fp32", 2)
    assert torch.equal(torch.rand(3), wanted)


def test_a_step_is_counted_once_and_a_damaged_file_anew(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Step(ModelConfig(width=0.125), "fp32", 4)
    assert step_cost.cached(step) is None
    # Without what the process itself remembers.
    count = roofline.count.__wrapped__
    counted = count(step.model, step.precision, step.batch)
    assert step_cost.cached(step) == counted
    assert step_cost.cached(dataclasses.replace(step, batch=5)) is None
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    for damage in (b"", b"[]", whole[:-9]):
        path.write_bytes(damage)
        assert step_cost.cached(step) is None
    assert count(step.model, step.precision, step.batch) == counted
    assert path.read_bytes() == whole
    monkeypatch.setattr(step_cost, "_code", lambda: "other code")
    assert step_cost.cached(step) is None


def test_a_step_is_counted_where_nothing_can_be_kept(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write_text("a file where the folder should be")
    found = roofline.count.__wrapped__(ModelConfig(width=0.125), "fp32", 4)
    assert found.parameters == 176_402 and cache.is_file()


def test_peaks_are_measured_once_and_a_damaged_file_anew(cache: Path) -> None:
    found = roofline.peaks(CPU)
    assert found.device == device_name(CPU)
    # A processor core of this century, and no machine that is yet built.
    assert 1e8 < found.fp32_flops_per_second < 1e15
    assert 1e8 < found.bytes_per_second < 1e14
    assert 1e-8 < found.seconds_per_op < 1e-2
    (path,) = cache.glob("peaks-*")
    assert roofline.peaks(CPU) == found == device_peaks.cached(found.device)
    for damage in ("", "[1]", path.read_text().replace(': "', ': "no '), '{"device": 1}'):
        path.write_text(damage)
        assert device_peaks.cached(found.device) is None
    assert device_peaks.cached("another device") is None
    faster = DevicePeaks(found.device, 1e18, 1e18, 1e18, 1e-12)
    device_peaks.store(faster)
    assert roofline.peaks(CPU, again=True) == faster == device_peaks.cached(found.device)


def test_the_better_of_two_measurements_is_the_peak() -> None:
    one, two = DevicePeaks("d", 1.0, 20.0, 3.0, 40.0), DevicePeaks("d", 10.0, 2.0, 30.0, 4.0)
    assert one.or_better(two) == two.or_better(one) == DevicePeaks("d", 10.0, 20.0, 30.0, 4.0)


def test_utilisation_is_of_all_devices() -> None:
    device_peaks.store(DevicePeaks(device_name(CPU), 4e9, 2e9, 1e9, 1e-6))
    model = ModelConfig(width=0.125)
    one, two = (roofline.utilisation(model, 10, 32, "fp32", CPU, 10.0, world) for world in (1, 2))
    flops = roofline.count(model, "fp32", 2).flops_per_image
    assert one == {
        "flops_per_image": flops,
        "flops_per_second": 10 * flops,
        "peak_flops_per_second": 2e9,
    }
    assert two == one | {"peak_flops_per_second": 4e9}


def test_a_peak_that_a_run_exceeds_is_measured_anew() -> None:
    device_peaks.store(DevicePeaks(device_name(CPU), 1.0, 1.0, 1.0, 1.0))
    found = roofline.utilisation(ModelConfig(width=0.125), 10, 32, "fp32", CPU, 10.0)
    assert (found["peak_flops_per_second"] or 0) > (found["flops_per_second"] or 0) > 1.0
    known = device_peaks.cached(device_name(CPU))
    assert known is not None and known.fp32_flops_per_second == found["peak_flops_per_second"]


def test_a_run_is_not_lost_over_its_utilisation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("")
    monkeypatch.setenv("SWEEPS_CACHE", str(blocked))
    peaks_file = datasets.cache(DataConfig())
    assert peaks_file is not None and peaks_file.parent == blocked
    # An image that the patches do not tile cannot be counted, nor can anything be kept there.
    model = ModelConfig(name="vit", patch=16)
    found = roofline.utilisation(model, 10, 40, "fp32", CPU, 5.0)
    assert found["flops_per_image"] is None and found["flops_per_second"] is None


def test_every_model_with_dropout_and_other_stems_can_be_counted() -> None:
    for model in (
        ModelConfig(name="wrn_10_1", dropout=0.3),
        ModelConfig(name="vit", dropout=0.1, patch=8, width=0.3),
        ModelConfig(name="dla34", stem="imagenet", width=0.25),
    ):
        cost = roofline.count(model, "bf16", 3)
        network: nn.Module = models.build(model, 10)
        assert cost.parameters == sum(p.numel() for p in network.parameters())
        assert cost.flops_per_image > 1e6
