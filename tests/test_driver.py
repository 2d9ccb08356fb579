"""The driver: what is asked is told once, whoever dies when. Trials are written down, not trained,
for the laws; test_search trains them."""

from __future__ import annotations

import contextlib
import math
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from local_machine.errors import InputError
from sweeps.execution.backends.backend import Backend, Work
from sweeps.search.driver import BEST, LAUNCHES, Driver, drive
from sweeps.search.optuna_journal import Journal
from sweeps.search_space.distributions import choice, log_uniform
from sweeps.spec.expand import trial_at
from sweeps.spec.scale import Scale
from sweeps.spec.sweep import Search, Trial
from sweeps.state.plan import Plan
from sweeps.state.trial_store import TrialStore
from trainer.config import TrainConfig
from trainer.recipes import reported
from trial_records import tables, trial_files

EPOCHS = 6
DECAY = "optimizer.weight_decay"


class Killed(BaseException):
    """The driver ends here, as by kill -9."""


@dataclass
class Writer(Backend):
    """Runs a trial by writing what a worker would leave, an epoch a look."""

    store: TrialStore
    kill_at: int = -1  # the how manyeth call dies
    ahead: float = 0.0  # the seconds by which its clock is
    failures: dict[str, str] = field(default_factory=dict)  # cause, by a part of the trial's name
    started: list[str] = field(default_factory=list)
    epochs: dict[str, int] = field(default_factory=dict)
    calls: int = 0
    seconds: float = 0.0
    goes_on: bool = False

    def _called(self) -> None:
        self.calls += 1
        if self.calls == self.kill_at:
            raise Killed

    def holds(self, trial: Trial) -> bool:
        return False

    def submit(self, work: Work) -> None:
        self._called()
        (plan,) = work.plans
        for trial in work.trials:
            self.started.append(trial.name)
            assert trial.name in [one.name for one in self.store.plan(plan.id).trials]
            self._run(trial, work.launch)
        self._called()

    def _run(self, trial: Trial, launch: float) -> None:
        folder = self.store.folder_of(trial)
        folder.mkdir(exist_ok=True)
        for part, cause in self.failures.items():
            if part in trial.name or part == "all":
                failed_at = time.time() + self.ahead
                trial_files.Failure(
                    cause, "Error: x", "", [], 1, failed_at, "h", launches=[launch]
                ).write(folder)
                return
        rows = [
            {"epoch": epoch, "lr": 0.1, "val_accuracy": accuracy(trial.config, epoch), "seconds": 1}
            for epoch in range(EPOCHS)
        ]
        tables.write_table(folder / trial_files.EPOCHS, rows, tables.EPOCHS_SCHEMA)
        run = {
            "fingerprint": trial.config.fingerprint, "status": "done",
            "val_accuracy": max(row["val_accuracy"] for row in rows),
            "val_accuracy_last": rows[-1]["val_accuracy"] - 0.1, "val_images": 500,
            "stopped_early": False, **trial.config.flat(),
        }  # fmt: skip
        tables.write_table(folder / trial_files.RUN, [run], tables.run_schema())

    def poll(self) -> bool:
        self._called()
        return False

    def room(self, configs: Sequence[TrainConfig]) -> int:
        return 1

    def detach(self) -> None:
        """Nothing runs."""

    cancel = detach


def accuracy(config: TrainConfig, epoch: int) -> float:
    distance = abs(math.log10(config.optimizer.weight_decay) + 3)
    return (0.9 - 0.1 * distance) * (1 - 0.5 ** (epoch + 1))


def search(**changes: Any) -> Search:
    values = {
        "base": reported("resnet18").override({"epochs": EPOCHS}),
        "space": {DECAY: log_uniform(1e-5, 1e-2)},
        "pruner": "none",
        **changes,
    }
    return Search(**values)


def driver(results: Path, wanted: Search, trials: int, workers: int, writer: Writer) -> Driver:
    store = writer.store
    folder = store.folder / "searches" / "00000000"
    folder.mkdir(parents=True, exist_ok=True)
    plan = Plan("s", [], "full", {}, [*wanted.space], "c", search={}, search_id="00000000")
    journal = Journal(folder, wanted, {}, EPOCHS)
    return Driver(store, folder, wanted, Scale.FULL, {}, trials, workers, journal, writer, plan)


def run(results: Path, wanted: Search, trials: int, workers: int = 2, **more: Any) -> Driver:
    writer = Writer(TrialStore(results, "s"), **more)
    made = driver(results, wanted, trials, workers, writer)
    assert drive(made, lambda: False, lambda _: None)
    return made


def test_a_search_is_asked_run_and_told(tmp_path: Path) -> None:
    made = run(tmp_path, search(), 12)
    told = made.journal.told()
    assert [one.state for one in told] == [TrialState.COMPLETE] * 12
    assert [one.number for one in told] == list(range(12))
    names = [one.user_attrs["trial"] for one in told]
    assert Counter(made.backend.started) == Counter(names)  # type: ignore[attr-defined]
    for one in told:
        assert len(one.intermediate_values) == EPOCHS
    best = TrainConfig.from_file(made.folder / BEST)
    assert best.optimizer.weight_decay == made.journal.complete()[0].params[DECAY]
    plan = made.store.plan("00000000")
    assert [trial.name for trial in plan.trials] == list(dict.fromkeys(names))
    points = {trial.name: trial.point for trial in plan.trials}
    assert [points[one.user_attrs["trial"]] for one in told] == [one.params for one in told]
    assert plan.id == "00000000"


@pytest.mark.long
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.integers(1, 9), max_size=6), st.integers(1, 4), st.integers(1, 9))
def test_killed_anywhere_and_started_again_nothing_is_twice_or_lost(
    tmp_path_factory: pytest.TempPathFactory, kills: list[int], workers: int, trials: int
) -> None:
    results = tmp_path_factory.mktemp("r")
    started: Counter[str] = Counter()
    for kill_at in [*kills, -1]:
        writer = Writer(TrialStore(results, "s"), kill_at)
        made = driver(results, search(), trials, workers, writer)
        with contextlib.suppress(Killed):
            drive(made, lambda: False, lambda _: None)
        started.update(writer.started)
    told = made.journal.told()
    assert [one.state for one in told] == [TrialState.COMPLETE] * trials
    assert set(started.values()) <= {1}
    assert made.journal.asked == trials
    assert not made.journal.running()


def test_never_more_at_once_than_asked(tmp_path: Path) -> None:
    most = 0

    def show(one: Driver) -> None:
        nonlocal most
        most = max(most, len(one.running))

    writer = Writer(TrialStore(tmp_path, "s"))
    made = driver(tmp_path, search(), 10, 3, writer)
    assert drive(made, lambda: False, show)
    assert most == 3


def test_what_a_grid_has_done_is_told_without_training(tmp_path: Path) -> None:
    """The grid called its trials by other names, which they keep."""
    values = [1e-4, 1e-3]
    store = TrialStore(tmp_path, "s")
    base = search().base
    grid = [
        Trial.of(f"grid{number}-{base.override({DECAY: value}).fingerprint[:8]}", {DECAY: value},
              base.override({DECAY: value}))
        for number, value in enumerate(values)
    ]  # fmt: skip
    store.write_plan(Plan("s", grid, "full", {}, [DECAY], "c"))
    for trial in grid:
        store.folder_of(trial).mkdir(parents=True)
        Writer(store)._run(trial, 1.0)
    wanted = search(sampler="grid", space={DECAY: choice([*values, 1e-2])})
    made = run(tmp_path, wanted, 3)
    (started,) = made.backend.started  # type: ignore[attr-defined]
    assert "weight_decay0.01" in started
    names = {one.user_attrs["trial"] for one in made.journal.told()}
    assert names == {grid[0].name, grid[1].name, started}
    assert made.journal.complete()[0].params[DECAY] == 1e-3


def test_the_last_epochs_accuracy_by_option(tmp_path: Path) -> None:
    best = run(tmp_path / "a", search(), 1).journal.complete()[0]
    last = run(tmp_path / "b", search(objective="last"), 1).journal.complete()[0]
    assert best.params == last.params
    assert best.value is not None and last.value == pytest.approx(best.value - 0.1)


@pytest.mark.parametrize("ahead", [-3600.0, 0.0, 3600.0])
def test_a_failure_is_told_as_one_and_a_divergence_as_the_worst(
    tmp_path: Path, ahead: float
) -> None:
    """Whatever the clock says of the machine that the trial failed on."""
    start = [{DECAY: value} for value in (1e-3, 1e-4, 1e-5)]
    failures = {"weight_decay0.0001-": "NONFINITE", "weight_decay1e_05-": "DATA"}
    made = run(tmp_path, search(start=start), 4, failures=failures, ahead=ahead)
    assert len(made.backend.started) == 4  # type: ignore[attr-defined]
    good, diverged, failed, other = made.journal.told()
    assert (good.state, other.state) == (TrialState.COMPLETE, TrialState.COMPLETE)
    assert (diverged.state, diverged.value) == (TrialState.COMPLETE, 0.0)
    assert diverged.user_attrs["cause"] == "NONFINITE"
    assert (failed.state, failed.value) == (TrialState.FAIL, None)
    assert failed.user_attrs["cause"] == "DATA: Error: x"


def test_a_search_whose_every_trial_fails_stops_with_the_common_cause(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the first 3 trials failed: DATA: Error: x") as caught:
        run(tmp_path, search(), 20, workers=1, failures={"all": "DATA"})
    assert caught.value.exit_code == 1
    failed = [path.parent.name for path in tmp_path.rglob(trial_files.FAILURE)]
    made = run(tmp_path, search(), 5)  # fixed: the same command goes on, and tries them again
    assert Counter(one.state.name for one in made.journal.told()) == {"FAIL": 3, "COMPLETE": 5}
    done = {one.user_attrs["trial"] for one in made.journal.complete()}
    assert len(done) == 5 and done >= set(failed)
    assert run(tmp_path, search(), 5).backend.started == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("ahead", [-60.0, 3600.0])
def test_a_failure_from_before_is_tried_again(tmp_path: Path, ahead: float) -> None:
    store = TrialStore(tmp_path, "s")
    trial = trial_at(search(), {DECAY: 1e-3}, Scale.FULL, {})
    store.folder_of(trial).mkdir(parents=True)
    trial_files.Failure("ERROR", "x", "", [], 1, time.time() + ahead, "h").write(
        store.folder_of(trial)
    )
    made = run(tmp_path, search(start=[{DECAY: 1e-3}]), 1)
    assert made.backend.started == [trial.name]  # type: ignore[attr-defined]


def test_the_same_values_twice_are_one_trial(tmp_path: Path) -> None:
    made = run(tmp_path, search(sampler="random", space={DECAY: choice([1e-3, 1e-4])}), 6)
    told = made.journal.told()
    assert len(told) == 6
    assert len(made.backend.started) == len({one.user_attrs["trial"] for one in told}) == 2  # type: ignore[attr-defined]


def test_values_that_go_together_in_no_configuration_fail_alone(tmp_path: Path) -> None:
    """Now, and for every driver after."""
    space = {"epochs": choice([6, 3]), "schedule.warmup_epochs": choice([0, 5])}
    for _ in range(2):
        made = run(tmp_path, search(space=space, sampler="grid"), 4)
        failed = [one for one in made.journal.told() if one.state is TrialState.FAIL]
        assert {tuple(one.params.values()) for one in failed} == {(3, 5)}
        assert len(made.journal.complete()) == 3
    assert "warmup_epochs=5 must be less" in failed[0].user_attrs["cause"]


def test_the_best_configuration_is_there_whoever_removed_it(tmp_path: Path) -> None:
    made = run(tmp_path, search(), 3)
    text = (made.folder / BEST).read_text()
    for damage in ("", "{"):
        (made.folder / BEST).write_text(damage)
        run(tmp_path, search(), 3)
        assert (made.folder / BEST).read_text() == text
    (made.folder / BEST).unlink()
    run(tmp_path, search(), 3)
    assert (made.folder / BEST).read_text() == text


def test_fewer_workers_after_a_kill_start_fewer(tmp_path: Path) -> None:
    class Slow(Writer):
        """Its trials stay pending: nothing is written."""

        def _run(self, trial: Trial, launch: float) -> None:
            pass

        def holds(self, trial: Trial) -> bool:
            return trial.name in self.started

    for workers in (4, 1):
        writer = Slow(TrialStore(tmp_path, "s"))
        made = driver(tmp_path, search(), 8, workers, writer)
        made.step()
        made.step()
        assert len(writer.started) == workers
        assert len(made.running) == 4


def test_begun_anew_the_old_trials_stay_in_a_plan(tmp_path: Path) -> None:
    first = run(tmp_path, search(), 3)
    shutil.move(first.folder, tmp_path / "before")
    wider = search(space={DECAY: log_uniform(1e-6, 1e-2)}, seed=7)
    run(tmp_path, wider, 2)
    planned = {trial.name for plan in first.store.plans() for trial in plan.trials}
    assert planned == {path.parent.name for path in tmp_path.rglob(trial_files.RUN)}
    assert len(planned) == 5


def test_what_a_launch_runs_is_not_pruned(tmp_path: Path) -> None:
    """Only attempts that this search started, by their leases."""
    made = run(tmp_path, search(start=[{DECAY: 1e-3}], pruner="successive_halving"), 1)
    wanted = search(start=[{DECAY: 1e-3}, {DECAY: 1e-5}], pruner="successive_halving")
    trial = trial_at(wanted, {DECAY: 1e-5}, Scale.FULL, {})
    store = made.store
    rows = [{"epoch": epoch, "lr": 0.1, "val_accuracy": 0.01, "seconds": 1.0} for epoch in range(4)]
    for launch, pruned in ((5.0, False), (None, True)):
        lease = store.lease(trial, launch or 0.0, "log")
        assert lease is not None
        folder = store.folder_of(trial)
        tables.write_table(folder / trial_files.EPOCHS, rows, tables.EPOCHS_SCHEMA)
        again = driver(tmp_path, wanted, 2, 1, Writer(store))
        again.step()
        ((asked, _),) = again.running.values()
        if launch is None:
            asked.set_user_attr(LAUNCHES, [0.0])
            again.step()
        assert (folder / trial_files.PRUNED).exists() == pruned
        store.release(trial, lease)
        (folder / trial_files.PRUNED).unlink(missing_ok=True)


def test_a_damaged_run_fails_its_trial_alone(tmp_path: Path) -> None:
    class Damaging(Writer):
        def _run(self, trial: Trial, launch: float) -> None:
            super()._run(trial, launch)
            if len(self.started) == 1:
                (self.store.folder_of(trial) / trial_files.RUN).write_bytes(b"PAR1")

    writer = Damaging(TrialStore(tmp_path, "s"))
    made = driver(tmp_path, search(), 3, 1, writer)
    assert drive(made, lambda: False, lambda _: None)
    first, *others = made.journal.told()
    assert first.state is TrialState.FAIL
    assert "is damaged" in first.user_attrs["cause"]
    assert {one.state for one in others} == {TrialState.COMPLETE}
