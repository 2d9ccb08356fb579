"""What a program is told of its attempt, by variables and by placeholders."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from slurm import environment
from slurm.environment import Child
from slurm.rank_info import free_port
from sweeps.command_task.leftovers import FOLDER

DONE_FILE = ".done"
"""In the program's folder, named by SWEEPS_DONE: who makes it says that the program is complete."""


@dataclass(frozen=True)
class RankEnvironment:
    """One rank's, of a trial."""

    rank: int
    world: int
    local_rank: int
    nodes: int
    node_rank: int

    @classmethod
    def here(cls, rank: int, world: int) -> Self:
        """Of this process. Several ranks join a group of their own, for their supervisors."""
        if world == 1:
            return cls(0, 1, 0, 1, 0)
        import torch.distributed as dist

        if not dist.is_initialized():
            dist.init_process_group("gloo")
        told = os.environ.get
        return cls(
            rank, world, int(told("LOCAL_RANK", "0")), int(told("SLURM_NNODES", "1")),
            int(told("SLURM_NODEID", "0")),
        )  # fmt: skip

    @property
    def ranks_per_node(self) -> int:
        return self.world // self.nodes

    def meeting(self) -> dict[str, Any]:
        """Where the program's own ranks meet; asked on rank 0."""
        return {
            "master_addr": os.environ.get("MASTER_ADDR", "127.0.0.1"),
            "master_port": free_port(),
        }

    def placeholders(self, folder: Path, meeting: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "folder": str(folder),
            "nnodes": self.nodes,
            "node_rank": self.node_rank,
            "nproc_per_node": self.ranks_per_node,
            "master_addr": meeting["master_addr"],
            "master_port": meeting["master_port"],
        }

    def variables(
        self, folder: Path, trial: Path, seed: Any, meeting: Mapping[str, Any], *, per_rank: bool
    ) -> dict[str, str]:
        """The environment of the program: this process's, but for what would make it take itself
        for a task of Slurm; and torchrun's variables where it is started `per_rank`."""
        told = environment.built(Child.PROGRAM) | {
            FOLDER: str(folder),
            "SWEEPS_TRIAL": trial.name,
            "SWEEPS_DONE": str(folder / DONE_FILE),
            "PYTHONUNBUFFERED": "1",
            "PATH": search_path(),
        }
        if seed is not None:
            told["SWEEPS_SEED"] = str(seed)
        # A program that finds RANK begins to look for other ranks, on a GPU: nanoGPT, for one.
        if per_rank:
            told |= {
                "RANK": str(self.rank),
                "WORLD_SIZE": str(self.world),
                "LOCAL_RANK": str(self.local_rank),
                "LOCAL_WORLD_SIZE": str(self.ranks_per_node),
                "GROUP_RANK": str(self.node_rank),
                "MASTER_ADDR": meeting["master_addr"],
                "MASTER_PORT": str(meeting["master_port"]),
                "TORCHELASTIC_RUN_ID": trial.name,
            }
        return told


def search_path() -> str:
    """PATH as a program gets it: `python` is the one that runs this, unless a person has activated
    an environment of their own."""
    path = os.environ.get("PATH", os.defpath)
    if os.environ.get("VIRTUAL_ENV") or os.environ.get("CONDA_PREFIX"):
        return path
    return os.pathsep.join([str(Path(sys.executable).parent), path])


def is_found(program: str, directory: Path) -> bool:
    """Whether a command's first word can be started in a directory."""
    place = str(directory / program) if "/" in program else program
    return shutil.which(place, path=search_path()) is not None
