"""What the processor can. Imports no torch."""

from __future__ import annotations

from pathlib import Path


def has_bf16() -> bool:
    """Whether the processor multiplies bf16 itself; emulated bf16 is slower than fp32."""
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})
