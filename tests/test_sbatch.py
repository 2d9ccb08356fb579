"""The sbatch scripts: as text, and on a real Slurm as they stand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from drill import DEFINITION, ROOT, held, running, wait_for
from outcome import still_held
from test_study import definition

from slurm.dev_cluster.cluster import Cluster
from slurm.queue import Queue
from sweeps.state.liveness import Liveness
from sweeps.state.trial_store import TrialStore
from trial_records import trial_files

SCRIPTS = sorted((ROOT / "slurm").glob("*.sbatch"))
TINY = DEFINITION.replace('"epochs": 14', '"epochs": 2').replace("LR", "[0.02, 0.05, 0.1]")


def test_all_are_there() -> None:
    names = ["report.sbatch", "search.sbatch", "study.sbatch", "sweep.sbatch"]
    assert [path.name for path in SCRIPTS] == names


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_bash_can_parse_it(script: Path) -> None:
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("chosen", [{}, {"SWEEPS_PYTHON": "/nowhere/python"}], ids=["", "chosen"])
def test_without_an_environment_it_says_so(
    script: Path, chosen: dict[str, str], tmp_path: Path
) -> None:
    done = submitted(script, tmp_path, {"PATH": "/usr/bin:/bin", **chosen})
    assert done.returncode == 2
    error, advice = done.stderr.splitlines()
    tried = chosen.get("SWEEPS_PYTHON", "python python3 .venv/bin/python")
    assert error == f"error: none of these has the package sweeps and what it needs: {tried}"
    assert advice.startswith("help: activate its environment")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("place", ["path", "chosen", "folder"])
def test_it_runs_the_interpreter_that_submits(script: Path, place: str, tmp_path: Path) -> None:
    """The one on the PATH goes before the folder's own, and a named one before both."""
    bins = {name: tmp_path / name for name in ("path", "chosen", ".venv/bin")}
    for name, folder in bins.items():
        folder.mkdir(parents=True)
        program(folder / "python", f'[[ $1 == -c ]] || echo "{name} runs $*"')
        program(folder / "srun", 'while [[ $1 == --* ]]; do shift; done; exec "$@"')
    given = {"PATH": f"{bins['path']}:/usr/bin:/bin"}
    if place == "chosen":
        given["SWEEPS_PYTHON"] = str(bins["chosen"] / "python")
    elif place == "folder":
        (bins["path"] / "python").unlink()
    done = submitted(script, tmp_path, given)
    who = {"folder": ".venv/bin"}.get(place, place)
    module = {"sweep": "sweeps.execution.slurm_job", "report": "analysis.report"}.get(
        script.stem, f"sweeps.{script.stem}"
    )
    assert done.stdout.startswith(f"{who} runs -m {module} grid"), done.stderr


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


def submitted(
    script: Path, folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """The script as a job runs it that was sent from the folder."""
    environment = {"SLURM_SUBMIT_DIR": str(folder), "SLURM_JOB_ID": "1", **environment}
    return subprocess.run(
        ["bash", str(script), "grid"], capture_output=True, text=True, env=environment
    )


def test_the_worker_wants_a_job() -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM")}
    done = subprocess.run(
        [sys.executable, "-m", "sweeps.execution.slurm_job", "grid_bs_epoch"],
        capture_output=True, text=True, cwd=ROOT, env=environment,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "sbatch slurm/sweep.sbatch grid_bs_epoch" in done.stderr


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    # Cores for one worker: the second task of an array starts when the first has ended.
    with running(tmp_path_factory.mktemp("sb"), nodes=1) as one:
        yield one


@dataclass
class Project:
    """A checkout, seen through links, that has its own .venv; jobs are sent from it."""

    folder: Path

    def __post_init__(self) -> None:
        for name in ("local_machine", "trial_records", "slurm", "sweeps", "trainer", "analysis"):
            (self.folder / name).symlink_to(ROOT / name)
        python = self.folder / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/bash\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        self.results = self.folder / "results"

    def sbatch(self, *words: str) -> str:
        """The job's id."""
        done = subprocess.run(
            ["sbatch", "--parsable", *words], capture_output=True, text=True, cwd=self.folder
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def said(self, job: str) -> str:
        return "".join(path.read_text() for path in sorted(self.folder.glob(f"slurm-{job}*.out")))

    def runs(self) -> int:
        return len(list(self.results.rglob(trial_files.RUN)))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.mark.slurm
@pytest.mark.timeout(300)
def test_an_array_of_workers_and_then_the_report(cluster: Cluster, project: Project) -> None:
    """A trial can fail only once in an array, though each task begins at another time."""
    # A loss that is soon no number.
    (project.folder / "tiny.py").write_text(TINY.replace("0.02", "1e30"))
    array = project.sbatch("--array=0-1", "slurm/sweep.sbatch", "tiny.py")
    report = project.sbatch(f"--dependency=afterany:{array}", "slurm/report.sbatch")
    wait_for(lambda: not cluster.command("squeue", "--noheader"), 200)
    assert project.runs() == 2, project.said(array)
    (failed,) = project.results.rglob(trial_files.FAILURE)
    failure = trial_files.Failure.read(failed.parent)
    assert failure is not None
    assert failure.attempt == 1
    assert not still_held(project.results)
    assert "error" not in project.said(array)
    for trial in ("lr0.05", "lr0.1"):
        done = subprocess.run(
            [sys.executable, "-m", "sweeps.logs", "tiny", trial, "--results", str(project.results)],
            capture_output=True, text=True, cwd=ROOT,
        )  # fmt: skip
        assert "epoch 2/2" in done.stdout, done.stderr
        assert "done: validation" in done.stdout
    assert "results/report/report.html" in project.said(report)
    assert (project.results / "report" / "report.html").exists()


@pytest.mark.slurm
@pytest.mark.timeout(300)
def test_a_cancelled_array_stays_cancelled_and_a_warned_one_comes_back(
    cluster: Cluster, project: Project
) -> None:
    """Both get a signal; to requeue oneself at each would undo the scancel."""

    def start() -> str:
        return project.sbatch("--array=0", "slurm/sweep.sbatch", "long.py")

    def shows(job: str) -> str:
        columns = "--Format=State,RestartCnt"
        return cluster.command("squeue", "--noheader", columns, f"--jobs={job}", check=False)

    long = TINY.replace('"epochs": 2', '"epochs": 20').replace("[0.02, 0.05, 0.1]", "[0.05]")
    (project.folder / "long.py").write_text(long)
    store = TrialStore(project.results, "long", Liveness(Queue(min_seconds=0.2)))
    logs = project.results / "long" / "logs"
    cancelled = start()
    with held(store, 1):
        assert [job.id for job in store.liveness.workers(logs)] == [f"{cancelled}_0"]
        cluster.command("scancel", cancelled)
        wait_for(lambda: not shows(cancelled).strip(), 60)
    assert project.runs() == 0
    assert not still_held(project.results)
    warned = start()
    with held(store, 2):
        cluster.command("scancel", "--signal=USR2", f"{warned}_0")
    wait_for(lambda: shows(warned).split()[1:] == ["1"], 60)
    wait_for(lambda: not shows(warned).strip(), 100)
    assert project.runs() == 1, project.said(warned)


@pytest.mark.slurm
@pytest.mark.timeout(400)
def test_a_study_whose_driver_is_a_job_that_comes_back(cluster: Cluster, project: Project) -> None:
    """Warned as before its time is up, it is requeued, and goes on to the report."""
    definition(project.folder)
    job = project.sbatch(
        "--mem=1G", "slurm/study.sbatch", "tiny.py", "--site", "dev_cluster", "--workers", "1"
    )
    wait_for(lambda: project.runs() > 0, 120)
    cluster.command("scancel", "--batch", "--signal=USR1", job)
    shows = ["scontrol", "show", "job", job]
    wait_for(lambda: "Restarts=1" in cluster.command(*shows, check=False), 120)
    wait_for(lambda: "COMPLETED" in cluster.command(*shows), 240)
    said = project.said(job)
    assert "the jobs go on" in said
    assert "results/tiny/report/report.html" in said
    assert (project.results / "tiny" / "report" / "report.html").exists()
    stages = json.loads((project.results / "tiny" / "choices.json").read_text())["stages"]
    assert [one["stage"] for one in stages] == ["sizes", "decay"]
    # Two sizes, two decays, and the last stage alone.
    assert project.runs() == 5
    assert not still_held(project.results)


@pytest.mark.slurm
def test_what_is_wrong_stands_in_the_jobs_output(cluster: Cluster, project: Project) -> None:
    job = project.sbatch("--array=0", "slurm/sweep.sbatch", "grid_bs_epok", "--results", "a b")
    wait_for(lambda: not cluster.command("squeue", "--noheader", f"--jobs={job}", check=False))
    assert "error: no sweep is called 'grid_bs_epok'" in project.said(job)
    assert "help: did you mean 'grid_bs_epoch'" in project.said(job)
    assert not (project.folder / "a b").exists()
