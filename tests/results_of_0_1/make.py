"""Makes what lies here, with version 0.1: two runs of small.py, one of them stopped half-way.

    git worktree add /tmp/old 2f94ff1
    PYTHONPATH=/tmp/old OMP_NUM_THREADS=1 python make.py

`halfway/` is interrupted in the third epoch of its second trial; of `undisturbed/` only the tables
were kept. `queued/` is a launch on a cluster (python -m slurm.dev_cluster) whose partition was
down: one of its three jobs as it waits, with the pickle that it runs.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq

COMMAND = [
    sys.executable, "-m", "sweeps.launch", "small.py", "--on", "local", "--workers", "1",
    "--scale", "smoke", "--results",
]  # fmt: skip


def epochs(folder: Path) -> int:
    try:
        return int(pq.read_metadata(folder / "epochs.parquet").num_rows)
    except OSError:
        return 0


def main() -> None:
    subprocess.run([*COMMAND, "undisturbed"], check=True)
    runs = Path("undisturbed/small").glob("*/run.parquet")
    second = sorted(runs, key=lambda run: run.stat().st_mtime)[1].parent.name
    with subprocess.Popen([*COMMAND, "halfway"]) as launch:
        while epochs(Path("halfway/small") / second) < 2:
            time.sleep(0.005)
        time.sleep(0.2)
        launch.send_signal(signal.SIGINT)


if __name__ == "__main__":
    main()
