"""A worker's run through a sweep: what it looks at, what it keeps, when it stops."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from outcome import assert_one_at_a_time, attempts, outcome

import trainer.data.datasets
import trainer.train
from sweeps.execution.shutdown import Stop
from sweeps.execution.trial_order import shape_of
from sweeps.execution.worker import Worker
from sweeps.run.handle import Run
from sweeps.spec.expand import expand
from sweeps.spec.grid import grid
from sweeps.spec.sweep import Sweep, Trial
from sweeps.state.trial_store import Standing, State, TrialStore
from trainer import process_cache
from trainer.alone import train_alone
from trainer.config import TrainConfig
from trainer.recipes import reported
from trainer.records.history import Row

TINY = reported("wrn_10_1").override(
    {"data.name": "digits", "data.train_limit": 100, "data.test_limit": 100, "epochs": 1,
     "batch_size": 64, "model.width": 0.5},
)  # fmt: skip


def trials(**axes: list[int] | list[float] | list[str]) -> list[Trial]:
    return expand(Sweep(base=TINY, space=grid(axes)))


class Looks(TrialStore):
    """A store that counts how often each trial is looked at."""

    def __init__(self, results: Path) -> None:
        super().__init__(results, "sweep")
        self.looks: Counter[str] = Counter()

    def standings(self, trials: Iterable[Trial]) -> list[Standing]:
        trials = list(trials)
        self.looks.update(one.name for one in trials)
        return super().standings(trials)


@pytest.fixture
def store(tmp_path: Path) -> Looks:
    return Looks(tmp_path)


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """Trials that take no time, in the order in which they were run."""
    ran: list[TrainConfig] = []

    def train(config: TrainConfig, run: Run, *_: object) -> Row:
        ran.append(config)
        return {"val_accuracy": 0.5, "test_accuracy": 0.5, "seconds": 2.0, "epochs_run": 1}

    monkeypatch.setattr(trainer.train, "train", train)
    return ran


@pytest.mark.long
def test_no_trial_is_looked_at_again_once_it_is_over(
    store: Looks, instant: list[TrainConfig]
) -> None:
    many = trials(seed=list(range(300)))
    theirs = store.lease(many[7], 1.0, "another, which lives")
    assert theirs is not None
    assert not Worker(store, 1.0, "log").run(many)
    assert len(instant) == 299
    # The one that another holds is looked at once more, at the end.
    assert store.looks == Counter({one.name: 1 for one in many}) + Counter({many[7].name: 1})


def test_what_another_gave_back_meanwhile_is_run(
    store: Looks, instant: list[TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    many = trials(seed=[0, 1, 2])
    theirs = store.lease(many[0], 1.0, "another")
    assert theirs is not None
    worker, run = Worker(store, 1.0, "log"), Worker.run_leased

    def run_leased(self: Worker, trial: Trial, lease: object) -> bool:
        if trial == many[2]:
            store.release(many[0], theirs)
        return run(self, trial, lease)  # type: ignore[arg-type]

    monkeypatch.setattr(Worker, "run_leased", run_leased)
    assert not worker.run(many)
    assert [config.seed for config in instant] == [1, 2, 0]


def test_two_workers_keep_to_shapes_of_their_own(store: Looks, instant: list[TrainConfig]) -> None:
    many = trials(batch_size=[32, 64], seed=[0, 1, 2])
    Worker(store, 1.0, "log", slot=1).run(many)
    ran = [shape_of(Trial.of("", {}, config)) for config in instant]
    changes = [shape for shape, _ in itertools.groupby(ran)]
    assert len(changes) == 2
    assert instant[0].batch_size == 64


# Time limits


def test_a_worker_stops_where_its_own_pace_says_that_no_trial_fits(
    store: Looks, instant: list[TrainConfig]
) -> None:
    """Two seconds an epoch, by the first; ten more around them."""
    many = trials(seed=[0, 1, 2])
    worker = Worker(store, 1.0, "log", ends=time.time() + 11.0, limit=100.0)
    assert worker.run(many)
    assert len(instant) == 1
    assert [one.state for one in store.standings(many)].count(State.PENDING) == 2
    worker.ends = time.time() + 20.0
    assert not worker.run(many)
    assert len(instant) == 3


def test_where_the_longest_no_longer_fits_a_shorter_one_is_taken(
    store: Looks, instant: list[TrainConfig]
) -> None:
    many = trials(batch_size=[16, 32, 64])
    seconds = {many[0].name: 300.0, many[1].name: 200.0, many[2].name: 10.0}
    worker = Worker(
        store, 1.0, "log", seconds=seconds, ends=time.time() + 100.0, limit=400.0,
    )  # fmt: skip
    assert worker.run(many)
    # The first is begun whatever it takes: so an attempt always gets on.
    assert [config.batch_size for config in instant] == [16, 64]


def test_a_trial_longer_than_any_start_of_the_worker_is_begun_all_the_same(
    store: Looks, instant: list[TrainConfig]
) -> None:
    many = trials(seed=[0, 1])
    worker = Worker(store, 1.0, "log", ends=time.time() + 5.0, limit=6.0)
    assert not worker.run(many)
    assert len(instant) == 2


def test_a_worker_that_was_asked_to_stop_begins_nothing(
    store: Looks, instant: list[TrainConfig]
) -> None:
    assert Worker(store, 1.0, "log", stop=Stop(warned=True)).run(trials(seed=[0, 1]))
    assert not instant


# What is kept


@pytest.mark.long
def test_a_trial_is_the_same_whether_it_is_a_workers_first_or_a_later_one(tmp_path: Path) -> None:
    mixed = trials(**{
        "augment.mixup": [0.0, 0.3], "augment.crop_padding": [2, 4], "optimizer.lr": [0.1],
        "data.split_seed": [1, 2],
    })  # fmt: skip
    forward, backward = (
        TrialStore(tmp_path / "forward", "sweep"),
        TrialStore(tmp_path / "back", "sweep"),
    )
    assert not Worker(forward, 1.0, "log").run(mixed)
    for number, trial in enumerate(reversed(mixed)):
        if number % 3 == 0:
            process_cache._dataset.drop()
            process_cache._resident.drop()
        assert not Worker(backward, 1.0, "log").run([trial])
    found = outcome(tmp_path / "forward")
    assert len(found) == 8
    assert outcome(tmp_path / "back") == found


@pytest.mark.long
def test_the_second_trial_reads_no_data_and_the_next_data_set_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []
    load = trainer.data.datasets.load
    monkeypatch.setattr(
        process_cache, "load", lambda config: (read.append(config), load(config))[1]
    )
    process_cache._dataset.drop()
    process_cache._resident.drop()
    other = TINY.override({"data.split_seed": 7})
    for number, config in enumerate([TINY, TINY.override({"seed": 5}), other, TINY]):
        train_alone(config, tmp_path / str(number))
    assert read == [TINY.data, other.data, TINY.data]


def test_read_ahead_leaves_it_to_the_trial_to_say_what_is_wrong(tmp_path: Path) -> None:
    nowhere = TINY.override({"data.name": "cifar10", "data.root": str(tmp_path / "none")}).data
    process_cache.read_ahead(nowhere)
    with pytest.raises(trainer.data.datasets.InputError, match="no such folder"):
        process_cache.dataset(nowhere)


def test_attempts_that_overlap_are_seen(tmp_path: Path) -> None:
    """What the tests that kill workers rest on."""
    form = "2026-01-01 00:00:{:02d},000 {}\n"
    for name, begin, end in (("a", 1, 5), ("b", 4, 8)):
        text = form.format(begin, "=== trial x, attempt 1") + form.format(end, "=== end of x")
        (tmp_path / name).write_text(text)
    assert len(attempts([tmp_path / "a", tmp_path / "b"])["x"]) == 2
    with pytest.raises(AssertionError, match="at once"):
        assert_one_at_a_time([tmp_path / "a", tmp_path / "b"])
