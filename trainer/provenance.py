"""Where a run came from: commit, versions, device, host, job, command."""

from __future__ import annotations

import gc
import os
import platform
import resource
import shlex
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from trainer import record
from trainer.processor import processor_name


def _git(*words: str) -> str | None:
    """git's answer about the checkout this code lies in; None where there is no git or checkout."""
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *words],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor_name()}, {torch.get_num_threads()} threads"


def forget_peak_memory(device: torch.device) -> None:
    """Count the device's peak anew: one process may run trial after trial."""
    if device.type == "cuda":
        # What a trial before this one held is in cycles, which nothing else collects in time.
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_bytes(device: torch.device) -> int:
    """The device's peak allocation by this process; on a CPU the process's peak resident size."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def device_share(device: torch.device) -> float:
    """The part of the device that this process is counted with, 1/K of a GPU with K workers.

    1 on a CPU, whose hours are a process's and whose name has the number of its threads.
    """
    return 1 / int(os.environ.get(record.PER_GPU, "1")) if device.type == "cuda" else 1.0


def provenance(device: torch.device) -> dict[str, Any]:
    """The columns of run.parquet that say where the run came from."""
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "device": device_name(device),
        "device_share": device_share(device),
        "host": socket.gethostname(),
        "slurm_job_id": os.environ.get("SLURM_JOB_ID"),
        "command": shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]]),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": None if changes is None else bool(changes),
        "torch_version": str(torch.__version__),
        "python_version": platform.python_version(),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
