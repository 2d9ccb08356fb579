"""Where a run came from, as its device tells it: name, share, peak of memory, who trained it."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import re
import resource
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from trainer import origin
from trainer.perf.cpu import processor_name
from trial_records import trial_files

# As early as a program that calls `train` allows; our own commands do it first of all.
origin.begin()

# What of a machine changes what is computed there, by the name that it has in an attempt.
MACHINE = ("device", "precision", "world_size")


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor_name()}, {torch.get_num_threads()} threads"


def forget_peak_memory(device: torch.device) -> None:
    """Count the peak anew: one process may run trial after trial."""
    # What a trial before this one held is in cycles, which nothing else collects in time.
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    else:
        # Linux's word for: begin anew with the peak of the resident size.
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes(device: torch.device) -> int:
    """The device's peak allocation by this process since it was forgotten; on a CPU the process's
    peak resident size, which holds the libraries too."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError):
        told = re.search(
            r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE
        )
        if told:
            return int(told[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def device_share(device: torch.device) -> float:
    """The part of the device that this process is counted with, 1/K of a GPU with K workers.

    1 on a CPU, whose hours are a process's and whose name has the number of its threads.
    """
    return 1 / int(os.environ.get(trial_files.PER_GPU, "1")) if device.type == "cuda" else 1.0


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
        "torch_version", "python_version",
    )  # fmt: skip
    return {
        "evaluated_on": last["device"],
        "evaluated_precision": last["precision"],
        "device_share": device_share(device),
        **{name: last[name] for name in same},
        "attempts": json.dumps(list(attempts)),
        "finished_at": origin.now(),
    }
