"""What every test, and every process that one starts, finds in its environment."""

from __future__ import annotations

import os

# pytest-xdist already runs a worker a core. Before anything imports torch, which reads it once.
os.environ["OMP_NUM_THREADS"] = "1"
# A cluster that the shell happens to know is not the tests' to use: they boot their own.
os.environ.pop("SLURM_CONF", None)
