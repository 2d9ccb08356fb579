"""A trial on two ranks, by a framework's own loop, ends with the rows of an undisturbed one."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from pathlib import Path

import pytest
import torch.distributed as dist
from test_bridges import KilledError, Rows, Train, by_hugging_face, by_lightning

from slurm.rank_info import free_port
from sweeps.run import attempt_folder
from sweeps.run.attempt import Attempt
from sweeps.run.ends import StoppedError
from sweeps.run.handle import Run

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(120)]

TRAINS = {
    "lightning": by_lightning(devices=2, strategy="ddp"),
    "hugging face": by_hugging_face(save_steps=2, logging_steps=1),
}
RANKS = 2


def attempted(trial: Path, number: int, train: Train, batch: int = 0, how: str = "") -> Rows:
    """The rows of an attempt on all ranks that is killed, or stopped by the last, in a batch."""
    trial.mkdir(exist_ok=True)
    attempt_folder.make(trial, f"t{number}")
    forked = multiprocessing.get_context("fork")
    found, port = forked.SimpleQueue(), free_port()

    def rank_main(rank: int) -> None:
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(RANKS),
            "LOCAL_WORLD_SIZE": str(RANKS), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
        dist.init_process_group("gloo")
        asked: list[str] = []
        attempt = Attempt(trial, "0" * 64, "{}", f"t{number}", number, task="plain")
        run, batches = Run(attempt, stop=lambda: bool(asked)), itertools.count(1)

        def on_batch() -> None:
            if next(batches) == batch and how == "kill":
                raise KilledError
            if how == "stop" and rank == RANKS - 1:
                asked.append(how)

        end = ""
        try:
            train(run, on_batch)
        except KilledError:
            end = "kill"
        except StoppedError:
            end = "stop"
        if rank == 0:
            assert end == how
            found.put(run.rows())
            run.end() if end else run.finish({})

    ranks = [forked.Process(target=rank_main, args=(rank,)) for rank in range(RANKS)]
    for one in ranks:
        one.start()
    rows: Rows = found.get()
    for one in ranks:
        one.join(30)
        one.kill()
    return rows


@pytest.mark.long
@pytest.mark.parametrize("framework", TRAINS)
def test_on_two_ranks(tmp_path: Path, framework: str) -> None:
    train = TRAINS[framework]
    whole = attempted(tmp_path / "whole", 1, train)
    for number, (batch, how) in enumerate([(5, "kill"), (4, "stop")], 1):
        rows = attempted(tmp_path / "hit", number, train, batch, how)
        assert 0 < len(rows) < len(whole)
    assert attempted(tmp_path / "hit", 3, train) == whole
