"""benchmarks/gpu_minutes.py: its list, and a tiny pass from trials through a pack to a report."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from local_machine.errors import InputError
from sweeps import find
from sweeps.run import checkpoint_file
from sweeps.run.checkpoint_file import Saved
from trainer import models
from trainer.config import TrainConfig
from trainer.records import saved_weights
from trial_records import plan as plan_files

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import gpu_minutes  # noqa: E402
from gpu import merging, packs  # noqa: E402
from gpu.items import ITEMS, Place, Trials  # noqa: E402

pytestmark = pytest.mark.usefixtures("forked")

TINY = {
    "data.name": "digits", "data.train_limit": "150", "data.test_limit": "100", "epochs": "1",
    "batch_size": "32", "model.width": "0.0625", "precision": "fp32",
}  # fmt: skip


def call(monkeypatch: pytest.MonkeyPatch, *words: Any) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu_minutes.py", *map(str, words)])
    return gpu_minutes.main()


def test_every_item_fits_a_call_and_has_trials() -> None:
    assert len({item.name for item in ITEMS}) == len(ITEMS)
    for item in ITEMS:
        assert 0 < item.minutes < 8, item.name
        if isinstance(item.work, Trials):
            space = find(item.work.sweep)[1].space
            kept = item.work.kept.items()
            assert any(all(point[key] in values for key, values in kept) for point in space)


def test_the_list_names_the_wheels_that_are_pinned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "--list") == 0
    said = capsys.readouterr().out
    assert "resnets" in said and "strong_wrn" in said
    names = re.findall(r" ([\w-]+)==[\d.]+", said)
    assert names == list(gpu_minutes.WHEELS)


def test_benchmarks_say_what_they_would_run(tmp_path: Path) -> None:
    place = Place(tmp_path, "smoke", {"data.name": "digits"}, peer=tmp_path)
    for item in ITEMS:
        for words in item.commands(place):
            assert words[1] == "-m" or Path(words[1]).exists(), item.name


@pytest.mark.long
def test_trials_run_and_come_back_to_a_report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work, out, into = tmp_path / "work", tmp_path / "out", tmp_path / "results"
    settings = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]
    words = ["--out", out, "--work", work, "--results", into, "--scale", "smoke", "--on", "debug"]
    words += ["--minutes", 1000]

    assert call(monkeypatch, "--run", "resnets", "wrn", *words, *settings) == 0
    assert sum(path.stat().st_size for path in out.iterdir()) < packs.LIMIT
    assert not list(out.glob("**/checkpoint.pt"))
    assert call(monkeypatch, "--merge", out, "--results", into) == 0
    (target,) = into.iterdir()
    trained = list(packs.trials(work / "results"))
    merged = list(packs.trials(target))
    assert [one.name for one in merged] == [one.name for one in trained]
    assert len(merged) == 3
    for mine, theirs in zip(trained, merged, strict=True):
        for name in packs.RECORDS:
            assert (mine / name).read_bytes() == (theirs / name).read_bytes()
    page = (target / "report" / "report.html").read_text()
    assert "Grad-CAM" in page and "Checked: the checkpoint gives" in page
    assert "| `wrn` |" in (target / "README.md").read_text()

    # What a machine has brought back none trains again; a part of a sweep becomes one plan.
    other = ["--out", out, "--work", tmp_path / "other", *words[4:]]
    capsys.readouterr()
    assert call(monkeypatch, "--run", "resnets", "dla_vit", *other, *settings) == 0
    assert "2 trials: 2 done; 0 to run" in (tmp_path / "other/logs/resnets.txt").read_text()
    assert call(monkeypatch, "--merge", out, "--results", into) == 0
    (path,) = plan_files.paths(target / "architectures")
    models_planned = {trial.config["model"]["name"] for trial in plan_files.read(path).trials}
    assert models_planned == {"resnet18", "resnet34", "dla34", "vit"}


@pytest.mark.parametrize(("precision", "is_smaller"), [("bf16", True), ("fp32", False)])
def test_packed_weights_give_the_same_logits(
    tmp_path: Path, precision: str, is_smaller: bool
) -> None:
    """Under bf16 autocast those of products are rounded to bf16 for each product anyhow."""
    config = TrainConfig().override({"model.width": 0.125, "precision": precision})
    torch.manual_seed(0)
    network = models.build(config.model, 10).eval()
    (tmp_path / "config.json").write_text(config.to_json())
    saved = Saved({"best_weights": network.state_dict(), "best_epoch": 3}, config.fingerprint)
    path = tmp_path / "checkpoint.pt"
    checkpoint_file.write(path, saved)
    whole = path.stat().st_size
    packed = packs.shrink(tmp_path, bf16=is_smaller)
    assert len(packed) < (0.45 if is_smaller else 0.95) * whole
    other = models.build(config.model, 10).eval()
    path.unlink()
    packs.grow(packed, path, config.fingerprint)
    state = saved_weights.load(path, config.fingerprint)
    assert state is not None and state["best_epoch"] == 3
    assert {value.dtype for value in state["best_weights"].values()} <= {
        torch.float32, torch.int64,
    }  # fmt: skip
    other.load_state_dict(state["best_weights"])
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=is_smaller):
        assert torch.equal(network(images), other(images))


def test_a_damaged_pack_is_refused(tmp_path: Path) -> None:
    work, out = tmp_path / "work", tmp_path / "out"
    (work / "speed").mkdir(parents=True)
    (work / "speed" / "steps.txt").write_text("fast\n")
    notes = {"device": "NVIDIA H100 80GB HBM3", "torch": "2.11", "minutes": {"steps": 3.25}}
    assert packs.pack(work, out, tmp_path / "known", [], notes) == []
    target, _ = merging.merge(out, tmp_path / "results")
    assert target.name == "h100"
    assert (target / "speed" / "steps.txt").read_text() == "fast\n"
    assert "| 3.2 | 2.11 |" in (target / "README.md").read_text()

    part = out / "pack.tar.00"
    content = bytearray(part.read_bytes())
    content[600] ^= 1
    part.write_bytes(content)
    with pytest.raises(InputError, match="is damaged"):
        merging.merge(out, tmp_path / "others")
    part.unlink()
    with pytest.raises(InputError, match="is missing"):
        merging.merge(out, tmp_path / "others")
    assert not (tmp_path / "others").exists()


def test_weights_that_do_not_fit_wait(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Those that no pack has had come first in the next one."""
    sizes = {"a": 40, "b": 40}
    results = tmp_path / "results"
    for name in sizes:
        trial = results / "wrn_final" / name
        trial.mkdir(parents=True)
        for record in packs.RECORDS:
            (trial / record).write_bytes(b"")

    def shrunk(work: Path, trial: Path) -> Path:
        path = tmp_path / trial.name
        path.write_bytes(b"w" * packs.MEGABYTE * sizes[trial.name])
        return path

    monkeypatch.setattr(packs, "_shrunk", shrunk)
    monkeypatch.setattr(packs, "LIMIT", 60 * packs.MEGABYTE)
    out, known = tmp_path / "out", tmp_path / "known"
    assert packs.pack(tmp_path, out, known, ["wrn_final"], {}) == ["wrn_final/b"]
    assert max(part.stat().st_size for part in out.iterdir()) <= packs.PART
    assert packs.pack(tmp_path, out, known, ["wrn_final"], {}) == ["wrn_final/a"]


@pytest.mark.parametrize(
    ("device", "folder"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-40GB", "a100"),
        ("NVIDIA GeForce RTX 4090", "geforce-rtx-4090"),
        ("Intel(R) Xeon(R) Processor, 2 threads", "xeon"),
        ("...", "device"),
    ],
)
def test_a_devices_folder(device: str, folder: str) -> None:
    assert merging.folder_of(device) == folder
