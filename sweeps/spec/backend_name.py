"""Where trials run."""

from __future__ import annotations

from enum import StrEnum


class BackendName(StrEnum):
    """What runs the trials."""

    AUTO = "auto"
    SLURM = "slurm"
    LOCAL = "local"
    DEBUG = "debug"
