"""Node: this job's place in the cluster, and an address at which its first node can be reached."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass

from local_machine import processes
from slurm import environment
from slurm.environment import Child

SECONDS = 30


@dataclass(frozen=True)
class Place:
    """What Slurm told this process of itself, through its environment."""

    job: str
    """The job's own number, which differs for each task of an array."""
    restarts: int
    rank: int
    world: int
    local_rank: int
    nodes: int
    node: str
    """The node's name in Slurm, which may resolve nowhere."""

    @classmethod
    def here(cls) -> Place:
        """Raises KeyError outside a job step."""
        get = os.environ
        return cls(
            job=get["SLURM_JOB_ID"],
            restarts=int(get.get("SLURM_RESTART_COUNT", "0")),
            rank=int(get["SLURM_PROCID"]),
            world=int(get["SLURM_NTASKS"]),
            local_rank=int(get["SLURM_LOCALID"]),
            nodes=int(get.get("SLURM_NNODES", "1")),
            node=get.get("SLURMD_NODENAME", processes.host_name()),
        )


def address(place: Place) -> str:
    """An address of this node for the others of its job.

    The node's name where it resolves, else the address that Slurm itself uses for it: a name that
    resolves nowhere would let the ranks wait for each other without a word.
    """
    if place.nodes == 1:
        return "127.0.0.1"
    try:
        return socket.gethostbyname(place.node)
    except OSError:
        done = processes.run(
            ["scontrol", "show", "node", place.node, "--oneliner"],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            env=environment.built(Child.SLURM),
        )
        found = re.search(r"\bNodeAddr=(\S+)", done.stdout)
        return found[1] if found else place.node


def free_port() -> int:
    """A port that nobody on this node listens at."""
    with socket.socket() as listener:
        listener.bind(("", 0))
        port: int = listener.getsockname()[1]
        return port
