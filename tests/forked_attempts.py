"""Attempts at a trial as forks of this process, one for each rank, without a worker around them."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import kill_points
import torch
import torch._dynamo  # which its optimizers, and DDP, would import in each fork

from sweeps.run import attempt_folder
from sweeps.run.attempt import Attempt
from sweeps.run.ends import LostTrialError, StoppedError
from sweeps.run.handle import Run
from sweeps.spec.sweep import Trial
from sweeps.spec.task_loader import load
from trainer import train as _trainer  # noqa: F401 - for the same reason

LOST = 7
"""The exit code of an attempt that lost its trial."""
FORK = multiprocessing.get_context("fork")


def begin(
    folder: Path, trial: Trial, token: str, number: int, ranks: int = 1, **where: str
) -> list[Any]:
    """One attempt at the trial in its folder, a process for each rank."""
    folder.mkdir(parents=True, exist_ok=True)
    attempt_folder.make(folder, token)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {kill_points.TRAINED: str(folder.parent), **where}
    if ranks > 1:
        env |= {"WORLD_SIZE": f"{ranks}", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
    processes = [
        FORK.Process(target=_main, args=(folder, trial, token, number, {**env, "RANK": f"{rank}"}))
        for rank in range(ranks)
    ]
    for one in processes:
        one.start()
    return processes


def _main(folder: Path, trial: Trial, token: str, number: int, env: dict[str, str]) -> None:
    os.environ.update(env)
    torch.set_num_threads(1)
    kill_points.watch()
    task, name = load(trial.task), trial.task.name
    run = Run(Attempt(folder, trial.fingerprint, trial.to_json(), token, number, task=name))
    try:
        returned = task.train(trial.config, run)
        if run.ranks.rank == 0:
            run.finish(task.outcome(trial.config, run, returned))
    except LostTrialError:
        sys.exit(LOST)
    except StoppedError:
        run.end()
    with suppress(Exception):
        torch.distributed.barrier()


def ended(processes: list[Any]) -> list[int]:
    """Their exit codes; where rank 0 was killed the others are, too."""
    processes[0].join(60)
    for other in processes[1:]:
        if processes[0].exitcode:
            other.kill()
        other.join(60)
    return [one.exitcode for one in processes]


def wait_until_stopped(pid: int) -> None:
    until = time.monotonic() + 60
    while not is_stopped(pid):
        assert time.monotonic() < until
        time.sleep(0.02)


def is_stopped(pid: int) -> bool:
    """By SIGSTOP."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
