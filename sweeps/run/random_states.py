"""The states of the random generators that a process has: Python's, numpy's, torch's of the CPU and
of the current GPU."""

from __future__ import annotations

import io
import random
import sys
from typing import Any

State = dict[str, Any]


def capture() -> State:
    """Plain values, numpy arrays and tensors, which a checkpoint can hold."""
    import torch

    found: State = {"python": random.getstate(), "torch": torch.get_rng_state()}
    if (numpy := sys.modules.get("numpy")) is not None:
        found["numpy"] = numpy.random.get_state()
    # A GPU that was not used yet has drawn no numbers.
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        found["cuda"] = torch.cuda.get_rng_state()
    return found


def restore(state: State) -> None:
    import torch

    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])
    if "numpy" in state:
        import numpy as np

        np.random.set_state(state["numpy"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def encoded(state: State) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()
