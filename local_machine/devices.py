"""What this machine has: GPUs, cores, and the name of its device."""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path

# The name of a CPU, and with how many threads it is used.
_ON_CPU = re.compile(r", (\d+) threads$")


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; [] for none."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name.strip() not in ("", "-1")]
    import pynvml

    try:
        pynvml.nvmlInit()
        return [str(number) for number in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []


def cores_here() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def device_here(workers: int) -> str:
    """The device of each of so many workers on this machine, under the name that runs give it."""
    if gpus := visible_gpus():
        import pynvml

        try:
            pynvml.nvmlInit()
            if gpus[0].isdecimal():
                handle = pynvml.nvmlDeviceGetHandleByIndex(int(gpus[0]))
            else:
                handle = pynvml.nvmlDeviceGetHandleByUUID(gpus[0])
            return str(pynvml.nvmlDeviceGetName(handle))
        except pynvml.NVMLError:
            return "GPU"
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, cores_here() // workers))
    return f"{processor_name()}, {threads} threads"


def threads_of(device: object) -> int | None:
    """With how many threads a device of that name computes, a CPU; None for any other."""
    found = _ON_CPU.search(device) if isinstance(device, str) else None
    return None if found is None else int(found[1])


def processor_name() -> str:
    """As the kernel gives it; of the architecture alone where it gives none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
