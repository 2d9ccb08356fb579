"""Leases and states: one winner, whoever dies when."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from local_machine import processes
from local_machine.errors import InputError
from sweeps.spec.expand import expand
from sweeps.spec.find import find
from sweeps.spec.sweep import Sweep, Trial
from sweeps.state import lease as leases
from sweeps.state.lease import CLAIM, Lease
from sweeps.state.plan import Plan
from sweeps.state.trial_store import State, TrialStore, launched, resolve
from trainer.recipes import reported
from trial_records import trial_files

# The store imports no torch, so forking a racer takes a millisecond.
FORK = multiprocessing.get_context("fork")
RACERS = 6


@pytest.fixture
def trial() -> Trial:
    return expand(Sweep(base=reported("resnet18")))[0]


@pytest.fixture
def store(tmp_path: Path) -> TrialStore:
    return TrialStore(tmp_path, "sweep")


def race(action: Callable[[], Any], rounds: Callable[[int], None], count: int) -> list[list[bool]]:
    """Whether each of RACERS processes won, in each of `count` rounds; `rounds` sets one up."""
    barrier = FORK.Barrier(RACERS + 1)
    queue = FORK.Queue()

    def racer(barrier: Barrier) -> None:
        for number in range(count):
            barrier.wait()
            queue.put((number, action() is not None))
            barrier.wait()
        # Stay: a racer that ended would turn its leases into dead ones.
        barrier.wait()

    processes = [FORK.Process(target=racer, args=(barrier,)) for _ in range(RACERS)]
    for one in processes:
        one.start()
    won: list[list[bool]] = [[] for _ in range(count)]
    for number in range(count):
        rounds(number)
        barrier.wait(30)
        barrier.wait(30)
        for _ in range(RACERS):
            index, winner = queue.get(timeout=30)
            won[index].append(winner)
    barrier.wait(30)
    for one in processes:
        one.join(30)
    return won


def lease_of_the_dead(store: TrialStore, trial: Trial) -> Lease:
    """A lease whose process has ended, as its death left it."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    started = processes.started(child.pid)
    assert started
    child.kill()
    child.wait()
    lease = Lease(3, 0, 0.0, "log", pid=child.pid, process_started=started)
    folder = store.folder_of(trial)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CLAIM).write_text(json.dumps(asdict(lease)))
    return lease


def test_one_of_many_wins_a_free_trial(store: TrialStore, trial: Trial) -> None:
    folder = store.folder_of(trial)

    def free(_: int) -> None:
        (folder / CLAIM).unlink(missing_ok=True)

    for winners in race(lambda: store.lease(trial, 1.0, ""), free, 40):
        assert sum(winners) == 1


def test_one_of_many_wins_a_dead_lease(store: TrialStore, trial: Trial) -> None:
    for winners in race(
        lambda: store.lease(trial, 1.0, ""), lambda _: void(lease_of_the_dead(store, trial)), 25
    ):
        assert sum(winners) == 1
    assert not list(store.folder_of(trial).glob(".*.part"))


def void(_: object) -> None:
    """Takes a value and returns none."""


def test_a_broken_claim_counts_its_attempts_and_deaths(store: TrialStore, trial: Trial) -> None:
    dead = lease_of_the_dead(store, trial)
    assert store.standing(trial).state is State.LOST
    lease = store.lease(trial, 1.0, "")
    assert lease is not None
    assert (lease.attempt, lease.deaths) == (dead.attempt + 1, 1)
    assert store.standing(trial).state is State.RUNNING
    # A death within the same launch adds up; one from an earlier launch does not.
    for launch, deaths in ((1.0, 2), (2.0, 1)):
        leases.clear(store.folder_of(trial))
        body = replace(lease, deaths=1, pid=dead.pid, process_started=dead.process_started)
        (store.folder_of(trial) / CLAIM).write_text(json.dumps(asdict(body)))
        again = store.lease(trial, launch, "")
        assert again is not None
        assert again.deaths == deaths


def test_a_living_claim_is_left_alone(store: TrialStore, trial: Trial) -> None:
    lease = store.lease(trial, 1.0, "")
    assert lease is not None
    assert store.lease(trial, 1.0, "") is None
    assert store.standing(trial).lease == lease


def test_a_breaker_that_died_half_way_is_itself_broken(store: TrialStore, trial: Trial) -> None:
    first = lease_of_the_dead(store, trial)
    folder = store.folder_of(trial)
    text = (folder / CLAIM).read_text()
    second = lease_of_the_dead(store, trial)  # will be the successor that was never installed
    (folder / CLAIM).rename(folder / f".{CLAIM}.{first.token}.next")
    (folder / CLAIM).write_text(text)
    assert store.standing(trial).lease == second
    lease = store.lease(trial, 1.0, "")
    assert lease is not None
    assert lease.attempt == second.attempt + 1


def test_a_breaker_about_to_install_holds_the_trial(store: TrialStore, trial: Trial) -> None:
    dead = lease_of_the_dead(store, trial)
    folder = store.folder_of(trial)
    living = Lease(dead.attempt + 1, 1, 1.0, "")
    (folder / f".{CLAIM}.{dead.token}.next").write_text(json.dumps(asdict(living)))
    assert store.standing(trial).state is State.RUNNING
    assert store.lease(trial, 1.0, "") is None


def test_a_slow_breaker_of_a_trial_that_is_done_leaves_nothing(
    store: TrialStore, trial: Trial
) -> None:
    """It read the dead lease, and slept until another had finished the trial."""
    dead = lease_of_the_dead(store, trial)
    folder = store.folder_of(trial)
    leases.clear(folder)
    assert not leases.install(folder, dead, Lease(2, 0, 1.0, ""))
    assert not list(folder.iterdir())


def test_a_slow_giver_back_takes_no_trial_from_its_next_holder(
    store: TrialStore, trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It saw that it holds the trial, and slept while a person gave it up and another took it."""
    mine = store.lease(trial, 1.0, "")
    assert mine is not None
    folder = store.folder_of(trial)
    assert leases.give_up(folder, mine)
    other = store.lease(trial, 2.0, "")
    with monkeypatch.context() as patch:
        patch.setattr(leases, "read", lambda folder: mine)
        store.release(trial, mine)
        assert not leases.give_up(folder, mine)
    assert store.standing(trial).lease == other
    assert other is not None


def test_what_was_given_back_is_taken_again(store: TrialStore, trial: Trial) -> None:
    for _ in range(3):
        lease = store.lease(trial, 1.0, "")
        assert lease is not None
        assert (lease.attempt, lease.deaths) == (1, 0)
        store.release(trial, lease)
        assert store.standing(trial).state is State.PENDING
    (store.folder_of(trial) / trial_files.RUN).write_bytes(b"")
    assert store.lease(trial, 1.0, "") is None
    lease = leases.take(store.folder_of(trial), Lease(1, 0, 1.0, ""), lambda *_: True)
    assert lease is not None
    store.finish(trial, lease)
    assert [path.name for path in store.folder_of(trial).iterdir()] == [trial_files.RUN]


def test_a_slow_breaker_steps_back(
    store: TrialStore, trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It read the dead lease, slept while another broke it, and goes on from what it read."""
    dead = lease_of_the_dead(store, trial)
    folder = store.folder_of(trial)
    winner = TrialStore(store.folder.parent, store.sweep).lease(trial, 1.0, "")
    real = leases._last
    answers = iter([dead])
    monkeypatch.setattr(leases, "_last", lambda folder: next(answers, None) or real(folder))
    assert store.lease(trial, 1.0, "") is None
    assert not list(folder.glob(".*.part"))
    assert store.standing(trial).lease == winner


def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen(["true"])
    since = processes.started(child.pid)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and processes.started(child.pid):
        time.sleep(0.01)
    assert processes.started(child.pid) == ""  # not waited for yet
    assert processes.is_gone(child.pid, since)
    child.wait()


def test_another_process_of_the_same_number_is_no_life() -> None:
    assert not Lease(1, 0, 0.0, "").has_died_here
    assert Lease(1, 0, 0.0, "", process_started="1").has_died_here


def test_release_leaves_another_workers_lease(store: TrialStore, trial: Trial) -> None:
    lease = store.lease(trial, 1.0, "")
    assert lease is not None
    store.release(trial, replace(lease, token="other"))
    assert store.standing(trial).state is State.RUNNING
    store.release(trial, lease)
    assert store.standing(trial).state is State.PENDING
    store.release(trial, lease)


def failure(attempt: int = 1) -> trial_files.Failure:
    return trial_files.Failure("ERROR", "ValueError: x", "tb", ["line"], attempt, 5.0, "host")


def test_failure_and_its_next_attempt(store: TrialStore, trial: Trial) -> None:
    lease = store.lease(trial, 1.0, "")
    assert lease is not None
    store.fail(trial, lease, failure(lease.attempt))
    standing = store.standing(trial)
    assert (standing.state, standing.failure) == (State.FAILED, replace(failure(), launches=[1.0]))
    again = store.lease(trial, 2.0, "")
    assert again is not None
    assert again.attempt == 2
    (store.folder_of(trial) / trial_files.RUN).touch()
    store.finish(trial, again)
    assert store.standing(trial).state is State.DONE
    assert not (store.folder_of(trial) / trial_files.FAILURE).exists()


def test_a_done_trial_is_not_claimed(store: TrialStore, trial: Trial) -> None:
    store.folder_of(trial).mkdir(parents=True)
    (store.folder_of(trial) / trial_files.RUN).touch()
    assert store.lease(trial, 1.0, "") is None
    assert store.standing(trial).state is State.DONE


def plan_of(name: str, seeds: int = 1) -> Plan:
    _, sweep = find(name)
    return Plan("sweep", expand(sweep, seeds=seeds), "full", {}, [], "command")


def test_plans_come_back_and_the_same_trials_are_one_plan(store: TrialStore) -> None:
    plan = plan_of("grid_bs_epoch")
    store.write_plan(plan)
    path = store.folder / "plans" / f"{plan.id}.json"
    written = path.read_bytes()
    store.write_plan(replace(plan, command="another", created="2000-01-01T00:00:00+00:00"))
    assert path.read_bytes() == written
    store.write_plan(plan_of("grid_bs_epoch", seeds=2))
    assert len(store.plans()) == 2
    assert store.plan(plan.id) == plan
    assert resolve(store.folder.parent, "sweep").sweep == "sweep"
    assert launched(store.folder.parent) == ["sweep"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda values: "{",
        lambda values: "[]",
        lambda values: json.dumps({**values, "trials": 3}),
        lambda values: json.dumps({**values, "trials": []}),
        lambda values: json.dumps({**values, "axes": [1]}),
        lambda values: json.dumps({**values, "created": None}),
        lambda values: json.dumps({**values, "command": ["x"]}),
        lambda values: "[" * 100_000,
        lambda values: json.dumps({**values, "trials": [{**values["trials"][0], "name": "logs"}]}),
        lambda values: json.dumps({k: v for k, v in values.items() if k != "scale"}),
        lambda values: json.dumps(
            {**values, "trials": [{**values["trials"][0], "name": "../../x"}]}
        ),
    ],
)
def test_a_damaged_plan_is_named_and_left(store: TrialStore, damage: Any) -> None:
    plan = plan_of("wrn_final")
    store.write_plan(plan)
    path = store.folder / "plans" / f"{plan.id}.json"
    path.write_text(damage(json.loads(path.read_text())))
    before = path.read_bytes()
    with pytest.raises(InputError, match=plan.id):
        store.plans()
    assert path.read_bytes() == before


def test_a_damaged_claim_is_its_own_trials_problem(store: TrialStore, trial: Trial) -> None:
    store.folder_of(trial).mkdir(parents=True)
    for text in ("{", '{"token": 1}', "", "[]", '{"attempt": 1, "boot": 5}'):
        (store.folder_of(trial) / CLAIM).write_text(text)
        standing = store.standing(trial)
        assert standing.state is State.UNKNOWN
        assert standing.problem is not None
        assert CLAIM in standing.problem


def test_a_claim_survives_no_holder(store: TrialStore, trial: Trial) -> None:
    """A process killed while it holds a trial: lost, then leased by the next."""
    pid = os.fork()
    if pid == 0:
        store.lease(trial, 1.0, "")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert store.standing(trial).state is State.LOST
    lease = store.lease(trial, 1.0, "")
    assert lease is not None
    assert (lease.attempt, lease.deaths) == (2, 1)


def test_a_configuration_keeps_the_name_that_a_plan_gave_it(
    store: TrialStore, trial: Trial
) -> None:
    """Also before its folder is there: two names would be two attempts at once."""
    store.write_plan(Plan("sweep", [trial], "full", {}, [], "command"))
    longer = Trial.of(f"dropout0-{trial.name}", {"model.dropout": 0.0}, trial.config)
    assert [one.name for one in store.settle_names([longer])] == [trial.name]


def test_only_a_process_of_this_machine_is_ones_own() -> None:
    lease = Lease(1, 0, 0.0, "")
    assert lease.is_own_process
    boot, _, _ = lease.boot.partition("/")
    for other in (
        replace(lease, boot=f"{boot}/pid:[1]"),
        replace(lease, process_started="1"),
        replace(lease, host="elsewhere"),
    ):
        assert not other.is_own_process


def test_a_neighbours_odd_folder_is_no_sweep(store: TrialStore) -> None:
    store.write_plan(plan_of("wrn_final"))
    for name in (".hidden", "two words"):
        (store.folder.parent / name / "plans").mkdir(parents=True)
    assert launched(store.folder.parent) == ["sweep"]
