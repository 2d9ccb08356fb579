"""Pace: how fast a configuration trains on this GPU for some seconds, beside whatever else runs.

    python -m sweeps.execution.gpu.throughput_probe TRIAL.json     # its task, and its values

`sweeps.execution.gpu.sharing` starts some of these at once. It says `ready`, waits for a line, then
trains; last it prints one JSON object: images a second, and the GPU's used and whole memory in
bytes.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from local_machine import clock
from local_machine.errors import run_command
from local_machine.json_files import read_json

WARM_STEPS = 20
SECONDS = 4.0

app = typer.Typer(add_completion=False, rich_markup_mode=None)


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
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.synchronize()


@app.command()
def main(trial_file: Annotated[Path, typer.Argument(help="The task and the values.")]) -> None:
    """Train for some seconds, and say how fast."""
    from sweeps.spec.task_loader import load
    from trial_records.plan import PlannedTask

    asked = read_json(trial_file)
    task = load(PlannedTask(**asked["task"]))
    limit = _Clock()
    samples = task.rehearse(task.parse(asked["values"]), limit)
    _synchronize()
    torch = sys.modules["torch"]
    seconds = clock.monotonic() - limit.started
    free, total = torch.cuda.mem_get_info() if torch.cuda.is_available() else (1, 1)
    steps = limit.calls - WARM_STEPS
    value = {
        "images_per_second": steps * samples / seconds,
        "used_bytes": total - free,
        "total_bytes": total,
    }
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    run_command(app)
