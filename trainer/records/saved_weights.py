"""What a trial of ours saved, read outside of its training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sweeps.run.checkpoint_file import DamagedCheckpointError as DamagedCheckpointError
from sweeps.run.checkpoint_file import read


def load(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """The state in a checkpoint.pt of whatever version; None where there is no file. Raises as
    `sweeps.run.checkpoint_file.read` does."""
    saved = read(path, fingerprint)
    if saved is None:
        return None
    if not isinstance(saved.state, dict):
        raise DamagedCheckpointError("it holds no state of this trainer")
    return saved.state
