"""A report takes its folder's place whole, and leaves what others put there."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from analysis import report, whole_report
from analysis.output import publish
from analysis.output.model import Part, Section, Table
from analysis.output.page import Page
from analysis.output.publish import MANIFEST
from local_machine.errors import InputError

# --- the folder ------------------------------------------------------------------------------


def small(word: str, *names: str) -> Page:
    """A page whose text and tables bear a word."""
    tables = [Table(name, word, pd.DataFrame({"a": [word]})) for name in names]
    return Page(word, [Section("s", [Part(tables=tables)])])


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text(errors="replace")
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_an_earlier_report_is_replaced_and_the_files_of_others_stay(tmp_path: Path) -> None:
    out = tmp_path / "report"
    small("earlier-one", "both", "stale").write(out)
    out.chmod(0o750)
    (out / "notes.txt").write_text("mine")
    (out / "figures" / "deep").mkdir(parents=True)
    (out / "figures" / "deep" / "mine.png").write_text("mine too")
    (out / "link").symlink_to(tmp_path)
    assert small("new", "both", "fresh").write(out) == out / "report.html"
    found = contents(out)
    assert found["notes.txt"] == "mine"
    assert found["figures/deep/mine.png"] == "mine too"
    assert (out / "link").is_symlink()
    assert "tables/both.csv" in found
    assert "tables/fresh.tex" in found
    assert "tables/stale.csv" not in found
    assert not any("earlier-one" in text for text in found.values())
    assert out.stat().st_mode & 0o777 == 0o750
    assert sorted(tmp_path.iterdir()) == [out]
    done = subprocess.run(["sha256sum", "--check", "--strict", MANIFEST], cwd=out)
    assert done.returncode == 0


def test_folders_of_others_keep_their_modes_and_the_empty_ones_stay(tmp_path: Path) -> None:
    out = tmp_path / "report"
    small("old", "a").write(out)
    for name in ("private/deep", "empty", "tables/private"):
        (out / name).mkdir(parents=True)
    (out / "private" / "deep" / "x").write_text("mine")
    (out / "tables" / "x").write_text("mine")
    modes = {"private": 0o700, "private/deep": 0o710, "empty": 0o700, "tables": 0o750}
    modes["tables/private"] = 0o700
    for name, mode in modes.items():
        (out / name).chmod(mode)
    small("new", "b").write(out)
    small("without tables").write(out)
    assert {name: (out / name).stat().st_mode & 0o777 for name in modes} == modes
    found = contents(out)
    assert found["private/deep/x"] == found["tables/x"] == "mine"
    assert sorted(tmp_path.iterdir()) == [out]


def test_a_folder_of_others_and_one_of_the_report_become_one(tmp_path: Path) -> None:
    out = tmp_path / "report"
    small("old").write(out)
    (out / "tables").mkdir(mode=0o700)
    (out / "tables" / "mine").write_text("mine")
    small("new", "a").write(out)
    assert {"tables/mine", "tables/a.csv"} <= contents(out).keys()
    assert (out / "tables").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("plans", ["plans", "mixup/plans", "results/mixup/plans"])
def test_a_folder_with_results_in_it_is_refused(tmp_path: Path, plans: str) -> None:
    out = tmp_path / "report"
    small("old").write(out)
    (out / plans).mkdir(parents=True)
    (out / plans / "1.json").write_text("{}")
    before = contents(tmp_path)
    for act in (publish.check_out, small("new").write):
        with pytest.raises(InputError, match="holds results of sweeps"):
            act(out)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("garbage", [b"", b"garbage\n", b"\xff\xfe", b"0" * 64 + b"  report.md"])
def test_a_damaged_list_is_said_to_be_so(tmp_path: Path, garbage: bytes) -> None:
    out = tmp_path / "report"
    small("old", "a").write(out)
    (out / MANIFEST).write_bytes(garbage)
    before = contents(tmp_path)
    for act in (publish.check_out, small("new", "a").write):
        with pytest.raises(InputError, match="is damaged") as error:
            act(out)
        assert "--out DIR" in error.value.help
        assert str(out) in error.value.help
    assert contents(tmp_path) == before


def test_the_folder_is_checked_before_anything_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "precious").write_text("x")
    monkeypatch.setattr(whole_report, "read", lambda results, names: None)
    monkeypatch.setattr(whole_report, "build", lambda study: pytest.fail("drawn"))
    monkeypatch.setattr(
        "analysis.sections.comparison.comparison", lambda *studies: pytest.fail("drawn")
    )
    for compare in (None, (tmp_path, tmp_path)):
        with pytest.raises(InputError, match="holds files and no report"):
            report.report(results=tmp_path, out=tmp_path / "data", compare=compare)
    # Where nothing hinders, nothing is made yet.
    publish.check_out(tmp_path / "new" / "report")
    assert contents(tmp_path) == {"data/precious": "x"}
    assert not (tmp_path / "new").exists()


def test_a_terminal_obeys_no_word_of_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "re\x1b[31msults\udcff"
    problem = InputError("bad \x1b]0;x\x07\nname\x9b", "mend")
    study = SimpleNamespace(problems=[problem], plans=[])
    monkeypatch.setattr("analysis.cifar10.task.load", lambda results, names: study)
    monkeypatch.setattr(whole_report, "build", lambda study: small("new"))
    report.report(results=results)
    told = capsys.readouterr()
    assert f"{tmp_path}/re?[31msults?/report/report.html\n" == told.out
    assert "warning: bad ?]0;x??name?\n" in told.err
    assert all(char.isprintable() or char == "\n" for char in told.err)


def test_a_folder_of_others_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "precious").write_text("x")
    with pytest.raises(InputError, match="holds files and no report"):
        small("new").write(tmp_path / "data")
    assert contents(tmp_path) == {"data/precious": "x"}
    # An empty one, and one behind a link, are as good as none.
    (tmp_path / "data" / "precious").unlink()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    small("new").write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "data" / "report.html").is_file()


@pytest.mark.parametrize("name", ["tables/fresh.csv", "tables"])
def test_a_file_of_others_in_a_new_files_place_is_not_lost(tmp_path: Path, name: str) -> None:
    out = tmp_path / "report"
    small("old").write(out)
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(InputError, match=re.escape(f"{out / name} is in the way")):
        small("new", "fresh").write(out)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("place", ["file", "file/report"])
def test_a_file_in_the_folders_way_is_an_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="a file is in the way"):
        small("new").write(tmp_path / place)
    assert contents(tmp_path) == {"file": "mine"}


def test_two_tables_of_one_name_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tables/a\.csv"):
        small("new", "a", "a").write(tmp_path / "report")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_half_way_keeps_the_earlier_report(tmp_path: Path) -> None:
    out = tmp_path / "report"
    small("old", "a").write(out)
    before = contents(tmp_path)
    large = Page("x" * 1_000_000, small("new", "a").sections)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError) as error:
            large.write(out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert error.value.errno == errno.EFBIG
    assert error.value.filename == str(out)
    assert contents(tmp_path) == before


def steps_to_write(page: Page, out: Path, dies_at: int = 0) -> int | None:
    """The steps that a fork takes to write a report; None where it was killed before one."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            steps = itertools.count(1)

            def dying(act: Callable[..., Any]) -> Callable[..., Any]:
                def counted(*words: Any, **more: Any) -> Any:
                    if next(steps) == dies_at:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return act(*words, **more)

                return counted

            for name in ("mkdir", "rename", "replace", "unlink", "rmdir"):
                setattr(os, name, dying(getattr(os, name)))
            page.write(out)
            os.write(write, str(next(steps) - 1).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as said:
        found = said.read()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == (0 if found else -signal.SIGKILL)
    return int(found) if found else None


@pytest.mark.long
def test_killed_at_any_step_one_report_is_whole_and_the_next_mends_the_rest(
    tmp_path: Path,
) -> None:
    page = small("new", "both", "fresh")
    list(page.files())  # once for all: what does not write takes long
    first = small("old", "both", "stale").write(tmp_path / "first" / "report").parent
    (first / "notes.txt").write_text("mine")

    def begin(name: str) -> Path:
        return Path(shutil.copytree(first.parent, tmp_path / name)) / first.name

    def report(folder: Path) -> dict[str, str]:
        return {name: text for name, text in contents(folder).items() if name != "notes.txt"}

    whole = begin("whole")
    old = report(whole)
    steps = steps_to_write(page, whole)
    assert steps is not None
    new = report(whole)
    outs = {step: begin(f"at{step}") for step in range(1, steps + 1)}
    assert {steps_to_write(page, out, step) for step, out in outs.items()} == {None}
    for step, out in outs.items():
        left = [folder for folder in out.parent.iterdir() if folder.suffix != ".part"]
        assert any(report(folder) in (old, new) for folder in left), step
        # For the instant between two renames it is beside, not in its place.
        assert report(out) in (old, new) if out.exists() else len(left) == 1, step
        notes = [text for name, text in contents(out.parent).items() if "notes" in name]
        assert notes == ["mine"], step
        small("third", "both").write(out)
        assert (out / "notes.txt").read_text() == "mine"
        assert "stale" not in " ".join(report(out))
        assert "third" in report(out)["report.md"]
        assert not [one for one in out.parent.iterdir() if one.suffix == ".old"]


@pytest.mark.parametrize("ahead", [0, 7200])
def test_what_a_killed_report_left_goes_when_it_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    """By the file server's clock: this machine's may be wrong by hours."""
    for name, age in (("1-1", 7200), ("2-2", 60)):
        part = tmp_path / f".report.{name}.part"
        part.mkdir()
        os.utime(part, (time.time() - age,) * 2)
    with monkeypatch.context() as patch:
        right = time.time
        patch.setattr(time, "time", lambda: right() + ahead)
        small("new").write(tmp_path / "report")
    assert {path.name for path in tmp_path.iterdir()} == {"report", ".report.2-2.part"}
