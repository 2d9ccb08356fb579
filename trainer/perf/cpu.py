"""The processor's name, and what it can. Imports no torch."""

from __future__ import annotations

import platform
from pathlib import Path


def processor_name() -> str:
    """As the kernel gives it; of the architecture alone where it gives none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def has_bf16() -> bool:
    """Whether the processor multiplies bf16 itself; emulated bf16 is slower than fp32."""
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})
