"""Notes, tags and exclusions: what is kept of them, who sees them, and what they change."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import results_folder
from task_results import trials, write_plan, write_results

import sweeps.compact.__main__
import sweeps.exclude
import sweeps.note
import sweeps.status
import sweeps.tag
from analysis import report
from analysis.cifar10.task import load
from analysis.data.study import Plan
from local_machine.errors import InputError, run_command
from sweeps.marks.marking import target_of
from trial_records.history import marks

NAMES = [one["name"] for one in trials()]
FIRST = f"mine/{NAMES[0]}"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    write_results(tmp_path / "results")
    return tmp_path / "results"


class Said:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(results: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def act(command: Any, *words: str) -> Said:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            run_command(command.app, [*words, "--results", str(results)])
        return Said(int(end.value.code or 0), *capsys.readouterr())

    return act


def only(results: Path) -> Plan:
    study = load(results, ["mine"])
    assert study.problems == []
    (plan,) = study.plans
    return plan


def markdown(run: Any, results: Path) -> str:
    run(report, "--out", str(results / "report"))
    return (results / "report" / "report.md").read_text().replace("\\", "")


def test_notes_and_tags_are_kept_and_shown(run: Any, results: Path) -> None:
    before = results_folder.files(results)
    assert run(sweeps.note, FIRST, "  its loss jumped  ").out == f"{FIRST}: noted\n"
    assert run(sweeps.note, "mine", "the cluster was slow").code == 0
    assert run(sweeps.tag, FIRST, "paper", "baseline").out == f"{FIRST}: baseline, paper\n"
    assert run(sweeps.tag, FIRST, "paper", "--remove").out == f"{FIRST}: baseline\n"
    assert run(sweeps.tag, "mine", "v2").out == "mine: v2\n"

    said = run(sweeps.status, "mine", "--json").json
    trial = said["trials"][0]
    assert (trial["tags"], trial["excluded"]) == (["baseline"], None)
    assert [one["text"] for one in trial["notes"]] == ["its loss jumped"]
    assert said["sweeps"]["mine"]["tags"] == ["v2"]
    assert [one["text"] for one in said["sweeps"]["mine"]["notes"]] == ["the cluster was slow"]
    shown = run(sweeps.status, "mine").out
    assert "tags: v2; " in shown and "the cluster was slow" in shown and "tags: baseline" in shown
    assert "v2" in run(sweeps.status).out
    history = run(sweeps.note, "mine").out
    assert history.count("\n") == 5 + 4 and history.index("jumped") < history.index("untag")

    text = markdown(run, results)
    assert "the cluster was slow" in text and "its loss jumped" in text
    # Nothing of the trials was changed, and each mark is a file.
    after = results_folder.files(results)
    assert {name: after[name] for name in before} == before
    assert len(list((results / "mine" / marks.FOLDER).iterdir())) == 5


@pytest.mark.long
def test_an_excluded_trial_is_in_no_comparison_and_it_is_said_why(run: Any, results: Path) -> None:
    whole, text = only(results), markdown(run, results)
    assert "The best mean, 1.1 over 3 trials, has lr 0.1." in text and "xcluded" not in text
    done = run(sweeps.exclude, FIRST, "--reason", "its disk | broke")
    assert done.code == 0 and f"{FIRST}: excluded by " in done.out

    plan = only(results)
    assert plan.runs["state"].tolist() == ["excluded", *["done"] * 4, "failed"]
    assert plan.runs["flags"].tolist() == whole.runs["flags"].tolist()
    assert plan.runs["objective"].tolist()[1:] == pytest.approx(
        [1.1, 1.2, 1.3, 1.4, float("nan")], nan_ok=True
    )
    assert NAMES[0] not in set(plan.logged["trial"]) and NAMES[0] in set(whole.logged["trial"])
    changed = markdown(run, results)
    assert "The best mean, 1.15 over 2 trials, has lr 0.1." in changed
    summary = changed[: changed.index("## ", changed.index("## Launches") + 10)]
    assert "1 trial excluded by " in summary and ": its disk | broke: mine/lr0.1-seed0" in summary
    assert "1 excluded" in changed and "PRUNED" not in changed

    said = run(report, "--out", str(results / "report"), "--json").json
    assert [one["reason"] for one in said["excluded"]] == ["its disk | broke"]
    status = run(sweeps.status, "mine", "--json").json
    assert status["trials"][0]["excluded"]["text"] == "its disk | broke"
    assert status["trials"][0]["state"] == "done" and status["counts"]["done"] == 5
    shown = run(sweeps.status, "mine").out
    assert "(1 excluded)" in shown and f"best loss 1.1 ({NAMES[1]})" in shown

    assert "compared again; it was excluded by" in run(sweeps.exclude, FIRST, "--undo").out
    assert markdown(run, results).replace("\n", "") == text.replace("\n", "")


@pytest.mark.long
def test_a_trainers_trial_is_in_no_comparison_either(tmp_path: Path) -> None:
    points = results_folder.grid_points(epochs=(25,))
    results_folder.write_plan(tmp_path, points)
    for place, accuracy in zip(points, (0.9, 0.8), strict=True):
        results_folder.finish(
            results_folder.folder_of(tmp_path, place), place[1], test_accuracy=accuracy
        )
    name = results_folder.name_of(points[0][1])
    target_of(tmp_path, f"grid/{name}").mark("exclude", "mislabelled")
    plan = results_folder.only(tmp_path)
    assert plan.runs["test_accuracy"].isna().tolist() == [True, False]
    assert set(plan.epochs["trial"]) == {results_folder.name_of(points[1][1])}
    assert results_folder.run("--results", tmp_path, "--out", tmp_path / "out") == 0
    text = (tmp_path / "out" / "report.md").read_text().replace("\\", "")
    assert "mislabelled" in text and "90.00" not in text
    assert "may change when" not in text


def test_people_who_mark_at_once_lose_nothing(results: Path) -> None:
    def note(number: int) -> None:
        target_of(results, FIRST).mark("note", f"note {number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(note, range(40)))
    found, problems = marks.read(results / "mine")
    assert not problems
    assert {one.text for one in found.every} == {f"note {number}" for number in range(40)}


def test_the_last_mark_counts_whatever_the_clocks_say(results: Path, monkeypatch: Any) -> None:
    target = target_of(results, FIRST)
    target.mark("exclude", "broken")
    (path,) = (results / "mine" / marks.FOLDER).iterdir()
    ahead = json.loads(path.read_text()) | {"at": "2099-01-01T00:00:00+00:00"}
    path.unlink()
    del ahead["sha256"]
    marks.Mark(**ahead).write(results / "mine", "0" * 8)
    assert target.marked().excluded is not None
    assert target.mark("include").excluded is None


def test_a_mark_that_was_changed_is_named_and_does_not_count(run: Any, results: Path) -> None:
    run(sweeps.exclude, FIRST, "--reason", "bad")
    (path,) = (results / "mine" / marks.FOLDER).iterdir()
    path.write_text(path.read_text().replace('"bad"', '"good"'))
    said = run(sweeps.status, "mine")
    assert said.code == 1 and str(path) in said.err and "excluded" not in said.out
    said = run(report, "--out", str(results / "report"), "--json")
    assert said.code == 1 and str(path) in said.json["problems"][0]["what"]
    # What people say later counts all the same.
    assert run(sweeps.note, FIRST, "still here").code == 0


def test_compacted_and_adopted_trials_are_marked_too(run: Any, results: Path) -> None:
    assert run(sweeps.compact.__main__, "mine").code == 0
    assert run(sweeps.exclude, FIRST, "--reason", "bad").code == 0
    assert run(sweeps.note, "mine", "it is compacted").code == 0
    plan = only(results)
    assert plan.runs["state"].tolist() == ["excluded", *["done"] * 4, "failed"]
    assert run(sweeps.compact.__main__, "mine", "--undo").code == 0
    assert only(results).runs["state"].tolist() == ["excluded", *["done"] * 4, "failed"]
    write_plan(results, trials(), "theirs", is_adopted=True)
    assert run(sweeps.exclude, f"theirs/{NAMES[0]}", "--reason", "bad").code == 0


HOSTILE = '</script><img src=x onerror="alert(1)"> [a](javascript:b) =1+1 \x1b[31m'


def test_what_is_typed_is_obeyed_nowhere(run: Any, results: Path) -> None:
    assert run(sweeps.note, FIRST, HOSTILE).code == 0
    assert run(sweeps.exclude, FIRST, "--reason", HOSTILE).code == 0
    for said in (
        run(sweeps.status, "mine"),
        run(sweeps.note, "mine"),
        run(sweeps.exclude, FIRST, "--undo"),
    ):
        assert "\x1b" not in said.out
    run(sweeps.exclude, FIRST, "--reason", HOSTILE)
    markdown(run, results)
    page = (results / "report" / "report.html").read_text()
    assert "<img src=x" not in page and "&lt;img src=x" in page and "\x1b" not in page
    assert "<img" not in (results / "report" / "report.md").read_text()
    for table in (results / "report" / "tables").glob("*.csv"):
        assert ",=1" not in table.read_text()


@pytest.mark.parametrize(
    ("command", "words", "what"),
    [
        (sweeps.note, ["none", "x"], "no sweep 'none'"),
        (sweeps.note, ["mine/none", "x"], "no trial 'none' in mine"),
        (sweeps.note, ["mine", " "], "the note is empty"),
        (sweeps.note, ["mine", "x" * 10_001], "10001 characters"),
        (sweeps.note, ["mine", "\udcff"], "not UTF-8"),
        (sweeps.tag, ["mine", "two words"], "'two words' is not a valid tag"),
        (sweeps.tag, ["mine", "x", "--remove"], "mine has no tag 'x'"),
        (sweeps.tag, ["mine", "--remove"], "--remove without a tag"),
        (sweeps.exclude, ["mine", "--reason", "x"], "mine is a sweep, and a trial is excluded"),
        (sweeps.exclude, [FIRST], "nothing says why"),
        (sweeps.exclude, [FIRST, "--reason", "x", "--undo"], "--reason with --undo"),
        (sweeps.exclude, [FIRST, "--undo"], "is not excluded"),
    ],
)  # fmt: skip
def test_what_is_refused(
    run: Any, results: Path, command: Any, words: list[str], what: str
) -> None:
    said = run(command, *words)
    assert said.code == 2 and what in said.err and "help: " in said.err
    assert not (results / "mine" / marks.FOLDER).exists()


def test_a_folder_that_nobody_may_write_is_named(results: Path) -> None:
    (results / "mine" / marks.FOLDER).touch()
    with pytest.raises(InputError, match=r"cannot write .*marks"):
        target_of(results, FIRST).mark("note", "x")
