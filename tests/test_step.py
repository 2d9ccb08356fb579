"""Every way to run a step computes what plain eager fp32 computes, and resumes as exactly.

COMPILED_MODEL=wrn_10_1 python -m pytest tests/test_step.py    # compiled for a whole network
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import test_train
import torch
from saved_trials import state_of
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

import trainer.step
from sweeps.run import background, checkpoint_file
from sweeps.run.ends import StoppedError
from trainer import process_cache
from trainer.alone import train_alone as train
from trainer.config import TrainConfig
from trainer.ema import Ema
from trainer.models.norm import BatchNorm
from trainer.models.registry import MODELS
from trainer.models.resnet import conv, head
from trainer.records.history import Row
from trainer.step import choose
from trial_records.tables import read_epochs, read_predictions

TINY = test_train.TINY.override({"compile": "off"})
# Each with a last batch that is shorter: 180 = 2 * 64 + 52, 3 * 50 + 30.
VARIANTS = {
    "resnet": {"model.name": "resnet18", "model.width": 0.125, "schedule.every": "step"},
    "dropout, mixup, average": {
        "model.dropout": 0.3, "augment.mixup": 0.3, "batch_size": 50, "optimizer.ema_decay": 0.9,
    },
    "adamw": {
        "model.name": "vit", "model.width": 0.125, "model.patch": 8, "model.dropout": 0.1,
        "optimizer.name": "adamw", "optimizer.lr": 1e-3,
    },
    "muon": {"optimizer.name": "muon", "optimizer.lr": 1e-3, "optimizer.momentum": 0.95},
    "sizes": {"augment.first_size": 16, "model.dropout": 0.3},
    "hard": {"hard_fraction": 0.3, "augment.cutmix": 1.0, "batch_size": 25},
}  # fmt: skip


class Tape(TorchDispatchMode):
    """What a CUDA graph does, on a CPU: every operation of one run, done again on the very same
    tensors. Python does not run again, so that what it decided or read is what it was."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__()
        self._calls: list[tuple[Any, Any, Any, Any]] = []
        with self:
            work()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        self._calls.append((func, args, kwargs or {}, outputs))
        return outputs

    def __call__(self) -> None:
        with torch.no_grad():
            for func, args, kwargs, outputs in self._calls:
                again = func(*args, **kwargs)
                if func.is_view:
                    continue
                for old, new in zip(tree_flatten(outputs)[0], tree_flatten(again)[0], strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


@pytest.fixture
def taped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph's path on a CPU. What a compiler does is another test's."""

    @contextlib.contextmanager
    def aside(device: torch.device) -> Iterator[None]:
        yield

    monkeypatch.setattr(trainer.step, "CudaGraph", Tape)
    monkeypatch.setattr(trainer.step, "_aside", aside)
    monkeypatch.setattr(trainer.step, "_compiled", lambda function, device: function)
    monkeypatch.setattr(trainer.step, "choose", lambda config, group: "graph")


def computed(config: TrainConfig, out: Path) -> dict[str, Any]:
    """What a trial left that no clock says."""
    state = state_of(out, config.fingerprint)
    assert state is not None and state["finished_training"]
    epochs = read_epochs(out).drop_columns(["seconds", "images_per_second"])
    return {
        "epochs": epochs.to_pylist(),
        "logits": read_predictions(out)["logits"].to_pylist(),
        "weights": {name: value.numpy() for name, value in state["best_weights"].items()},
    }


def same(one: dict[str, Any], other: dict[str, Any], *, rtol: float, atol: float) -> None:
    torch.testing.assert_close(one["weights"], other["weights"], rtol=rtol, atol=atol)
    torch.testing.assert_close(
        torch.tensor(one["logits"]), torch.tensor(other["logits"]), rtol=rtol, atol=atol
    )
    for mine, theirs in zip(one["epochs"], other["epochs"], strict=True):
        assert mine == pytest.approx(theirs, rel=rtol, abs=atol)


@pytest.mark.long
@pytest.mark.parametrize("name", VARIANTS)
def test_a_recorded_step_is_the_eager_one(
    name: str, taped: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TINY.override(VARIANTS[name])
    run = train(config, tmp_path / "graph")
    assert run["step_used"] == "graph"
    monkeypatch.undo()
    assert train(config, tmp_path / "eager")["step_used"] == "eager"
    graph, eager = (computed(config, tmp_path / kind) for kind in ("graph", "eager"))
    # The learning rate is a float32 on the device, a double in Python.
    same(graph, eager, rtol=1e-4, atol=1e-5)


def test_bf16_learns_what_fp32_learns(tmp_path: Path) -> None:
    """Eight bits of precision: the losses of an epoch agree to a hundredth."""
    config = TINY.override({"optimizer.lr": 0.01})
    train(config, tmp_path / "fp32")
    run = train(config.override({"precision": "bf16"}), tmp_path / "bf16")
    assert run["precision_used"] == "bf16"
    for name in ("train_loss", "val_loss"):
        fp32, bf16 = (read_epochs(tmp_path / kind)[name].to_pylist() for kind in ("fp32", "bf16"))
        assert bf16 == pytest.approx(fp32, rel=0.01)
        assert bf16 != fp32


@pytest.mark.long
def test_a_recorded_step_resumes_exactly(taped: None, tmp_path: Path) -> None:
    resumes_exactly(TINY.override(VARIANTS["dropout, mixup, average"]), tmp_path)


@pytest.mark.long
def test_an_epoch_written_aside_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TINY.override(VARIANTS["dropout, mixup, average"])
    train(config, tmp_path / "at once")
    aside = functools.partial(background.Writer, aside=True)
    monkeypatch.setattr("trainer.train.Writer", aside)
    _interrupted(config, tmp_path / "aside")
    same(
        computed(config, tmp_path / "aside"), computed(config, tmp_path / "at once"), rtol=0, atol=0
    )


def test_a_full_disk_is_told_when_it_is_the_stops_own_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    aside = functools.partial(background.Writer, aside=True)
    monkeypatch.setattr("trainer.train.Writer", aside)
    monkeypatch.setattr(checkpoint_file, "write", full)
    asked = iter([False, True])
    with pytest.raises(OSError, match="No space"):
        train(TINY, tmp_path, should_stop=lambda: next(asked))


def resumes_exactly(config: TrainConfig, folder: Path) -> None:
    train(config, folder / "whole")
    _interrupted(config, folder / "broken")
    same(computed(config, folder / "broken"), computed(config, folder / "whole"), rtol=0, atol=0)


def _interrupted(config: TrainConfig, out: Path) -> None:
    """Stopped at the second step of the second epoch, then resumed."""
    asked = iter([False] * 5 + [True] * 99)
    with pytest.raises(StoppedError, match="epoch 1"):
        train(config, out, should_stop=lambda: next(asked))
    train(config, out)


def one_convolution(*_: object) -> nn.Module:
    """Our own layers, once each: the C++ compiler takes seconds for every fused kernel."""
    return nn.Sequential(
        conv(3, 16, 3, stride=2), BatchNorm(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), head(16, 10),
    )  # fmt: skip


# Those that compare with it are in one process, for compiling is what takes time.
@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TrainConfig, Path]]:
    """A trial that compiles its step, and its folder."""
    out = tmp_path_factory.mktemp("compiled") / "trial"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "one_convolution", f"{__name__}:one_convolution")
        model = os.environ.get("COMPILED_MODEL", "one_convolution")
        # One size of batch: a compiler takes as long for each.
        config = TINY.override(
            {"compile": "on", "batch_size": 60, "optimizer.lr": 0.01, "model.name": model}
        )
        assert train(config, out)["step_used"] == "compiled"
        yield config, out


@pytest.mark.long
def test_a_compiled_step_is_the_eager_one(
    compiled: tuple[TrainConfig, Path], tmp_path: Path
) -> None:
    config, out = compiled
    plain = config.override({"compile": "off"})
    train(plain, tmp_path / "eager")
    # Sums in another order: nine steps make at most a thousandth of what were 1e-7.
    same(computed(config, out), computed(plain, tmp_path / "eager"), rtol=1e-3, atol=1e-3)


def test_a_compiled_step_resumes_exactly(
    compiled: tuple[TrainConfig, Path], tmp_path: Path
) -> None:
    config, out = compiled
    _interrupted(config, tmp_path / "broken")
    same(computed(config, tmp_path / "broken"), computed(config, out), rtol=0, atol=0)


def test_the_second_trial_of_a_shape_compiles_nothing(
    compiled: tuple[TrainConfig, Path], tmp_path: Path
) -> None:
    """And computes what it computes in a process of its own."""
    from torch._dynamo.utils import counters

    config, out = compiled
    warm = config.override({"seed": 3})
    train(warm, tmp_path / "first")
    before = {key: dict(value) for key, value in counters.items()}
    train(config, tmp_path / "second")
    train(config.override({"optimizer.lr": 0.02, "augment.flip": 0.0}), tmp_path / "third")
    assert {key: dict(value) for key, value in counters.items()} == before
    same(computed(config, tmp_path / "second"), computed(config, out), rtol=0, atol=0)


def test_without_a_compiler_it_runs_eagerly_and_says_so_once(
    compiled: tuple[TrainConfig, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    import torch._inductor.config as inductor

    monkeypatch.setattr(inductor.cpp, "cxx", ("/no/such/compiler",))
    monkeypatch.setattr(inductor, "force_disable_caches", True)
    config = compiled[0].override({"label_smoothing": 0.05})
    with caplog.at_level(logging.WARNING, "trainer"):
        run = train(config, tmp_path / "fallback")
    (said,) = [text for text in caplog.messages if "cannot be compiled" in text]
    assert "eagerly" in said
    assert run["step_used"] == "eager"
    plain = config.override({"compile": "off"})
    train(plain, tmp_path / "eager")
    # What the attempt did to weights and states was undone, to the last bit.
    same(
        computed(config, tmp_path / "fallback"), computed(plain, tmp_path / "eager"), rtol=0, atol=0
    )


@pytest.mark.long
def test_a_step_that_cannot_be_recorded_runs_compiled(
    taped: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(work: Callable[[], None]) -> None:
        work()
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(trainer.step, "CudaGraph", fails)
    config = TINY.override(VARIANTS["adamw"])
    with caplog.at_level(logging.WARNING, "trainer"):
        run = train(config, tmp_path / "fallback")
    (said,) = [text for text in caplog.messages if "cannot be" in text]
    assert "capturing" in said and run["step_used"] == "compiled"
    monkeypatch.undo()
    train(config, tmp_path / "eager")
    same(
        computed(config, tmp_path / "fallback"), computed(config, tmp_path / "eager"),
        rtol=0, atol=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "device", "world", "kind"),
    [
        ("auto", "cpu", 1, "eager"), ("on", "cpu", 1, "compiled"), ("off", "cpu", 1, "eager"),
        ("auto", "cuda", 1, "graph"), ("on", "cuda", 1, "graph"), ("off", "cuda", 1, "eager"),
        ("auto", "cuda", 4, "compiled"),
    ],
)  # fmt: skip
def test_what_compile_means(wanted: str, device: str, world: int, kind: str) -> None:
    from trainer.distributed import Group

    group = Group(0, world, torch.device(device))
    assert choose(TrainConfig().override({"compile": wanted}), group) == kind


def test_deterministic_computes_the_same_on_a_cpu(tmp_path: Path) -> None:
    config = TINY.override({"deterministic": True, "epochs": 1})
    train(config, tmp_path / "deterministic")
    assert torch.are_deterministic_algorithms_enabled()
    plain = TINY.override({"epochs": 1})
    train(plain, tmp_path / "plain")
    assert not torch.are_deterministic_algorithms_enabled()
    one, other = (
        computed(c, tmp_path / name) for c, name in ((config, "deterministic"), (plain, "plain"))
    )
    same(one, other, rtol=0, atol=0)


def test_the_average_follows_its_formula() -> None:
    torch.manual_seed(0)
    source = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    average = Ema(source, 0.9)
    slow = {name: value.double() for name, value in source.state_dict().items()}
    for step in range(120):
        with torch.no_grad():
            for value in source.state_dict().values():
                value += torch.randn_like(value) if value.is_floating_point() else 1
        average.update()
        decay = min(0.9, (1 + step) / (10 + step))
        for name, value in source.state_dict().items():
            slow[name] = decay * slow[name] + (1 - decay) * value.double()
    for name, value in average.model.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), slow[name], rtol=1e-5, atol=1e-5)
    assert not any(value.requires_grad for value in average.model.parameters())


def test_the_averaged_weights_are_what_is_evaluated_and_kept(tmp_path: Path) -> None:
    config = TINY.override({"optimizer.ema_decay": 0.99, "epochs": 2})
    rows: list[Row] = []
    train(config, tmp_path / "average", rows.append)
    plain = config.override({"optimizer.ema_decay": 0.0})
    train(plain, tmp_path / "plain")
    average = read_epochs(tmp_path / "average").to_pylist()
    last = read_epochs(tmp_path / "plain").to_pylist()
    # The training itself does not know of it.
    assert [row["train_loss"] for row in average] == [row["train_loss"] for row in last]
    assert [row["val_loss"] for row in average] != [row["val_loss"] for row in last]


def test_an_averaged_run_resumes_exactly(tmp_path: Path) -> None:
    resumes_exactly(TINY.override({"optimizer.ema_decay": 0.9}), tmp_path)


@pytest.mark.long
def test_a_trial_that_compiles_nothing_does_not_import_the_compiler(tmp_path: Path) -> None:
    """A third of a worker's start."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom trainer.config import TrainConfig\n"
        "from sweeps.run.ends import StoppedError\n"
        "from trainer.alone import train_alone as train\n"
        "asked = iter([False, True])\n"
        "config = TrainConfig.from_file(Path(sys.argv[1]))\n"
        "try:\n    train(config, Path(sys.argv[2]), should_stop=lambda: next(asked))\n"
        "except StoppedError:\n    print('torch._dynamo' in sys.modules)\n"
    )
    path = tmp_path / "config.json"
    path.write_text(TINY.to_json())
    words = [sys.executable, "-c", code, str(path), str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"


def test_another_shape_is_compiled_and_the_one_before_it_then_is_again() -> None:
    shapes: list[bool] = []
    for shape in ("a", "a", "b", "a"):
        with process_cache.code(shape) as known:
            shapes.append(known)
    assert shapes == [False, True, False, False]
    with contextlib.suppress(RuntimeError), process_cache.code("a"):
        raise RuntimeError("no compiler")
    with process_cache.code("a") as known:
        assert not known
