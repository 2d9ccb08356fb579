"""One thread a process: pytest-xdist already runs a worker a core. Inherited by subprocesses."""

from __future__ import annotations

import os

# Before anything imports torch, which reads it once.
os.environ["OMP_NUM_THREADS"] = "1"
