"""How jobs on a real Slurm end before or beside their work, and what a person is told of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from drill import SITE, Drill, variable, wait_for

from slurm.dev_cluster.cluster import Cluster
from sweeps.state import lease as leases
from sweeps.state.trial_store import State
from trial_records import tables, trial_files
from trial_records.rows import checkpoint_of

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(500)]

NO_PYTHON = 'python = "/no/such/python"\n'
NO_SETUP = 'setup = ["source /no/such/environment || exit 7"]\n'


def test_a_job_that_dies_before_python_starts_says_why(drill: Drill, cluster: Cluster) -> None:
    """To the launch, to status and to logs, which find a job's log by its id."""
    site = drill.folder / "here.toml"
    for broken, said in ((NO_PYTHON, "/no/such/python"), (NO_SETUP, "/no/such/environment")):
        site.write_text(broken + SITE)
        launch = drill.launch(code=1)
        (line,) = (line for line in launch.stderr.splitlines() if line.startswith("1 lost: job"))
        assert "FAILED, exit code" in line and said in line and "No such file" in line
        (trial,) = json.loads(drill.command("status", "--json").stdout)["trials"]
        assert trial["state"] == "lost" and said in trial["note"]
        assert said in drill.command("status", "--failures").stdout
        # Those of the launches before are still there.
        logs = drill.command("logs", trial["name"]).stdout
        assert "/no/such/python" in logs and said in logs
    site.write_text(SITE)
    assert "1 done" in drill.launch().stderr


def test_a_launch_of_workers_says_why_none_worked(three: Drill, cluster: Cluster) -> None:
    (three.folder / "here.toml").write_text(NO_PYTHON + SITE)
    launch = three.launch("--workers", "2", code=1)
    assert "2 of 2 jobs of workers ended early" in launch.stderr
    assert "/no/such/python" in launch.stderr


def test_the_surroundings_of_a_launch_change_nothing(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Options of sbatch and leftovers of torchrun in the shell, a site that passes no variable on,
    and paths that Slurm and bash would read as something else."""
    for name in ("SBATCH_NO_REQUEUE", "RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.setenv(name, "3")
    monkeypatch.setenv("SBATCH_TIMELIMIT", "1")
    monkeypatch.setenv("SLURM_EXPORT_ENV", "NONE")
    folder = tmp_path / '100%j it\'s $HOME "x"'
    folder.mkdir()
    python = folder / "my python"
    python.write_text(f'#!/bin/bash\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    site = f'python = {json.dumps(str(python))}\n{SITE}\n[slurm]\nexport = "NONE"\n'
    drill = Drill(folder, site=site)
    launch = drill.launch("--detach")
    assert "SBATCH_NO_REQUEUE" in launch.stderr
    with drill.held() as held:
        job = cluster.command("scontrol", "show", "job", held.job)
        assert "Requeue=1" in job and "TimeLimit=00:30:00" in job
        assert variable(held.pid, "SWEEPS_CACHE")
    wait_for(lambda: drill.standing().state is State.DONE)
    (run,) = drill.results.rglob(trial_files.RUN)
    assert tables.read_table(run)["world_size"].to_pylist() == [1]
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert drill.said()


def test_a_warned_job_that_cannot_be_requeued_hands_its_trial_back(
    drill: Drill, cluster: Cluster
) -> None:
    drill.launch("--detach")
    with drill.held() as held:
        cluster.command("scontrol", "update", f"JobId={held.job}", "Requeue=0")
        cluster.command("scancel", "--signal=USR2", held.job)
    folder = drill.store.folder_of(drill.trials[0])
    wait_for(lambda: leases.read(folder) is None)
    assert drill.standing().state is State.PENDING and checkpoint_of(folder)
    epochs = drill.epochs()
    assert "cannot be requeued" in drill.said() and "Traceback" not in drill.said()
    drill.launch()
    assert drill.standing().state is State.DONE
    # None was trained again.
    assert all(drill.said().count(f" epoch {number + 1}/") == 1 for number in range(epochs))


def test_slurm_is_asked_by_a_dry_run(drill: Drill, cluster: Cluster) -> None:
    """It refuses what the launch would refuse, and sends nothing."""
    assert "#SBATCH" in drill.launch("--dry-run").stdout
    (drill.folder / "here.toml").write_text(SITE.replace('"gpu"', '"nowhere"'))
    assert "invalid partition" in drill.launch("--dry-run", code=3).stderr
    (drill.folder / "here.toml").write_text(SITE)
    for words in (("--workers", "2", "--gpus-per-node", "2"), ("--minutes", "0")):
        launched = drill.launch(*words, code=2).stderr
        assert (
            drill.launch("--dry-run", *words, code=2).stderr.splitlines()[-2:]
            == (launched.splitlines()[-2:])
        )
    assert not drill.results.exists()
    assert not cluster.command("squeue", "--noheader")
