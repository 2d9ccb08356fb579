"""Watching a results folder: what changes, what goes wrong, and what is recalled."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from results_folder import begin, files, finish, folder_of, grid_points, run, write_plan

from analysis import report, write_report
from analysis.figures.memory import Memory, recall, remembered
from analysis.live import watch
from analysis.live.changes import stamps
from analysis.live.watch import Watch
from analysis.output import publish
from local_machine import clock
from local_machine.errors import InputError, run_command
from trial_records import tables

POINTS = grid_points((64, 128), (25,))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """One trial is done and one is pending."""
    results = tmp_path / "results"
    write_plan(results, POINTS)
    finish(folder_of(results, POINTS[0]), POINTS[0][1])
    return results


@pytest.fixture
def watched(results: Path) -> Watch:
    made = Watch([], results, results / "report", None)
    made.make()
    made.write()
    return made


def page(results: Path) -> str:
    return (results / "report" / "report.html").read_text()


@pytest.mark.long
def test_each_change_is_written_and_the_last_report_is_the_one_made_afterwards(
    watched: Watch, results: Path
) -> None:
    assert not watched.is_over
    before = page(results)
    watched.look()
    assert page(results) == before
    begin(folder_of(results, POINTS[1]))
    watched.look()
    assert "3 of 25" in page(results)
    finish(folder_of(results, POINTS[1]), POINTS[1][1])
    watched.look()
    assert watched.is_over and "Progress" not in page(results)
    after = write_report(results=results, out=results.parent / "after")
    assert files(results / "report") == files(after.parent)


@pytest.mark.long
def test_only_what_changed_is_drawn_again(watched: Watch, results: Path) -> None:
    drawn: list[Figure] = []
    original = Figure.savefig

    def counted(figure: Figure, *args: object, **kwargs: object) -> None:
        drawn.append(figure)
        original(figure, *args, **kwargs)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Figure, "savefig", counted)
        begin(folder_of(results, POINTS[1]))
        watched.look()
    # The curves, in three formats; not the heatmap, which has no result more.
    assert len(set(drawn)) == 1 and len(drawn) == 3


@pytest.mark.long
def test_only_what_changed_is_read_again(watched: Watch, results: Path) -> None:
    read: list[str] = []
    original = tables.checked

    def counted(path: Path, *words: Any) -> tables.Checked:
        read.append(f"{path.parent.name}/{path.name}")
        return original(path, *words)

    name = POINTS[1][1].fingerprint[:8]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tables, "checked", counted)
        finish(folder_of(results, POINTS[1]), POINTS[1][1])
        watched.look()
        # Its run says nothing of a digest of its epochs, so that these are read each time.
        assert f"t-{name}/run.parquet" in read
        assert not any(one.endswith("run.parquet") and name not in one for one in read)
        read.clear()
        finish(folder_of(results, POINTS[0]), POINTS[0][1], test_accuracy=0.5)
        watched.look()
        assert not any(one.endswith(f"{name}/run.parquet") for one in read)
    assert "50.00" in page(results)


@pytest.mark.long
def test_leases_checkpoints_logs_and_reports_are_no_change(results: Path) -> None:
    before = stamps(results)
    folder = folder_of(results, POINTS[0])
    for path in (
        folder / "claim.json", folder / "checkpoint.pt", folder / ".x.part", folder / "files" / "x",
        results / "grid" / "logs" / "1.log", results / "grid" / "code" / "1.json",
    ):  # fmt: skip
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    assert run("--results", results, "--out", results / "another") == 0
    assert stamps(results) == before
    rows = folder_of(results, POINTS[1]) / "attempt-1" / "files" / "metrics.log"
    rows.parent.mkdir(parents=True)
    rows.write_text("x")
    assert set(stamps(results)) - set(before) == {str(rows)}


@pytest.mark.long
def test_a_folder_that_vanishes_and_a_damaged_file_leave_the_page_and_are_said_once(
    watched: Watch,
    results: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = page(results)
    away = results.with_name("away")
    results.rename(away)
    for _ in range(3):
        watched.look()
    said = capsys.readouterr().err
    assert said.count("there is no results folder") == 1 and "stays as it is" in said
    shutil.move(away, results)
    watched.look()
    assert page(results) == before
    folder = folder_of(results, POINTS[0])
    (folder / "run.parquet").write_bytes(b"damaged")
    watched.look()
    assert "is damaged" in capsys.readouterr().err
    assert "1 unknown" in page(results)


@pytest.mark.long
def test_a_full_disk_keeps_the_old_page_and_is_tried_again(
    watched: Watch,
    results: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = files(results / "report")
    now = clock.monotonic()
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    with pytest.MonkeyPatch.context() as full:

        def no_space(path: Path, *_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        full.setattr(publish, "write_atomic", no_space)
        begin(folder_of(results, POINTS[1]))
        watched.look()
        watched.look()
    said = capsys.readouterr().err
    assert said.count("No space left on device") == 1 and "stays as it is" in said
    assert files(results / "report") == before
    assert not list(results.glob(".report*"))
    watched.look()  # not before some seconds are over
    assert files(results / "report") == before
    now += watch.RETRY_SECONDS
    watched.look()
    assert "3 of 25" in page(results)


@pytest.mark.long
def test_ctrl_c_in_the_middle_of_writing_keeps_the_old_page(
    watched: Watch, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(results / "report")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(publish, "write_atomic", interrupted)
    begin(folder_of(results, POINTS[1]))
    with pytest.raises(KeyboardInterrupt):
        watched.look()
    assert files(results / "report") == before
    assert not list(results.glob(".report*"))


@pytest.mark.long
def test_two_watchers_of_one_folder_both_go_on(watched: Watch, results: Path) -> None:
    other = Watch([], results, results / "report", None)
    other.make()
    other.write()
    begin(folder_of(results, POINTS[1]))
    for one in (watched, other, watched, other):
        one.look()
    assert "3 of 25" in page(results)
    report_files = files(results / "report")
    for one in (watched, other):
        one.look()
    assert files(results / "report") == report_files


def ended(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        run_command(report.app, list(map(str, words)))
    return int(end.value.code or 0)


@pytest.mark.long
def test_watching_ends_when_all_is_over(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(watch, "_REST", 0.0)
    finish(folder_of(results, POINTS[1]), POINTS[1][1], stopped_early=True)
    assert ended("--results", results, "--watch") == 0
    said = capsys.readouterr()
    assert said.out == f"{results / 'report' / 'report.html'}\n"
    assert "every trial is over" in said.err
    assert ended("--results", results, "--watch", "--strict") == 1


def test_what_cannot_be_is_refused(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("--results", results, "--watch", "--json") == 2
    assert ended("--results", results, "--serve", "0", "--compare", results, results) == 2
    assert ended("--results", results, "--serve", "70000") == 2
    assert ended("--results", results, "--serve", "-1") == 2
    assert ended("--results", results / "none", "--watch") == 2
    assert ended("--results", results, "--watch", "--out", results / "grid") == 2
    assert capsys.readouterr().err.count("error: ") == 6


def test_serve_takes_a_port_or_none() -> None:
    assert report._with_port(["--serve"]) == ["--serve=0"]
    assert report._with_port(["--serve", "8000", "x"]) == ["--serve", "8000", "x"]
    assert report._with_port(["--serve", "grid"]) == ["--serve=0", "grid"]
    assert report._with_port(["--serve=80", "--watch"]) == ["--serve=80", "--watch"]


@pytest.fixture(autouse=True, scope="module")
def figures_drawn_once() -> None:
    """Not in this file, which is about what is drawn when."""


def test_a_memory_recalls_equal_figures_and_forgets_the_rest() -> None:
    made: list[int] = []

    @remembered
    def figure(number: int) -> Figure:
        made.append(number)
        return Figure()

    assert figure(1) is not figure(1)
    memory = Memory()
    with memory.recalled():
        first = figure(1)
        assert figure(1) is first and figure(2) is not first
        assert recall(first, "svg", lambda: b"a") == b"a" == recall(first, "svg", lambda: b"b")
    memory.forget_unused()
    with memory.recalled():
        assert figure(1) is first
    memory.forget_unused()
    with memory.recalled():
        figure(2)
    assert made == [1, 1, 1, 2, 2]


def test_a_figure_with_a_name_that_no_font_draws_is_drawn_anew() -> None:
    @remembered
    def figure(name: str) -> Figure:
        drawn = Figure()
        drawn.text(0, 0, name)
        return drawn

    memory = Memory()
    with memory.recalled():
        assert figure("\U00013000") is not figure("\U00013000")  # a hieroglyph
        assert figure("plain") is figure("plain")


def test_the_first_report_raises_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no results folder"):
        watch.watch((), tmp_path / "none", tmp_path / "out", None)
