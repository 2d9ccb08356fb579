"""Several trials on one device at once: what one dies of is nothing to the others, and its hours
are counted once."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from drill import Drill, Whole, empty
from hypothesis import given, settings
from hypothesis import strategies as st
from outcome import assert_one_at_a_time, attempts, outcome
from results_folder import finish as write_run
from results_folder import name_of, write_plan
from test_cost_estimate import SMALL, finish, progress

import sweeps.launch
import sweeps.search.__main__
from analysis.cifar10.task import load
from analysis.sections import cost
from analysis.stats import summary_tables
from local_machine import processes
from local_machine.devices import cores_here
from local_machine.errors import InputError, run_command
from slurm.dev_cluster.cluster import Cluster
from slurm.job_state import Job, JobState
from slurm.queue import Queue
from slurm.site import Site
from sweeps.cost.past_runs import past_runs
from sweeps.cost.tally import tally
from sweeps.execution.backends.local import environment
from sweeps.execution.gpu import mps, sharing
from sweeps.execution.process_group import ProcessGroup
from sweeps.execution.slurm_job import STOPPED
from sweeps.spec.sweep import Trial
from sweeps.state.lease import WORKER, Lease
from sweeps.state.liveness import Liveness
from sweeps.state.trial_store import State, TrialStore
from trainer.config import TrainConfig
from trainer.perf.cost_model import TrainerCosts
from trainer.perf.device import device_share
from trial_records import tables, trial_files, values

ROOT = Path(__file__).parent.parent
DEFINITION = """
from sweeps import Sweep, zipped
from trainer.recipes import reported

base = reported("resnet18").override({
    "data.name": "digits", "data.train_limit": 400, "data.test_limit": 100, "model.width": 0.125,
    "epochs": 2, "batch_size": 64, "precision": "fp32", "optimizer.lr": 0.05,
})
sweep = Sweep(base=base, space=zipped(POINTS))
"""
LIMIT_BYTES = 13 * 2**29
# Beside the trial that is compared, always the same one: one of more memory than there is, whose
# maps are large before much is computed, and one that diverges.
NEIGHBOURS = {
    "OUT_OF_MEMORY": {
        "model.name": ["resnet18", "wrn_10_8"],
        "model.width": [0.125, 4.0],
        "batch_size": [64, 1024],
        "data.train_limit": [400, 1300],
    },
    "NONFINITE": {"optimizer.lr": [0.05, 1e30]},
}


def trial_of(config: TrainConfig) -> Trial:
    return Trial.of("", {}, config)


def launch(definition: Path, *words: str) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))

    where = ("--on", "local", "--results", str(definition.parent / definition.stem))
    return subprocess.run(
        [sys.executable, "-m", "sweeps.launch", str(definition), *where, *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        timeout=150,
        preexec_fn=limit,
    )


def by_content(results: Path) -> Whole:
    """Each trial's outcome by its fingerprint; of its predictions the values, since the file has
    the names of its sweep and its trial too."""
    found: Whole = {}
    for name, (epochs, _, weights) in outcome(results).items():
        (run,) = results.rglob(f"{name}/{trial_files.RUN}")
        predictions = tables.read_predictions(run.parent)
        digest = values.digest(predictions, predictions.column_names)
        found[name[-8:]] = (epochs, digest, weights)
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """What the first trial of either pair comes to by itself."""
    definition = tmp_path_factory.mktemp("alone") / "alone.py"
    definition.write_text(DEFINITION.replace("POINTS", repr({"optimizer.lr": [0.05]})))
    assert launch(definition).returncode == 0
    return by_content(definition.with_suffix(""))


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("cause", NEIGHBOURS)
def test_a_neighbour_that_fails_changes_no_bit(tmp_path: Path, cause: str, alone: Whole) -> None:
    both = tmp_path / "both.py"
    both.write_text(DEFINITION.replace("POINTS", repr(NEIGHBOURS[cause])))
    done = launch(both, "--per-gpu", "2")
    assert done.returncode == 1, done.stderr
    failures = list((tmp_path / "both").rglob(trial_files.FAILURE))
    assert [trial_files.Failure.read(path.parent).cause for path in failures] == [cause]  # type: ignore[union-attr]
    logs = list((tmp_path / "both" / "both" / "logs").glob("*.log"))
    assert len(logs) == 2
    spans = [spans[0] for spans in attempts(logs).values()]
    assert max(begun for begun, _ in spans) <= min(end for _, end in spans), "not at once"
    assert by_content(tmp_path / "both") == alone != {}


# How many


@settings(deadline=None)
@given(st.none() | st.integers(1, 24), st.none() | st.integers(1, 4), st.integers(0, 4))
def test_so_many_at_once(workers: int | None, per_gpu: int | None, gpus: int) -> None:
    names = ",".join(str(number) for number in range(gpus))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", names)
        patch.delenv("OMP_NUM_THREADS", raising=False)
        found = sharing.at_once(workers, per_gpu)
        places = [environment(slot, found) for slot in range(found)]
    assert found == (workers or found) or found < (workers or 0)
    if per_gpu is not None:
        assert found <= per_gpu * (gpus or 1)
    if workers is None:
        assert found == (per_gpu or 1) * (gpus or 1)
    threads = [int(place["OMP_NUM_THREADS"]) for place in places]
    assert sum(threads) <= max(cores_here(), found)
    # Each is told the truth of how many are on its GPU.
    on = [place["CUDA_VISIBLE_DEVICES"] for place in places]
    for place in places:
        if gpus:
            assert int(place[trial_files.PER_GPU]) == on.count(place["CUDA_VISIBLE_DEVICES"])
        else:
            assert trial_files.PER_GPU not in place


@pytest.mark.parametrize("word", ["0", "-1", "49", "2.5", "", "all"])
def test_a_bad_word_for_how_many(word: str) -> None:
    with pytest.raises(InputError, match="--per-gpu") as caught:
        sharing.parse(word)
    assert (caught.value.exit_code, "auto" in caught.value.help) == (2, True)


def test_auto_without_a_gpu_goes_by_cores(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert sharing.settled("auto", [trial_of(SMALL)]) == max(1, cores_here() // 2)
    assert "no GPU" in capsys.readouterr().err
    assert sharing.settled(3, []) == 3
    assert sharing.settled(None, []) is None


@pytest.mark.parametrize(
    ("paces", "used", "best"),
    [
        ([100.0, 150.0, 160.0, 400.0], 0.1, 2),  # the third adds less than a tenth
        ([100.0, 200.0, 300.0, 400.0], 0.3, 3),  # a fourth would not fit
        ([100.0, 90.0], 0.1, 1),
        ([100.0, 200.0, None], 0.1, 2),  # the third does not start
        ([None], 0.1, 1),
    ],
)
def test_auto_adds_workers_while_that_pays_and_fits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, paces: list[float | None], used: float,
    best: int,
) -> None:  # fmt: skip
    def measured(_: Any, copies: int, __: Any) -> list[dict[str, float]] | None:
        pace = paces[copies - 1]
        one = {"used_bytes": used * copies, "total_bytes": 1.0}
        return None if pace is None else [one | {"images_per_second": pace / copies}] * copies

    monkeypatch.setenv("SWEEPS_CACHE", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(sharing, "_paces", measured)
    assert sharing.settled("auto", [trial_of(SMALL)]) == best
    monkeypatch.setattr(sharing, "_paces", None)  # it is known now
    assert sharing.settled("auto", [trial_of(SMALL)]) == best


@pytest.mark.long
@pytest.mark.timeout(120)
def test_two_copies_say_their_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    config = SMALL.override({"data.name": "digits", "data.train_limit": 200, "batch_size": 16})
    found = sharing._paces(trial_of(config), 2, [""])
    assert found is not None
    assert len(found) == 2
    assert all(one["images_per_second"] > 0 for one in found)


def test_the_largest_shape_is_measured() -> None:
    larger = SMALL.override({"batch_size": 1024})
    wider = SMALL.override({"model.width": 2.0})
    for configs, largest in (([SMALL, larger], larger), ([SMALL, wider, SMALL], wider)):
        _, trial = sharing._largest(map(trial_of, configs))
        assert trial.config == largest


# What the records say


@pytest.mark.parametrize(("device", "found"), [("cuda", 0.25), ("cpu", 1.0)])
def test_a_run_says_what_part_of_the_device_it_had(
    monkeypatch: pytest.MonkeyPatch, device: str, found: float
) -> None:
    monkeypatch.setenv(trial_files.PER_GPU, "4")
    assert device_share(torch.device(device)) == found
    monkeypatch.delenv(trial_files.PER_GPU)
    assert device_share(torch.device(device)) == 1.0


def test_hours_are_counted_once(tmp_path: Path) -> None:
    """Two trials that shared a GPU for an hour took one, by price, status and report."""
    configs = [SMALL.override({"seed": seed}) for seed in (1, 2)]
    more = {"device": "NVIDIA H100", "device_share": 0.5, "world_size": 1, "seconds": 3600.0}
    for config in configs:
        finish(tmp_path / "price", config, 100.0, **more)
    assert {run.seconds_per_image for run in past_runs(tmp_path / "price", TrainerCosts())} == {
        1 / 200
    }

    names = [f"t-{config.fingerprint[:8]}" for config in configs]
    for name, config in zip(names, configs, strict=True):
        folder = tmp_path / "status" / "new" / name
        folder.mkdir(parents=True)
        rows = [
            dict.fromkeys(tables.EPOCHS_SCHEMA.names, 0.5) | {"epoch": n, "seconds": 360.0}
            for n in range(10)
        ]
        tables.write_table(folder / trial_files.EPOCHS, rows, tables.EPOCHS_SCHEMA)
        row = dict.fromkeys(tables.run_schema().names) | config.flat() | more
        row |= {"fingerprint": config.fingerprint, "status": "done"}
        tables.write_table(folder / trial_files.RUN, [row], tables.run_schema())
    spent, _ = tally(progress(tmp_path / "status", configs))
    assert spent == pytest.approx(1.0)
    assert tally(progress(tmp_path / "status", configs[:1]))[0] == pytest.approx(0.5)

    for config in configs:
        write_run(tmp_path / "report" / "grid" / name_of(config), config, **more)
    write_plan(tmp_path / "report", [({"seed": one.seed}, one) for one in configs])
    study = load(tmp_path / "report", [])
    assert cost.spent(study.trials)["GPU-hours"].tolist() == [1.0]
    assert summary_tables.cells(study.plans[0].runs)["minutes"].mean() == pytest.approx(30.0)


def test_a_run_from_before_had_its_device_alone(tmp_path: Path) -> None:
    path = finish(tmp_path / "price", SMALL, 100.0)
    older = tables.read_table(path).drop_columns(["device_share"])
    schema = pa.schema(
        [field for field in tables.run_schema() if field.name != "device_share"],
        metadata=tables.run_schema().metadata,
    )
    tables.write_table(path, older, schema)
    assert [run.seconds_per_image for run in past_runs(tmp_path / "price", TrainerCosts())] == [
        1 / 100
    ]
    write_run(tmp_path / "report" / "grid" / name_of(SMALL), SMALL, device="NVIDIA H100")
    path = tmp_path / "report" / "grid" / name_of(SMALL) / trial_files.RUN
    tables.write_table(path, tables.read_table(path).drop_columns(["device_share"]), schema)
    write_plan(tmp_path / "report", [({}, SMALL)])
    study = load(tmp_path / "report", [])
    assert study.problems == []
    assert summary_tables.device_seconds(study.trials).tolist() == [pytest.approx(12.34)]


# Workers in a job


def _die_once(folder: str, number: int) -> None:
    """The first start of number 1 is killed; the others leave a file each."""
    mark = Path(folder) / f"{number}"
    if number == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    (Path(folder) / f"{number}-done").touch()


def _wait(_: int) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED))
    signal.pause()


class _Work:
    """A partial of a test module's function, which a spawned process can find."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __call__(self, number: int) -> None:
        _die_once(self.folder, number)


@pytest.mark.long
def test_a_worker_that_is_killed_is_replaced(tmp_path: Path) -> None:
    assert ProcessGroup(_Work(tmp_path), 2, replacements=1).run(lambda: False) == [0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "1-done", "2-done"]


@pytest.mark.long
def test_one_that_is_killed_again_and_again_is_given_up(tmp_path: Path) -> None:
    assert sorted(ProcessGroup(_Work(tmp_path), 2, replacements=0).run(lambda: False)) == [-9, 0]


def test_a_stop_reaches_all() -> None:
    codes = ProcessGroup(_wait, 2, replacements=9).run(lambda: True)
    # A process that is stopped before it listens dies of the signal.
    assert len(codes) == 2
    assert set(codes) <= {STOPPED, -signal.SIGTERM}


class _Living(Queue):
    """A Slurm in which job 7 runs."""

    def jobs(self, ids: Any) -> dict[str, Job | None]:
        return dict.fromkeys(ids, Job("7", JobState.RUNNING, f"{WORKER}{'0' * 12}", restarts=0))


def test_a_worker_that_died_alone_blocks_no_trial_of_its_living_job(tmp_path: Path) -> None:
    trial = Trial.of("t", {}, SMALL)
    job = {"submission": f"{WORKER}{'0' * 12}", "job": "7", "started": True}
    store = TrialStore(tmp_path, "sweep", Liveness(_Living()))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        started = processes.started(other.pid)
        assert started
        its = {"pid": other.pid, "process_started": started}
        held = store.lease(trial, 1.0, "log", **job, **its)
        assert held is not None
        assert store.standing(trial).state is State.RUNNING
        assert store.lease(trial, 1.0, "log", **job) is None
        other.kill()
    assert store.standing(trial).state is State.LOST
    # On another node nobody can tell, nor for a job that is one trial's, of several processes.
    for word in ({"host": "elsewhere"}, {"boot": "another/pid:[1]"}, {"submission": "0" * 12}):
        assert Liveness(_Living()).is_alive(Lease(**vars(held) | word), store.folder_of(trial))
    taken = store.lease(trial, 1.0, "log", **job)
    assert taken is not None
    assert (taken.attempt, taken.deaths) == (2, 1)


# MPS


def fake_control(folder: Path, code: int, patch: pytest.MonkeyPatch) -> Path:
    """A control program in NVIDIA's place that notes what it is told."""
    said = folder / "said"
    program = folder / mps.CONTROL
    program.write_text(
        f'#!/bin/bash\necho "${{1:-$(cat)}} $CUDA_VISIBLE_DEVICES" >> {said}\nexit {code}\n'
    )
    program.chmod(0o755)
    patch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    patch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1")
    patch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    return said


def test_the_daemon_is_there_for_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = fake_control(tmp_path, 0, monkeypatch)
    monkeypatch.setattr(mps, "_CLIENT", "")
    with mps.running():
        pipe = Path(os.environ["CUDA_MPS_PIPE_DIRECTORY"])
        assert pipe.is_dir()
        assert said.read_text() == "-d GPU-1\n"
    assert said.read_text() == "-d GPU-1\nquit GPU-1\n"
    assert not pipe.parent.exists()
    assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("trouble", ["daemon", "client"])
def test_a_daemon_that_does_not_start_is_said_once_and_gone_without(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    trouble: str,
) -> None:
    fake_control(tmp_path, int(trouble == "daemon"), monkeypatch)
    monkeypatch.setattr(mps, "_CLIENT", "raise SystemExit(1)")
    with mps.running():
        assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-1"
    assert capsys.readouterr().err.count("warning: no MPS") == 1


def test_without_the_program_only_a_site_that_wants_it_hears_of_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    for required in (False, True):
        with mps.running(required=required):
            assert ("not on PATH" in capsys.readouterr().err) is required


def test_a_search_does_not_share_on_slurm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("slurm.commands.available", lambda: True)
    results = ("--results", str(tmp_path), "--on", "slurm")
    for module, name, words in (
        (sweeps.search.__main__, "weight_decay", ("--per-gpu", "2")),
        (sweeps.launch, "grid_bs_epoch", ("--per-gpu", "auto")),
    ):
        with pytest.raises(SystemExit) as end:
            run_command(module.app, [name, *results, *words])
        assert end.value.code == 2
        assert "--per-gpu" in capsys.readouterr().err
    assert Site().mps is False


# On a real Slurm

PAIR = ("--workers", "2", "--per-gpu", "2")


@pytest.mark.slurm
@pytest.mark.timeout(400)
def test_a_job_runs_two_trials_at_once(cluster: Cluster, three: Drill, whole: Whole) -> None:
    three.launch(*PAIR)
    assert outcome(three.results) == whole
    assert assert_one_at_a_time(three.logs()) == 1
    assert len(jobs_of(three)) == 1
    # One of the three had to wait until another was over; the first two did not.
    spans = sorted(span for of_trial in attempts(three.logs()).values() for span in of_trial)
    assert spans[1][0] < spans[0][1]
    assert spans[2][0] >= min(end for _, end in spans[:2])
    empty(cluster)


@pytest.mark.slurm
@pytest.mark.timeout(400)
def test_a_worker_that_is_killed_in_its_job_costs_no_trial(
    cluster: Cluster, three: Drill, whole: Whole
) -> None:
    three.launch(*PAIR, "--detach")
    with three.held() as lease:
        os.kill(lease.pid, signal.SIGKILL)
    three.ends_as(whole, attempts=2)
    assert len(jobs_of(three)) == 1
    empty(cluster)


def jobs_of(drill: Drill) -> set[str]:
    runs = drill.results.rglob(trial_files.RUN)
    return {tables.read_table(run).to_pylist()[0]["slurm_job_id"] for run in runs}
