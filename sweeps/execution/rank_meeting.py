"""Where the ranks of one trial's job meet: rank 0 writes it to a file that all of them see."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from local_machine import clock
from local_machine.errors import EXIT_IO, InputError
from local_machine.json_files import read_json
from slurm.rank_info import Place

# How long a rank waits for rank 0's word.
PATIENCE_SECONDS = 180


def join_ranks(place: Place, where: dict[str, Any]) -> None:
    """The env:// variables, by which the trainer's ranks find each other."""
    if place.world > 1:
        os.environ |= {
            "RANK": str(place.rank),
            "WORLD_SIZE": str(place.world),
            "LOCAL_RANK": str(place.local_rank),
            "MASTER_ADDR": where["address"],
            "MASTER_PORT": str(where["port"]),
        }


def meet(meeting: Path, place: Place) -> bool:
    """Wait for rank 0's word where to meet; False where there is nothing to do."""
    deadline = clock.monotonic() + PATIENCE_SECONDS
    while not meeting.exists():
        if clock.monotonic() > deadline:
            raise InputError(
                f"rank {place.rank} on {place.node} heard nothing from rank 0 in "
                f"{PATIENCE_SECONDS} s",
                f"see that {meeting.parent} is on a filesystem that every node shares",
                exit_code=EXIT_IO,
            )
        clock.sleep(0.1)
    where = read_json(meeting)
    if where is not None:
        join_ranks(place, where)
    return where is not None
