"""Which trial a worker takes next: long before short, like after like, each once."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sweeps.execution.trial_order import Order, read_seconds, shape_of, write_seconds
from sweeps.spec.expand import expand
from sweeps.spec.grid import grid
from sweeps.spec.sweep import Sweep, Trial
from sweeps.state.trial_store import TrialStore
from trainer.recipes import reported

SHAPES = {"batch_size": [32, 64, 128], "model.width": [0.5, 1.0]}
LRS = [0.001 * n for n in range(1, 5)]
TRIALS = expand(
    Sweep(base=reported("wrn_10_1"), space=grid({**SHAPES, "optimizer.lr": LRS, "epochs": [3, 20]}))
)


def taken(order: Order) -> list[Trial]:
    return list(iter(order.next, None))


@given(
    st.dictionaries(st.sampled_from([one.name for one in TRIALS]), st.floats(0.1, 1e5)),
    st.integers(0, 100),
)
def test_each_once_and_none_after_one_of_less_than_half_its_length(
    seconds: dict[str, float], slot: int
) -> None:
    trials = taken(Order(TRIALS, seconds, slot))
    assert sorted(one.name for one in trials) == sorted(one.name for one in TRIALS)
    lengths = [seconds[one.name] for one in trials if one.name in seconds]
    shortest = float("inf")
    for length in lengths:
        assert length <= 2 * shortest
        shortest = min(shortest, length)


def test_like_follows_like_and_the_long_ones_come_first() -> None:
    trials = taken(Order(TRIALS, {}))
    half = len(trials) // 2
    assert {one.config.epochs for one in trials[:half]} == {20}
    for part in (trials[:half], trials[half:]):
        shapes = [shape for shape, _ in itertools.groupby(shape_of(one) for one in part)]
        assert len(shapes) == len(set(shapes)) == 6
    # From the long ones to the short ones without a change.
    assert shape_of(trials[half - 1]) == shape_of(trials[half])


def test_the_shape_of_the_longest_comes_first() -> None:
    longest = TRIALS[-3]
    assert Order(TRIALS, {one.name: 100.0 + (one == longest) for one in TRIALS}).next() == longest


def test_workers_that_start_at_once_begin_at_trials_of_their_own_and_at_other_shapes() -> None:
    first = [Order(TRIALS, {}, slot).next() for slot in range(24)]
    assert len({one.name for one in first if one}) == 24
    assert len({shape_of(one) for one in first[:6] if one}) == 6
    assert {one.config.epochs for one in first if one} == {20}


def test_ten_thousand_trials_are_ordered_while_nobody_waits() -> None:
    many = [Trial.of(f"{one.name}-{n}", {}, one.config) for n in range(209) for one in TRIALS]
    started = time.perf_counter()
    assert len(taken(Order(many, {}))) == len(many) > 10_000
    assert time.perf_counter() - started < 5.0


def test_what_the_launch_predicted_reaches_the_worker(tmp_path: Path) -> None:
    store = TrialStore(tmp_path, "sweep")
    write_seconds(store, "one", {"a": 2.0})
    write_seconds(store, "two", {"b": 3.0})
    assert read_seconds(store, ["one", "two", "three"]) == {"a": 2.0, "b": 3.0}
    (tmp_path / "sweep/logs/.seconds-one.json").write_text('{"a": "soon"}')
    (tmp_path / "sweep/logs/.seconds-two.json").write_text("[")
    assert read_seconds(store, ["one", "two"]) == {}
