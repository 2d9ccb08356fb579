"""Paths are looked for while others make and remove folders."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from local_machine.files import matching


def test_a_folder_that_is_removed_meanwhile_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "kept" / "deep").mkdir(parents=True)
    (tmp_path / "kept" / "deep" / "file").touch()
    over = threading.Event()

    def change() -> None:
        while not over.is_set():
            (tmp_path / "brief" / "deep").mkdir(parents=True)
            shutil.rmtree(tmp_path / "brief")

    other = threading.Thread(target=change)
    other.start()
    try:
        for _ in range(2000):
            for pattern in ("**/file", "*/*/*"):
                assert matching(tmp_path, pattern) == [tmp_path / "kept" / "deep" / "file"]
    finally:
        over.set()
        other.join()


def test_there_is_nothing_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert matching(tmp_path / "nowhere", "**/*") == []


@pytest.mark.parametrize("pattern", ["", "/absolute"])
def test_what_is_not_a_pattern_is_an_error(tmp_path: Path, pattern: str) -> None:
    with pytest.raises((ValueError, NotImplementedError)):
        matching(tmp_path, pattern)
