"""A task of somebody else's: its identity, its plans, and what is said where it cannot be had."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from results_folder import begin

import sweeps.retry
import sweeps.status
from local_machine import origin
from local_machine.devices import device_here
from local_machine.errors import InputError
from local_machine.json_files import read_json, write_json
from sweeps.cost.estimate import estimate_cost
from sweeps.cost.past_runs import past_runs
from sweeps.execution.trial_order import shape_of
from sweeps.execution.worker import begin_origin
from sweeps.spec import task_loader
from sweeps.spec.backend_name import BackendName
from sweeps.spec.expand import expand
from sweeps.spec.find import find
from sweeps.spec.scale import Scale
from sweeps.spec.sweep import Trial
from sweeps.state.plan import Plan
from sweeps.state.progress import look
from sweeps.state.trial_store import State, TrialStore
from trainer.config import TrainConfig
from trainer.perf.cost_model import TrainerCosts
from trial_records import plan as plan_files
from trial_records import tables, trial_files
from trial_records.config import is_of
from trial_records.plan import FIRST_TASK

ROOT = Path(__file__).parent.parent
TASK = """
from pathlib import Path
from local_machine.errors import InputError
from sweeps import Sweep, grid
from sweeps.task import Objective, Task

FIELDS = {"seed": 0, "lr": 0.1, "steps": 10, "net": {"width": 8}}

class Plain(Task):
    name = NAME
    reference = f"{Path(__file__).resolve()}:task"
    objective = Objective("loss", "minimize")
    budget, seed = "steps", "seed"
    presets = {"smoke": {"steps": 2}}

    def parse(self, values, where="configuration"):
        for key in values:
            if key not in FIELDS:
                raise InputError(f"{where}: unknown field {key!r}", "leave it out")
        return dict(values)

    def values(self, config):
        return config

    def override(self, config, changes):
        return self.parse({**config, **changes}, "override")

    def train(self, config, run):
        return None

task = Plain()
sweep = Sweep(base=FIELDS, space=grid({"lr": [0.1, 0.01]}), seeds=2, task=task)
"""


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test is a process of its own, as far as loaded tasks go."""
    monkeypatch.setattr(task_loader, "_tried", {})
    yield


def written(tmp_path: Path, name: str = "plain") -> Path:
    file = tmp_path / "mine.py"
    file.write_text(TASK.replace("NAME", repr(name)))
    return file


def planned(tmp_path: Path, file: Path) -> tuple[TrialStore, Plan]:
    _, sweep = find(str(file))
    store = TrialStore(tmp_path / "results", "mine")
    trials = expand(sweep)
    plan = Plan("mine", trials, "full", {}, ["lr"], "command", task=trials[0].task)
    store.write_plan(plan)
    task_loader._tried.clear()
    return store, plan


def test_the_trainers_trials_are_its_values_and_any_others_the_task_too(tmp_path: Path) -> None:
    _, grid = find("grid_bs_epoch")
    assert expand(grid)[0].fingerprint.startswith("0a71f8926eea9405c7ceee08")
    assert FIRST_TASK.content({"a": 1}) == {"a": 1}
    _, sweep = find(str(written(tmp_path)))
    trial = expand(sweep)[0]
    whole = {"task": "plain", "values": {"seed": 0, "lr": 0.1, "steps": 10, "net": {"width": 8}}}
    canonical = json.dumps(whole, sort_keys=True, separators=(",", ":"))
    assert trial.fingerprint == hashlib.sha256(canonical.encode()).hexdigest()
    assert json.loads(trial.to_json()) == whole and is_of(whole, trial.fingerprint)
    assert trial.name == f"lr0.1-seed0-{trial.fingerprint[:8]}"
    # The same values, another task: another trial.
    (tmp_path / "other").mkdir()
    _, other = find(str(written(tmp_path / "other", "other")))
    assert {one.values["lr"]: one.fingerprint for one in expand(other)} != {
        one.values["lr"]: one.fingerprint for one in expand(sweep)
    }


def test_a_plan_says_whose_its_trials_are(tmp_path: Path) -> None:
    file = written(tmp_path)
    store, plan = planned(tmp_path, file)
    (path,) = plan_files.paths(store.folder)
    stored = read_json(path)
    assert stored["schema_version"] == 2
    assert stored["task"] == {
        "name": "plain", "reference": f"{file}:task", "budget": "steps", "seed": "seed",
        "config": None, "metric": "loss", "direction": "minimize", "reduction": "best",
    }  # fmt: skip
    (read,) = TrialStore(tmp_path / "results", "mine").plans()
    assert read == plan and read.trials[0].epochs == 10 and stored["seeds"] == [0, 1]
    # It is checked by its fingerprints where it has no seal; and without its task not at all.
    write_json(path, stored)
    assert TrialStore(tmp_path / "results", "mine").plans()[0].trials == plan.trials
    del stored["task"]
    write_json(path, stored)
    with pytest.raises(InputError, match="does not say whose trials"):
        TrialStore(tmp_path / "results", "mine").plans()


def test_a_worker_imports_what_the_plan_names(tmp_path: Path) -> None:
    store, _ = planned(tmp_path, written(tmp_path))
    code = f"""
from pathlib import Path
from sweeps.state.trial_store import TrialStore
trial = TrialStore(Path({str(store.folder.parent)!r}), "mine").plans()[0].trials[0]
print(trial.config["steps"], sorted(__import__("sys").modules.keys() & {{"torch", "trainer"}}))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "10 []\n", done.stderr


def test_an_attempt_is_by_the_code_of_its_task(tmp_path: Path) -> None:
    file = written(tmp_path)
    _, sweep = find(str(file))
    trial = expand(sweep)[0]
    try:
        begin_origin(trial, tmp_path)
        text = file.read_bytes()
        digest = hashlib.sha256(f"mine.py\0{len(text)}\0".encode() + text).hexdigest()
        told = origin.attempt()
        assert told["code_sha256"] == digest and told["git_commit"] is None
        begin_origin(Trial.of("", {}, TrainConfig()), tmp_path)
        assert origin.attempt()["code_sha256"] == origin.hash_of(ROOT / "trainer")
    finally:
        origin.begin()


def test_a_dry_run_asks_a_process_of_its_own(tmp_path: Path) -> None:
    file = written(tmp_path)
    words = [sys.executable, "-m", "sweeps.launch", str(file), "--dry-run", "--on", "local",
             "--results", str(tmp_path / "results"), "--scale", "smoke"]  # fmt: skip
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "0/2" in done.stdout, done.stderr
    # Where the definition alone makes it so, no worker could.
    text = file.read_text().replace(
        "task = Plain()", "task = Plain()\ntask.reference = 'nowhere:task'"
    )
    file.write_text(text)
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "no worker could run these trials: the task 'plain' cannot be imported" in done.stderr
    assert "help: install what has the module nowhere" in done.stderr
    assert not (tmp_path / "results").exists()


def test_records_are_read_where_the_task_is_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path)
    store, plan = planned(tmp_path, file)
    file.unlink()
    failed = store.folder / plan.trials[0].name
    failed.mkdir()
    trial_files.Failure("ERROR", "x", "", [], 1, 0.0, "host").write(failed)
    with pytest.raises(SystemExit) as end:
        sweeps.status.app(["mine", "--results", str(tmp_path / "results")])
    assert end.value.code in (0, 1) and failed.name in capsys.readouterr().out
    assert store.standing(plan.trials[0]).state is State.FAILED
    with pytest.raises(SystemExit) as end:
        sweeps.retry.app(["mine", "--results", str(tmp_path / "results"), "--on", "debug"])
    said = capsys.readouterr().err
    assert f"{failed.name}: the task 'plain' is in {file}, which is not there" in said
    assert "put the file back" in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("reference", "what"),
    [
        ("nowhere_at_all:task", "cannot be imported from nowhere_at_all"),
        ("json:dumps", "json:dumps is a function, not a task"),
        ("json", "is named by 'json'"),
        ("trainer.task:task", "trainer.task:task is the task 'trainer' now, and was 'mine'"),
    ],
)
def test_a_task_that_cannot_be_had_is_named(reference: str, what: str) -> None:
    planned = plan_files.PlannedTask(name="mine", reference=reference)
    with pytest.raises(InputError, match="'mine'") as error:
        task_loader.load(planned)
    assert what in error.value.what and error.value.help


def test_two_tasks_of_one_name(tmp_path: Path) -> None:
    store, _ = planned(tmp_path, written(tmp_path))
    other = tmp_path / "other"
    other.mkdir()
    file = written(other)
    _, same = find(str(file))
    store.check_task(expand(same)[0].task)  # a copy
    task_loader._tried.clear()
    file.write_text(file.read_text() + "\n# another\n")
    _, changed = find(str(file))
    with pytest.raises(InputError, match="two tasks are called 'plain'") as error:
        store.check_task(expand(changed)[0].task)
    assert str(file) in error.value.what and str(tmp_path / "mine.py") in error.value.what
    task_loader._tried.clear()
    with pytest.raises(InputError, match="two tasks are called 'trainer'"):
        find(str(written(tmp_path, FIRST_TASK.name)))


def test_a_scale_that_a_task_does_not_say(tmp_path: Path) -> None:
    _, sweep = find(str(written(tmp_path)))
    assert {one.epochs for one in expand(sweep, scale=Scale.SMOKE)} == {2}
    with pytest.raises(InputError, match="--scale cpu: plain does not say"):
        expand(sweep, scale=Scale.CPU)


def test_past_runs_alike_in_all_but_the_seed_tell_the_cost(tmp_path: Path) -> None:
    store, plan = planned(tmp_path, written(tmp_path))
    results = store.folder.parent

    def hours() -> tuple[list[float | None], list[str | None]]:
        found = estimate_cost(results, look(store, plan.trials, {}), BackendName.DEBUG)
        return found.hours, found.sources

    assert hours() == ([None] * 4, [None] * 4)
    first = plan.trials[0]
    folder = store.folder / first.name
    folder.mkdir()
    (folder / trial_files.CONFIG).write_text(first.to_json())
    row = dict.fromkeys(tables.run_schema().names) | {
        "fingerprint": first.fingerprint, "status": "done", "device": device_here(1),
        "world_size": 1, "seconds": 7200.0, "epochs_run": 20,
    }  # fmt: skip
    tables.write_table(folder / trial_files.RUN, [row], tables.run_schema())
    found, sources = hours()
    assert found[1:] == pytest.approx([1.0, 1.0, 1.0])
    assert sources[1:] == ["runs alike", "runs of the task", "runs of the task"]
    assert shape_of(first) == shape_of(plan.trials[1]) != shape_of(plan.trials[2])


@pytest.mark.long
def test_finished_trials_are_shown_reported_and_compacted_without_their_task(
    tmp_path: Path,
) -> None:
    file = written(tmp_path)
    store, plan = planned(tmp_path, file)
    for number, trial in enumerate(plan.trials):
        folder = store.folder / trial.name
        begin(folder, number)
        (folder / trial_files.CONFIG).write_text(trial.to_json())
        row = dict.fromkeys(tables.run_schema().names) | {
            "fingerprint": trial.fingerprint, "status": "done", "val_accuracy": 0.5,
            "test_accuracy": 0.5, "val_images": 100, "test_images": 100, "epochs_run": 3,
            "best_epoch": 1, "classes": "a,b",
        }  # fmt: skip
        tables.write_table(folder / trial_files.RUN, [row], tables.run_schema())
    file.unlink()

    def said(*words: str) -> str:
        command = [sys.executable, "-m", *words, "--results", str(store.folder.parent)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    assert "4 done" in said("sweeps.status", "mine")
    assert "drawing 4 trials" in said("analysis.report", "mine", "--out", str(tmp_path / "report"))
    assert "4 of them new" in said("sweeps.compact", "mine")
    assert "4 done; 0 to run" in said("sweeps.retry", "mine", "--on", "local")


def test_a_finished_run_of_another_task_tells_the_trainer_nothing(tmp_path: Path) -> None:
    test_past_runs_alike_in_all_but_the_seed_tell_the_cost(tmp_path)
    assert past_runs(tmp_path / "results", TrainerCosts()) == []
    assert FIRST_TASK.reference == TrainConfig.TASK
