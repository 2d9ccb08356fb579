"""What arithmetic the forward pass uses on a device."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

Precision = Literal["bf16", "fp32"]


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bf16 itself; emulated bf16 is slower than fp32."""
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})


def resolve(precision: Literal["auto", "bf16", "fp32"], device: torch.device) -> Precision:
    """The arithmetic that `precision` means on this device."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if cpu_has_bf16() else "fp32"


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """The context that a forward pass runs in."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
