"""The processor's name. Imports no torch."""

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
