"""Trials of a second, whole: their files, exact resume, and everything that can go wrong."""

from __future__ import annotations

import logging
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from saved_trials import contents, names_in, rows_of, state_of

from local_machine.errors import EXIT_IO, InputError
from sweeps.run.ends import StoppedError
from trainer import models
from trainer.alone import train_alone as train
from trainer.augment.batch import plain
from trainer.config import TrainConfig
from trainer.data.datasets import load
from trainer.optim.schedule import lr_at
from trainer.records.history import Row
from trainer.train import NonFiniteLossError
from trial_records import rows, tables, trial_files
from trial_records.tables import read_epochs, read_predictions, read_table

# In one process, for the undisturbed trials are what takes time.
TINY = TrainConfig().override(
    {
        "data.name": "digits",
        "data.train_limit": 200,
        "data.test_limit": 100,
        "epochs": 3,
        "batch_size": 64,
        "precision": "fp32",
        "model.name": "wrn_10_1",
        "model.width": 0.5,
    }
)
# Everything that has a state or draws numbers: BatchNorm, momentum, dropout, mixup, AdamW's step
# count, a learning rate that moves every step, early stopping's count.
VARIANTS = {
    "resnet": TINY.override({"model.name": "resnet18", "model.width": 0.125}),
    "wrn": TINY.override({"model.dropout": 0.3, "augment.mixup": 0.3, "batch_size": 50}),
    "vit": TINY.override(
        {
            "model.name": "vit", "model.width": 0.125, "model.patch": 8, "model.dropout": 0.1,
            "optimizer.name": "adamw", "optimizer.lr": 1e-3, "schedule.every": "step",
            "schedule.warmup_epochs": 1, "optimizer.decay_norms_and_biases": False, "epochs": 4,
            "early_stopping.patience": 3, "early_stopping.min_delta": 0.2,
        }
    ),
    "muon, sizes, hard": TINY.override(
        {
            "optimizer.name": "muon", "optimizer.lr": 0.01, "augment.first_size": 16,
            "hard_fraction": 0.5, "batch_size": 25,
        }
    ),
}  # fmt: skip
FILES = [
    trial_files.CHECKPOINT,
    trial_files.CONFIG,
    trial_files.EPOCHS,
    trial_files.PREDICTIONS,
    trial_files.RUN,
]
# What a clock or a process says differs between two runs of one trial.
UNDER_WAY = [f"attempt/{trial_files.CHECKPOINT}", f"attempt/{trial_files.LOG}", trial_files.CONFIG]
CLOCKS = {
    "sweep", "trial",
    "seconds", "images_per_second", "flops_per_second", "peak_flops_per_second",
    "peak_memory_bytes", "finished_at", "command", "attempts", "row_sha256", "epochs_sha256",
}  # fmt: skip


class Interruption(Exception):  # noqa: N818
    pass


def interrupt_after(epoch: int) -> Callable[[Row], None]:
    def on_epoch(row: Row) -> None:
        if row["epoch"] == epoch:
            raise Interruption

    return on_epoch


def row_of(out: Path) -> Row:
    (row,) = read_table(out / trial_files.RUN).to_pylist()
    return dict(row)


def what_was_computed(config: TrainConfig, out: Path) -> dict[str, Any]:
    """All that a trial leaves, but for the clocks; floats compare exactly, tensors as bytes."""
    state = state_of(out, config.fingerprint)
    assert state["finished_training"]
    epochs = read_epochs(out).drop_columns(["seconds", "images_per_second"])
    return {
        "epochs": epochs.to_pylist(),
        "predictions": read_predictions(out).to_pylist(),
        "run": {name: value for name, value in row_of(out).items() if name not in CLOCKS},
        "weights": {
            name: (value.stride(), value.numpy().tobytes())
            for name, value in state["best_weights"].items()
        },
        "stopper": state["stopper"],
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a variant's trial, run once without a break. Beside it lie copies of what it
    was after each epoch, by number."""
    folders: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in folders:
            out = folders[name] = tmp_path_factory.mktemp(name) / "trial"

            def keep(row: Row) -> None:
                shutil.copytree(out, out.with_name(str(row["epoch"])))

            train(VARIANTS[name], out, keep)
        return folders[name]

    return folder


def test_a_finished_trial(tmp_path: Path) -> None:
    config = TINY
    out = tmp_path / "sweep" / "trial"
    told: list[Row] = []

    def on_epoch(row: Row) -> None:
        told.append(row)
        # Committed before it is told; nothing that says "finished" is there yet.
        assert [one.values for one in rows.read(out) if one.committed] == told
        assert names_in(out) == UNDER_WAY

    run = train(config, out, on_epoch)
    assert names_in(out) == FILES
    assert TrainConfig.from_file(out / trial_files.CONFIG) == config
    assert row_of(out) == run
    assert set(run) == set(tables.run_schema().names)

    epochs = read_epochs(out).to_pylist()
    assert epochs == told and [row["epoch"] for row in epochs] == [0, 1, 2]
    assert [row["lr"] for row in epochs] == [lr_at(config, epoch) for epoch in range(3)]
    for row in epochs:
        assert all(math.isfinite(value) for value in row.values())
        assert 0 <= row["train_accuracy"] <= 1 and row["images_per_second"] > 0
        # Label smoothing is not in val_loss.
        assert row["val_loss_smoothed"] != row["val_loss"]

    data = load(config.data)
    sizes = len(data.train_labels), len(data.val_labels), len(data.test_labels)
    assert (run["train_images"], run["val_images"], run["test_images"]) == sizes == (180, 20, 100)
    accuracies = [row["val_accuracy"] for row in epochs]
    assert run["best_epoch"] == accuracies.index(max(accuracies))
    best = epochs[run["best_epoch"]]
    for name in ("train_accuracy", "val_accuracy", "val_loss"):
        assert run[name] == best[name]
    assert run["train_accuracy_last"] == epochs[-1]["train_accuracy"]
    assert run["val_accuracy_last"] == accuracies[-1]
    assert (run["epochs_run"], run["stopped_early"], run["status"]) == (3, False, "done")
    assert run["fingerprint"] == config.fingerprint
    assert run["classes"] == "0,1,2,3,4,5,6,7,8,9"
    assert (run["world_size"], run["precision_used"]) == (1, "fp32")
    assert run["seconds"] == pytest.approx(sum(row["seconds"] for row in epochs))

    predictions = read_predictions(out).to_pylist()
    assert [row["index"] for row in predictions] == data.test_index.tolist()
    assert [row["label"] for row in predictions] == data.test_labels.tolist()
    logits = torch.tensor([row["logits"] for row in predictions])
    order = logits.argsort(dim=1, descending=True, stable=True)
    hits = order == torch.from_numpy(data.test_labels)[:, None]
    for k in (1, 3, 5):
        assert run[f"top_{k}"] == int(hits[:, :k].sum()) / 100
    assert run["test_accuracy"] == run["top_1"] <= run["top_3"] <= run["top_5"]
    loss = float(F.cross_entropy(logits.double(), torch.from_numpy(data.test_labels)))
    assert run["test_loss"] == pytest.approx(loss, rel=1e-6)


@pytest.mark.long
def test_the_best_epochs_weights_are_tested(undisturbed: Callable[[str], Path]) -> None:
    """From the weights in the checkpoint alone, everything that the run says of them."""
    for name, config in VARIANTS.items():
        out = undisturbed(name)
        run, data = row_of(out), load(config.data)
        state = state_of(out, config.fingerprint)
        model = models.build(config.model, 10).eval()
        model.load_state_dict(state["best_weights"])
        assert run["parameters"] == sum(p.numel() for p in model.parameters())

        def logits_of(images: Any, data: Any = data, model: Any = model) -> torch.Tensor:
            with torch.inference_mode():
                out: torch.Tensor = model(plain(torch.from_numpy(images), data.mean, data.std))
            return out

        labels = torch.from_numpy(data.val_labels)
        val = logits_of(data.val_images)
        best = read_epochs(out).to_pylist()[run["best_epoch"]]
        assert run["val_accuracy"] == float((val.argmax(1) == labels).sum()) / len(labels)
        plain_loss = float(F.cross_entropy(val.double(), labels))
        smoothed = float(F.cross_entropy(val.double(), labels, label_smoothing=0.1))
        assert best["val_loss"] == run["val_loss"] == pytest.approx(plain_loss, rel=1e-4)
        assert best["val_loss_smoothed"] == pytest.approx(smoothed, rel=1e-4)
        clean = logits_of(data.train_images).argmax(1) == torch.from_numpy(data.train_labels)
        assert run["train_accuracy_clean"] == pytest.approx(float(clean.sum()) / 180, abs=1e-9)
        test = logits_of(data.test_images)
        stored = read_predictions(out).column("logits").to_pylist()
        assert torch.allclose(test, torch.tensor(stored), atol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("name", VARIANTS)
def test_resume_is_exact_after_any_epoch(
    tmp_path: Path, undisturbed: Callable[[str], Path], name: str
) -> None:
    """A kill there leaves what lies there, and nothing of the process."""
    config = VARIANTS[name]
    expected = what_was_computed(config, undisturbed(name))
    for epoch in range(config.epochs):
        out = shutil.copytree(undisturbed(name).with_name(str(epoch)), tmp_path / str(epoch))
        assert names_in(out) == UNDER_WAY
        assert len(rows_of(out)) == epoch + 1
        # Another process would have other numbers here.
        torch.manual_seed(epoch)
        again: list[Row] = []
        train(config, out, again.append)
        assert [row["epoch"] for row in again] == list(range(epoch + 1, config.epochs))
        assert what_was_computed(config, out) == expected
        assert names_in(out) == FILES


@pytest.mark.long
def test_resume_is_exact_after_every_epoch(
    tmp_path: Path, undisturbed: Callable[[str], Path]
) -> None:
    """As on a cluster that gives no attempt more than one epoch."""
    config = VARIANTS["vit"]
    for epoch in range(config.epochs):
        with pytest.raises(Interruption):
            train(config, tmp_path, interrupt_after(epoch))
    train(config, tmp_path)
    assert what_was_computed(config, tmp_path) == what_was_computed(config, undisturbed("vit"))


@pytest.mark.long
@pytest.mark.parametrize("moved", range(4))
def test_resume_between_the_last_checkpoint_and_the_run(
    tmp_path: Path,
    undisturbed: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    moved: int,
) -> None:
    """When so many of its records lie in the trial's folder."""
    config = VARIANTS["wrn"]
    last = undisturbed("wrn").with_name(str(config.epochs - 1))
    out = shutil.copytree(last, tmp_path / "trial")
    replace, done = os.replace, iter(range(9))

    def dies(one: Path, other: Path) -> None:
        if Path(other).parent == out and next(done) == moved:
            raise KeyboardInterrupt
        replace(one, other)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dies)
        with pytest.raises(KeyboardInterrupt):
            train(config, out)
    assert not (out / trial_files.RUN).exists()
    train(config, out, lambda row: pytest.fail("trained another epoch"))
    assert what_was_computed(config, out) == what_was_computed(config, undisturbed("wrn"))
    assert names_in(out) == FILES


def test_a_finished_trial_is_not_trained_again(undisturbed: Callable[[str], Path]) -> None:
    out = undisturbed("wrn")
    before = contents(out)
    run = train(VARIANTS["wrn"], out, lambda row: pytest.fail("trained another epoch"))
    assert run == row_of(out)
    assert contents(out) == before


@pytest.mark.long
@pytest.mark.parametrize("keep", [0.0, 0.99])
def test_a_damaged_checkpoint_is_set_aside(
    tmp_path: Path,
    undisturbed: Callable[[str], Path],
    caplog: pytest.LogCaptureFixture,
    keep: float,
) -> None:
    config = VARIANTS["resnet"]
    with pytest.raises(Interruption):
        train(config, tmp_path, interrupt_after(1))
    path = rows.checkpoint_of(tmp_path)
    assert path is not None
    rest = path.read_bytes()[: int(keep * path.stat().st_size)]
    path.write_bytes(rest)
    with caplog.at_level(logging.WARNING):
        train(config, tmp_path)
    (warning,) = [line.getMessage() for line in caplog.records if line.levelno >= logging.WARNING]
    assert f"{trial_files.CHECKPOINT} is damaged" in warning and "starts over" in warning
    assert (tmp_path / f"{trial_files.CHECKPOINT}.damaged").read_bytes() == rest
    assert what_was_computed(config, tmp_path) == what_was_computed(config, undisturbed("resnet"))


def refused(config: TrainConfig, out: Path) -> InputError:
    before = contents(out) if out.is_dir() else out.read_bytes() if out.exists() else None
    with pytest.raises(InputError) as caught:
        train(config, out)
    after = contents(out) if out.is_dir() else out.read_bytes() if out.exists() else None
    assert after == before
    return caught.value


def test_a_folder_of_another_trial_is_refused(
    tmp_path: Path, undisturbed: Callable[[str], Path]
) -> None:
    other = TINY.override({"seed": 1})
    with pytest.raises(Interruption):
        train(TINY, tmp_path, interrupt_after(0))
    for out in (tmp_path, undisturbed("wrn")):
        error = refused(other, out)
        assert f"{out} holds another trial" in error.what and error.exit_code == EXIT_IO


def test_a_damaged_folder_is_refused(tmp_path: Path, undisturbed: Callable[[str], Path]) -> None:
    out = shutil.copytree(undisturbed("wrn"), tmp_path / "trial")
    run = out / trial_files.RUN
    run.write_bytes(run.read_bytes()[:-100])
    assert f"{run} is damaged" in refused(VARIANTS["wrn"], out).what
    (out / trial_files.CONFIG).write_text("{")
    assert "is damaged" in refused(VARIANTS["wrn"], out).what
    for place in (out / trial_files.CONFIG, out / trial_files.CONFIG / "trial"):
        assert f"cannot make the folder {place}" in refused(VARIANTS["wrn"], place).what


def test_bad_data_is_refused(tmp_path: Path) -> None:
    config = TINY.override({"data.name": "cifar10", "data.root": str(tmp_path / "missing")})
    with pytest.raises(InputError, match="no such folder"):
        train(config, tmp_path / "out")


def test_test_images_decide_nothing(tmp_path: Path, undisturbed: Callable[[str], Path]) -> None:
    config = VARIANTS["resnet"].override({"data.test_limit": None})
    run = train(config, tmp_path)
    before = what_was_computed(VARIANTS["resnet"], undisturbed("resnet"))
    after = what_was_computed(config, tmp_path)
    assert run["test_images"] > 100
    for name in ("epochs", "weights", "stopper"):
        assert after[name] == before[name]
    for name in ("best_epoch", "val_accuracy", "train_accuracy_clean", "split_sha256"):
        assert after["run"][name] == before["run"][name]


@pytest.mark.long
def test_a_seed_decides_everything(tmp_path: Path, undisturbed: Callable[[str], Path]) -> None:
    config = VARIANTS["resnet"]
    torch.manual_seed(5)
    train(config, tmp_path / "same")
    same = what_was_computed(config, undisturbed("resnet"))
    assert what_was_computed(config, tmp_path / "same") == same
    other = config.override({"seed": 7})
    train(other, tmp_path / "other")
    epochs = what_was_computed(other, tmp_path / "other")["epochs"]
    assert all(
        a["train_loss"] != b["train_loss"] for a, b in zip(epochs, same["epochs"], strict=True)
    )


def test_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError) as caught:
        train(TINY.override({"optimizer.lr": 1e30}), tmp_path)
    assert caught.value.epoch == 0 and "epoch 0" in str(caught.value)
    assert names_in(tmp_path) == [trial_files.CONFIG]


def test_the_last_step_is_seen_too(tmp_path: Path) -> None:
    """One step an epoch: its loss is finite, and the weights that it leaves are not."""
    config = TINY.override({"optimizer.lr": 1e30, "batch_size": 180, "epochs": 1})
    with pytest.raises(NonFiniteLossError):
        train(config, tmp_path)
    assert names_in(tmp_path) == [trial_files.CONFIG]


def test_diverging_later_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    # Each step multiplies the weights by about -100, until they overflow.
    config = TINY.override({"optimizer.weight_decay": 1e3, "epochs": 30, "batch_size": 180})
    epochs = []
    for _ in range(2):  # and a second attempt ends at the same place
        with pytest.raises(NonFiniteLossError) as caught:
            train(config, tmp_path)
        epochs.append(caught.value.epoch)
        assert names_in(tmp_path) == [*UNDER_WAY, trial_files.EPOCHS]
    assert epochs[0] == epochs[1] > 0
    assert rows_of(tmp_path) == read_epochs(tmp_path).to_pylist()
    assert len(rows_of(tmp_path)) == epochs[0]


def test_early_stopping_ends_the_trial(tmp_path: Path) -> None:
    # A ViT has no running statistics, so that nothing moves: the first epoch is the best.
    config = VARIANTS["vit"].override(
        {"optimizer.lr": 1e-30, "epochs": 20, "early_stopping.patience": 2}
    )
    run = train(config, tmp_path)
    assert (run["epochs_run"], run["stopped_early"], run["best_epoch"]) == (3, True, 0)
    assert read_epochs(tmp_path).num_rows == 3


def test_the_lr_of_an_epoch_is_its_first_steps(undisturbed: Callable[[str], Path]) -> None:
    config = VARIANTS["vit"]  # moves every step; 180 images are 3 steps of at most 64
    lrs = read_epochs(undisturbed("vit")).column("lr").to_pylist()
    assert lrs == [lr_at(config, epoch, 0, 3) for epoch in range(4)]
    assert lrs[0] == pytest.approx(1e-3 / 3)


def test_a_last_batch_of_one(tmp_path: Path) -> None:
    """Fine where the last map has many places; said before training where it has one."""
    last_of_one = {"batch_size": 179, "epochs": 1}
    train(TINY.override(last_of_one), tmp_path / "cifar")
    imagenet = VARIANTS["resnet"].override({"model.stem": "imagenet", **last_of_one})
    with pytest.raises(InputError, match="leaves 1 of 180 images"):
        train(imagenet, tmp_path / "imagenet")
    train(imagenet.override({"batch_size": 178}), tmp_path / "two")


@pytest.mark.long
def test_the_model_learns(tmp_path: Path) -> None:
    config = TINY.override(
        {"data.train_limit": 500, "epochs": 5, "batch_size": 16, "augment.flip": 0.0,
         "augment.cutout": 0, "augment.crop_padding": 0}
    )  # fmt: skip
    run = train(config, tmp_path)
    losses = read_epochs(tmp_path).column("train_loss").to_pylist()
    assert losses[-1] < losses[0] - 0.5
    assert run["test_accuracy"] > 0.6


@pytest.mark.long
@pytest.mark.parametrize("name", VARIANTS)
def test_stopped_between_steps_and_resumed_is_exact(
    name: str, undisturbed: Callable[[str], Path], tmp_path: Path
) -> None:
    """A warning comes at a step, not at an epoch's end; nothing of the broken epoch shows."""
    out = tmp_path / "trial"
    asked = iter(range(1000))
    attempts = 0
    finished = False
    while not finished:
        attempts += 1
        try:
            train(VARIANTS[name], out, should_stop=lambda: next(asked) % 3 == 2)  # two steps each
            finished = True
        except StoppedError:
            assert attempts < 50
    assert attempts > 3
    expected = what_was_computed(VARIANTS[name], undisturbed(name))
    assert what_was_computed(VARIANTS[name], out) == expected


def test_a_stop_before_the_first_step_leaves_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        train(TINY, tmp_path, should_stop=lambda: True)
    assert not (tmp_path / trial_files.CHECKPOINT).exists()


def test_a_killed_writers_part_is_swept_up(tmp_path: Path) -> None:
    parts = [
        tmp_path / f".{name}.1-2.part" for name in (trial_files.CHECKPOINT, trial_files.EPOCHS)
    ]
    other = tmp_path / ".0123456789abcdef.part"  # a claim in the making is another's
    for path in (*parts, other):
        path.write_bytes(b"half")
    with pytest.raises(StoppedError):
        train(TINY, tmp_path, should_stop=lambda: True)
    assert names_in(tmp_path) == [other.name, trial_files.CONFIG]
