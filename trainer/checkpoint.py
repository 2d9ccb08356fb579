"""Saving and resuming: everything that the next epoch needs, in one file, written atomically."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from trainer.record import write_atomic

SCHEMA_VERSION = 1


class DamagedCheckpointError(Exception):
    """The file is no checkpoint of this trial; the message says why."""


def save(path: Path, state: dict[str, Any], fingerprint: str) -> None:
    """Raises OSError where the disk is full; the checkpoint that was there then still is."""
    state = {"schema_version": SCHEMA_VERSION, "fingerprint": fingerprint, **state}
    # Through memory: torch's writer turns a full disk into a RuntimeError without a cause.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomic(path, lambda file: file.write(buffer.getbuffer()))


def load(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """The saved state, on the CPU; None where there is no file.

    Raises DamagedCheckpointError where the file is cut short, has a flipped bit, holds another
    trial's state or anything but tensors and plain values (it is never unpickled freely); OSError
    where the disk does not give the file, which may be whole.
    """
    try:
        content = io.BytesIO(path.read_bytes())
    except FileNotFoundError:
        return None
    try:
        with zipfile.ZipFile(content) as archive:
            # torch reads tensors without looking at the checksums that it wrote.
            if (bad := archive.testzip()) is not None:
                raise DamagedCheckpointError(f"checksum of {bad} is wrong")
        content.seek(0)
        state = torch.load(content, map_location="cpu", weights_only=True)
    except DamagedCheckpointError:
        raise
    # Flipped bits make zipfile and torch raise whatever they happen to run into.
    except Exception as error:
        first = str(error).partition("\n")[0]
        raise DamagedCheckpointError(first or type(error).__name__) from None
    if not isinstance(state, dict) or state.get("schema_version") != SCHEMA_VERSION:
        raise DamagedCheckpointError("written by another version")
    if (other := state.get("fingerprint")) != fingerprint:
        raise DamagedCheckpointError(f"holds trial {str(other)[:8]}")
    return state
