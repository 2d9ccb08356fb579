"""What children find in their environment, whatever the shell has in its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from drill import variable
from hypothesis import given
from hypothesis import strategies as st

from slurm import environment
from slurm.environment import KEPT, TABLE, Child
from sweeps.execution.backends.local import start_worker
from sweeps.state.plan import LOGS
from sweeps.state.trial_store import TrialStore
from trainer.recipes import reported
from trial_records import tables, trial_files

ROOT = Path(__file__).parent.parent
TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "nowhere.invalid"}
SBATCH = {"SBATCH_NO_REQUEUE": "1", "SBATCH_TIMELIMIT": "1", "SLURM_JOB_ID": "7"}
PASSED = {"PATH": "/bin", "PYTHONPATH": "p", "LD_LIBRARY_PATH": "l", "SWEEPS_CACHE": "c",
          "HTTPS_PROXY": "h", "CONDA_PREFIX": "c", "OMP_NUM_THREADS": "3", "SLURM_CONF": "s",
          "SSH_AUTH_SOCK": "a", "BASH_FUNC_module%%": "() { :; }"}  # fmt: skip


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in os.environ:
        monkeypatch.delenv(name)
    for name, text in (TORCHRUN | SBATCH | PASSED).items():
        monkeypatch.setenv(name, text)
    return monkeypatch


@pytest.mark.parametrize("child", list(Child))
def test_what_is_passed_reaches_every_child(own: pytest.MonkeyPatch, child: Child) -> None:
    assert PASSED.items() <= environment.built(child).items()


def test_what_is_removed_reaches_none_that_it_would_change(own: pytest.MonkeyPatch) -> None:
    assert not environment.built(Child.WORKER).keys() & TORCHRUN.keys()
    assert not environment.built(Child.JOB).keys() & (TORCHRUN | SBATCH).keys()
    assert not environment.built(Child.SLURM).keys() & SBATCH.keys()
    # In an interactive job, a local worker's record names the job.
    assert environment.built(Child.WORKER)["SLURM_JOB_ID"] == "7"


def test_the_gpus_of_this_machine_are_no_jobs(own: pytest.MonkeyPatch) -> None:
    own.setenv("CUDA_VISIBLE_DEVICES", "")
    assert environment.built(Child.WORKER)["CUDA_VISIBLE_DEVICES"] == ""
    assert "CUDA_VISIBLE_DEVICES" not in environment.built(Child.JOB)


@given(
    pattern=st.sampled_from([(one, rule) for rule in TABLE for one in rule.patterns]),
    rest=st.text("ABC_0", max_size=5),
)
def test_each_row_holds_for_each_of_its_children(
    pattern: tuple[str, environment.Rule], rest: str
) -> None:
    glob, rule = pattern
    name = glob.replace("*", rest)
    for child in Child:
        if child & rule.removed and name not in KEPT:
            assert environment.is_removed(name, child)


def test_the_block_that_sends_jobs_gives_everything_back(own: pytest.MonkeyPatch) -> None:
    before = dict(os.environ)
    with environment.within(Child.JOB):
        assert not os.environ.keys() & SBATCH.keys()
    assert dict(os.environ) == before


@pytest.mark.long
@pytest.mark.parametrize("where", ["local", "debug"])
@pytest.mark.timeout(300)
def test_leftovers_of_torchrun_hold_no_local_trial_up(tmp_path: Path, where: str) -> None:
    small = {"data.name": "digits", "data.train_limit": 100, "data.test_limit": 100, "epochs": 1,
             "model.width": 0.5}  # fmt: skip
    config = tmp_path / "one.json"
    config.write_text(reported("wrn_10_1").override(small).to_json())
    words = [str(config), "--results", str(tmp_path), "--on", where]
    done = subprocess.run(
        [sys.executable, "-m", "sweeps.launch", *words], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | TORCHRUN | {"GIT_DIR": str(tmp_path)}, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (run,) = tmp_path.rglob(trial_files.RUN)
    row = tables.read_table(run).to_pylist()[0]
    assert row["world_size"] == 1
    assert (row["git_commit"] is None) == (not (ROOT / ".git").exists())


def test_a_worker_says_whose_it_is(tmp_path: Path) -> None:
    store = TrialStore(tmp_path, "sweep")
    (store.folder / LOGS).mkdir(parents=True)
    process, _ = start_worker(store, ["--plan", "0"], 12.5, 0, 1, stays=False)
    # While a process becomes another program, for an instant it shows no environment.
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    assert variable(process.pid, "SWEEPS_LAUNCH") == "12.5"
    process.send_signal(signal.SIGCONT)
    process.wait()
