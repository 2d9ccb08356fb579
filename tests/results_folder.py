"""A results folder as sweeps leave it, with made-up figures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from analysis import report
from analysis.cifar10.task import load
from analysis.data.study import Plan
from local_machine.errors import run_command
from local_machine.json_files import write_json, write_sealed_json
from trainer.config import TrainConfig
from trainer.data.known import KNOWN
from trainer.recipes import reported as protocol
from trial_records.tables import EPOCHS_SCHEMA, run_schema, write_table
from trial_records.trial_files import CONFIG, EPOCHS, RUN, Failure

HOSTILE = "<script>alert(1)</script> a|b_c & 50% $x$ `q` \\d {e}"


def finish(folder: Path, config: TrainConfig, **changes: Any) -> None:
    """What a trial that finished leaves: a test accuracy of 0.9 unless `changes` say otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CONFIG, config.model_dump(mode="json"))
    begin(folder, config.seed)
    outcome = {
        "fingerprint": config.fingerprint,
        "status": "done",
        "best_epoch": 2,
        "epochs_run": 3,
        "stopped_early": False,
        "train_accuracy": 0.93,
        "train_accuracy_clean": 0.94,
        "val_accuracy": 0.91,
        "val_accuracy_last": 0.91,
        "test_accuracy": 0.9,
        "train_images": 45_000,
        "val_images": 5_000,
        "test_images": 10_000,
        "split_sha256": "ab" * 32,
        "classes": ",".join(KNOWN[config.data.name].classes),
        "data_sha256": KNOWN[config.data.name].sha256,
        "seconds": 12.34,
        "flops_per_image": 1e9,
        "precision_used": "fp32",
        "device": "cpu",
        "world_size": 1,
        "git_commit": "c0ffee",
        "git_dirty": False,
        "torch_version": "2.9",
        "python_version": "3.11",
        "finished_at": "2026-01-01T00:00:00+00:00",
    }
    empty = dict.fromkeys(run_schema().names)
    write_table(folder / RUN, [empty | config.flat() | outcome | changes], run_schema())


def begin(folder: Path, seed: int = 0, **changes: Any) -> None:
    """Three epochs, whose losses the seed moves a little."""
    folder.mkdir(parents=True, exist_ok=True)
    losses = {"train_loss": 0.5 + 1e-6 * seed}
    rows = [
        dict.fromkeys(EPOCHS_SCHEMA.names, 0.5)
        | {"epoch": epoch, "val_accuracy": 0.3 * epoch}
        | losses
        | changes
        for epoch in range(3)
    ]
    write_table(folder / EPOCHS, rows, EPOCHS_SCHEMA)


def fail(folder: Path, cause: Any, exception: str = "loss is nan") -> None:
    begin(folder)
    Failure(cause, exception, "", [], 1, 0.0, "host", epoch=1).write(folder)


Point = tuple[dict[str, Any], TrainConfig]


def name_of(config: TrainConfig, word: str = "t") -> str:
    return f"{word}-{config.fingerprint[:8]}"


def write_plan(
    results: Path,
    points: Iterable[Point],
    sweep: str = "grid",
    id: str = "00000001",
    **changes: Any,
) -> None:
    """A plan whose trials are named t-<8 hex>, or by `word`."""
    points = list(points)
    word = changes.pop("word", "t")
    plan: dict[str, Any] = {
        "schema_version": 1,
        "sweep": sweep,
        "id": id,
        "scale": "full",
        "overrides": {},
        "axes": list(dict.fromkeys(axis for point, _ in points for axis in point)),
        "seeds": [42],
        "created": "2026-01-01T00:00:00+00:00",
        "command": f"python -m sweeps.launch {sweep}",
        "trials": [
            {
                "name": name_of(config, word),
                "fingerprint": config.fingerprint,
                "point": point,
                "config": config.model_dump(mode="json"),
            }
            for point, config in points
        ],
    }
    (results / sweep / "plans").mkdir(parents=True, exist_ok=True)
    write_sealed_json(results / sweep / "plans" / f"{id}.json", plan | changes)


def grid_points(
    sizes: tuple[int, ...] = (64, 128), epochs: tuple[int, ...] = (25, 50)
) -> list[Point]:
    points = [{"batch_size": size, "epochs": count} for size in sizes for count in epochs]
    return [(point, protocol("dla34").override(point)) for point in points]


def folder_of(results: Path, point: Point, sweep: str = "grid") -> Path:
    return results / sweep / name_of(point[1])


def only(results: Path) -> Plan:
    (plan,) = load(results, []).plans
    return plan


def run(*words: object) -> int:
    """The exit code of the command."""
    with pytest.raises(SystemExit) as end:
        run_command(report.app, [str(word) for word in words])
    return int(str(end.value.code))


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
