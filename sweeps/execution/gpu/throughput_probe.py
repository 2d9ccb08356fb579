"""Pace: how fast a configuration trains on this GPU for some seconds, beside whatever else runs.

    python -m sweeps.execution.gpu.throughput_probe CONFIG.json

`sweeps.execution.gpu.sharing` starts some of these at once. It says `ready`, waits for a line, then
trains; last it prints one JSON object: images a second, and the GPU's used and whole memory in
bytes.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from local_machine import clock
from local_machine.errors import run_command
from sweeps.run.ends import StoppedError

WARM_STEPS = 20
SECONDS = 4.0
# Nothing ends it before its time: no schedule, no early stop, no loss that grows beyond bounds.
EPOCHS = 100_000

app = typer.Typer(add_completion=False)


@dataclass
class _Clock:
    """Asked after each step whether to stop; takes the time from the start that it is given."""

    calls: int = 0
    started: float = 0.0

    def __call__(self) -> bool:
        self.calls += 1
        if self.calls < WARM_STEPS:
            return False
        if self.calls == WARM_STEPS:
            _synchronize()
            print("ready", flush=True)
            sys.stdin.readline()
            self.started = clock.monotonic()
        return clock.monotonic() - self.started > SECONDS


def _synchronize() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


@app.command()
def main(config_file: Annotated[Path, typer.Argument(help="The configuration.")]) -> None:
    """Train for some seconds, and say how fast."""
    import torch

    from trainer.alone import train_alone
    from trainer.config import TrainConfig

    wanted = {"epochs": EPOCHS, "early_stopping.patience": 0, "optimizer.lr": 1e-4}
    config = TrainConfig.from_file(config_file).override(wanted)
    limit = _Clock()
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(StoppedError):
        train_alone(config, Path(folder), should_stop=limit)
    _synchronize()
    seconds = clock.monotonic() - limit.started
    free, total = torch.cuda.mem_get_info() if torch.cuda.is_available() else (1, 1)
    steps = limit.calls - WARM_STEPS
    value = {
        "images_per_second": steps * config.batch_size / seconds,
        "used_bytes": total - free,
        "total_bytes": total,
    }
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    run_command(app)
