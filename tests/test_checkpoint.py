"""Checkpoints come back to the last bit, or are refused; a full disk harms nothing."""

from __future__ import annotations

import io
import pickle
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from local_machine.errors import EXIT_IO, storage_error
from sweeps.run import checkpoint_file
from sweeps.run.background import Writer
from sweeps.run.checkpoint_file import DamagedCheckpointError, Saved
from trainer.config import ModelConfig, OptimizerConfig
from trainer.models import build
from trainer.optim.optimizers import make_optimizer
from trial_records import tables, trial_files
from trial_records.log import Mark

TRIAL = "0123456789abcdef" * 4


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return {
        "rows": [{"epoch": 0, "lr": 0.1, "train_loss": 1 / 3}],
        "stopper": (17, 2),
        "finished_training": False,
        "best_weights": {name: t.clone() for name, t in model.state_dict().items()},
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }


def leaves(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{at}.{key}")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from leaves(inner, f"{at}.{number}")
    else:
        yield at, value


def assert_same(one: Any, other: Any) -> None:
    """Equal to the last bit, with the same places in memory."""
    first, second = dict(leaves(one)), dict(leaves(other))
    assert list(first) == list(second)
    for name, value in first.items():
        again = second[name]
        assert type(again) is type(value), name
        if isinstance(value, Tensor):
            assert again.dtype == value.dtype and again.stride() == value.stride(), name
            assert torch.equal(again, value), name
        else:
            assert again == value, name


def trained(optimizer_name: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = build(ModelConfig(name="resnet18", width=0.125), 10)
    model.to(memory_format=torch.channels_last)
    settings = OptimizerConfig.model_validate({"name": optimizer_name})
    optimizer = make_optimizer(model, settings)
    torch.autograd.backward(model(torch.randn(4, 3, 32, 32)).square().mean())
    optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("optimizer_name", ["sgd", "adamw"])
def test_there_and_back(tmp_path: Path, optimizer_name: str) -> None:
    path = tmp_path / trial_files.CHECKPOINT
    state = state_of(*trained(optimizer_name))
    convolution = state["model"]["stages.1.0.branch.0.weight"]
    assert convolution.is_contiguous(memory_format=torch.channels_last)
    assert not convolution.is_contiguous()
    mark = Mark(3, "0" * 64)
    checkpoint_file.write(path, Saved(state, TRIAL, 2, mark, folder="saved"))
    saved = checkpoint_file.read(path, TRIAL)
    assert saved is not None
    assert (saved.attempt, saved.log, saved.folder) == (2, mark, "saved")
    again = saved.state
    assert_same(state, again)
    assert [file.name for file in tmp_path.iterdir()] == [trial_files.CHECKPOINT]
    # What is loaded goes on as what was saved.
    model, optimizer = trained(optimizer_name)
    other, resumed = trained(optimizer_name)
    other.load_state_dict(again["model"])
    resumed.load_state_dict(again["optimizer"])
    for network, steps in ((model, optimizer), (other, resumed)):
        steps.zero_grad()
        images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
        torch.autograd.backward(network(images).square().mean())
        steps.step()
    assert_same(state_of(model, optimizer), state_of(other, resumed))


def test_no_file_is_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoint_file.read(tmp_path / trial_files.CHECKPOINT, TRIAL) is None


def test_what_the_disk_does_not_give_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        checkpoint_file.read(tmp_path, TRIAL)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, bytes]:
    """A small checkpoint, each of whose bytes can be tried."""
    path = tmp_path / trial_files.CHECKPOINT
    weights = torch.arange(96, dtype=torch.float32).reshape(2, 3, 4, 4)
    state = {"model": {"weight": weights.to(memory_format=torch.channels_last)}, "rows": [1.5]}
    checkpoint_file.write(path, Saved(state, TRIAL))
    return path, path.read_bytes()


def state(path: Path) -> Any:
    saved = checkpoint_file.read(path, TRIAL)
    assert saved is not None
    return saved.state


def damaged(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(DamagedCheckpointError) as caught:
        checkpoint_file.read(path, TRIAL)
    assert path.read_bytes() == content
    assert str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def test_cut_short_at_any_length(saved: tuple[Path, bytes]) -> None:
    path, content = saved
    for length in range(len(content)):
        damaged(path, content[:length])


def test_any_byte_of_a_tensor_flipped(saved: tuple[Path, bytes]) -> None:
    path, content = saved
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (name,) = [name for name in archive.namelist() if "/data/" in name]
        tensor = archive.read(name)
    start = content.index(tensor)
    assert len(tensor) == 96 * 4
    for place in range(start, start + len(tensor)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << (place % 8)
        assert "checksum" in damaged(path, bytes(flipped)) or "CRC" in damaged(path, bytes(flipped))


def test_any_byte_flipped_is_refused_or_changes_nothing(saved: tuple[Path, bytes]) -> None:
    path, content = saved
    whole = state(path)
    refused = 0
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        try:
            assert_same(state(path), whole)
        except DamagedCheckpointError:
            refused += 1
    assert refused > len(content) / 4


def test_another_trials_state(saved: tuple[Path, bytes]) -> None:
    path, _ = saved
    with pytest.raises(DamagedCheckpointError, match="holds trial 01234567"):
        checkpoint_file.read(path, "f" * 64)


@pytest.mark.parametrize(
    "content",
    [[1, 2], {}, {"schema_version": 1}, {"schema_version": 2, "fingerprint": TRIAL},
     {"schema_version": 1, "fingerprint": 3}, torch.zeros(3),
     {"schema_version": 3, "fingerprint": TRIAL},
     {"schema_version": 2, "fingerprint": TRIAL, "state": 1}],
)  # fmt: skip
def test_something_else_of_torchs(tmp_path: Path, content: object) -> None:
    path = tmp_path / trial_files.CHECKPOINT
    torch.save(content, path)
    damaged(path, path.read_bytes())


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.mkdir, (self.folder,)


def test_code_is_not_run(tmp_path: Path) -> None:
    path, trace = tmp_path / trial_files.CHECKPOINT, tmp_path / "it_ran"
    state = {"schema_version": 1, "fingerprint": TRIAL, "model": Code(trace)}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    legacy = io.BytesIO()
    torch.save(state, legacy, _use_new_zipfile_serialization=False)
    for content in (buffer.getvalue(), legacy.getvalue(), pickle.dumps(state)):
        damaged(path, content)
        assert not trace.exists()
    # The trap does work.
    pickle.loads(pickle.dumps(state))
    assert trace.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True
    )
    if mount.returncode:
        pytest.skip(f"mounting is not permitted: {mount.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def noise(count: int) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(0))


def save_checkpoint(path: Path, numbers: int) -> None:
    checkpoint_file.write(path, Saved({"model": noise(numbers)}, TRIAL))


def save_table(path: Path, numbers: int) -> None:
    rows = [{"index": n, "label": 0, "logits": [x]} for n, x in enumerate(noise(numbers).tolist())]
    tables.write_table(path, rows, tables.PREDICTIONS_SCHEMA)


@pytest.mark.parametrize("write", [save_checkpoint, save_table])
def test_a_full_disk_leaves_the_old_file(small_disk: Path, write: Any) -> None:
    path = small_disk / "file"
    write(path, 100)
    before = path.read_bytes()
    with pytest.raises(OSError) as caught:
        write(path, 400_000)
    told = storage_error(caught.value)
    assert told is not None and told.exit_code == EXIT_IO
    assert told.what == f"cannot write {path}: No space left on device"
    assert "free some space" in told.help
    assert path.read_bytes() == before
    assert [file.name for file in small_disk.iterdir()] == ["file"]
    # There is room again, and the next attempt succeeds.
    write(path, 1000)
    assert path.read_bytes() != before


def test_what_is_written_aside_is_what_it_was_then() -> None:
    weights = torch.zeros(3)
    may_write = threading.Event()
    written: list[list[float]] = []

    def write(state: dict[str, Any]) -> None:
        assert may_write.wait(10)
        written.append(state["model"]["weight"].tolist())

    with Writer(torch.device("cpu"), aside=True, constant=("best_weights",)) as writer:
        writer({"model": {"weight": weights}, "best_weights": {}}, write)
        weights += 1  # the next epoch has begun
        assert not written
        may_write.set()
        writer({"model": {"weight": weights}, "best_weights": {}}, write)
        assert written[0] == [0, 0, 0]
    assert written == [[0, 0, 0], [1, 1, 1]]


def test_a_disk_that_was_full_aside_is_told_at_the_next_epoch() -> None:
    def write(state: dict[str, Any]) -> None:
        raise OSError(28, "No space left on device")

    for end in (lambda w: w({}, write), lambda w: w.wait(), lambda w: w.__exit__(None)):
        writer = Writer(torch.device("cpu"), aside=True)
        writer({}, write)
        with pytest.raises(OSError, match="No space"):
            end(writer)


def test_on_a_cpu_it_is_written_before_training_goes_on() -> None:
    written: list[dict[str, Any]] = []
    with Writer(torch.device("cpu")) as writer:
        writer({"rows": []}, written.append)
        assert written == [{"rows": []}]
