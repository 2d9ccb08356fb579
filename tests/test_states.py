"""Every state and note that a person can see: how a trial gets into it, and out of it by command.

The ways in are made by hand where a cluster, another machine or an hour would be needed. The ways
out are what a person types.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest
from test_cancel import looking_like
from test_launch import command
from test_queue import Slurm, live

import sweeps.cancel
import sweeps.launch
import sweeps.retry
import sweeps.status
from local_machine import processes
from sweeps.spec.sweep import Trial
from sweeps.state.lease import CLAIM, WORKER, Lease
from sweeps.state.liveness import Liveness
from sweeps.state.progress import look
from sweeps.state.trial_store import State, TrialStore
from trial_records import trial_files

# In one process, which imports torch once.
TOKEN = "0123456789ab"
DEFINITION = """
from sweeps import Sweep
from trainer.recipes import reported

sweep = Sweep(base=reported("wrn_10_1").override({
    "data.name": "digits", "data.train_limit": 100, "data.test_limit": 100, "model.width": 0.5,
    "epochs": 1, "batch_size": 64,
}))
"""


@dataclass
class Scene:
    """A sweep of one trial, in a folder of its own."""

    folder: Path
    store: TrialStore
    trial: Trial
    slurm: Slurm | None = None

    @property
    def place(self) -> Path:
        path = self.store.folder_of(self.trial)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def hold(self, seconds_ago: float = 0.0, **of: object) -> None:
        lease = Lease(1, 0, 1.0, "", **of)  # type: ignore[arg-type]
        (self.place / CLAIM).write_text(json.dumps(asdict(lease)))
        then = time.time() - seconds_ago
        os.utime(self.place / CLAIM, (then, then))

    def job(self, state: str, **row: str) -> None:
        assert self.slurm is not None
        self.slurm.says("squeue", rows=[live("7", state, comment=TOKEN, **row)])

    def now(self) -> tuple[State, str]:
        """The state and the note that a person sees."""
        store = TrialStore(self.store.folder.parent, self.store.sweep, Liveness.here(0.0))
        (one,) = look(store, [self.trial], {})
        return one.state, one.note

    def types(self, line: str) -> None:
        """Type a command in its words after `python -m sweeps.`, or any other in full."""
        name, *words = shlex.split(line)
        module = getattr(sweeps, name, None)
        module = getattr(module, "__main__", module)  # of a package
        if module is None:
            subprocess.run([name, *words], check=True)
            return
        given = [*words, "--results", str(self.store.folder.parent)]
        if name in ("launch", "retry"):
            given += ["--on", "debug"]
        command(module, str(self.folder / "sweep.py") if name == "launch" else "sweep", *given)


def made(folder: Path, slurm: Slurm | None = None) -> Scene:
    (folder / "sweep.py").write_text(DEFINITION)
    results = folder / "results"
    store = TrialStore(results, "sweep")
    from sweeps.spec.expand import expand
    from sweeps.spec.find import find
    from sweeps.state.plan import Plan

    (trial,) = expand(find(str(folder / "sweep.py"))[1])
    store.write_plan(Plan("sweep", [trial], "full", {}, [], "command"))
    return Scene(folder, store, trial, slurm)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """On a machine without Slurm."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr("slurm.commands.CONFIGURATIONS", ())
    return made(tmp_path)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """On a cluster, whose Slurm says what it is told to."""
    slurm = Slurm(tmp_path)
    for name in ("squeue", "sacct", "sbatch", "scancel"):
        slurm.says(name)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_CONF", "/dev/null")
    return made(tmp_path, slurm)


GONE = {"process_started": "1"}
AWAY = {"host": "elsewhere", "pid": 12}


def failed(scene: Scene) -> None:
    failure = trial_files.Failure("DATA", "ValueError: x", "tb", [], 1, time.time() + 3600, "h")
    replace(failure, launches=[1.0]).write(scene.place)


def pruned(scene: Scene) -> None:
    trial_files.Pruned("00000000", 1, 0, time.time() + 3600, [1.0]).write(scene.place)


def done(scene: Scene) -> None:
    scene.types("launch")


def other_boot() -> dict[str, object]:
    return {"boot": f"0{processes.boot()}"}


def unreadable(name: str) -> Callable[[Scene], None]:
    def make(scene: Scene) -> None:
        (scene.place / name).write_text("{")

    return make


ALONE: list[tuple[str, Callable[[Scene], None], State, str, str]] = [
    ("pending", lambda _: None, State.PENDING, r"", "launch"),
    (
        "running elsewhere",
        lambda scene: scene.hold(**AWAY),
        State.RUNNING,
        r"pid 12 on elsewhere",
        "retry --host-gone elsewhere",
    ),
    (
        "running elsewhere, silent",
        lambda scene: scene.hold(7300.0, **AWAY),
        State.RUNNING,
        r"pid 12 on elsewhere, nothing heard since [-: 0-9]+ \(2 h\)",
        "retry --host-gone elsewhere",
    ),
    (
        "held by a job of a Slurm that is not here",
        lambda scene: scene.hold(submission=TOKEN, job="7", started=True, **AWAY),
        State.QUEUED,
        r"job 7, which only the Slurm of elsewhere can tell of",
        "retry --host-gone elsewhere",
    ),
    ("lost", lambda scene: scene.hold(**GONE), State.LOST, r"process \d+ on .* is gone", "retry"),
    ("lost, launched", lambda scene: scene.hold(**GONE), State.LOST, r"is gone", "launch"),
    (
        "lost with the machine's restart",
        lambda scene: scene.hold(1000.0, **other_boot()),
        State.LOST,
        r"process \d+ on .* is gone",
        "retry",
    ),
    (
        "lost because a person said so",
        lambda scene: scene.hold(host_gone=True, **AWAY),
        State.LOST,
        r"its machine elsewhere was declared gone",
        "retry",
    ),
    ("failed", failed, State.FAILED, r"DATA: ValueError: x", "retry"),
    ("failed, launched", failed, State.FAILED, r"DATA: ValueError: x", "launch"),
    ("failed, afresh", failed, State.FAILED, r"DATA: ValueError: x", "retry --fresh"),
    ("pruned", pruned, State.PRUNED, r"", "launch"),
    ("done", done, State.DONE, r"", "launch"),
    ("unknown by its lease", unreadable(CLAIM), State.UNKNOWN, r"claim.json is damaged", ""),
    (
        "unknown by failure",
        unreadable(trial_files.FAILURE),
        State.UNKNOWN,
        r"failure.json is dam",
        "",
    ),
    (
        "unknown by pruning",
        unreadable(trial_files.PRUNED),
        State.UNKNOWN,
        r"pruned.json is damaged",
        "",
    ),
    (
        "unknown, a link to nowhere",
        lambda scene: scene.store.folder_of(scene.trial).symlink_to("nowhere"),
        State.UNKNOWN,
        r"is not a folder, or a link to nowhere",
        "",
    ),
]


@pytest.mark.long
@pytest.mark.parametrize(
    ("enter", "state", "note", "out"), [row[1:] for row in ALONE], ids=[row[0] for row in ALONE]
)
def test_each_state_has_a_way_in_and_a_way_out(
    scene: Scene, enter: Callable[[Scene], None], state: State, note: str, out: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    enter(scene)
    seen, said = scene.now()
    assert seen is state
    assert re.search(note, said) if note else said == ""
    if not out:
        # The file is named; moved away, it blocks nothing.
        path = re.search(r"/\S+", said)
        assert path is not None
        bad = path[0].rstrip(",:")
        scene.types(f"mv {bad} {bad}.damaged")
        out = "launch"
    scene.types(out)
    assert scene.now()[0] is State.DONE
    assert str(State.DONE) in capsys.readouterr().err


def test_running_here_is_left_by_cancel(scene: Scene, tmp_path: Path) -> None:
    room = tmp_path / "made" / "sweeps" / "execution"
    room.mkdir(parents=True)
    (room / "worker.py").write_text("import time; time.sleep(60)")
    words = ["sweeps.execution.worker", str(scene.store.folder), "--launch", "1.0"]
    with looking_like(words, tmp_path / "made", "1.0") as one:
        scene.hold(pid=one.pid, process_started=processes.started(one.pid))
        assert scene.now() == (State.RUNNING, f"pid {one.pid} on {processes.host()}")
        scene.types("cancel --yes")
        assert one.wait(10)
    assert scene.now()[0] is State.LOST
    scene.types("retry")
    assert scene.now()[0] is State.DONE


JOB = {"submission": TOKEN, "job": "7"}
STARTED = {"started": True, "host": "n1"}
OF_WORKER = {"submission": f"{WORKER}{TOKEN}", "job": "7", "started": True}

QUEUED: list[tuple[str, Callable[[Scene], None], State, str, str]] = [
    (
        "on its way",
        lambda scene: scene.hold(submission=TOKEN),
        State.QUEUED, r"job, on its way to Slurm", "wait",
    ),
    (
        "queued",
        lambda scene: (scene.hold(**JOB), scene.job("PENDING", reason="Priority"))[0],
        State.QUEUED, r"job 7, jobs of a higher priority go first \(Priority\)", "cancel",
    ),
    (
        "running",
        lambda scene: (scene.hold(**JOB, **STARTED), scene.job("RUNNING"))[0],
        State.RUNNING, r"job 7, on n1", "cancel",
    ),
    (
        "running, silent",
        lambda scene: (scene.hold(600.0, **JOB, **STARTED), scene.job("RUNNING"))[0],
        State.RUNNING, r"job 7, on n1, nothing heard since .* \(10 min\)", "cancel",
    ),
    (
        "never sent",
        lambda scene: scene.hold(100.0, submission=TOKEN, **GONE),
        State.LOST, r"its launch ended before it sent the job", "",
    ),
    ("forgotten", lambda one: one.hold(**JOB), State.LOST, r"Slurm does not know its job 7", ""),
    (
        "out of time",
        lambda scene: (scene.hold(**JOB), scene.job("TIMEOUT"))[0],
        State.LOST, r"job 7, TIMEOUT", "",
    ),
    (
        "left behind by its worker",
        lambda scene: (
            scene.hold(**OF_WORKER, restarts=0),
            scene.slurm and scene.slurm.says(
                "squeue", rows=[live("7", comment=f"{WORKER}{TOKEN}", restarts="1")]
            ),
        )[0],
        State.LOST, r"its worker was killed; its job 7 was started again", "",
    ),
    (
        "whose worker died alone",
        lambda scene: (
            scene.hold(**OF_WORKER, **GONE),
            scene.slurm
            and scene.slurm.says("squeue", rows=[live("7", comment=f"{WORKER}{TOKEN}")]),
        )[0],
        State.LOST, r"its worker died; its job 7 runs on, without this trial", "",
    ),
]  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize(("enter", "state", "note", "out"), [row[1:] for row in QUEUED],
                         ids=[row[0] for row in QUEUED])  # fmt: skip
def test_each_state_of_a_job_has_a_way_in_and_a_way_out(
    cluster: Scene, enter: Callable[[Scene], None], state: State, note: str, out: str
) -> None:
    assert cluster.slurm is not None
    enter(cluster)
    seen, said = cluster.now()
    assert seen is state
    assert re.search(note, said), said
    if out == "wait":
        # Its launch is this process: it would send it, or end.
        cluster.hold(100.0, submission=TOKEN, **GONE)
    if out == "cancel":
        cluster.types("cancel --yes")
        assert [words for words, _ in cluster.slurm.calls("scancel")] == [["7"]] * 1
        cluster.job("CANCELLED")
        assert cluster.now() == (State.LOST, "job 7, CANCELLED")
    cluster.types("retry")
    assert cluster.now()[0] is State.DONE


def test_a_host_whose_job_slurm_knows_is_slurms_to_answer_for(
    cluster: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.hold(**JOB, **STARTED)
    cluster.job("RUNNING")
    cluster.types("retry --host-gone n1")
    said = capsys.readouterr().err
    assert "error: n1 is not gone: sweep/" in said
    assert "job 7 holds it, of which Slurm says RUNNING" in said
    assert cluster.now()[0] is State.RUNNING


@pytest.mark.parametrize("comment", ["", "another", f"{TOKEN}0", "0" * 12])
def test_a_forged_claim_cancels_no_other_job(
    cluster: Scene, comment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cluster.slurm is not None
    cluster.hold(**JOB, **STARTED)
    cluster.slurm.says("squeue", rows=[live("7", comment=comment or "(null)")])
    cluster.types("cancel --yes")
    said = capsys.readouterr().err
    assert cluster.slurm.calls("scancel") == []
    if comment == "0" * 12:
        # That of another submission: the number was given again, and the trial is lost.
        assert cluster.now()[0] is State.LOST
        return
    assert f"its comment does not begin with {TOKEN}; if it is yours: scancel 7" in said


def test_every_state_is_in_the_tables() -> None:
    assert {row[2] for row in ALONE + QUEUED} == set(State)
