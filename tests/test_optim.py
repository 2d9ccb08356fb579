"""Learning rates at values worked out by hand, early stopping against a slow reference, groups."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from trainer.config import EarlyStoppingConfig, ModelConfig, OptimizerConfig, TrainConfig
from trainer.models import build
from trainer.models.registry import MODELS
from trainer.optim.muon import orthogonal
from trainer.optim.optimizers import make_optimizer, parameter_groups
from trainer.optim.schedule import EarlyStopping, lr_at, side_at
from trainer.recipes import reported, vit_trained


def config(**changes: Any) -> TrainConfig:
    names = {"epochs": "epochs", "lr": "optimizer.lr"}
    return TrainConfig().override(
        {names.get(name, f"schedule.{name}"): value for name, value in changes.items()}
    )


def rates(settings: TrainConfig, steps: int = 1) -> list[float]:
    epochs = range(settings.epochs)
    return [lr_at(settings, epoch, step, steps) for epoch in epochs for step in range(steps)]


def test_reported_schedule() -> None:
    settings = reported("dla34")
    assert lr_at(settings, 0) == 0.1
    assert lr_at(settings, 99) == pytest.approx(2.467e-5, rel=1e-3)
    assert lr_at(settings, 50) == pytest.approx(0.05)
    assert lr_at(settings, 25) == pytest.approx(0.1 * (2 + math.sqrt(2)) / 4)
    # Counted in epochs it stands still inside one.
    assert lr_at(settings, 99, 175, 176) == lr_at(settings, 99)


@pytest.mark.parametrize(
    ("changes", "steps", "expected"),
    [
        ({"name": "cosine", "epochs": 4}, 1, [1, 0.853553, 0.5, 0.146447]),
        ({"name": "cosine", "epochs": 3}, 2, [1, 1, 0.75, 0.75, 0.25, 0.25]),
        (
            {"name": "cosine", "epochs": 3, "every": "step"}, 2,
            [1, 0.933013, 0.75, 0.5, 0.25, 0.066987],
        ),
        (
            {"name": "cosine", "epochs": 6, "warmup_epochs": 2}, 1,
            [0.5, 1, 1, 0.853553, 0.5, 0.146447],
        ),
        (
            {"name": "cosine", "epochs": 3, "warmup_epochs": 1, "every": "step"}, 2,
            [0.5, 1, 1, 0.853553, 0.5, 0.146447],
        ),
        ({"name": "step", "epochs": 5, "step_fraction": 0.4}, 1, [1, 1, 0.2, 0.2, 0.04]),
        ({"name": "step", "epochs": 2, "step_fraction": 0.01}, 1, [1, 0.2]),
        (
            {"name": "step", "epochs": 2, "step_fraction": 0.25, "every": "step"}, 4,
            [1, 1, 0.2, 0.2, 0.04, 0.04, 0.008, 0.008],
        ),
        (
            {"name": "step", "epochs": 4, "warmup_epochs": 2, "step_fraction": 0.5}, 1,
            [0.5, 1, 0.2, 0.2],
        ),
        (
            {"name": "multi_step", "epochs": 10}, 1,
            [1, 1, 1, 0.2, 0.2, 0.2, 0.04, 0.04, 0.008, 0.008],
        ),
        (
            {"name": "multi_step", "epochs": 2, "milestones": [0.25, 0.5], "every": "step"}, 2,
            [1, 0.2, 0.04, 0.04],
        ),
        ({"name": "multi_step", "epochs": 2, "milestones": [0.1, 0.2]}, 1, [1, 0.04]),
        ({"name": "multi_step", "epochs": 2, "milestones": []}, 1, [1, 1]),
        ({"name": "constant", "epochs": 3, "warmup_epochs": 2}, 1, [0.5, 1, 1]),
        ({"name": "constant", "epochs": 2, "warmup_epochs": 1, "every": "step"}, 4,
         [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]),
    ],
)  # fmt: skip
def test_schedules_by_hand(changes: dict[str, Any], steps: int, expected: list[float]) -> None:
    found = rates(config(lr=2.0, gamma=0.2, **changes), steps)
    assert found == pytest.approx([2.0 * value for value in expected], abs=2e-6)


changed: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["cosine", "step", "multi_step", "constant"]),
        "every": st.sampled_from(["epoch", "step"]),
        "epochs": st.integers(1, 120),
        "lr": st.floats(1e-6, 10.0),
        "step_fraction": st.floats(0.01, 1.0),
        "milestones": st.lists(st.floats(0.01, 0.99), max_size=3, unique=True).map(sorted),
        "gamma": st.floats(0.01, 0.99),
    }
)
schedules = changed.flatmap(
    lambda changes: st.integers(0, changes["epochs"] - 1).map(
        lambda warmup: config(**changes, warmup_epochs=warmup)
    )
)


@given(schedules, st.integers(1, 7))
def test_lr_is_between_0_and_its_peak_and_falls_after_the_warm_up(
    settings: TrainConfig, steps: int
) -> None:
    found = rates(settings, steps)
    peak = settings.optimizer.lr
    assert all(0.0 < lr <= peak for lr in found)
    moves = steps if settings.schedule.every == "step" else 1
    warmup = settings.schedule.warmup_epochs * steps
    rising = found[: warmup : steps // moves]
    assert rising == sorted(set(rising))
    after = found[warmup:]
    assert after == sorted(after, reverse=True)
    if warmup:
        assert found[warmup - 1] == peak
    else:
        assert found[0] == peak


@given(schedules, st.integers(1, 400))
def test_a_step_wise_cosine_is_the_epoch_wise_one_at_whole_epochs(
    settings: TrainConfig, steps: int
) -> None:
    by_epoch = settings.override({"schedule.name": "cosine", "schedule.every": "epoch"})
    by_step = by_epoch.override({"schedule.every": "step"})
    for epoch in range(settings.schedule.warmup_epochs, settings.epochs):
        expected = lr_at(by_epoch, epoch)
        assert lr_at(by_step, epoch, 0, steps) == pytest.approx(expected, rel=1e-6, abs=1e-15)


def stops_at(corrects: list[int], patience: int, min_delta: str, images: int) -> int | None:
    """The epoch after which to stop, looked for in the whole history, in exact fractions."""
    improved: list[int] = []
    for epoch, correct in enumerate(corrects):
        best = max((corrects[e] for e in improved), default=None)
        if best is None or Fraction(correct - best, images) > Fraction(min_delta):
            improved.append(epoch)
        if patience and epoch - improved[-1] == patience:
            return epoch
    return None


def stopped(corrects: list[int], patience: int, min_delta: str, images: int) -> int | None:
    settings = EarlyStoppingConfig(patience=patience, min_delta=float(min_delta))
    stopper = EarlyStopping(settings, images)
    return next((e for e, correct in enumerate(corrects) if stopper.update(correct)), None)


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=30),
    st.integers(0, 5),
    st.integers(0, 400).map(lambda n: f"{n / 1000:.3f}"),
    st.integers(30, 5000),
)
def test_early_stopping_is_the_slow_reference(
    corrects: list[int], patience: int, min_delta: str, images: int
) -> None:
    expected = stops_at(corrects, patience, min_delta, images)
    assert stopped(corrects, patience, min_delta, images) == expected


@given(st.integers(1, 400), st.integers(1, 5000))
def test_a_gain_of_exactly_min_delta_is_no_improvement(thousandths: int, images: int) -> None:
    min_delta = f"{thousandths / 1000:.3f}"
    gain = math.floor(Fraction(min_delta) * images)
    for more, stop in ((0, 1), (1, None)):
        assert stopped([10, 10 + gain + more], 1, min_delta, images) == stop


def test_min_delta_is_strict_where_floats_are_not() -> None:
    assert 0.043 * 5000 < 215
    assert stopped([1000, 1215], 1, "0.043", 5000) == 1
    assert stopped([1000, 1216], 1, "0.043", 5000) is None


def test_patience_is_epochs_without_improvement() -> None:
    best_at_3 = [10, 20, 30, 40, *[40] * 100]
    assert stopped(best_at_3, 15, "0.001", 1000) == 3 + 15
    assert stopped(best_at_3, 1, "0.001", 1000) == 4
    assert stopped(best_at_3, 0, "0.001", 1000) is None
    # Steps that are each too small count together, from the best before them.
    assert stopped([100, 101, 102, 103, 104], 4, "0.002", 1000) is None
    assert stopped([100, 101, 102, 102, 102], 4, "0.002", 1000) == 4
    assert stopped([0] * 10, 2, "0.0", 10) == 2


@pytest.mark.parametrize("decay_all", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_is_in_one_group(name: str, decay_all: bool) -> None:
    model = build(ModelConfig(name=name, width=0.05 if name.startswith("wrn") else 0.125), 10)
    settings = OptimizerConfig(weight_decay=0.5, decay_norms_and_biases=decay_all)
    groups = parameter_groups(model, settings)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())
    if decay_all:
        assert [group["weight_decay"] for group in groups] == [0.5]
        return
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    # By the layer's kind, and not by the parameter's name and shape.
    products = {
        id(module.weight) for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)
    }
    assert {id(p): 0.5 if id(p) in products else 0.0 for p in model.parameters()} == decays


def trained(optimizer: torch.optim.Optimizer, model: nn.Module, images: Tensor) -> None:
    for _ in range(4):
        optimizer.zero_grad()
        torch.autograd.backward(model(images).square().mean())
        optimizer.step()


def small() -> nn.Module:
    torch.manual_seed(0)
    model = build(ModelConfig(name="resnet18", width=0.125), 10)
    return model.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("nesterov", [False, True])
def test_fused_sgd_is_sgd(nesterov: bool) -> None:
    images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    settings = OptimizerConfig(lr=0.05, weight_decay=1e-2, nesterov=nesterov)
    fused, plain = small(), small()
    trained(make_optimizer(fused, settings), fused, images)
    groups = parameter_groups(plain, settings)
    trained(
        torch.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=nesterov, foreach=False),
        plain, images,
    )  # fmt: skip
    before = dict(small().named_parameters())
    for (name, one), other in zip(fused.named_parameters(), plain.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6), name
        assert not torch.equal(one, before[name]), name


def test_sgd_decays_by_l2_and_adamw_apart_from_the_gradient() -> None:
    """With no gradient, one step takes lr * decay * weight from what decays, and nothing else."""
    for settings, rest in (
        (OptimizerConfig(lr=0.5, weight_decay=0.1), 0.95),
        (vit_trained().optimizer.model_copy(update={"lr": 0.5, "weight_decay": 0.1}), 0.95),
    ):
        layer = nn.Linear(3, 2)
        before = [p.detach().clone() for p in layer.parameters()]
        for parameter in layer.parameters():
            parameter.grad = torch.zeros_like(parameter)
        make_optimizer(layer, settings).step()
        bias = rest if settings.decay_norms_and_biases else 1.0
        for parameter, old, factor in zip(layer.parameters(), before, (rest, bias), strict=True):
            assert torch.allclose(parameter, old * factor, rtol=1e-6)


def test_adamw_has_the_momentum_as_first_beta() -> None:
    settings = OptimizerConfig(name="adamw", momentum=0.8)
    assert make_optimizer(nn.Linear(2, 2), settings).param_groups[0]["betas"] == (0.8, 0.999)


@pytest.mark.parametrize(
    ("first", "epochs", "sides"),
    [
        (32, 3, [32, 32, 32]), (24, 4, [24, 24, 32, 32]), (16, 6, [16, 16, 24, 24, 32, 32]),
        (16, 4, [16, 16, 24, 32]), (16, 2, [16, 24]), (16, 1, [16]),
    ],
)  # fmt: skip
def test_images_grow_in_equal_parts_of_the_epochs(
    first: int, epochs: int, sides: list[int]
) -> None:
    settings = TrainConfig().override({"augment.first_size": first, "epochs": epochs})
    assert [side_at(settings, epoch) for epoch in range(epochs)] == sides


@pytest.mark.parametrize("shape", [(8, 30), (30, 8), (12, 12)])
def test_muons_updates_are_near_the_nearest_orthogonal_matrix(shape: tuple[int, int]) -> None:
    """That has the same singular vectors, and all singular values 1 (decomposed in fp64)."""
    torch.manual_seed(0)
    matrices = torch.randn(3, *shape)
    found = orthogonal(matrices)
    for matrix, update in zip(matrices.double(), found.double(), strict=True):
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        values = left.mT @ update @ right.mT
        assert torch.allclose(values, torch.diag(values.diagonal()), atol=1e-4)
        assert values.diagonal().min() > 0.6 and values.diagonal().max() < 1.3


def test_muon_is_torchs_on_matrices_and_takes_kernels_as_such() -> None:
    """torch rounds to bf16, which has eight bits."""
    torch.manual_seed(0)
    settings = OptimizerConfig(name="muon", lr=0.02, momentum=0.9, weight_decay=0.1)
    kernels = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3), nn.Linear(2, 2))
    plain = nn.Parameter(kernels[1].weight.detach().flatten(1).clone())
    kernels = kernels.to(memory_format=torch.channels_last)
    before = kernels[1].weight.detach().clone()
    ours = make_optimizer(kernels, settings)
    theirs = torch.optim.Muon(
        [plain], lr=0.02, momentum=0.9, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(3):
        for parameter in kernels.parameters():
            parameter.grad = torch.randn_like(parameter)
        plain.grad = kernels[1].weight.grad.flatten(1)
        ours.step()
        theirs.step()
    moved = kernels[1].weight.detach() - before
    difference = kernels[1].weight.detach().flatten(1) - plain.detach()
    assert difference.norm() < 0.03 * moved.norm()
    # Three updates of a root mean square of 0.2 lr.
    assert 0.3 * 0.02 < moved.square().mean().sqrt() < 0.6 * 0.02 * 1.5


@pytest.mark.parametrize("decay_all", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_muon_has_all_weights_but_those_of_image_and_classes(name: str, decay_all: bool) -> None:
    model = build(ModelConfig(name=name, width=0.05 if name.startswith("wrn") else 0.125), 10)
    settings = OptimizerConfig(name="muon", weight_decay=0.5, decay_norms_and_biases=decay_all)
    first, *rest = parameter_groups(model, settings)
    layers = [one for one in model.modules() if isinstance(one, nn.Linear | nn.Conv2d)]
    outer = {id(one.weight) for one in layers if 3 in one.weight.shape[1:2] or one is layers[-1]}
    products = {id(one.weight) for one in layers}
    assert len(outer) == 2 and first["is_muon"] and first["weight_decay"] == 0.5
    assert {id(one) for one in first["params"]} == products - outer
    others = {id(one): group["weight_decay"] for group in rest for one in group["params"]}
    assert others.keys() == {id(one) for one in model.parameters()} - (products - outer)
    assert all(decay_all or (decay == 0.5) == (one in outer) for one, decay in others.items())
