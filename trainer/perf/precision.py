"""What arithmetic the forward pass uses on a device."""

from __future__ import annotations

from typing import Literal

import torch

from trainer.perf.cpu import has_bf16

Precision = Literal["bf16", "fp32"]


def resolve(precision: Literal["auto", "bf16", "fp32"], device: torch.device) -> Precision:
    """The arithmetic that `precision` means on this device."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if has_bf16() else "fp32"


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """The context that a forward pass runs in."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
