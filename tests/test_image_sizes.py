"""Images of one's own in a trial: their name, networks that take their size, the record."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from test_data import encoded
from test_own_images import kept as kept
from test_own_images import own, photos, picture, write_folders

from local_machine.errors import InputError
from trainer.config import TrainConfig
from trainer.data import preflight
from trainer.data.datasets import load
from trainer.perf import cost_model
from trainer.perf.past_run import run_of
from trainer.scales import scaled


def test_a_name_of_ones_own_needs_images_of_ones_own() -> None:
    base = TrainConfig()
    named = base.override({"data.name": "flowers", "data.root": "/flowers"})
    assert named.data.name == "flowers"
    for changes in ({"data.name": "flowers"}, {"data.size": 64}, {"data.label_column": "kind"}):
        with pytest.raises(InputError, match=r"data\.root=FOLDER"):
            base.override(changes)
    with pytest.raises(InputError, match="data"):
        base.override({"data.name": "../x", "data.root": "/flowers"})


@pytest.mark.parametrize(
    ("changes", "side", "says"),
    [
        ({"model.name": "vit", "model.patch": 16}, 40, "model.patch=16 does not divide"),
        ({"model.name": "dla34"}, 36, "dla34 with stem=cifar takes images whose side is a multi"),
        ({"model.name": "dla34", "model.stem": "imagenet"}, 48, "a multiple of 32 pixels, not 48"),
        ({"augment.first_size": 16}, 64, "augment.first_size=16 is for images of 32 pixels"),
        ({"augment.crop_padding": 9}, 8, "augment.crop_padding=9 pixels would cover"),
        ({"augment.cutout": 12}, 8, "augment.cutout=12 pixels would cover"),
    ],
)
def test_what_cannot_take_the_size_is_refused_with_the_remedy(
    tmp_path: Path, changes: dict[str, Any], side: int, says: str
) -> None:
    root = write_folders(
        tmp_path / "own", {"a": 20, "b": 20},
        content=lambda seed: encoded(picture(side, seed=seed)),
    )  # fmt: skip
    plain = {"data.root": str(root), "augment.cutout": 0, "batch_size": 8}
    config = TrainConfig().override(plain | changes)
    with pytest.raises(InputError) as told:
        preflight.check([config], 1)
    assert says in told.value.what
    remedies = re.findall(r"([a-z_.]+)=(\w+)", told.value.help)
    assert remedies or "another" in told.value.help
    for name, value in remedies:
        preflight.check([config.override({name: value})], 1)


def test_what_trained_on_32_pixels_before_still_does() -> None:
    config = TrainConfig()
    for changes in (
        {"augment.cutout": 32, "augment.crop_padding": 16}, {"augment.first_size": 16},
        {"model.name": "vit", "model.patch": 16}, {"model.name": "dla34"},
        {"model.name": "dla34", "model.stem": "imagenet"},
    ):  # fmt: skip
        preflight.check_fits(config.override(changes), 32, 45_000, 1)


def test_images_of_ones_own_are_scaled_as_cifar10_is() -> None:
    config = TrainConfig()
    named = config.override({"data.name": "flowers", "data.root": "/flowers"})
    assert scaled([named], "smoke") == scaled([config], "smoke")


def test_an_estimate_is_of_the_size_of_the_images(tmp_path: Path) -> None:
    root = write_folders(
        tmp_path / "own", {"a": 5, "b": 5}, content=lambda seed: encoded(picture(48, seed=seed))
    )
    assert cost_model.side(own(root)) == 48 and cost_model.side(own(root, size=64)) == 64
    assert cost_model.side(own(tmp_path / "nowhere")) == cost_model.side(TrainConfig().data) == 32
    row = {"images_per_second": 100.0, "device": "d", "device_share": None, "world_size": 1,
           "slurm_job_id": None, "precision_used": "fp32", "step_used": "eager", "train_images": 4,
           "val_images": 4, **TrainConfig().flat()}  # fmt: skip
    old, new = run_of(row), run_of(row | {"image_size": 64})
    assert old is not None and new is not None and (old.side, new.side) == (32, 64)


@pytest.mark.parametrize(
    ("model", "stem", "sides"),
    [
        ("resnet18", "cifar", (8, 33, 64)),
        ("resnet18", "imagenet", (8, 33, 64)),
        ("resnet50", "cifar", (16, 64)),
        ("wrn_10_1", "cifar", (8, 33, 64)),
        ("dla34", "cifar", (8, 40, 64)),
        ("dla34", "imagenet", (32, 64)),
        ("vit", "cifar", (8, 36, 64)),
    ],
)
def test_networks_take_other_sizes(model: str, stem: str, sides: tuple[int, ...]) -> None:
    import torch

    from trainer import models
    from trainer.config import ModelConfig

    for side in sides:
        config = TrainConfig(model=ModelConfig(name=model, stem=stem, width=0.125))  # type: ignore[arg-type]
        preflight.check_fits(config.override({"augment.cutout": 0}), side, 64, 1)
        network = models.build(config.model, 7, side)
        assert network(torch.zeros(2, 3, side, side)).shape == (2, 7)


def test_trained_at_64_pixels_and_recorded(tmp_path: Path) -> None:
    from trainer.alone import train_alone

    root = write_folders(
        tmp_path / "own", {"a": 24, "b": 24}, content=lambda seed: photos(seed), ending="jpg"
    )
    config = TrainConfig().override(
        {
            "data.root": str(root), "data.size": 64, "data.name": "stripes", "epochs": 1,
            "batch_size": 16, "model.name": "wrn_10_1", "model.width": 0.5,
            "augment.mixup": 0.2, "augment.cutmix": 1.0,
        }
    )  # fmt: skip
    row = train_alone(config, tmp_path / "trial")
    assert row["image_size"] == 64 and row["classes"] == "a,b" and row["data.name"] == "stripes"
    assert row["data_sha256"] == load(config.data).sha256


@pytest.mark.parametrize("name", ["flowers.py"])
def test_the_documents_example_runs_as_it_stands(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sweeps.launch
    from local_machine.errors import run_command

    page = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
    (text,) = re.findall(rf"^```python\n# {re.escape(name)}\n(.*?)^```$", page, re.M | re.S)
    (tmp_path / name).write_text(text)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    root = write_folders(
        tmp_path / "flowers", {"rose": 20, "oak": 20}, content=photos, ending="jpg"
    )
    small = ["epochs=1", "schedule.warmup_epochs=0", "model.width=0.0625", "batch_size=16"]
    words = [word for one in small for word in ("--set", one)]
    with pytest.raises(SystemExit) as end:
        run_command(sweeps.launch.app, [name, "--on", "debug", "--results", "results", *words])
    assert not end.value.code and f"    python -m sweeps.launch {name}\n" in page
    runs = [pq.read_table(one, partitioning=None).to_pylist()[0]
            for one in Path("results").glob("*/*/run.parquet")]  # fmt: skip
    assert [run["classes"] for run in runs] == ["oak,rose"] * 2
    found = load(own(root, size=64))
    assert {(run["data.name"], run["image_size"], run["data_sha256"]) for run in runs} == {
        ("flowers", 64, found.sha256)
    }
