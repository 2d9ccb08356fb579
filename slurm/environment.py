"""The environment of what we start: built from ours by one table, never inherited as it is.

A variable that no row of the table names is passed on: PATH, PYTHONPATH, LD_LIBRARY_PATH, proxies,
those of conda and virtual environments, OMP_*, SWEEPS_CACHE.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from enum import Flag, auto
from fnmatch import fnmatchcase
from typing import NamedTuple


class Child(Flag):
    """What is started."""

    WORKER = auto()
    """A process on this machine: a worker, a measurement, and we ourselves with --on debug."""
    SLURM = auto()
    """A command of Slurm that is asked or told something: squeue, scontrol, ..."""
    JOB = auto()
    """A batch script: what sbatch is called with arrives there."""
    RANK = auto()
    """A process of a job's step."""
    PROGRAM = auto()
    """A user's program, which a worker runs as a trial."""


class Rule(NamedTuple):
    """Variables that do not reach some children."""

    patterns: tuple[str, ...]
    removed: Child
    why: str


# fmt: off
KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT")
"""Which cluster, and who we are there."""
OPTIONS = ("SBATCH_*", "SALLOC_*", "SRUN_*")
TABLE = (
    Rule(OPTIONS, Child.SLURM | Child.JOB,
         "options of Slurm's commands, which would go before the site's: SBATCH_NO_REQUEUE"),
    Rule(("SQUEUE_*", "SACCT_*", "SCANCEL_*", "SCONTROL_*", "SINFO_*", "SPRIO_*", "SSHARE_*"),
         Child.SLURM | Child.JOB, "they change what Slurm's commands print or choose"),
    Rule(("SLURM_*", "SLURMD_*", "SUBMITIT_*", "SWEEPS_DRIVER"), Child.SLURM | Child.JOB,
         "of the job that we are in, whose part a new job would be; options of srun"),
    Rule(("SLURM_NTASKS*", "SLURM_NPROCS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID",
          "SLURM_STEP*", "SLURM_SRUN_*", "SLURM_TASK*", "SLURM_ARRAY_*", "SLURM_RESTART_COUNT",
          "SLURM_JOB_NAME", "SLURM_GTIDS", "SLURM_LAUNCH_*", "SLURM_DISTRIBUTION", "SUBMITIT_*"),
         Child.PROGRAM, "they make a program take itself for a task of Slurm: Lightning would have "
         "the job requeued"),
    Rule(("SWEEPS_LAUNCH", "SWEEPS_PER_GPU"), Child.WORKER | Child.JOB | Child.PROGRAM,
         "of the worker that we are in"),
    Rule(("SWEEPS_SNAPSHOT",), Child.JOB, "of this machine's scratch folder"),
    Rule(("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE",
          "ROLE_*", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_*", "PET_*"),
         Child.WORKER | Child.JOB | Child.RANK | Child.PROGRAM,
         "left over from torchrun: a trial would wait for ranks that do not exist"),
    Rule(("OMPI_COMM_*", "OMPI_UNIVERSE_*", "PMI_*", "PMIX_*", "PMI2_*", "PALS_*",
          "MV2_COMM_*"), Child.WORKER | Child.JOB | Child.PROGRAM,
         "left over from mpirun"),
    Rule(("CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ROCR_VISIBLE_DEVICES",
          "HIP_VISIBLE_DEVICES", "CUDA_MPS_*"), Child.JOB,
         "of this machine's GPUs: a job gets its own from Slurm"),
    Rule(("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_NAMESPACE",
          "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_*", "GIT_CEILING_*", "GIT_PREFIX"),
         Child.WORKER | Child.JOB | Child.RANK,
         "GIT_DIR names another repository than the code's"),
    Rule(("PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONBREAKPOINT"),
         Child.WORKER | Child.JOB | Child.RANK, "for a person at a terminal"),
    Rule(("SHELLOPTS", "BASHOPTS"), Child.SLURM | Child.JOB,
         "bash obeys them: nounset ends a batch script"),
)
# fmt: on
ANSWERS = {"LC_ALL": "C", "SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0"}
"""What Slurm's commands are asked with: English, seconds since 1970, lists of tasks in full."""
NEEDED = ("PYTHONPATH", "SWEEPS_CACHE")
"""What a job needs of ours, also where its site passes nothing on (`export = "NONE"`)."""


def is_removed(name: str, child: Child) -> bool:
    return name not in KEPT and any(
        child & rule.removed and any(fnmatchcase(name, one) for one in rule.patterns)
        for rule in TABLE
    )


def built(child: Child) -> dict[str, str]:
    """What such a child is started with."""
    kept = {name: text for name, text in os.environ.items() if not is_removed(name, child)}
    return kept | (ANSWERS if child is Child.SLURM else {})


def enter(child: Child) -> None:
    """Make this process's own environment one for such a child, for good."""
    for name in list(os.environ):
        if is_removed(name, child):
            del os.environ[name]


@contextlib.contextmanager
def within(child: Child, **changes: str) -> Iterator[None]:
    """The same for a block that starts something through a library, with changes of its own."""
    before = dict(os.environ)
    enter(child)
    try:
        os.environ |= changes
        yield
    finally:
        os.environ |= before


def ignored(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The variables of the shell with which a person may have wanted to tell sbatch something."""
    return sorted(name for name in environment if fnmatchcase(name, "SBATCH_*"))
