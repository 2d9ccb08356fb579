"""The report while jobs of a real Slurm train: in a real browser."""

from __future__ import annotations

import os
import statistics
from pathlib import Path

import live_sweep
import pytest
from chromium import chromium
from drill import SITE
from live_sweep import EPOCHS, start, watched

from slurm.dev_cluster.cluster import Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300)]

RATES = [0.1, 0.2, 0.3]


def test_each_epoch_of_a_job_is_soon_on_the_page_and_the_last_page_is_the_report(
    cluster: Cluster, tmp_path: Path
) -> None:
    del cluster  # its environment
    live_sweep.write(tmp_path, RATES)
    (tmp_path / "here.toml").write_text(SITE)
    words = ("--results", "results", "--site", "here.toml", "--on", "slurm", "--detach")
    assert start("sweeps.launch", "mine.py", *words, at=tmp_path).wait(60) == 0
    with chromium() as browser:
        took = watched(tmp_path, browser)
    said = [round(one, 2) for one in took]
    load = os.getloadavg()[0] / len(os.sched_getaffinity(0))
    print(f"seconds from an epoch to the page, with {load:.1f} programs a core: {said}")
    assert len(took) == len(RATES) * EPOCHS
    # Beside other programs the page has only a part of a core.
    assert statistics.median(took) < 2 * max(1.0, load)
    assert took[-1] < 2 * max(2.0, load)
