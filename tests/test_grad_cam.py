"""Which images are shown, and where in them a network looked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from small_networks import DIGITS, predictions, small, untrained

from analysis.cifar10.explain import samples
from analysis.cifar10.explain.grad_cam import grad_cam
from analysis.cifar10.explain.samples import Pair
from analysis.cifar10.explain.tested import Images
from local_machine.errors import EXIT_IO, InputError
from trainer.augment.batch import plain
from trainer.data.datasets import Dataset
from trainer.data.datasets import load as load_data
from trainer.models.registry import MODELS


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_data(DIGITS)


@pytest.fixture(scope="module")
def digits(dataset: Dataset) -> Images:
    return Images(dataset.test_images, dataset.classes, dataset.mean, dataset.std)


# --- which images ------------------------------------------------------------------------------


def test_of_equally_confident_samples_the_first_in_the_test_set_is_shown() -> None:
    made = predictions(
        [[1, 0, 0], [2, 0, 0], [2, 0, 0], [0, 3, 0], [0, 3, 0], [0, 1, 0]],
        [0, 0, 0, 0, 0, 2],
        index=[10, 9, 8, 7, 6, 5],
    )
    assert samples.pairs(made, 9) == [Pair(0, 2, 4), Pair(2, None, 5)]
    assert samples.misclassified(made).tolist() == [4, 3, 5]


def test_of_many_classes_those_with_most_mistakes_are_shown_in_their_order() -> None:
    labels = [0, 1, 1, 2, 2, 2, 3, 3]
    logits = np.eye(4)[[0, 0, 0, 2, 1, 2, 0, 0]]
    assert [pair.label for pair in samples.pairs(predictions(logits, labels), 2)] == [1, 3]
    # Of classes with equally many mistakes the first ones.
    assert [pair.label for pair in samples.pairs(predictions(np.eye(4), range(4)), 2)] == [0, 1]


@given(st.data())
def test_the_samples_are_the_most_confident_ones(data: st.DataObject) -> None:
    count, classes = data.draw(st.integers(1, 30)), data.draw(st.integers(2, 5))
    logits = data.draw(arrays(np.float32, (count, classes), elements=st.integers(-2, 2)))
    labels = data.draw(arrays(np.int64, count, elements=st.integers(0, classes - 1)))
    index = np.array(data.draw(st.permutations(range(count))))
    made = predictions(logits, labels, index)

    def best(rows: list[int]) -> int | None:
        return min(rows, key=lambda row: (-made.confidence[row], index[row]), default=None)

    found = samples.pairs(made, classes)
    assert [pair.label for pair in found] == sorted(set(labels.tolist()))
    for pair in found:
        own = [row for row in range(count) if labels[row] == pair.label]
        assert pair.right == best([row for row in own if made.right[row]])
        assert pair.wrong == best([row for row in own if not made.right[row]])
    wrong = samples.misclassified(made).tolist()
    assert sorted(wrong) == np.flatnonzero(~made.right).tolist()
    assert wrong == sorted(wrong, key=lambda row: (-made.confidence[row], index[row]))


# --- Grad-CAM ----------------------------------------------------------------------------------


CONVOLUTIONAL = [
    (name, stem)
    for name in [*MODELS, "wrn_10_2"]
    for stem in ("cifar", "imagenet")
    if name != "vit" and not (name.startswith("wrn") and stem == "imagenet")
]


@pytest.mark.parametrize(("name", "stem"), CONVOLUTIONAL)
def test_every_convolutional_architecture_has_maps(name: str, stem: str, digits: Images) -> None:
    config = small(name, **{"model.stem": stem})
    _, weights = untrained(config)
    look = grad_cam(config, weights, digits, np.arange(23), np.arange(23) % 10)
    assert look is not None
    assert look.maps.shape == (23, 32, 32)
    assert look.logits.shape == (23, 10)
    tops = look.maps.max(axis=(1, 2))
    assert look.maps.min() >= 0
    assert set(tops.tolist()) <= {0.0, 1.0}
    assert tops.any()


def test_a_vision_transformer_has_none(digits: Images) -> None:
    config = small("vit")
    _, weights = untrained(config)
    assert grad_cam(config, weights, digits, np.arange(2), np.arange(2)) is None


@pytest.mark.parametrize("name", ["resnet18", "wrn_10_2", "dla34"])
def test_maps_are_the_papers_formula(name: str, digits: Images) -> None:
    config = small(name)
    model, weights = untrained(config)
    rows, targets = np.arange(60, 35, -1), np.arange(25) % 10
    look = grad_cam(config, weights, digits, rows, targets)
    assert look is not None
    logits, maps = reference(model, digits, rows, targets)
    np.testing.assert_allclose(look.logits, logits, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(look.maps, maps, atol=1e-3)


def reference(
    model: torch.nn.Module, data: Images, rows: NDArray[np.int64], targets: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Image by image, with the whole network's graph, enlarged by hand."""
    kept: list[torch.Tensor] = []

    def keep(module: object, inputs: object, output: torch.Tensor) -> None:
        kept.append(output)

    layer = model.get_submodule(str(model.cam_layer))
    layer.register_forward_hook(keep)
    logits, maps = [], []
    for image, target in zip(data.images[rows], targets, strict=True):
        pixels = (image / 255 - np.array(data.mean)) / np.array(data.std)
        x = torch.from_numpy(pixels.transpose(2, 0, 1)[None].astype(np.float32))
        out = model(x)
        (gradient,) = torch.autograd.grad(out[0, target], kept[-1])
        features = kept[-1][0].detach().numpy()
        channels = [grad.mean() for grad in gradient[0].numpy()]
        small = sum(w * plane for w, plane in zip(channels, features, strict=True))
        assert isinstance(small, np.ndarray)
        full = enlarge(np.maximum(small, 0), len(image))
        maps.append(full / full.max() if full.max() > 0 else full)
        logits.append(out[0].detach().numpy())
    return np.stack(logits), np.stack(maps)


def enlarge(plane: NDArray[np.float32], side: int) -> NDArray[np.float64]:
    """Bilinear, pixels as areas: the centre of pixel i lies at (i + 1/2) / side."""
    centres = (np.arange(len(plane)) + 0.5) / len(plane)
    places = (np.arange(side) + 0.5) / side
    rows = np.stack([np.interp(places, centres, column) for column in plane.T], axis=1)
    return np.stack([np.interp(places, centres, row) for row in rows])


def test_a_map_without_evidence_stays_zero(digits: Images) -> None:
    config = small()
    _, weights = untrained(config)
    # The map that is pooled is rectified: a class that every channel speaks against has none.
    weights["head.weight"][3] = -weights["head.weight"][3].abs()
    weights["head.weight"][4] = weights["head.weight"][4].abs()
    look = grad_cam(config, weights, digits, np.array([0, 1]), np.array([3, 4]))
    assert look is not None
    assert look.maps[0].max() == 0
    assert look.maps[1].max() == 1


def test_maps_draw_no_random_number_and_leave_the_weights_as_they_are(digits: Images) -> None:
    config = small()
    _, weights = untrained(config)
    before = {name: value.clone() for name, value in weights.items()}
    state = torch.random.get_rng_state()
    first, second = (
        grad_cam(config, weights, digits, np.arange(3), np.arange(3)) for _ in range(2)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first is not None and second is not None
    assert np.array_equal(first.maps, second.maps)
    assert all(torch.equal(weights[name], value) for name, value in before.items())


def test_weights_of_another_network_are_refused(digits: Images) -> None:
    _, weights = untrained(small("resnet34"))
    with pytest.raises(InputError, match="do not fit resnet18") as caught:
        grad_cam(small(), weights, digits, np.array([0]), np.array([0]))
    assert caught.value.exit_code == EXIT_IO


def test_preprocessing_is_the_trainers(digits: Images) -> None:
    """What the network gets is normalised by the mean and deviation of the trial's own data."""
    config = small()
    model, weights = untrained(config)
    rows = np.arange(5)
    look = grad_cam(config, weights, digits, rows, rows)
    with torch.inference_mode():
        expected = model(
            plain(torch.from_numpy(digits.images[:5]), digits.mean, digits.std)
        ).numpy()
    assert look is not None
    np.testing.assert_allclose(look.logits, expected, rtol=1e-4, atol=1e-3)
    shifted = replace(digits, mean=(0.1, 0.1, 0.1))
    other = grad_cam(config, weights, shifted, rows, rows)
    assert other is not None
    assert np.abs(other.logits - expected).max() > 1e-2
