"""Spaces: conditional ranges, functions of a trial, constraints. Nothing is trained here."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from local_machine.errors import InputError
from sweeps import Search, choice, integers, log_integers, log_uniform, minimize, uniform
from sweeps.search.optuna_journal import JOURNAL, WHERE, Journal, grid_size, is_refused
from sweeps.search.runner import Asked
from sweeps.search_space.base import SearchSpace
from sweeps.search_space.distributions import Choice, Range
from sweeps.search_space.given import space_of
from sweeps.search_space.tree import RangeTree
from sweeps.spec.scale import Scale


@dataclass
class Config:
    optimizer: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.0
    batch_size: int = 64
    nesterov: bool = False
    seed: int = 0


def train(config: Config, run: Any) -> None:
    """Of this file."""


TREE: Mapping[str, Range] = {
    "optimizer": choice(
        sgd={
            "lr": log_uniform(1e-3, 1),
            "momentum": uniform(0, 0.99),
            "nesterov": choice([False, True]),
        },
        adamw={"lr": log_uniform(1e-5, 1e-2)},
        lion={},
    ),
    "batch_size": log_integers(16, 256),
}


def asked_of(trial: Any) -> dict[str, Any]:
    """TREE, as a function."""
    name = trial.suggest_categorical("optimizer", ["sgd", "adamw", "lion"])
    point = {"optimizer": name, "batch_size": trial.suggest_int("batch_size", 16, 256, log=True)}
    if name == "sgd":
        point["lr"] = trial.suggest_float("lr", 1e-3, 1, log=True)
        point["momentum"] = round(1 - trial.suggest_float("damping", 0.01, 1), 6)
    elif name == "adamw":
        point["lr"] = trial.suggest_float("lr", 1e-5, 1e-2, log=True)
    return point


def search(space: Any = TREE, **changes: Any) -> Search:
    given_: dict[str, Any] = {"sampler": "random", "pruner": "none", **changes}
    return Search(train, base=Config(), space=space, objective=minimize("loss"), **given_)


def opened(folder: Path, wanted: Search) -> Journal:
    return Journal(folder, wanted, {}, 10)


def held(point: Mapping[str, Any], ranges: Mapping[str, Range]) -> set[str]:
    """The fields that a point of the ranges must have; each value is checked."""
    fields = set()
    for key, one in ranges.items():
        assert one.holds(point[key]), (key, one)
        fields.add(key)
        if isinstance(one, Choice) and one.branches:
            fields |= held(point, one.branches[point[key]])
    return fields


@st.composite
def trees(draw: st.DrawFn, depth: int = 2, names: Iterator[int] | None = None) -> dict[str, Range]:
    names = names or itertools.count()
    found: dict[str, Range] = {}
    plain = [uniform(0, 1), log_uniform(1e-3, 1), integers(0, 9), log_integers(1, 64)]
    for _ in range(draw(st.integers(1, 3))):
        key = f"f{next(names)}"
        if depth and draw(st.booleans()):
            under = [draw(trees(depth - 1, names)) for _ in range(draw(st.integers(0, 2)))]
            # One field in several branches, with a range of its own in each.
            shared = f"f{next(names)}"
            branches: dict[Any, Any] = {
                f"b{place}": {**one, shared: uniform(place, place + 2)}
                for place, one in enumerate(under)
            }
            found[key] = choice({**branches, "none": {}})
        else:
            found[key] = draw(st.sampled_from([*plain, choice(["a", "b"])]))
    return found


@given(trees(), st.integers(0, 2**31))
def test_a_point_lies_in_one_branch_and_is_found_again(ranges: dict[str, Range], seed: int) -> None:
    space = space_of(ranges)
    assert isinstance(space, RangeTree)
    for one in [space.drawn(random.Random(seed)), *space.explored]:
        assert (
            held(one.point, ranges) == {*one.point} == {space._field(name) for name in one.params}
        )
        assert len(one.params) == len(one.point)
        again = space.at({**one.point, "another": 1})
        assert (again.point, again.params) == (one.point, one.params)
        assert json.loads(json.dumps(one.point)) == one.point
    # Every branch is looked at, and every field is known.
    seen = {(key, value) for one in space.explored for key, value in one.point.items()}
    for key, found, _ in space._places:
        if isinstance(found, Choice) and found.branches:
            assert {(key, value) for value in found.values} <= seen
    assert {*space.fields} == {*space.names} == {key for key, _, _ in space._places}


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "gp"])
@pytest.mark.parametrize("space", [TREE, asked_of])
def test_a_journal_keeps_the_points(tmp_path: Path, space: Any, sampler: str) -> None:
    wanted = search(space, sampler=sampler)
    journal, points = opened(tmp_path, wanted), []
    for number in range(14):
        trial = journal.ask()
        points.append(journal.point_of(trial))
        journal.study.tell(trial.number, float(number))
    again = opened(tmp_path, wanted)
    assert [again.point_of(one) for one in again.told()] == points
    assert {one["optimizer"] for one in points} == {"sgd", "adamw", "lion"}
    for one in points:
        assert ("lr" in one) == (one["optimizer"] != "lion")
        assert ("momentum" in one) == (one["optimizer"] == "sgd")
        assert type(one["batch_size"]) is int and 16 <= one["batch_size"] <= 256
        assert one["optimizer"] != "adamw" or 1e-5 <= one["lr"] <= 1e-2


def small(point: Mapping[str, Any]) -> bool:
    return bool(point["batch_size"] * point.get("lr", 0.0) < 0.5 and point["batch_size"] < 96)


@pytest.mark.parametrize("space", [TREE, asked_of])
def test_killed_after_any_record_it_asks_for_the_rest(tmp_path: Path, space: Any) -> None:
    wanted = search(space, where=small)
    whole = opened(tmp_path / "whole", wanted)
    expected = [whole.point_of(whole.ask()) for _ in range(8)]
    assert whole.asked == 8 and whole.refused > 0
    assert all(map(small, expected))
    lines = (tmp_path / "whole" / JOURNAL).read_bytes().splitlines(keepends=True)
    for count in range(0, len(lines), 3):
        folder = tmp_path / str(count)
        folder.mkdir()
        (folder / JOURNAL).write_bytes(b"".join(lines[:count]))
        again = opened(folder, wanted)
        found = [again.point_of(one) for one in again.running()]
        # The last one may have been asked for and not given all its values.
        assert found[:-1] == expected[: max(0, len(found) - 1)]
        while again.asked < 8:
            found.append(again.point_of(again.ask()))
        assert len(found) == 8 and all(map(small, found))
        assert len({json.dumps(one) for one in found}) == 8
        assert [again.point_of(one) for one in opened(folder, wanted).running()] == found


def test_a_refused_point_is_asked_again_and_learnt_from(tmp_path: Path) -> None:
    journal = opened(tmp_path, search(where=lambda point: point["batch_size"] < 32, sampler="tpe"))
    for _ in range(30):
        trial = journal.ask()
        journal.study.tell(trial.number, 1.0)
    assert len(journal.told()) == journal.asked == 30
    assert all(journal.point_of(one)["batch_size"] < 32 for one in journal.told())
    trials = journal.study.get_trials()
    refused = [one for one in trials if is_refused(one)]
    assert len(refused) == journal.refused == len(trials) - 30
    for one in refused:
        assert (one.state, one.constraints) == (TrialState.PRUNED, {WHERE: 1.0})
    # Of its own points the sampler has ever fewer refused.
    numbers = [one.number for one in refused]
    half = len(trials) // 2
    assert sum(number < half for number in numbers) > sum(number >= half for number in numbers)


def test_what_nearly_nothing_satisfies_is_found_and_nothing_is_an_error(tmp_path: Path) -> None:
    seldom = search({"lr": uniform(0, 1)}, where=lambda point: 0.5 < point["lr"] < 0.505)
    journal = opened(tmp_path, seldom)
    points = [journal.point_of(journal.ask()) for _ in range(4)]
    assert all(0.5 < one["lr"] < 0.505 for one in points)
    assert journal.refused <= 4 * 20 and len({one["lr"] for one in points}) == 4
    with pytest.raises(InputError, match="none of 5,000 random points of the space satisfies it"):
        search(where=lambda point: False)


def test_the_best_satisfies_the_condition_of_today(tmp_path: Path) -> None:
    space = {"lr": choice([0.1, 0.2, 0.3])}
    journal = opened(tmp_path, search(space, sampler="grid"))
    for value in (1.0, 2.0, 3.0):
        journal.study.tell(journal.ask().number, value)
    again = opened(tmp_path, search(space, sampler="grid", where=lambda point: point["lr"] > 0.1))
    assert [one.value for one in again.complete()] == [2.0, 3.0]


def test_the_grid_sampler_visits_every_allowed_branch(tmp_path: Path) -> None:
    space = {
        "optimizer": choice(
            sgd={"lr": choice([0.1, 0.2]), "momentum": choice([0.0, 0.9])},
            adamw={"lr": choice([0.01, 0.02, 0.03])},
            lion={},
        ),
        "batch_size": choice([64, 128]),
    }
    wanted = search(space, sampler="grid", where=lambda point: point.get("momentum", 0) < 0.5)
    assert grid_size(wanted) == 2 * (2 + 3 + 1)
    journal = opened(tmp_path, wanted)
    while journal.asked < 12:
        journal.ask()
    points = [journal.point_of(one) for one in journal.running()]
    assert len({json.dumps(one) for one in points}) == 12 == journal.asked
    assert journal.refused == 0


def space(given_: Any) -> SearchSpace:
    found: SearchSpace = space_of(given_)
    return found


def test_what_a_space_says_of_its_fields() -> None:
    for one in (space(TREE), space(asked_of)):
        fields = one.fields
        assert fields["lr"].range == log_uniform(1e-5, 1)
        assert fields["optimizer"].when is None and fields["batch_size"].when is None
        assert fields["lr"].when is not None and not one.is_flat
    assert space(TREE).fields["lr"].when == [{"optimizer": "sgd"}, {"optimizer": "adamw"}]
    # Computed, and so no range of its own.
    assert "momentum" not in space(asked_of).fields and "momentum" in space(asked_of).names
    assert space({"lr": uniform(0, 1)}).is_flat
    everywhere = space({"optimizer": choice(a={"lr": uniform(0, 1)}, b={"lr": uniform(1, 2)})})
    assert everywhere.is_flat and everywhere.fields["lr"].range == uniform(0, 2)


@pytest.mark.parametrize("wanted", [TREE, asked_of])
def test_another_space_differs_in_words(wanted: Any) -> None:
    mine = Asked.of(search(wanted), Scale.FULL, {}).definition
    assert mine == Asked.of(search(wanted), Scale.FULL, {}).definition
    # What only some points have is the base's in the others.
    assert mine["lr"] == 0.1 and "optimizer" not in mine and "batch_size" not in mine

    def wider(trial: Any) -> dict[str, Any]:
        return {**asked_of(trial), "batch_size": trial.suggest_int("size", 16, 512)}

    other = wider if callable(wanted) else {**TREE, "batch_size": log_integers(16, 512)}
    assert Asked.of(search(other), Scale.FULL, {}).definition != mine


def test_points_to_start_with_are_of_one_branch(tmp_path: Path) -> None:
    start = [
        {"optimizer": "adamw", "lr": 1e-3, "batch_size": 64},
        {"optimizer": "lion", "batch_size": 32},
    ]
    for number, wanted in enumerate([TREE, asked_of]):
        journal = opened(tmp_path / str(number), search(wanted, start=start))
        assert [journal.point_of(journal.ask()) for _ in start] == start


BRANCH = {"optimizer": choice(sgd={"lr": uniform(0.1, 1)}, adamw={"momentum": uniform(0, 1)})}


@pytest.mark.parametrize(
    ("make", "what", "help"),
    [
        (lambda: choice([1], a={}), "values beside branches", "choice(sgd"),
        (lambda: choice(a=3), "the branch 'a' is a int", "ranges of its fields"),
        (lambda: choice(a={"lr": 3}), "in the branch 'a', 'lr': 3 is not a range", "log_uniform"),
        (lambda: choice({None: {}}), "is a NoneType", "texts"),
        (lambda: search({**BRANCH, "lr": uniform(0, 1)}), "lr is twice in the space", "branches"),
        (lambda: search({"lr": choice({0.1: {"lr": uniform(0, 1)}})}), "lr is twice", "once"),
        (lambda: search({"optimizer": choice(a={"lr": uniform(0, 1)}, b={"lr": choice([1.0])})}),
         "lr is uniform(0, 1) in one branch", "all"),
        (lambda: search({"optimizer": choice(a={}, b={"lrr": uniform(0, 1)})}), "lrr", "'lr'"),
        (lambda: search({"optimizer": choice(a={}, b={"batch_size": choice(["x"])})}),
         "batch_size", ""),
        (lambda: search(BRANCH, sampler="grid"), "sampler grid takes no uniform", "choice"),
        (lambda: search(asked_of, sampler="grid"), "sampler grid takes no function", "choice"),
        (lambda: search(lambda trial: 3), "returns 3, not a point", "suggest_float"),
        (lambda: search(lambda trial: {"lr": 1.0}), "no value that the trial suggests", "lr"),
        (lambda: search(lambda trial: {"lr": [trial.suggest_float("lr", 0, 1)]}), "is a list", "t"),
        (lambda: search(lambda trial: {"lr": 1 / 0}), "ZeroDivisionError", "--debug"),
        (lambda: search(lambda trial: {"lrr": trial.suggest_float("x", 0, 1)}), "lrr", "'lr'"),
        (lambda: search(lambda trial: {"lr": trial.suggest_float("x", 1, 0)}), "inverted", "lower"),
        (lambda: search(BRANCH, where=3), "where is 3", "lambda"),
        (lambda: search(BRANCH, where=lambda point: point["lr"] < 1), "KeyError: 'lr'", ""),
        (lambda: search(BRANCH, where=lambda point: None), "it returns None", "True"),
        (lambda: search(BRANCH, start=[{"optimizer": "sgd"}]), "not the fields", "lr"),
        (lambda: search(BRANCH, start=[{"optimizer": "sgd", "lr": 2.0}]), "lies outside", "widen"),
        (lambda: search(BRANCH, start=[{"optimizer": "adamw", "momentum": 0.5, "lr": 0.5}]),
         "the space has no 'lr' there", "momentum"),
        (lambda: search(BRANCH, start=[{"optimizer": "sgd", "lr": 0.5}],
                        where=lambda point: "lr" not in point), "does not satisfy where", "leave"),
    ],
)  # fmt: skip
def test_a_bad_space_is_refused(make: Callable[[], Any], what: str, help: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert what in caught.value.what
    assert help in caught.value.help


def test_a_branch_that_no_configuration_can_have_is_refused_at_the_definition() -> None:
    def function(trial: Any) -> dict[str, Any]:
        name = trial.suggest_categorical("optimizer", ["a", "b", "c"])
        return {"optimizer": name} | ({"batch_size": "x"} if name == "c" else {})

    with pytest.raises(InputError, match="batch_size"):
        search(function)

    def by_number(trial: Any) -> dict[str, Any]:
        rate = trial.suggest_float("lr", 0, 1)
        return {"lr": rate} | ({"batch_size": "x"} if 0.2 < rate < 0.9 else {})

    with pytest.raises(InputError, match="batch_size"):
        search(by_number)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(trees(), st.integers(0, 5))
def test_optuna_answers_as_the_stand_in_does(
    tmp_path_factory: pytest.TempPathFactory, ranges: dict[str, Range], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    base = {field: one.range.ends[0] for field, one in space(ranges).fields.items()}
    wanted = Search(
        train, base=base, space=ranges, objective=minimize("loss"), sampler="random", seed=seed
    )  # fmt: skip
    journal = opened(folder, wanted)
    for _ in range(3):
        trial = journal.ask()
        one = wanted.searched.at(journal.point_of(trial))
        assert one.params == trial.params
        assert held(one.point, ranges) == {*one.point}
