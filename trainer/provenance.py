"""Where a run came from: who trained it, on what, and what evaluated it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from local_machine import origin
from trainer.perf.device import device_share

# As early as a program that calls `train` allows; our own commands do it first of all.
origin.begin_once()

# What of a machine changes what is computed there, by the name that it has in an attempt.
MACHINE = ("device", "precision", "world_size")


def trained_by(
    attempts: Sequence[Mapping[str, Any]], epochs: int
) -> tuple[Mapping[str, Any], list[int]]:
    """The attempt that trained the last of a run's epochs, and the epochs (from 0) that were
    trained on a machine like its own: only their pace is its machine's."""
    starts = [one["from_epoch"] for one in attempts]
    ends = [*starts[1:], epochs]
    last = next(one for one in reversed(attempts) if one["from_epoch"] < epochs)
    alike = [
        epoch
        for one, start, end in zip(attempts, starts, ends, strict=True)
        if all(one.get(key) == last.get(key) for key in MACHINE)
        for epoch in range(start, end)
    ]
    return last, alike


def provenance(device: torch.device, attempts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The columns of run.parquet that say where the run came from; the last attempt is this one."""
    last = attempts[-1]
    same = (
        "host", "slurm_job_id", "command", "git_commit", "git_dirty", "code_sha256",
        "snapshot_sha256", "packages_sha256", "torch_version", "python_version",
    )  # fmt: skip
    return {
        "evaluated_on": last["device"],
        "evaluated_precision": last["precision"],
        "device_share": device_share(device),
        **{name: last[name] for name in same},
        "attempts": json.dumps(list(attempts)),
        "finished_at": origin.now(),
    }
