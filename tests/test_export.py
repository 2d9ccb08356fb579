"""An export holds what was measured, as the tool's own library reads it; a second one adds nothing,
and a grown sweep adds what is new."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from read_back import READERS, Found, cells
from task_results import TASK, begin, finish, trials, write_plan

from analysis.export import exported, target, to_csv, transfer
from analysis.export.__main__ import WATCH_SECONDS, app
from analysis.export.to_tensorboard import TensorBoard
from analysis.export.trial import Point, Trial, by_sweep, digest, read
from local_machine.errors import InputError, run_command
from trial_records.log import LogWriter
from trial_records.trial_files import ATTEMPT, FILES, LOG, Failure

PLANNED = trials()
NAMES = [trial["name"] for trial in PLANNED]
SWEEP = "mine"
# A metric of a name that a tool may refuse; what one does not take it has under another.
ODD = "é:*"


def log_of(folder: Path) -> LogWriter:
    files = folder / f"{ATTEMPT}abc" / FILES
    files.mkdir(parents=True)
    return LogWriter(files / LOG, b"", 1, "abc")


def row(number: int, **more: float) -> dict[str, float]:
    return {"step": 10 * number, "loss": 2.0 - 0.1 * number, ODD: 0.125 * number, **more}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two trials done, one failed, one that has logged two rows, and two that have not begun."""
    results = tmp_path / "results"
    write_plan(results, PLANNED, SWEEP)
    for number in range(2):
        losses = [2.0, 1.0 + 0.1 * number, math.nan]
        finish(results / SWEEP / NAMES[number], PLANNED[number], losses)
    begin(results / SWEEP / NAMES[2], PLANNED[2], [3.0])
    Failure("ERROR", "it broke", "", [], 1, 0.0, "host").write(results / SWEEP / NAMES[2])
    return results


@pytest.fixture
def export(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    def run(tool: str, *words: str, dest: str = "out") -> dict[str, Any]:
        arguments = ["--results", str(results), "--to", tool, str(tmp_path / dest), "--json"]
        with pytest.raises(SystemExit) as end:
            run_command(app, [*arguments, *words])
        said = capsys.readouterr()
        assert end.value.code == 0, said.err
        answer: dict[str, Any] = json.loads(said.out.splitlines()[-1])
        return answer

    return run


def expected(number: int, losses: list[float]) -> Found:
    """Of a finished trial."""
    found = Found()
    found.config = {"lr": PLANNED[number]["config"]["lr"], "net.depth": 2.0, "seed": number % 3}
    found.config["test_accuracy"] = "a text"
    for place, loss in enumerate(losses):
        found.add("step", 10 * place, 10.0 * place)
        found.add("loss", 10 * place, loss)
    best = min(loss for loss in losses if loss == loss)
    found.results = {
        "objective": best, "seconds": 2.0,
        "best.loss": best, "best.step": 10.0 * losses.index(best),
        "last.loss": losses[-1], "last.step": 10.0 * (len(losses) - 1), "final.test": 0.5,
    }  # fmt: skip
    return found


def compare(tool: str, found: Found, wanted: Found) -> None:
    # TensorBoard shows scalars of 32 bits; in CSV nothing and NaN, to pandas, are the same.
    if tool == "csv":
        wanted.results = {name: one for name, one in wanted.results.items() if one == one}
    close = {"rel": 1e-6 if tool == "tensorboard" else 0.0, "abs": 0.0, "nan_ok": True}
    assert found.config == wanted.config
    drop = (lambda steps: [one for one in steps if one[1] == one[1]]) if tool == "csv" else list
    # Trackio's own column has the step.
    names = wanted.metrics.keys() - ({"step"} if tool == "trackio" else set())
    for name in names:
        steps, values = zip(*drop(found.metrics[name]), strict=True)
        wanted_steps, wanted_values = zip(*drop(wanted.metrics[name]), strict=True)
        assert steps == wanted_steps, name
        assert values == pytest.approx(wanted_values, **close), name
    assert found.results == pytest.approx(wanted.results, **close)


@pytest.mark.long
@pytest.mark.parametrize("tool", ["tensorboard", "wandb", "mlflow", "trackio"])
def test_a_tool_reads_the_same_numbers_back_and_gets_only_what_is_new(
    tool: str, results: Path, export: Callable[..., dict[str, Any]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed")
    if tool == "trackio":  # it reads its folder when it is imported
        for name in [one for one in sys.modules if one.partition(".")[0] == tool]:
            monkeypatch.delitem(sys.modules, name)
    writer = log_of(results / SWEEP / NAMES[3])
    for number in range(3):
        writer.append("row", row(number))

    first = export(tool)
    # The last row of a running trial may still grow.
    assert (first["new"], first["not_begun"], first["rows"]) == (4, 2, 3 + 3 + 1 + 2)
    again = export(tool)
    assert (again["unchanged"], again["rows"]) == (4, 0)
    assert {again[kind] for kind in ("new", "grown", "replaced")} == {0}

    writer.append("row", row(3))
    writer.saved(writer.mark())
    finish(results / SWEEP / NAMES[4], PLANNED[4], [1.0, 0.5])
    finish(results / SWEEP / NAMES[1], PLANNED[1], [9.0])
    (results / SWEEP / NAMES[2] / "failure.json").unlink()
    finish(results / SWEEP / NAMES[2], PLANNED[2], [3.0, 2.0])
    grown = export(tool)
    kinds = [grown[kind] for kind in ("new", "grown", "replaced", "unchanged", "not_begun")]
    assert kinds == [1, 2, 1, 1, 1]
    assert export(tool)["rows"] == 0

    found = READERS[tool](tmp_path / "out", SWEEP)
    assert sorted(found) == sorted(NAMES[:5])
    compare(tool, found[NAMES[0]], expected(0, [2.0, 1.0, math.nan]))
    compare(tool, found[NAMES[1]], expected(1, [9.0]))
    compare(tool, found[NAMES[2]], expected(2, [3.0, 2.0]))
    compare(tool, found[NAMES[4]], expected(4, [1.0, 0.5]))
    running = found[NAMES[3]]
    wanted = [(10 * number, pytest.approx(2.0 - 0.1 * number, rel=1e-6)) for number in range(4)]
    assert running.metrics["loss"] == wanted
    assert not running.results
    (odd,) = (steps for name, steps in running.metrics.items() if name[:4] not in ("loss", "step"))
    assert odd == [(10 * number, 0.125 * number) for number in range(4)]


def test_csv_holds_the_same_numbers_and_is_written_where_something_changed(
    results: Path, export: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    assert export("csv")["changed"] == 2
    path = tmp_path / "out" / to_csv.TRIALS
    before = path.stat().st_mtime_ns
    assert export("csv")["changed"] == 0
    assert path.stat().st_mtime_ns == before
    found = READERS["csv"](tmp_path / "out", SWEEP)
    assert sorted(found) == sorted(NAMES)
    compare("csv", found[NAMES[0]], expected(0, [2.0, 1.0, math.nan]))
    compare("csv", found[NAMES[1]], expected(1, [2.0, 1.1, math.nan]))
    states = {line[1]: line[4] for line in cells(path)[1:]}
    assert [states[name] for name in NAMES] == ["done"] * 2 + ["failed"] + ["not begun"] * 3
    finish(results / SWEEP / NAMES[3], PLANNED[3], [1.0])
    assert export("csv")["changed"] == 2


def test_csv_has_no_formula(tmp_path: Path) -> None:
    planned = trials((0.1,), 1)
    planned[0]["config"]["test_accuracy"] = '=HYPERLINK("x")'
    from trial_records.config import content_of, fingerprint_of

    planned[0]["fingerprint"] = fingerprint_of(content_of(planned[0]["config"], TASK))
    planned[0]["name"] = f"a-{planned[0]['fingerprint'][:8]}"
    write_plan(tmp_path / "results", planned, SWEEP)
    finish(tmp_path / "results" / SWEEP / planned[0]["name"], planned[0], [-1.0], "=1+1")
    to_csv.CsvTables(tmp_path / "results", (), tmp_path / "out").run()
    every = [*cells(tmp_path / "out" / to_csv.TRIALS), *cells(tmp_path / "out" / to_csv.METRICS)]
    texts = [cell for line in every for cell in line]
    assert "'=1+1" in texts and '\'=HYPERLINK("x")' in texts and "-1.0" in texts
    assert not [cell for cell in texts if cell[:1] in ("=", "+", "@")]


def test_what_was_broken_off_is_written_anew(
    results: Path, export: Callable[..., dict[str, Any]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Killed between a trial's rows and the marks, an export has trials without marks."""
    writes = exported.write
    monkeypatch.setattr(exported, "write", lambda *_: None)
    export("tensorboard")
    monkeypatch.setattr(exported, "write", writes)
    again = export("tensorboard")
    assert (again["replaced"], again["new"]) == (3, 0)
    found = READERS["tensorboard"](tmp_path / "out", SWEEP)
    compare("tensorboard", found[NAMES[0]], expected(0, [2.0, 1.0, math.nan]))


def test_tensorboard_reads_files_of_one_second_in_the_order_in_which_they_were_written(
    tmp_path: Path,
) -> None:
    """Their names have a counter, of which TensorBoard takes 10 to be before 9."""
    trial: Any = SimpleNamespace(
        sweep=SWEEP, name="grown", config={}, results={}, is_over=False, began=0.0
    )
    points = [Point(step, {"loss": float(step)}) for step in range(12)]
    written = TensorBoard(tmp_path)
    for since in range(3):
        written.write(trial, points[: since + 1], since)
    names = sorted(path.name for path in (tmp_path / SWEEP / "grown").iterdir())
    assert len({name.split(".")[3] for name in names}) == 3


def test_a_damaged_trial_is_left_out_and_named(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = results / SWEEP / NAMES[0] / "epochs.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SystemExit) as end:
        run_command(
            app, ["--results", str(results), "--to", "tensorboard", str(tmp_path / "out"), "--json"]
        )
    said = capsys.readouterr()
    assert end.value.code == 1
    assert str(path) in said.err
    assert json.loads(said.out)["new"] == 2
    assert not (tmp_path / "out" / SWEEP / NAMES[0]).exists()


def test_watch_adds_rows_as_they_come_and_ends_with_the_last_trial(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    writer = log_of(results / SWEEP / NAMES[3])
    seen: list[list[tuple[int, float]]] = []

    def sleeps(seconds: float) -> None:
        if seconds != WATCH_SECONDS:  # for a later name of a file
            time.sleep(seconds)
            return
        found = READERS["tensorboard"](tmp_path / "out", SWEEP)
        seen.append(list(found[NAMES[3]].metrics["loss"]) if NAMES[3] in found else [])
        number = len(seen)
        if number < 3:
            writer.append("row", row(number - 1))
            writer.saved(writer.mark())
        else:
            for place in range(3, 6):
                finish(results / SWEEP / NAMES[place], PLANNED[place], [1.0])

    monkeypatch.setattr("local_machine.clock.sleep", sleeps)
    with pytest.raises(SystemExit) as end:
        words = ["--results", str(results), "--to", "tensorboard", str(tmp_path / "out")]
        run_command(app, [*words, "--watch"])
    assert end.value.code == 0, capsys.readouterr().err
    assert [len(steps) for steps in seen] == [0, 1, 2]


@pytest.mark.parametrize("tool", ["tensorboard", "wandb", "mlflow", "trackio"])
def test_a_missing_library_is_answered_with_what_to_install(
    tool: str, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name in [one for one in sys.modules if one.partition(".")[0] == tool]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, tool, None)
    with pytest.raises(SystemExit) as end:
        run_command(app, ["--results", str(results), "--to", tool, str(tmp_path / "out")])
    assert end.value.code == 2
    assert f"pip install {tool}" in capsys.readouterr().err


def test_the_results_themselves_are_no_destination(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in (results, results / SWEEP):
        with pytest.raises(SystemExit) as end:
            run_command(app, ["--results", str(results), "--to", "csv", str(place)])
        assert end.value.code == 2
        assert "holds the results themselves" in capsys.readouterr().err


def test_two_exports_at_once_are_refused(tmp_path: Path) -> None:
    with exported.held(tmp_path):
        child = os.fork()
        if child == 0:
            try:
                with exported.held(tmp_path):
                    os._exit(0)
            except InputError:
                os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_rows_of_a_log_and_of_a_finished_trial_have_one_digest(results: Path) -> None:
    """Else each trial would be written again when it ends."""
    folder = results / SWEEP / NAMES[3]
    writer = log_of(folder)
    for number, loss in enumerate([2.0, 1.0]):
        writer.append("row", {"step": 10 * number, "loss": loss})
    writer.saved(writer.mark())

    def trial() -> Trial:
        planned = by_sweep(results, [SWEEP], [])[SWEEP]
        return next(one for one in read(results / SWEEP, planned, []) if one.name == NAMES[3])

    running = trial()
    logged = running.points()
    finish(folder, PLANNED[3], [2.0, 1.0])
    assert (running.state, trial().state) == ("unfinished", "done")
    assert digest(logged) == digest(trial().points())
    assert transfer.Mark.of(running, logged).begins(trial(), trial().points())


def test_names_that_a_tool_refuses_stay_apart() -> None:
    import re

    allowed = re.compile(r"\w+", re.ASCII)
    names = ["a/b", "a:b", "a_b", "é", "=", "", "../x"]
    found = {target.renamed(name, allowed) for name in names}
    assert len(found) == len(names)
    assert "a_b" in found
