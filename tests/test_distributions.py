"""Ranges and searches: what is refused, and in which words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_machine.errors import InputError
from sweeps.search_space.distributions import (
    Range,
    choice,
    integers,
    log_integers,
    log_uniform,
    uniform,
)
from sweeps.spec.find import find_search, names
from sweeps.spec.sweep import Search
from trainer.recipes import reported


def refused(action: Callable[[], Any]) -> InputError:
    with pytest.raises(InputError) as caught:
        action()
    return caught.value


@pytest.mark.parametrize(
    ("action", "what"),
    [
        (lambda: uniform(1, 1), "uniform(1, 1) is empty"),
        (lambda: uniform(2, 1), "uniform(2, 1) is inverted"),
        (lambda: log_uniform(0, 1), "cannot hold 0"),
        (lambda: log_uniform(-1, 1), "cannot hold -1"),
        (lambda: log_integers(0, 9), "cannot hold 0"),
        (lambda: integers(0.5, 2), "from 0.5 to 2"),  # type: ignore[arg-type]
        (lambda: uniform(float("nan"), 1), "from nan to 1"),
        (lambda: uniform(0, float("inf")), "to inf"),
        (lambda: uniform("a", 1), "from 'a'"),  # type: ignore[arg-type]
        (lambda: choice([]), "no values"),
        (lambda: choice("abc"), "no values"),
        (lambda: choice([1, 1]), "a value twice"),
        (lambda: choice([None]), "is a NoneType"),  # type: ignore[list-item]
    ],
)
def test_a_bad_range_is_refused(action: Callable[[], Any], what: str) -> None:
    error = refused(action)
    assert what in error.what
    assert error.help


SPACE: dict[str, Range] = {"optimizer.weight_decay": log_uniform(1e-5, 1e-2)}


@pytest.mark.parametrize(
    ("changes", "what", "help"),
    [
        ({"sampler": "tpee"}, "unknown sampler 'tpee'", "'tpe'"),
        ({"pruner": "medain"}, "unknown pruner 'medain'", "'median'"),
        ({"objective": "test"}, "unknown objective 'test'", "best"),
        ({"space": {}}, "an empty space", "log_uniform"),
        ({"space": {"optimizer.weight_decy": log_uniform(1e-5, 1)}}, "weight_decy",
         "'optimizer.weight_decay'"),
        ({"space": {"optimizer.lr": uniform(-1, 1)}}, "greater than 0", "learning rate"),
        ({"space": {"epochs": uniform(1, 9)}}, "epochs", "Passes"),
        ({"space": {"epochs": [1, 2]}}, "is not a range", "choice"),
        ({"sampler": "grid"}, "sampler grid takes no log_uniform", "choice"),
        ({"trials": 0}, "trials is 0", "20"),
        ({"start": [{"optimizer.weight_decay": 1.0}]}, "lies outside", "widen"),
        ({"start": [{"optimizer.lr": 1.0}]}, "not the fields", "optimizer.weight_decay"),
        ({"start": {"optimizer.weight_decay": 1e-3}}, "start is a dict", "list"),
        ({"start": [3]}, "not the fields", "optimizer.weight_decay"),
        ({"space": {"epochs": integers(1, 9)}, "start": [{"epochs": 2.5}]}, "lies outside",
         "widen"),
        ({"base": 3}, "base is a int", "reported"),
        ({"seed": -1}, "seed is -1", "seed=0"),
    ],
)  # fmt: skip
def test_a_bad_search_is_refused(changes: dict[str, Any], what: str, help: str) -> None:
    values = {"base": reported("resnet18"), "space": SPACE, **changes}
    error = refused(lambda: Search(**values))
    assert what in error.what
    assert help in error.help


def test_the_studys_searches() -> None:
    assert names("search") == ["recipe", "weight_decay", "weight_decay_wrn"]
    for name in names("search"):
        found, search = find_search(name)
        assert found == name
        assert search.base.model.name == ("wrn_28_10" if "wrn" in name else "resnet18")
        assert search.start
    error = refused(lambda: find_search("weight_decya"))
    assert "'weight_decay'" in error.help
    assert "has no `search`" in refused(lambda: find_search("mixup")).what


def test_a_definition_with_a_bad_range_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("from sweeps import uniform\n\nsearch = uniform(2, 1)\n")
    error = refused(lambda: find_search(str(path)))
    assert f"{path}:3: uniform(2, 1) is inverted" in error.what


@given(st.floats(1e-6, 1.0), st.floats(1.5, 100.0), st.integers(0, 100), st.integers(0, 2**31))
def test_what_is_suggested_lies_in_the_range(
    low: float, factor: float, count: int, seed: int
) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ranges: list[Range] = [
        uniform(low, low * factor), log_uniform(low, low * factor), integers(count, count + 3),
        log_integers(count + 1, count + 9), choice(["a", 1, 2.5, True][:3]),
    ]  # fmt: skip
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed)).ask()
    for number, values in enumerate(ranges):
        assert values.holds(values.suggest(trial, str(number)))
        assert all(values.holds(end) for end in values.ends)
