"""The first screen: what won, by how much, how sure, what is flagged and missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from results_folder import run as report
from task_results import write_results
from test_conclusions import DECAY, seeds_of

from analysis.answers import first_screen
from analysis.answers.answer import (
    Answer,
    Sure,
    adjusted_interval,
    answer,
    question,
    value,
    winner,
)
from analysis.cifar10.claims import scorecard
from analysis.cifar10.claims.answers import Answer as ClaimAnswer
from analysis.cifar10.claims.answers import Standing
from analysis.cifar10.claims.every_claim import CLAIMS, Answered, answered
from analysis.data.study import POINT, Plan
from trial_records.plan import PlannedTask

MINE = PlannedTask(name="mine", reference="a:b", metric="loss", direction="minimize", seed="seed")


def plan_of(
    values: Mapping[Any, Sequence[float]],
    axis: str = "lr",
    task: PlannedTask = MINE,
    sweep: str = "mine",
    state: str = "done",
) -> Plan:
    """A launch of another task, a point a key and a seed a value."""
    rows = [
        {
            "trial": f"t{point}-{seed}", POINT + axis: key, "seed": seed, "objective": number,
            "same_data": True, "repeated": False, "state": state, "flags": [],
            "fingerprint": f"{100 * point + seed:064x}",
        }
        for point, (key, numbers) in enumerate(values.items())
        for seed, number in enumerate(numbers)
    ]  # fmt: skip
    runs = pd.DataFrame(rows)
    return Plan(
        sweep, "0" * 8, "full", {}, [axis], [], "", "", runs, pd.DataFrame(), task=task
    )  # fmt: skip


# --- how sure --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "sure"),
    [
        ([0.95, 0.951, 0.952], [0.94, 0.941, 0.9421], Sure.CLEAR),
        ([0.95, 0.952, 0.954], [0.94, 0.946, 0.946], Sure.LIKELY),
        ([0.95, 0.96, 0.93], [0.94, 0.93, 0.96], Sure.UNDECIDED),
        ([0.95, 0.96], [0.5, 0.5], Sure.FEW_SEEDS),
        ([0.95, 0.95, 0.95], [0.95, 0.95, 0.95], Sure.UNDECIDED),
    ],
)
def test_how_sure_a_lead_is(
    tmp_path: Path, first: list[float], second: list[float], sure: Sure
) -> None:
    found = answer(seeds_of(tmp_path, {1e-3: first, 5e-4: second}).plans[0])
    assert found.sure is sure
    assert found.best == {DECAY: 1e-3}
    assert winner(found.plan, found.best) == "weight_decay 0.001"


def test_a_lead_and_its_words(tmp_path: Path) -> None:
    study = seeds_of(tmp_path, {1e-3: [0.95, 0.951, 0.952], 5e-4: [0.94, 0.941, 0.9421]})
    found = answer(study.plans[0])
    assert found.lead == "1.00 points (0.97 to 1.02)"
    assert value(found) == "95.10 %"
    assert question(found.plan) == "which weight_decay"
    said = first_screen.sentences(study, [found])
    assert said == [
        "The best point is weight_decay 0.001, with 95.10 % validation accuracy.",
        "Its lead of 1.00 points over weight_decay 0.0005 is clear (p 3.4e-05, 3 seeds).",
        "All 6 trials are done; none is flagged.",
    ]


def test_the_lowest_is_the_best_where_it_is_minimised() -> None:
    plan = plan_of({0.1: [1.0, 1.1, 1.2], 0.3: [0.5, 0.61, 0.7], 1.0: [2.0, 2.1, 2.25]})
    found = answer(plan)
    assert found.best == {"lr": 0.3} and found.following == {"lr": 0.1}
    assert found.gap is not None and found.gap.mean == pytest.approx(0.4967, abs=1e-3)
    assert found.sure is Sure.CLEAR
    assert found.lead == "0.497 (0.404 to 0.589)"
    higher = MINE.model_copy(update={"direction": "maximize"})
    assert answer(plan_of({0.1: [1.0], 0.3: [0.5]}, task=higher)).best == {"lr": 0.1}


POINTS = st.lists(st.lists(st.floats(0, 3), min_size=3, max_size=3), min_size=2, max_size=5)


@given(POINTS)
def test_an_interval_holds_0_where_a_lead_is_undecided(points: list[list[float]]) -> None:
    gap = answer(plan_of(dict(enumerate(points)))).gap
    assert gap is not None and gap.p is not None
    ends = adjusted_interval(gap)
    assert ends is not None
    assume(abs(gap.p - 0.05) > 1e-6)  # or rounding decides
    assert (ends[0] <= 0 <= ends[1]) is (gap.p > 0.05)
    assert ends[0] <= gap.mean <= ends[1]


def test_a_tie_is_called_a_tie() -> None:
    found = answer(plan_of({0.1: [1.0, 1.1, 1.3], 0.3: [1.0, 1.1, 1.3]}))
    assert (found.lead, found.sure) == ("none: a tie", Sure.UNDECIDED)


def test_values_that_are_counted_in_steps_are_not_sure() -> None:
    """Three equal differences of one example of a hundred each are not proof."""
    plan = plan_of({1: [0.11, 0.12, 0.13], 2: [0.10, 0.11, 0.12]})
    assert answer(plan).sure is not Sure.CLEAR


def test_what_has_no_finite_value_is_no_winner() -> None:
    found = answer(plan_of({1: [float("nan")] * 3, 2: [float("-inf")] * 3, 3: [5.0, 5.1, 5.2]}))
    assert found.best == {"lr": 3} and found.points == 1 and found.sure is Sure.NOTHING
    assert answer(plan_of({1: [float("nan")]})).best is None
    nameless = MINE.model_copy(update={"metric": None})
    assert answer(plan_of({1: [1.0]}, task=nameless)).best is None


def test_of_equal_means_the_first_planned_is_the_best() -> None:
    assert answer(plan_of({3: [1.0, 1.2], 1: [1.2, 1.0]})).best == {"lr": 3}


# --- the first screen ------------------------------------------------------------------------


def test_the_main_launch_compares_and_has_the_most_results() -> None:
    small = answer(plan_of({1: [1.0, 2.0], 2: [3.0, 4.0]}, sweep="small"))
    large = answer(plan_of({1: [1.0] * 4, 2: [3.0] * 4}, sweep="large"))
    alone = answer(plan_of({1: [1.0] * 20}, sweep="alone"))
    assert first_screen.main([alone, small, large]) is large
    assert first_screen.main([alone, small]) is small
    assert first_screen.main([small, answer(plan_of({1: [1.0] * 2, 2: [3.0] * 2}))]) is small


@pytest.mark.parametrize(
    ("states", "flagged", "said"),
    [
        (["done"], 0, "The one trial is done."),
        (["done"], 1, "The one trial is done; 1 is flagged."),
        (["done"] * 3, 0, "All 3 trials are done; none is flagged."),
        (["done"] * 3, 2, "All 3 trials are done; 2 are flagged."),
        (["missing"], 1, "No trial is done yet (1 missing); 1 is flagged."),
        (["done", "lost"], 0, "1 of 2 trials is done (1 lost); none is flagged."),
    ],
)  # fmt: skip
def test_states_in_words(states: list[str], flagged: int, said: str) -> None:
    flags = [["ERROR"]] * flagged + [[]] * (len(states) - flagged)
    assert first_screen.state(pd.DataFrame({"state": states, "flags": flags})) == said


def test_leads_over_all_launches() -> None:
    clear = answer(plan_of({1: [1.0, 1.1, 1.2], 2: [2.0, 2.11, 2.2]}))
    few = answer(plan_of({1: [1.0], 2: [2.0]}))
    assert first_screen._over_all([clear]) == []
    assert first_screen._over_all([clear, few]) == [
        "Of 2 leads, 1 is clear and 1 has not enough seeds."
    ]
    assert first_screen._over_all([few, few]) == ["Of 2 leads, 2 have not enough seeds."]


TEXT = st.text(min_size=1, max_size=300).filter(lambda text: text.strip())


@pytest.mark.long
@given(st.lists(TEXT, min_size=2, max_size=2, unique=True), TEXT, TEXT, TEXT, st.integers(1, 4))
def test_whatever_names_are_a_sentence_has_less_than_twenty_words(
    points: list[str], axis: str, sweep: str, metric: str, seeds: int
) -> None:
    task = MINE.model_copy(update={"metric": metric})
    values = {point: [i + s / 7 for s in range(seeds)] for i, point in enumerate(points)}
    found = answer(plan_of(values, axis, task, sweep, state="done"))
    for many in (True, False):
        said = [
            first_screen._best(found, many),
            *first_screen._how_sure(found),
            *first_screen._over_all([found, found]),
        ]
        assert all(len(sentence.split()) < 20 for sentence in said)
    states = pd.DataFrame({"state": ["done", sweep, metric, axis, *points], "flags": [[]] * 6})
    assert len(first_screen.state(states).split()) < 20


def claims_of(standings: Sequence[Standing]) -> list[Answered]:
    return [Answered("x", "y", None, ClaimAnswer(one), "mixup --seeds 3") for one in standings]


def test_claims_in_words() -> None:
    said = scorecard.counts(claims_of(list(Standing)))
    assert said == (
        "Of 4 reported claims, 1 is reproduced, 1 contradicted, 1 undecided and 1 not run."
    )
    none = scorecard.counts(claims_of([Standing.NOT_RUN] * 2))
    assert none == (
        "No trial here compares with the reported study, so its 2 claims are not tested."
    )
    assert scorecard.counts(claims_of([Standing.REPRODUCED])) == (
        "Of 1 reported claim, 1 is reproduced."
    )


def test_every_claim_that_is_not_run_says_what_it_takes(tmp_path: Path) -> None:
    assert {claim.command for claim in CLAIMS} == scorecard.H100_HOURS.keys()
    study = seeds_of(tmp_path, {0.0: [0.9], 1.0: [0.8]}, axis="augment.mixup", scale="smoke")
    (section,) = [scorecard.scorecard(answered(study))]
    frame = section.parts[0].tables[0].frame
    assert set(frame["answer"]) == {"not run"} and frame["GPU-hours to ask"].notna().all()
    (mixup,) = frame["why"][frame["claim"].str.contains("MixUp")]
    assert mixup == "mixup ran at smoke scale only"
    assert "5.5 for all that is not run" in section.parts[0].footnotes[0]


# --- what was reported -----------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("scale", ["full", "cpu"])
def test_reported_figures_stand_beside_full_scale_alone(tmp_path: Path, scale: str) -> None:
    study = seeds_of(
        tmp_path / "results", {"resnet18": [0.95] * 3, "dla34": [0.9] * 3}, "model.name",
        scale=scale,
    )  # fmt: skip
    assert report("--results", study.results, "--out", tmp_path / "report") == 0
    names = {path.name for path in (tmp_path / "report" / "tables").glob("*reported.csv")}
    assert bool(names) is (scale == "full")


def test_a_page_of_another_task_is_silent_of_images_and_of_what_was_reported(
    tmp_path: Path,
) -> None:
    write_results(tmp_path / "results")
    report("--results", tmp_path / "results", "--out", tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    head = text.partition("## Sweeps")[0]
    for word in ("CIFAR", "test image", "eported", "accuracy"):
        assert word not in head.replace("test\\_accuracy", ""), word
    assert head.startswith("# mine\n")
    assert "best point is" in head and "lead" in head


def test_the_title_names_the_sweep_the_study_or_how_many(tmp_path: Path) -> None:
    study = seeds_of(tmp_path / "some", {1e-3: [0.9], 5e-4: [0.8]}, sweep="one")
    assert first_screen.title(study) == "one"
    study = seeds_of(tmp_path / "some", {1e-3: [0.9], 5e-4: [0.8]}, sweep="two")
    assert first_screen.title(study) == "2 sweeps of some"


def test_a_launch_without_an_answer_has_a_row_of_its_own() -> None:
    plan = plan_of({1: [float("nan")]})
    frame = first_screen.table([Answer(plan)], {}).frame
    assert frame["best point"].tolist() == ["no result"] and frame["mean"].tolist() == ["-"]
    assert first_screen.picture(Answer(plan)) is None
