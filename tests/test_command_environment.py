"""What a program is told of its attempt: nothing by which it takes itself for a task of Slurm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.command_task.rank_environment import RankEnvironment, search_path

OF_SLURM = {
    "SLURM_NTASKS": "2", "SLURM_JOB_NAME": "sweep", "SLURM_PROCID": "1", "SLURM_LOCALID": "1",
    "SLURM_NODEID": "0", "SLURM_JOB_ID": "5", "SLURM_NTASKS_PER_NODE": "2", "SLURM_STEP_ID": "0",
    "SLURM_ARRAY_TASK_ID": "3", "SLURM_RESTART_COUNT": "1", "SLURM_CPUS_PER_TASK": "4",
    "SLURM_TMPDIR": "/scratch", "SLURM_JOB_NODELIST": "n1",
}  # fmt: skip
PLACE = RankEnvironment(rank=1, world=2, local_rank=1, nodes=1, node_rank=0)
MEETING = {"master_addr": "127.0.0.1", "master_port": 4711}


@pytest.fixture(autouse=True)
def in_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in OF_SLURM.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("SWEEPS_LAUNCH", "1.0")


def told(*, per_rank: bool) -> dict[str, str]:
    return PLACE.variables(Path("/out"), Path("/r/s/t"), 7, MEETING, per_rank=per_rank)


def test_each_rank_has_the_variables_of_torchrun() -> None:
    found = told(per_rank=True)
    expected = {
        "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "4711",
        "SWEEPS_FOLDER": "/out", "SWEEPS_TRIAL": "t", "SWEEPS_SEED": "7",
        "SWEEPS_DONE": "/out/.done",
    }  # fmt: skip
    assert {name: found.get(name) for name in expected} == expected
    # What it may need of the job, and nothing of its task.
    assert {name for name in found if name.startswith("SLURM_")} & OF_SLURM.keys() == {
        "SLURM_JOB_ID", "SLURM_CPUS_PER_TASK", "SLURM_TMPDIR", "SLURM_JOB_NODELIST",
    }  # fmt: skip
    assert "SWEEPS_LAUNCH" not in found


def test_a_program_that_starts_its_own_ranks_has_none_of_them() -> None:
    assert (
        not {"RANK", "WORLD_SIZE", "MASTER_PORT", "TORCHELASTIC_RUN_ID"}
        & told(per_rank=False).keys()
    )


def test_python_is_the_one_of_an_activated_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/own/bin:/usr/bin")
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    assert search_path() == f"{Path(sys.executable).parent}:/own/bin:/usr/bin"
    monkeypatch.setenv("VIRTUAL_ENV", "/own")
    assert search_path() == "/own/bin:/usr/bin"


LIGHTNING = """
import json, os, sys
import lightning
found = []
for environment in json.loads(sys.stdin.read()):
    os.environ.clear()
    os.environ.update(environment)
    trainer = lightning.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_checkpointing=False
    )
    found.append(type(trainer._accelerator_connector.cluster_environment).__name__)
print(json.dumps(found))
"""


@pytest.mark.long
def test_lightning_does_not_requeue_the_job() -> None:
    """It does so where it takes itself for Slurm's. Each of the two defences is enough."""
    plain = dict(os.environ)
    alone = PLACE.variables(Path("/out"), Path("/r/s/t"), 7, MEETING, per_rank=False)
    ranked = {**told(per_rank=True), "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    both = [plain, alone, ranked, {**ranked, **OF_SLURM}]
    done = subprocess.run(
        [sys.executable, "-c", LIGHTNING], input=json.dumps(both), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [
        "SLURMEnvironment", "LightningEnvironment", "TorchElasticEnvironment",
        "TorchElasticEnvironment",
    ]  # fmt: skip
