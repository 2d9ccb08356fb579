"""The origin of an attempt: the code that its process started with, and no other repository's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from results_folder import finish, folder_of, grid_points, only, write_plan
from results_folder import run as command
from saved_trials import rows_of, save_as_0_1, state_of
from test_train import TINY, Interruption, interrupt_after, row_of

from analysis.cifar10.task import load
from analysis.sections.provenance import provenance as provenance_section
from analysis.stats import outliers, summary_tables
from local_machine import origin
from local_machine.errors import InputError
from sweeps.execution.worker import Worker
from sweeps.spec.expand import expand
from sweeps.spec.grid import grid
from sweeps.spec.sweep import Sweep
from sweeps.state.trial_store import TrialStore
from trainer.alone import train_alone as train
from trainer.provenance import trained_by
from trial_records import tables, trial_files

ROOT = Path(__file__).parent.parent
ATTEMPT = {
    "started_at", "host", "slurm_job_id", "command", "code_sha256", "git_commit", "git_dirty",
    "snapshot_sha256", "packages_sha256",
    "torch_version", "python_version", "device", "precision", "world_size", "from_epoch",
    "from_step",
}  # fmt: skip


def git(folder: Path, *words: str) -> str:
    """As a user's git: without what the shell that runs the tests may have set."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    author = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "safe.directory=*"]
    return subprocess.run(
        ["git", "-C", str(folder), *author, *words],
        env=environment, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip


def repository(folder: Path) -> Path:
    """A checkout of a package named trainer, with one commit."""
    package = folder / "trainer"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return package


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return repository(tmp_path / "mine")


def test_a_clean_checkout_and_what_makes_it_dirty(package: Path) -> None:
    commit = git(package, "rev-parse", "HEAD")
    assert origin.checkout(package) == (commit, False)
    # What does not run a trial does not count, nor does what Python leaves.
    (package.parent / "README.md").write_text("new")
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "a.pyc").write_text("")
    assert origin.checkout(package) == (commit, False)
    (package / "new.py").write_text("")  # imported as well as any other
    assert origin.checkout(package) == (commit, True)
    (package / "new.py").unlink()
    (package / "__init__.py").write_text("changed")
    assert origin.checkout(package) == (commit, True)


@pytest.mark.parametrize(
    "variables",
    [
        {"GIT_DIR": "{other}/.git"},
        {"GIT_DIR": "{other}/.git", "GIT_WORK_TREE": "{other}"},
        {"GIT_INDEX_FILE": "{other}/.git/index"},
        {"GIT_CEILING_DIRECTORIES": "{mine}"},
        {"GIT_OBJECT_DIRECTORY": "{other}/.git/objects"},
        {"GIT_NAMESPACE": "other"},
        {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.worktree",
         "GIT_CONFIG_VALUE_0": "{other}"},
    ],
)  # fmt: skip
def test_the_environment_does_not_turn_git_to_another_repository(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    other = repository(tmp_path / "other").parent
    (other / "more").write_text("")
    git(other, "add", "more")
    git(other, "commit", "-qm", "second")
    commit = git(package, "rev-parse", "HEAD")
    for key, value in variables.items():
        monkeypatch.setenv(key, value.format(other=other, mine=package.parent))
    assert origin.checkout(package) == (commit, False)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_another_users_checkout(package: Path, caplog: pytest.LogCaptureFixture) -> None:
    """git refuses it for dubious ownership; who owns the code that we run may own its history."""
    commit = git(package, "rev-parse", "HEAD")
    for path in [package.parent, *package.parent.rglob("*")]:
        os.chown(path, 65534, 65534, follow_symlinks=False)
    assert origin.checkout(package) == (commit, False)
    # But not who merely could put a repository around it, whose settings may run programs.
    os.chown(package, 0, 0)
    assert origin.checkout(package) == (None, None)
    assert "dubious ownership" in caplog.text


def test_an_installed_copy_inside_an_unrelated_repository(package: Path, tmp_path: Path) -> None:
    site = package.parent / ".venv" / "lib" / "site-packages" / "trainer"
    site.mkdir(parents=True)
    (site / "__init__.py").write_text("")
    assert origin.checkout(site) == (None, None)
    # Also where the environment's folder is ignored, as it should be.
    (package.parent / ".gitignore").write_text(".venv\n")
    assert origin.checkout(site) == (None, None)
    assert origin.checkout(tmp_path / "nowhere" / "trainer") == (None, None)


def test_git_that_hangs_or_is_not_there(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(origin.git, "SECONDS", 0.2)
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\nexec sleep 20\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(fake.parent), prepend=":")
    assert origin.checkout(package) == (None, None)
    monkeypatch.setenv("PATH", "/nowhere")
    assert origin.checkout(package) == (None, None)


def test_the_codes_hash_is_of_names_and_content_and_of_no_place(
    package: Path, tmp_path: Path
) -> None:
    (package / "sub").mkdir()
    (package / "sub" / "a.py").write_text("x = 1")
    first = origin.hash_of(package)
    assert first and origin.hash_of(shutil.copytree(package, tmp_path / "elsewhere")) == first
    (package / "notes.txt").write_text("not code")
    assert origin.hash_of(package) == first
    (package / "sub" / "a.py").rename(package / "sub" / "b.py")
    renamed = origin.hash_of(package)
    (package / "sub" / "b.py").write_text("x = 2")
    assert len({first, renamed, origin.hash_of(package)}) == 3
    assert origin.hash_of(tmp_path / "nowhere") is None


# --- a commit while a trial trains -----------------------------------------------------------

# Trains the trial of `config`; where there is a line on stdin to wait for, after its first epoch.
PROGRAM = """
import sys
from pathlib import Path
from trainer.config import TrainConfig
from trainer.alone import train_alone as train

def say(row):
    print("epoch", row["epoch"], flush=True)
    if sys.argv[3] == "wait" and row["epoch"] == 0 and sys.stdin.readline() == "die\\n":
        sys.exit(9)

train(TrainConfig.from_file(Path(sys.argv[1])), Path(sys.argv[2]), say)
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages that run a trial, in a repository of their own."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("local_machine", "trial_records", "trainer", "sweeps", "slurm"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    (folder / "config.json").write_text(TINY.override({"epochs": 2}).to_json())
    (folder / "program.py").write_text(PROGRAM)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


def started(checkout: Path, out: Path, how: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "program.py", "config.json", str(out), how],
        cwd=checkout, env={**os.environ, "PYTHONPATH": str(checkout)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_commit_made_while_a_trial_trains_is_not_recorded(checkout: Path, tmp_path: Path) -> None:
    """And a trial that goes on from it with that commit says both, and is flagged."""
    first = git(checkout, "rev-parse", "HEAD")
    whole, killed = (started(checkout, tmp_path / name, "wait") for name in ("whole", "killed"))
    for process in (whole, killed):
        assert process.stdout is not None and process.stdout.readline() == "epoch 0\n"
    (checkout / "trainer" / "train.py").open("a").write("# edited while it trains\n")
    git(checkout, "commit", "-qam", "second")
    second = git(checkout, "rev-parse", "HEAD")
    whole.communicate("go\n")
    killed.communicate("die\n")
    assert (whole.returncode, killed.returncode) == (0, 9)
    again = started(checkout, tmp_path / "killed", "straight")
    again.communicate()
    assert again.returncode == 0

    row = row_of(tmp_path / "whole")
    assert (row["git_commit"], row["git_dirty"]) == (first, False)
    (one,) = json.loads(row["attempts"])
    assert one.keys() == ATTEMPT and one["git_commit"] == first
    assert one["code_sha256"] == row["code_sha256"] != origin.hash_of(checkout / "trainer")
    assert not outliers.differ(row["attempts"], outliers.CODE)

    row = row_of(tmp_path / "killed")
    before, after = json.loads(row["attempts"])
    assert (before["git_commit"], after["git_commit"]) == (first, second)
    assert before["code_sha256"] == one["code_sha256"]
    assert after["code_sha256"] == row["code_sha256"] == origin.hash_of(checkout / "trainer")
    assert row["git_commit"] == second
    assert [one["from_epoch"] for one in (before, after)] == [0, 1]
    assert outliers.differ(row["attempts"], outliers.CODE)
    assert not outliers.differ(row["attempts"], outliers.DEVICE)


# --- attempts that differ --------------------------------------------------------------------


def stopped(out: Path, epoch: int = 0) -> dict[str, Any]:
    """A trial that was interrupted after an epoch; its checkpoint's state."""
    with pytest.raises(Interruption):
        train(TINY, out, interrupt_after(epoch))
    return {**state_of(out, TINY.fingerprint), "rows": rows_of(out)}


def save(out: Path, state: dict[str, Any]) -> None:
    save_as_0_1(out, state, TINY.fingerprint)


def test_an_attempt_on_another_device_is_told_and_its_pace_is_its_own(tmp_path: Path) -> None:
    state = stopped(tmp_path)
    (first,) = state["attempts"]
    first |= {"device": "another", "precision": "bf16"}
    state["rows"][0]["images_per_second"] = 1e9
    save(tmp_path, state)
    row = train(TINY, tmp_path)
    rows = tables.read_epochs(tmp_path).to_pylist()
    assert row["images_per_second"] == pytest.approx(
        sum(one["images_per_second"] for one in rows[1:]) / 2
    )
    assert row["device"] == row["evaluated_on"] != "another"
    assert (row["precision_used"], row["evaluated_precision"]) == ("fp32", "fp32")
    assert outliers.differ(row["attempts"], outliers.DEVICE)
    assert not outliers.differ(row["attempts"], outliers.CODE)


def test_what_only_evaluated_did_not_train(tmp_path: Path) -> None:
    """Killed between its last epoch and its end, and gone on with on another device."""
    state = stopped(tmp_path, epoch=2)
    state["attempts"][0] |= {"device": "a GPU", "precision": "bf16", "world_size": 4}
    save(tmp_path, state)
    row = train(TINY, tmp_path)
    assert (row["device"], row["precision_used"], row["world_size"]) == ("a GPU", "bf16", 4)
    assert row["evaluated_on"] not in (None, "a GPU") and row["evaluated_precision"] == "fp32"
    # Of a device that is not here no peak was measured.
    assert row.get("peak_flops_per_second") is None
    assert (tables.read_run(tmp_path, TINY.fingerprint))["flops_per_second"] is None


def test_a_checkpoint_of_before_attempts_were_kept(tmp_path: Path) -> None:
    state = stopped(tmp_path)
    del state["attempts"]
    save(tmp_path, state)
    row = train(TINY, tmp_path)
    first, second = json.loads(row["attempts"])
    assert first == {"from_epoch": 0, "from_step": 0} and second["from_epoch"] == 1
    # What trained the first epoch was another version of this program.
    assert outliers.differ(row["attempts"], outliers.CODE)


def test_only_attempts_that_added_to_the_result_are_told(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        train(TINY, tmp_path, should_stop=_raise)
    assert len(json.loads(train(TINY, tmp_path)["attempts"])) == 1


def test_a_failed_attempt_says_where_it_ran(tmp_path: Path) -> None:
    store = TrialStore(tmp_path, "sweep")
    base = TINY.override({"optimizer.lr": 1e30})
    (trial,) = expand(Sweep(base=base, space=grid({"epochs": [2]})))
    assert not Worker(store, 7.0, "log").run([trial])
    failure = trial_files.Failure.read(store.folder_of(trial))
    assert failure is not None and failure.cause == "NONFINITE" and failure.origin is not None
    assert (failure.origin["attempt"], failure.origin["launch"]) == (1, 7.0)
    assert failure.origin["code_sha256"] == origin.hash_of(ROOT / "trainer")
    # One of before.
    path = store.folder_of(trial) / trial_files.FAILURE
    values = json.loads(path.read_bytes())
    del values["origin"], values["sha256"]
    path.write_text(json.dumps(values))
    old = trial_files.Failure.read(store.folder_of(trial))
    assert old is not None and old.origin is None


def _raise() -> bool:
    raise RuntimeError


def test_the_pace_is_of_epochs_on_a_machine_like_the_last_ones() -> None:
    here, there = {"device": "a"}, {"device": "b"}
    attempts = [
        here | {"from_epoch": 0}, there | {"from_epoch": 2}, there | {"from_epoch": 2},
        here | {"from_epoch": 3}, there | {"from_epoch": 5},
    ]  # fmt: skip
    assert trained_by(attempts, 5) == (attempts[3], [0, 1, 3, 4])
    assert trained_by(attempts[:1], 2) == (attempts[0], [0, 1])


def test_what_makes_two_attempts_differ() -> None:
    def differ(*changes: dict[str, Any], keys: Any = outliers.CODE) -> bool:
        same = {"git_commit": "c", "code_sha256": "s", "torch_version": "2", "python_version": "3"}
        return outliers.differ(json.dumps([same | one for one in changes]), keys)

    assert not differ({}, {}) and not differ({})
    for key in outliers.CODE:
        assert differ({}, {key: "other"}, {})
    # git did not answer; the hash speaks.
    assert not differ({}, {"git_commit": None})
    assert differ({}, dict.fromkeys(outliers.CODE))
    for key in outliers.DEVICE:
        machine = {"device": "d", "precision": "fp32", "world_size": 1}
        assert differ(machine, machine | {key: 2}, keys=outliers.DEVICE)
    assert not outliers.differ(None, outliers.CODE)


@pytest.mark.long
def test_the_version_of_torch_is_the_same_before_it_is_imported() -> None:
    """A program that imports it late, and after a kill early, is not other code."""
    code = """
import sys
from local_machine import origin
early = origin.attempt()["torch_version"]
assert "torch" not in sys.modules
import torch
print(early == origin.attempt()["torch_version"] == torch.__version__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "True\n", done


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone counts a process's peak again")
def test_the_peak_of_memory_is_the_trials_and_not_of_one_before_it() -> None:
    code = """
import torch
from trainer.perf.device import forget_peak_memory, peak_memory_bytes
cpu = torch.device("cpu")
large = bytearray(b"x") * (400 * 2**20)
del large
before = peak_memory_bytes(cpu)
forget_peak_memory(cpu)
print(before - peak_memory_bytes(cpu))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=ROOT)
    assert int(done.stdout) > 300 * 2**20


# --- what the report says --------------------------------------------------------------------


def entry(**changes: Any) -> dict[str, Any]:
    return {
        "git_commit": "c", "code_sha256": "s", "torch_version": "2", "python_version": "3",
        "device": "cpu", "precision": "fp32", "world_size": 1, "from_epoch": 0, **changes,
    }  # fmt: skip


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Four finished trials: one whole, one of two codes, one on two devices, one evaluated
    elsewhere."""
    results = tmp_path / "results"
    points = grid_points()
    write_plan(results, points)
    changes: list[dict[str, Any]] = [
        {"attempts": json.dumps([entry()]), "evaluated_on": "cpu", "evaluated_precision": "fp32"},
        {"attempts": json.dumps([entry(), entry(code_sha256="other")])},
        {"attempts": json.dumps([entry(), entry(device="gpu", precision="bf16")])},
        {"evaluated_on": "gpu", "evaluated_precision": "bf16"},
    ]
    for point, change in zip(points, changes, strict=True):
        finish(folder_of(results, point), point[1], **change)
    return results


def notes_of(results: Path) -> str:
    return "\n".join(provenance_section(load(results, [])).parts[0].notes)


def test_mixed_attempts_are_flagged_and_counted(mixed: Path) -> None:
    runs = only(mixed).runs
    assert runs["flags"].tolist() == [[], ["MIXED_CODE"], ["MIXED_DEVICE"], []]
    assert summary_tables.evaluated_elsewhere(runs).tolist() == [False, False, False, True]
    notes = notes_of(mixed)
    assert "1 trial finished by attempts of different code (MIXED_CODE)" in notes
    assert "1 trial finished by attempts on different devices" in notes
    assert "test figures of 1 trial were made on another device" in notes
    sources = summary_tables.sources(runs)
    assert {"evaluated on", "evaluated in", "code SHA-256"} <= set(sources.columns)
    assert len(sources) == 3


@pytest.mark.parametrize("text", ["{", "[1]", "{}", "[" * 100_000, "\x1b[2J"])
def test_attempts_that_cannot_be_read_are_a_problem(tmp_path: Path, text: str) -> None:
    points = grid_points()[:2]
    write_plan(tmp_path, points)
    finish(folder_of(tmp_path, points[0]), points[0][1], attempts=text)
    finish(folder_of(tmp_path, points[1]), points[1][1])
    study = load(tmp_path, [])
    (problem,) = study.problems
    assert isinstance(problem, InputError) and "attempts" in problem.what
    assert "\x1b" not in problem.what and len(problem.what) < 400
    assert study.plans[0].runs["state"].tolist() == ["unknown", "done"]


def test_a_plan_that_was_written_after_its_trials_end_is_told(tmp_path: Path) -> None:
    points = grid_points()[:2]
    for point, hour in zip(points, (8, 12), strict=True):
        end = f"2026-01-01T{hour:02}:00:00+00:00"
        finish(folder_of(tmp_path, point), point[1], finished_at=end)
    write_plan(tmp_path, points, created="2026-01-01T12:00:00+02:00")
    assert "the plan of 1 trial was written after it had finished" in notes_of(tmp_path)
    # Who launches again what is done plans nothing late.
    write_plan(tmp_path, points[:1], id="00000002", created="2026-01-01T07:00:00+00:00")
    assert "had finished" not in notes_of(tmp_path)
    write_plan(tmp_path, points[:1], id="00000002", created="yesterday")
    assert "had finished" not in notes_of(tmp_path)


@pytest.mark.long
def test_the_record_of_the_h100_says_what_evaluated_it(tmp_path: Path) -> None:
    results = ROOT / "results" / "h100"
    (plan,) = load(results, []).plans
    run = plan.runs.iloc[0]
    assert run["device"] == "NVIDIA H100 80GB HBM3" and run["precision_used"] == "bf16"
    assert (run["evaluated_on"], run["evaluated_precision"]) == (
        "a CPU",
        "fp32, from weights rounded to bf16",
    )
    out = tmp_path / "report"
    assert command("--results", results, "--out", out) == 0
    text = (out / "report.md").read_text()
    assert "the plan of 1 trial was written after it had finished" in text
    captions = [line for line in text.splitlines() if line.startswith("**") and "Top" in line]
    assert any("predicted on a CPU in fp32, from weights rounded" in line for line in captions)


def test_a_script_in_any_language_has_a_hash(tmp_path: Path) -> None:
    script = tmp_path / "train.sh"
    script.write_text("echo 1")
    before = origin.hash_of(script)
    script.write_text("echo 2")
    assert before is not None
    assert before != origin.hash_of(script) is not None
