"""The device that this process trains on: its name, its memory, and how much of it is ours."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import resource
from pathlib import Path

import torch

from local_machine.devices import processor_name
from trial_records import trial_files


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor_name()}, {torch.get_num_threads()} threads"


def forget_peak_memory(device: torch.device) -> None:
    """Count the peak again: one process may run trial after trial."""
    # What a trial before this one held is in cycles, which nothing else collects in time.
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    else:
        # Linux's word for: start over with the peak of the resident size.
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
