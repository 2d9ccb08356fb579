"""Evaluation counts every image once, the same at any world size.

Run as a program, this file evaluates at 1, 2 and 3 ranks, real processes over gloo, and leaves
what each rank found in the folder given.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from trainer import distributed
from trainer.config import ModelConfig
from trainer.distributed import Group
from trainer.evaluate import CHUNK, Evaluation, evaluate
from trainer.models import build

WORLDS = (1, 2, 3)
# Around the chunk, and none but the first divided by it; up to CHUNK some ranks have no image.
SIZES = (1000, 1, CHUNK - 1, CHUNK + 1, 2 * CHUNK + 7, 4 * CHUNK + 333)
NORMALISE = ((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
ALONE = Group(0, 1, torch.device("cpu"))
SMOOTHING = 0.1


class Witness(nn.Module):
    """A network that also writes down which images it was shown: the first pixel is the number."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.seen: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        mean, std = (torch.tensor(values) for values in NORMALISE)
        first = ((images[:, :, 0, 0] * std + mean) * 255).round().long()
        self.seen += (first @ torch.tensor([1, 256, 65536])).tolist()
        out: Tensor = self.network(images)
        return out


def numbered(size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(size)
    images = torch.randint(0, 256, (size, 8, 8, 3), dtype=torch.uint8, generator=generator)
    number = torch.arange(size)
    images[:, 0, 0] = torch.stack([number % 256, number // 256 % 256, number // 65536], 1).byte()
    return images, torch.randint(0, 10, (size,), generator=generator)


def witness() -> Witness:
    torch.manual_seed(0)
    network = build(ModelConfig(name="wrn_10_1", width=0.5), 10)
    # Statistics that differ from a batch's, so that training mode would be noticed.
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)  # type: ignore[union-attr]
    with torch.no_grad():
        network.head.weight.mul_(20)  # type: ignore[operator, union-attr]
    return Witness(network)


def rank_main(rank: int, world: int, port: int, folder: str) -> None:
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    found = []
    with distributed.join() as group:
        for size in SIZES:
            model = witness()
            model.train()
            result = evaluate(
                model, *numbered(size), NORMALISE, 10, "fp32", group,
                label_smoothing=SMOOTHING, keep_logits=True,
            )  # fmt: skip
            found.append({"seen": model.seen, **vars(result)})
    torch.save(found, f"{folder}/{world}-{rank}.pt")


def main(folder: str) -> None:
    # Forked, so that torch is imported once.
    context = multiprocessing.get_context("fork")
    for world in WORLDS:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        ranks = [
            context.Process(target=rank_main, args=(rank, world, port, folder))
            for rank in range(world)
        ]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join()
        if any(process.exitcode for process in ranks):
            sys.exit(f"a rank of {world} failed")


@pytest.mark.long
def test_any_world_size_finds_the_same(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = {
        world: [torch.load(tmp_path / f"{world}-{rank}.pt") for rank in range(world)]
        for world in WORLDS
    }
    (alone,) = found[1]
    for world in WORLDS:
        for number, size in enumerate(SIZES):
            ranks = [rank[number] for rank in found[world]]
            seen = [image for rank in ranks for image in rank["seen"]]
            assert sorted(seen) == list(range(size))
            idle = sum(not rank["seen"] for rank in ranks)
            assert idle == max(0, world - -(-size // CHUNK))
            for rank in ranks:
                first = alone[number]
                assert rank["images"] == size
                assert rank["correct"] == first["correct"]
                assert torch.equal(rank["logits"], first["logits"])
                assert rank["loss"] == pytest.approx(first["loss"], rel=1e-14)
                assert rank["loss_smoothed"] == pytest.approx(first["loss_smoothed"], rel=1e-14)
    # And what is found is right.
    for number, size in enumerate(SIZES):
        images, labels = numbered(size)
        logits = alone[number]["logits"]
        mean, std = (torch.tensor(values) for values in NORMALISE)
        network = witness().network.eval()
        with torch.inference_mode():
            direct = network(((images / 255 - mean) / std).permute(0, 3, 1, 2).float())
        assert torch.allclose(logits, direct, atol=1e-3)
        assert alone[number]["correct"][0] == int((logits.argmax(1) == labels).sum())
        assert alone[number]["correct"][-1] == size
        exact = logits.double()
        loss, smoothed = (
            float(F.cross_entropy(exact, labels, label_smoothing=s)) for s in (0.0, SMOOTHING)
        )
        assert alone[number]["loss"] == pytest.approx(loss, rel=1e-5)
        assert alone[number]["loss_smoothed"] == pytest.approx(smoothed, rel=1e-5)
        assert loss != pytest.approx(smoothed, rel=1e-4)


class Fixed(nn.Module):
    """Answers with the rows of `logits`, one after the other."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits, self.place = logits, 0

    def forward(self, images: Tensor) -> Tensor:
        self.place += len(images)
        return self.logits[self.place - len(images) : self.place]


def evaluated(logits: list[list[float]], labels: list[int], **more: Any) -> Evaluation:
    table = torch.tensor(logits)
    images = torch.zeros(len(labels), 2, 2, 3, dtype=torch.uint8)
    return evaluate(
        Fixed(table), images, torch.tensor(labels), NORMALISE, table.shape[1], "fp32", ALONE, **more
    )  # fmt: skip


@settings(max_examples=200)
@given(st.data())
def test_top_k_is_a_sort_that_breaks_ties_towards_the_lower_class(data: st.DataObject) -> None:
    classes = data.draw(st.integers(1, 6))
    # Few values, so that many tie.
    row = st.lists(
        st.sampled_from([-1.0, 0.0, 0.5, 1.0, -0.0, 1e30]), min_size=classes, max_size=classes
    )
    logits = data.draw(st.lists(row, min_size=1, max_size=20))
    labels = [data.draw(st.integers(0, classes - 1)) for _ in logits]
    found = evaluated(logits, labels)
    for k in range(1, classes + 1):
        right = sum(
            label in sorted(range(classes), key=lambda c, row=row: (-row[c], c))[:k]  # type: ignore[misc]
            for row, label in zip(logits, labels, strict=True)
        )
        assert found.correct[k - 1] == right
        assert found.top(k) == right / len(labels)
    assert found.top(classes + 3) == 1.0
    argmax = torch.tensor(logits).argmax(1)
    assert found.correct[0] == int((argmax == torch.tensor(labels)).sum())


def test_a_logit_that_is_no_number_is_never_right() -> None:
    """A network of NaN must not look perfect: every comparison with NaN is false."""
    nan, inf = float("nan"), float("inf")
    assert evaluated([[nan] * 3] * 4, [0, 1, 2, 0]).correct == (0, 0, 0)
    assert evaluated([[nan, 1.0, 0.0]], [0]).correct == (0, 0, 0)
    # As argmax has it, where NaN is the largest.
    assert evaluated([[nan, 1.0, 0.0]], [1]).correct == (0, 1, 1)
    assert evaluated([[inf, 1.0, -inf]], [0]).correct == (1, 1, 1)
    assert evaluated([[inf, 1.0, -inf]], [2]).correct == (0, 0, 1)


def test_logits_are_kept_on_request_and_the_model_left_evaluating() -> None:
    kept = evaluated([[0.5, -0.25]], [0], keep_logits=True).logits
    assert kept is not None and kept.dtype == torch.float32 and kept.tolist() == [[0.5, -0.25]]
    assert evaluated([[0.5, -0.25]], [0]).logits is None
    model = witness().train()
    evaluate(model, *numbered(3), NORMALISE, 10, "fp32", ALONE)
    assert not any(module.training for module in model.modules())


def test_bf16_counts_fp32_logits() -> None:
    model = witness()
    found = evaluate(model, *numbered(50), NORMALISE, 10, "bf16", ALONE, keep_logits=True)
    assert found.logits is not None and found.logits.dtype == torch.float32
    assert found.correct[-1] == 50


if __name__ == "__main__":
    main(sys.argv[1])
