"""The report while a sweep runs: in a real browser, beside trials that really train."""

from __future__ import annotations

import os
from pathlib import Path

import live_sweep
import pytest
from chromium import chromium
from live_sweep import EPOCHS, end, start, wait_for, watched

from local_machine.files import matching


@pytest.mark.long
def test_each_epoch_is_soon_on_the_page_and_the_last_page_is_the_report(tmp_path: Path) -> None:
    live_sweep.write(tmp_path, [0.1, 0.2])
    # One trial after the other.
    words = ("mine.py", "--results", "results", "--workers", "1")
    launched = start("sweeps.launch", *words, at=tmp_path)
    try:
        wait_for(lambda: any(matching(tmp_path / "results" / "mine", "lr*/claim.json")))
        with chromium() as browser:
            took = watched(tmp_path, browser)
    finally:
        if launched.poll() is None:
            end(launched)
    # More programs than cores make all of it slower.
    slower = max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0)))
    said = [round(one, 2) for one in took]
    print(f"seconds from an epoch to the page, on a machine {slower:.1f} times slower: {said}")
    assert len(took) == 2 * EPOCHS
    assert took[int(0.9 * len(took))] < 2 * slower
