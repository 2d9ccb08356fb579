"""Who lives and who is dead: what is proven, by two clocks, and what a person is told of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from forked import forking
from test_cancel import looking_like, wait_for

import trainer.train
from local_machine import processes
from local_machine.errors import InputError
from local_machine.files import write_atomic
from sweeps.execution.worker import Worker
from sweeps.run.attempt import BOUND_SECONDS
from sweeps.run.ends import LostTrialError
from sweeps.run.handle import Run
from sweeps.spec.expand import expand
from sweeps.spec.sweep import Sweep
from sweeps.state import driver_lock, elsewhere
from sweeps.state import lease as leases
from sweeps.state.lease import CLAIM, Lease
from sweeps.state.lease_watch import Watch
from sweeps.state.liveness import Liveness
from sweeps.state.plan import Plan
from sweeps.state.trial_store import State, TrialStore
from trainer.recipes import reported
from trial_records import trial_files

ROOT = Path(__file__).parent.parent
TRIAL = expand(Sweep(base=reported("resnet18")))[0]
LATE = 1000.0  # seconds ago


@pytest.fixture
def store(tmp_path: Path) -> TrialStore:
    found = TrialStore(tmp_path, "sweep")
    found.write_plan(Plan("sweep", [TRIAL], "full", {}, [], "command"))
    return found


@pytest.fixture
def folder(store: TrialStore) -> Path:
    path = store.folder_of(TRIAL)
    path.mkdir()
    return path


def write(folder: Path, lease: Lease, seconds_ago: float = 0.0) -> None:
    (folder / CLAIM).write_text(json.dumps(asdict(lease)))
    age(folder, seconds_ago)


def age(folder: Path, seconds: float) -> None:
    """Let it be so long ago that anything changed there."""
    for path in folder.iterdir():
        then = path.stat().st_mtime - seconds
        os.utime(path, (then, then))


def other_boot(lease: Lease) -> str:
    boot, _, rest = lease.boot.partition("/")
    return f"{'0' if boot[0] != '0' else '1'}{boot[1:]}/{rest}"


# One machine


def test_only_what_is_proven_is_dead(folder: Path) -> None:
    mine = Lease(1, 0, 1.0, "")
    assert processes.machine()
    for lease, seconds_ago, dead in (
        (mine, LATE, False),
        (replace(mine, process_started="1"), 0.0, True),
        (replace(mine, process_started=""), 0.0, False),  # that of its start was not to be seen
        (replace(mine, pid=2**31 - 1), 0.0, True),
        (replace(mine, pid=2**31 - 1, host="elsewhere"), LATE, False),
        (replace(mine, pid=2**31 - 1, boot=mine.boot.replace("pid:[", "pid:[1")), LATE, False),
        # This machine, restarted; and one that may be its copy.
        (replace(mine, boot=other_boot(mine)), LATE, True),
        (replace(mine, boot=other_boot(mine)), 10.0, False),
        (replace(mine, boot=other_boot(mine), machine="0" * 32), LATE, False),
        (replace(mine, boot=other_boot(mine), machine=""), LATE, False),  # as 0.1 wrote it
        (replace(mine, boot="/"), LATE, False),
        (replace(mine, host="elsewhere", host_gone=True), 0.0, True),
    ):
        write(folder, lease, seconds_ago)
        assert leases.is_dead(folder, lease) is dead, lease


def test_a_number_that_only_a_thread_has_is_no_process_of_ours() -> None:
    """`kill -0` of a thread's number succeeds; its start time is another's."""
    assert processes.is_gone(os.getpid(), "1")
    assert not processes.is_gone(os.getpid(), processes.started(os.getpid()))
    assert processes.started(2**31 - 1) == ""


@pytest.mark.parametrize(
    "change",
    [
        {"token": "../../../tmp/x"},
        {"token": "x" * 65},
        {"host": "\x1b[2J"},
        {"host": "h" * 301},
        {"host": "two\nlines"},
        {"log": "../../etc/passwd"},
        {"log": "/etc/passwd"},
        {"log": "logs/../../x"},
        {"job": "7; rm"},
        {"submission": "\x07"},
        {"pid": 0},
        {"pid": -1},
        {"pid": 10**30},
        {"launch": float("nan")},
        {"attempt": -1},
        {"pid": None},
        {"host": None},
    ],
    ids=str,
)
def test_a_forged_claim_is_not_a_lease(store: TrialStore, change: dict[str, object]) -> None:
    folder = store.folder_of(TRIAL)
    folder.mkdir()
    values = asdict(Lease(1, 0, 1.0, "")) | change
    values = {key: value for key, value in values.items() if value is not None}
    (folder / CLAIM).write_text(json.dumps(values))
    standing = store.standing(TRIAL)
    assert standing.state is State.UNKNOWN
    said = "damaged: NaN" if change.get("launch") else f"not a lease: {next(iter(change))}"
    assert f"{CLAIM} is {said}" in (standing.problem or "")
    assert (standing.problem or "").isprintable()


def test_a_circle_of_successors_has_an_end(folder: Path) -> None:
    first, second = Lease(1, 0, 1.0, ""), Lease(2, 0, 1.0, "")
    write(folder, first)
    for one, other in ((first, second), (second, first)):
        (folder / f".{CLAIM}.{one.token}.next").write_text(json.dumps(asdict(other)))
    assert leases.read(folder) is not None


def test_a_claim_of_0_1_is_read(folder: Path) -> None:
    old = {key: value for key, value in asdict(Lease(1, 0, 1.0, "logs/x.log")).items()
           if key not in ("machine", "cluster", "saved", "host_gone")}  # fmt: skip
    (folder / CLAIM).write_text(json.dumps(old))
    lease = leases.read(folder)
    assert lease is not None
    assert (lease.machine, lease.saved, lease.host_gone) == ("", None, False)
    assert not leases.got_on(folder, lease)


# The watch


def test_a_holder_sees_within_its_bound_that_another_has_its_trial(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.state.lease_watch.FENCE_SECONDS", 0.05)
    monkeypatch.setattr("sweeps.state.lease_watch.BEAT_SECONDS", 0.05)
    mine = leases.take(folder, Lease(1, 0, 1.0, ""), lambda *_: True)
    assert mine is not None
    with Watch(folder, mine) as watch:
        age(folder, LATE)
        wait_for(lambda: (leases.silence(folder) or 0.0) < LATE / 2)  # it says that it lives
        watch.check()
        assert leases.give_up(folder, mine)
        wait_for(lambda: watch.is_lost)
        with pytest.raises(LostTrialError):
            watch.check()
    with pytest.raises(LostTrialError):
        Watch(folder, mine).look()


WATCHED = """
import sys, time
from pathlib import Path
from sweeps.run.ends import LostTrialError
from sweeps.state import lease as leases, lease_watch
from sweeps.state.lease import CLAIM, Lease

lease_watch.FENCE_SECONDS, lease_watch.END_SECONDS = 0.05, 0.3
lease_watch.UNREADABLE_SECONDS = 0.5
folder = Path(sys.argv[1])
mine = leases.take(folder, Lease(1, 0, 1.0, ""), lambda *_: True)
with lease_watch.Watch(folder, mine) as watch:
    if sys.argv[2] == "lost":
        assert leases.give_up(folder, mine)
    if sys.argv[2] == "unreadable":
        (folder / CLAIM).write_text("{")
    time.sleep(2.0 if sys.argv[2] == "held" else 60.0)
"""


@pytest.mark.parametrize(("what", "code"), [("lost", 3), ("unreadable", 3), ("held", 0)])
def test_a_holder_in_a_step_without_end_is_ended_when_it_lost_its_trial(
    folder: Path, what: str, code: int
) -> None:
    words = [sys.executable, "-c", WATCHED, str(folder), what]
    assert subprocess.run(words, timeout=50).returncode == code


@pytest.mark.parametrize("broken", [True, False])
def test_a_worker_that_lost_its_trial_writes_nothing_more_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    """It was cut off, in the middle of a step: no question between steps comes before its write."""
    store = TrialStore(tmp_path, "sweep")
    first, second = expand(Sweep(base=reported("resnet18"), seeds=2))

    begun: list[Path] = []

    def train(config: object, run: Run, *_: object) -> dict[str, float]:
        out = run.attempt.trial
        if out.name == first.name and not begun:
            begun.append(out)
            held = leases.read(out)
            assert held is not None
            assert leases.give_up(out, held)
            if not broken:
                raise RuntimeError("an error of this attempt, nothing to the next")
        return {"val_accuracy": 0.5, "test_accuracy": 0.5, "seconds": 2.0, "epochs_run": 1}

    monkeypatch.setattr(trainer.train, "train", train)
    Worker(store, 1.0, "log").run([first, second])
    assert not (store.folder_of(first) / trial_files.FAILURE).exists()
    assert (store.folder_of(second) / trial_files.RUN).exists()
    # Nobody took it meanwhile, so that this worker did, as a new attempt.
    assert (store.folder_of(first) / trial_files.RUN).exists()
    assert store.standing(first).state is State.DONE


# Clocks


@pytest.mark.parametrize("ahead", [-3600.0, 0.0, 3600.0])
def test_what_failed_is_tried_once_by_each_launch_whatever_the_clocks_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    """Two hosts' launches, one host's clock being wrong by an hour."""
    store = TrialStore(tmp_path, "sweep")
    ran: list[float] = []

    def train(config: object, run: Run, *_: object) -> None:
        held = leases.read(run.attempt.trial)
        assert held is not None
        ran.append(held.launch)
        raise ValueError("always")

    monkeypatch.setattr(trainer.train, "train", train)
    now = time.time()
    launches = {now: 0.0, now + ahead + 1.0: ahead}
    for _ in range(3):
        for launch, wrong_by in launches.items():
            with monkeypatch.context() as patch:
                patch.setattr(time, "time", lambda by=wrong_by: now + by)
                Worker(store, launch, "log", retry_only=_ > 0).run([TRIAL])
    assert ran == list(launches)
    assert not Worker(store, now + 5.0, "log", retry_only=True).run([TRIAL])
    assert len(ran) == 3  # a retry is a launch of its own


def test_a_pruned_trial_is_wanted_whole_by_every_other_launch(
    store: TrialStore, folder: Path
) -> None:
    for pruned_at in (0.0, time.time() + 3600):
        trial_files.Pruned("00000000", 1, 2, pruned_at, [5.0]).write(folder)
        standing = store.standing(TRIAL)
        assert standing.state is State.PRUNED
        for launch, wanted in ((5.0, False), (4.0, True), (6.0, True)):
            assert Worker(store, launch, "log").wants(standing) is wanted


@pytest.mark.parametrize("ahead", [-3600.0, 3600.0])
def test_getting_on_is_another_checkpoint_and_no_time(folder: Path, ahead: float) -> None:
    def checkpoint(text: str) -> None:
        write_atomic(folder / trial_files.CHECKPOINT, lambda file: file.write(text.encode()))
        then = time.time() + ahead
        os.utime(folder / trial_files.CHECKPOINT, (then, then))

    checkpoint("of an attempt before")
    held = leases.take(folder, Lease(1, 0, 1.0, ""), lambda *_: True)
    assert held is not None
    assert not leases.got_on(folder, held)
    checkpoint("of this one")
    assert leases.got_on(folder, held)


def test_a_submission_of_another_host_is_given_up_after_a_while(folder: Path) -> None:
    """Its launch may live: nobody can tell from here. Slurm does not know the job."""

    class Empty:
        def jobs(self, ids: list[str]) -> dict[str, None]:
            return dict.fromkeys(ids)

        def mine(self) -> list[object]:
            return []

    liveness = Liveness(Empty())  # type: ignore[arg-type]
    sent = Lease(1, 0, 1.0, "logs", submission="0" * 12, claimed_at=time.time() + 3600)
    gone = {"pid": 2**31 - 1, "process_started": "1"}
    for lease, ages in (
        (replace(sent, host="elsewhere"), {30.0: True, 300.0: True, 700.0: False}),
        (replace(sent, **gone), {30.0: True, 70.0: False}),  # type: ignore[arg-type]
        (sent, {700.0: True}),  # its launch is this process
    ):
        for seconds, alive in ages.items():
            write(folder, lease, seconds)
            assert liveness.is_alive(lease, folder) is alive, (lease.host, seconds)


# Breaking what a host holds


def test_a_host_that_lives_is_not_gone(store: TrialStore, folder: Path) -> None:
    write(folder, Lease(1, 0, 1.0, ""))
    with pytest.raises(InputError, match=f"process {os.getpid()} runs on this machine"):
        elsewhere.take_from(processes.host(), store.folder, Liveness())
    assert store.standing(TRIAL).state is State.RUNNING
    with pytest.raises(InputError, match="holds nothing") as error:
        elsewhere.take_from("nowhere", store.folder, Liveness())
    assert processes.host() in error.value.help


def test_a_host_that_is_gone_lets_go_of_everything(store: TrialStore, folder: Path) -> None:
    search, compacting = store.folder / "searches" / "00000000", store.folder / "compact"
    for place in (folder, search, compacting, store.folder):
        place.mkdir(parents=True, exist_ok=True)
        write(place, Lease(1, 0, 1.0, "", host="gone"))
    broken, kept = elsewhere.take_from("gone", store.folder, Liveness())
    assert (len(broken), kept) == (4, [])
    assert store.standing(TRIAL).state is State.LOST
    assert store.drivers() == ({}, [])
    taken = store.lease(TRIAL, 2.0, "")
    assert taken is not None
    assert (taken.attempt, taken.host_gone) == (2, False)


@pytest.mark.parametrize("ago", [0.0, 60.0, LATE])
def test_what_a_host_held_that_was_heard_of_just_now_is_not_given_on_at_once(
    store: TrialStore, folder: Path, monkeypatch: pytest.MonkeyPatch, ago: float
) -> None:
    """Should it live all the same, it finds that it has lost, and ends, within the wait."""
    slept: list[float] = []
    monkeypatch.setattr("local_machine.clock.sleep", slept.append)
    write(folder, Lease(1, 0, 1.0, "", host="gone"))
    age(folder, ago)
    elsewhere.take_back("gone", store.folder.parent, store.sweep, Liveness())
    assert store.standing(TRIAL).state is State.LOST
    expected = [] if ago == LATE else [pytest.approx(BOUND_SECONDS - ago, abs=5)]
    assert slept == expected


# Cancel


def test_a_forged_claim_ends_no_process_that_is_not_the_sweeps(
    store: TrialStore, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "made" / "sweeps"
    (made / "execution").mkdir(parents=True)
    for name in ("execution/worker", "search", "status"):
        (made / f"{name}.py").write_text("import time; time.sleep(60)")
    other = tmp_path / "other"
    other.mkdir()
    worker = ["sweeps.execution.worker", str(store.folder), "--launch", "0.0"]
    searched = ["sweeps.search", "sweep", "--results", str(store.folder.parent)]
    for words, launch, ours in (
        (worker, "0.0", True),
        ([*worker[:-1], "1.0"], "0.0", False),  # of another launch
        (worker, "1.0", False),
        (
            ["sweeps.execution.worker", str(other), "--launch", "0.0"],
            "0.0",
            False,
        ),  # of another sweep
        (searched, "", True),
        (["sweeps.search", "other", "--results", str(store.folder.parent)], "", False),
        (["sweeps.search", "sweep"], "", False),  # in the results folder where it works
        (["sweeps.status", "sweep", "--results", str(store.folder.parent)], "", False),
    ):
        with looking_like(words, tmp_path / "made", launch) as one:
            started = processes.started(one.pid)
            write(folder, Lease(1, 0, 0.0, "", pid=one.pid, process_started=started))
            with forking():
                done = subprocess.run(
                    [sys.executable, "-m", "sweeps.cancel", "sweep", "--results", str(tmp_path),
                     "--yes"],
                    capture_output=True, text=True, cwd=ROOT,
                )  # fmt: skip
            assert done.returncode == int(not ours), (words, done.stderr)
            if ours:
                assert one.wait(10) == -signal.SIGTERM
            else:
                assert one.poll() is None
                assert f"if it is yours: kill {one.pid}" in done.stderr


def test_a_job_that_sees_its_claim_is_anothers_does_nothing(
    store: TrialStore, folder: Path
) -> None:
    """A launch of another machine was slow, and its submission was given up meanwhile."""
    sent = Lease(1, 0, 1.0, "logs", submission="0" * 12, host="elsewhere")
    write(folder, sent, LATE)
    other = leases.take(folder, Lease(1, 0, 2.0, ""), lambda *_: False)
    assert other is not None
    assert not leases.is_held(folder, sent)
    assert not leases.install(folder, sent, replace(sent, job="7"))
    assert leases.read(folder) == other


# What a person is told


def test_a_study_whose_machine_is_gone_is_taken_back_by_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "study").mkdir()
    write(tmp_path / "study", Lease(1, 0, 1.0, "", host="gone"), LATE)
    with (
        pytest.raises(
            InputError, match=r"on gone, nothing heard since .* drives this study"
        ) as told,
        driver_lock.held(tmp_path / "study", tmp_path, {}, Liveness(), "study", "wait for it"),
    ):
        raise AssertionError
    advice = told.value.help.partition("for good: ")[2]
    assert subprocess.run(
        advice.replace("python", sys.executable, 1), shell=True, cwd=ROOT
    ).returncode == 0  # fmt: skip
    with driver_lock.held(tmp_path / "study", tmp_path, {}, Liveness(), "study", "") as check:
        check()


def test_a_driver_that_was_cut_off_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.state.lease_watch.FENCE_SECONDS", 0.05)
    with driver_lock.held(tmp_path, tmp_path.parent, {}, Liveness(), "search", "") as check:
        held = leases.read(tmp_path)
        assert held is not None
        assert leases.give_up(tmp_path, held)
        with pytest.raises(InputError, match="another driver has taken this search over"):
            wait_for(lambda: bool(check()), 10)


@pytest.mark.parametrize(("mode", "warns"), [(0o777, 1), (0o1777, 1), (0o2775, 0)])
def test_a_folder_that_everybody_may_write_is_told_once(
    store: TrialStore, mode: int, warns: int
) -> None:
    results = store.folder.parent
    results.chmod(mode)
    for command in ("status", "cancel"):
        with forking():
            done = subprocess.run(
                [sys.executable, "-m", f"sweeps.{command}", "sweep", "--results", str(results)],
                capture_output=True, text=True, cwd=ROOT,
            )  # fmt: skip
        assert done.stderr.count("warning: anyone on this machine may write") == warns
