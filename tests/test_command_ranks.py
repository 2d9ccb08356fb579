"""The ranks of a command judge alike how it ended, whatever each of them had to do to end it."""

from __future__ import annotations

import multiprocessing
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from sweeps import Sweep, minimize
from sweeps.command_task import supervisor
from sweeps.command_task.program import Program
from sweeps.command_task.supervisor import ProgramFailedError, Supervisor
from sweeps.run.attempt import Attempt
from sweeps.run.handle import Run

FORK = multiprocessing.get_context("fork")
HANGS = "trap '' TERM; echo hangs; while :; do sleep 0.1; done"


def _rank(rank: int, port: int, folder: Path, script: str, told: Any) -> None:
    import torch.distributed as dist

    os.environ |= {
        "RANK": f"{rank}", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}",
    }  # fmt: skip
    dist.init_process_group("gloo")
    supervisor.TERM_SECONDS = 0.5
    task = Sweep(
        command="x", metrics="m.csv", objective=minimize("loss"), grace=0.5
    ).task.planned  # fmt: skip
    assert task.command is not None
    run = Run(Attempt(folder, "0" * 64, "{}", "t", task="x"))
    program = Program(["sh", "-c", script], os.environ, folder)
    try:
        said = Supervisor(run, task.command, lambda: None).see_through(program, lambda: False).name
    except ProgramFailedError as error:
        said = error.what
    told.put((rank, said))


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (HANGS, "echo bad; exit 3", "the program of rank 1 ended with exit code 3: bad"),
        (HANGS, "kill -9 $$", "DIED"),
        ("kill -9 $$", HANGS, "DIED"),
        ("exit 75", HANGS, "AGAIN"),
    ],
)  # fmt: skip
def test_a_rank_that_hangs_when_another_has_ended(
    tmp_path: Path, first: str, second: str, said: str
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told: Any = FORK.Queue()
    ranks = [
        FORK.Process(target=_rank, args=(rank, port, tmp_path, script, told))
        for rank, script in enumerate((first, second))
    ]
    for one in ranks:
        one.start()
    try:
        assert dict(told.get(timeout=60) for _ in ranks) == {0: said, 1: said}
    finally:
        for one in ranks:
            one.kill()
            one.join()
