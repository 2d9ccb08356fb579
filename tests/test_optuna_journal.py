"""The journal: what a killed driver leaves is repaired, and a seeded sampler goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from local_machine.errors import EXIT_IO, InputError
from sweeps.search.optuna_journal import JOURNAL, Journal, grid_size
from sweeps.search_space.distributions import choice, integers, log_uniform
from sweeps.spec.sweep import Search
from trainer.recipes import reported

DEFINITION = {"objective": "best", "epochs": 10}


def search(**changes: Any) -> Search:
    values = {
        "base": reported("resnet18"),
        "space": {"optimizer.weight_decay": log_uniform(1e-5, 1e-2), "seed": integers(0, 9)},
        **changes,
    }
    return Search(**values)


def opened(folder: Path, **changes: Any) -> Journal:
    return Journal(folder, search(**changes), DEFINITION, 10)


def lines(folder: Path) -> list[bytes]:
    return (folder / JOURNAL).read_bytes().splitlines(keepends=True)


def test_half_a_last_line_is_cut_off_and_kept(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    first = journal.ask()
    journal.study.tell(first.number, 0.5)
    whole = b"".join(lines(tmp_path))
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b'{"op_code": 4, "worker')
    again = opened(tmp_path)
    assert again.repaired is not None
    assert f"{JOURNAL}.cut" in again.repaired
    assert (tmp_path / f"{JOURNAL}.cut").read_bytes() == b'{"op_code": 4, "worker\n'
    assert b"".join(lines(tmp_path)) == whole
    assert again.asked == 1
    assert opened(tmp_path).repaired is None


def test_a_damaged_line_amid_the_journal_is_refused_and_left(tmp_path: Path) -> None:
    opened(tmp_path).ask()
    found = lines(tmp_path)
    found[1] = found[1][:-5] + b"\n"
    (tmp_path / JOURNAL).write_bytes(b"".join(found))
    with pytest.raises(InputError, match="damaged in line 2") as caught:
        opened(tmp_path)
    assert caught.value.exit_code == EXIT_IO
    assert lines(tmp_path) == found


@pytest.mark.parametrize(
    "content", [b'{"op_code": 99}\n', b"{}\n", b'{"op_code": 0}\n', b"[" * 200_000 + b"\n{}\n"]
)
def test_what_is_no_journal_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / JOURNAL).write_bytes(content)
    with pytest.raises(InputError, match="is damaged"):
        opened(tmp_path)
    assert (tmp_path / JOURNAL).read_bytes() == content


def test_a_journal_of_another_study_or_definition_is_refused(tmp_path: Path) -> None:
    opened(tmp_path)
    text = (tmp_path / JOURNAL).read_text()
    for damaged in (
        text.replace('"search"', '"seareh"'),
        text.replace('{"objective"', '5,"x":{"o"'),
    ):
        assert damaged != text
        (tmp_path / JOURNAL).write_text(damaged)
        with pytest.raises(InputError):
            opened(tmp_path)
        assert (tmp_path / JOURNAL).read_text() == damaged


def test_a_dead_drivers_lock_stops_nobody(tmp_path: Path) -> None:
    opened(tmp_path)
    (tmp_path / f"{JOURNAL}.lock").symlink_to("nowhere")
    opened(tmp_path).ask()
    assert not (tmp_path / f"{JOURNAL}.lock").is_symlink()


def test_another_definition_is_refused_by_name(tmp_path: Path) -> None:
    opened(tmp_path)
    with pytest.raises(InputError, match="epochs is 20 now, 10 there") as caught:
        Journal(tmp_path, search(), DEFINITION | {"epochs": 20}, 10)
    assert "mv" in caught.value.help
    with pytest.raises(InputError, match="new is 1 now, None there"):
        Journal(tmp_path, search(), DEFINITION | {"new": 1}, 10)


def tell(journal: Journal, trial: Any) -> None:
    """A made-up accuracy, and a trial left running now and then."""
    weight_decay = trial.params["optimizer.weight_decay"]
    if trial.number % 5 != 3:
        journal.study.tell(trial.number, 1 - weight_decay * 50)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(["tpe", "random", "cmaes"]),
    st.lists(st.integers(1, 6), min_size=2, max_size=4),
    st.integers(0, 9),
)
def test_a_driver_that_starts_again_asks_what_it_would_have_asked(
    tmp_path_factory: pytest.TempPathFactory, sampler: str, parts: list[int], seed: int
) -> None:
    undisturbed = opened(tmp_path_factory.mktemp("one"), sampler=sampler, seed=seed)
    expected = []
    for _ in range(sum(parts)):
        trial = undisturbed.ask()
        expected.append(trial.params)
        tell(undisturbed, trial)
    folder = tmp_path_factory.mktemp("many")
    found = []
    for part in parts:
        journal = opened(folder, sampler=sampler, seed=seed)
        for _ in range(part):
            trial = journal.ask()
            found.append(trial.params)
            tell(journal, trial)
    assert found == expected
    assert len({json.dumps(params) for params in found}) > len(found) // 2


def test_a_trial_asked_but_not_given_all_its_values_gets_them(tmp_path: Path) -> None:
    """A kill between Optuna's records of one question."""
    journal = opened(tmp_path)
    journal.ask()
    kept = [line for line in lines(tmp_path) if b'"param_name":"seed"' not in line]
    assert len(kept) < len(lines(tmp_path))
    (tmp_path / JOURNAL).write_bytes(b"".join(kept))
    again = opened(tmp_path)
    (trial,) = again.running()
    assert set(trial.params) == {"optimizer.weight_decay", "seed"}
    assert again.asked == 1


def test_the_points_to_start_with_come_first_and_once(tmp_path: Path) -> None:
    start = [
        {"optimizer.weight_decay": 1e-3, "seed": 1},
        {"optimizer.weight_decay": 1e-4, "seed": 2},
    ]
    for number in range(4):
        journal = opened(tmp_path, start=start)
        trial = journal.ask()
        if number < 2:
            assert trial.params == start[number]
    waiting = journal.study.get_trials(states=(TrialState.WAITING,))
    assert (journal.asked, waiting) == (4, [])


def test_the_grid_sampler_asks_for_every_point_once(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "sampler": "grid",
        "space": {"batch_size": choice([64, 128]), "optimizer.name": choice(["sgd", "adamw"])},
    }
    size = grid_size(search(**changes))
    assert size == 4
    found = {json.dumps(opened(tmp_path, **changes).ask().params) for _ in range(size)}
    assert len(found) == 4


def test_the_grid_is_whole_also_after_another_sampler(tmp_path: Path) -> None:
    space = {"batch_size": choice([64, 128])}
    before = opened(tmp_path, sampler="random", space=space)
    asked = [before.ask().params for _ in range(3)]
    journal = opened(tmp_path, sampler="grid", space=space)
    assert journal.asked == len({json.dumps(point) for point in asked})
    while journal.asked < 2:
        asked.append(journal.ask().params)
    assert {point["batch_size"] for point in asked} == {64, 128}


def test_what_failed_is_asked_again_once(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    first = journal.ask()
    journal.study.tell(first.number, state=TrialState.FAIL)
    assert journal.asked == 1
    for _ in range(2):
        journal = opened(tmp_path)
        assert journal.asked == 0
    again = journal.ask()
    assert again.params == first.params
    assert journal.asked == 1
    journal.study.tell(again.number, 0.5)
    assert opened(tmp_path).asked == 1


@pytest.mark.parametrize("pruner", ["median", "successive_halving"])
def test_no_pruner_judges_before_a_fifth_of_the_epochs(tmp_path: Path, pruner: str) -> None:
    journal = opened(tmp_path, pruner=pruner)
    for number in range(8):
        trial = journal.ask()
        for step in range(1, 11):
            trial.report(0.9 if number < 6 else 0.1, step)
            if trial.should_prune():
                assert step >= 2
                journal.study.tell(number, state=TrialState.PRUNED)
                break
        else:
            journal.study.tell(number, 0.9)


@pytest.mark.parametrize("pruner", ["successive_halving", "hyperband", "median", "none"])
def test_every_pruner_but_none_stops_what_lags_far_behind(tmp_path: Path, pruner: str) -> None:
    journal = opened(tmp_path, pruner=pruner)
    stopped = []
    for number in range(12):
        trial = journal.ask()
        good = number < 6
        for step in range(1, 11):
            trial.report((0.9 if good else 0.1) * step / 10, step)
            if trial.should_prune():
                stopped.append(number)
                journal.study.tell(number, state=TrialState.PRUNED)
                break
        else:
            journal.study.tell(number, 0.9 if good else 0.1)
    bad = [number for number in stopped if number >= 6]
    assert bool(bad) == (pruner != "none")
