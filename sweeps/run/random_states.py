"""The states of the random generators that a process has: Python's, numpy's, torch's of the CPU and
of the current GPU."""

from __future__ import annotations

import random
import sys
from typing import Any

State = dict[str, Any]


def capture() -> State:
    """Plain values, numpy arrays and tensors, which a checkpoint can hold. A library that was not
    imported yet, and a GPU that was not used yet, have drawn no numbers."""
    found: State = {"python": random.getstate()}
    if (numpy := sys.modules.get("numpy")) is not None:
        found["numpy"] = numpy.random.get_state()
    if (torch := sys.modules.get("torch")) is not None:
        found["torch"] = torch.get_rng_state()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            found["cuda"] = torch.cuda.get_rng_state()
    return found


def restore(state: State) -> None:
    random.setstate(state["python"])
    if "numpy" in state:
        import numpy as np

        np.random.set_state(state["numpy"])
    if "torch" in state:
        import torch

        torch.set_rng_state(state["torch"])
        if "cuda" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["cuda"])
