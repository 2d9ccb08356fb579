"""Every command that would train on a data set refuses one that no trial can be made of, before the
first trial, and says what to change."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_data import encoded, pixels
from test_data_content import data_set

import sweeps.doctor.__main__
import sweeps.execution.worker
import sweeps.launch
import sweeps.search.__main__
import sweeps.study.__main__
from local_machine.errors import InputError, run_command
from sweeps.spec.expand import expand
from sweeps.spec.sweep import Sweep
from sweeps.state.plan import Plan
from sweeps.state.trial_store import Standing, State, TrialStore
from sweeps.study.selection import candidates
from trainer.config import DataConfig
from trainer.perf import cost_model
from trainer.recipes import reported
from trial_records import trial_files
from trial_records.tables import run_schema, write_table


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEPS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def run(module: Any, monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    texts = [str(word) for word in words]
    monkeypatch.setattr(sys, "argv", [module.__name__, *texts])
    with pytest.raises(SystemExit) as end:
        run_command(module.app, texts)
    return int(end.value.code or 0)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (sweeps.launch, ["cutout", "--dry-run"]),
        (sweeps.launch, ["cutout", "--on", "local"]),
        (sweeps.launch, ["cutout", "--on", "debug"]),
        (sweeps.search.__main__, ["weight_decay", "--dry-run"]),
        (sweeps.search.__main__, ["weight_decay", "--on", "local"]),
        (sweeps.study.__main__, ["cifar10", "--dry-run"]),
        (sweeps.study.__main__, ["cifar10", "--on", "local"]),
    ],
)
def test_two_hundred_classes_of_four_images(
    module: Any,
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = encoded(pixels(1, 0)[0])
    for part, count in (("train", 4), ("test", 1)):
        for label in range(200):
            folder = tmp_path / "own" / part / f"c{label:03}"
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number}.png").write_bytes(image)
    root = f"data.root={tmp_path / 'own'}"
    assert run(module, monkeypatch, *words, "--set", root, "--results", tmp_path / "results") == 2
    said = capsys.readouterr()
    assert "has 4 training images, of which data.val_fraction=0.1 takes 0" in said.err
    assert "raise data.val_fraction to 0.25" in said.err
    assert "Traceback" not in said.err and not (tmp_path / "cache").exists()
    assert not list((tmp_path / "results").rglob("config.json"))


@pytest.mark.long
def test_a_last_batch_of_one_is_refused_by_the_dry_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = data_set(tmp_path / "own", 10, 30)  # 270 to train on
    words = ["--set", f"data.root={root}", "--set", "model.stem=imagenet", "--dry-run"]
    assert run(sweeps.launch, monkeypatch, "cutout", *words, "--set", "batch_size=269") == 2
    assert "leaves 1 of 270 images for the last batch" in capsys.readouterr().err
    assert run(sweeps.launch, monkeypatch, "cutout", *words, "--set", "batch_size=90") == 0


def test_images_of_another_shape_are_refused_by_the_dry_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image = encoded(np.zeros((48, 64, 3), np.uint8), "JPEG")
    for label in range(12):
        folder = tmp_path / "own" / f"kind {label}"
        folder.mkdir(parents=True)
        for number in range(30):
            (folder / f"{number}.jpg").write_bytes(image)
    words = ["cutout", "--set", f"data.root={tmp_path / 'own'}", "--dry-run"]
    assert run(sweeps.launch, monkeypatch, *words) == 2
    said = capsys.readouterr().err
    assert "0.jpg: the image is 64x48, not square" in said and "--set data.size=48" in said
    odd = ["--set", "data.size=36", "--set", "model.name=dla34"]
    assert run(sweeps.launch, monkeypatch, *words, *odd) == 2
    assert "set data.size=32, or choose another model.name" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_doctor_looks_at_a_folder(tmp_path: Path) -> None:
    found = sweeps.doctor.__main__.images(data_set(tmp_path / "own", 10, 30))
    assert found.state == "ok" and "270 images to train on, 30 to validate, 20 to test" in (
        found.found
    )
    found = sweeps.doctor.__main__.images(data_set(tmp_path / "few", 10, 4))
    assert found.state == "failure" and "data.val_fraction to 0.25" in found.todo
    assert sweeps.doctor.__main__.images(tmp_path / "none").state == "failure"


def test_a_price_counts_the_folders_own_images(tmp_path: Path) -> None:
    root = data_set(tmp_path / "own", 10, 30)
    assert cost_model._images(DataConfig(root=str(root))) == (270, 30)
    assert cost_model._images(DataConfig(root=str(tmp_path / "none"))) == (45_000, 5_000)
    assert cost_model._images(DataConfig(name="digits", train_limit=200)) == (180, 20)


def test_no_choice_between_trials_of_different_images(tmp_path: Path) -> None:
    store = TrialStore(tmp_path, "cutout")
    trials = expand(Sweep(base=reported("resnet18")), seeds=2)
    store.write_plan(Plan("cutout", trials, "full", {}, [], "command"))

    def finish(contents: list[str | None]) -> list[Standing]:
        for trial, content in zip(trials, contents, strict=True):
            row = dict.fromkeys(run_schema().names) | trial.config.flat()
            row |= {
                "fingerprint": trial.config.fingerprint, "status": "done", "val_accuracy": 0.5,
                "val_images": 100, "train_images": 900, "data_sha256": content,
            }  # fmt: skip
            folder = store.folder_of(trial)
            folder.mkdir(parents=True, exist_ok=True)
            write_table(folder / trial_files.RUN, [row], run_schema())
        return [Standing(trial, State.DONE) for trial in trials]

    for alike in (["a" * 64, "a" * 64], ["a" * 64, None], [None, None]):
        (one,), left_out = candidates(store, finish(alike))
        assert one.values == (0.5, 0.5) and not left_out
    with pytest.raises(InputError, match="of different images"):
        candidates(store, finish(["a" * 64, "b" * 64]))


@pytest.mark.long
def test_trained_on_own_images_and_recorded_as_what_they_are(tmp_path: Path) -> None:
    """Four classes, one with a comma: what a trial trains on is what it records."""
    from analysis.data.class_names import parse
    from trainer.alone import train_alone
    from trainer.data.datasets import load

    names = ["a, b", "c", "d", "e"]
    hub = {"info": {"features": {"label": {"names": names}}}}
    root = data_set(tmp_path / "own", 4, 20, hub=hub)
    config = reported("resnet18").override(
        {"data.root": str(root), "model.width": 0.125, "epochs": 1, "batch_size": 32}
    )
    data = load(config.data)
    run = train_alone(config, tmp_path / "trial")
    assert parse(run["classes"]) == tuple(names) and run["num_classes"] == 4
    assert run["data_sha256"] == data.sha256
    mean = [float(value) for value in run["data_mean"].split(",")]
    np.testing.assert_allclose(mean, (data.train_images / 255).mean((0, 1, 2)))
    assert run["top_3"] is not None and run["top_5"] is None

    # Half done, on images that are others by now.
    def stop(row: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_alone(config, tmp_path / "begun", stop)
    from trainer import process_cache

    data_set(root, 4, 24, hub=hub)
    process_cache._dataset.drop()
    with pytest.raises(InputError, match="began on other images"):
        train_alone(config, tmp_path / "begun")
