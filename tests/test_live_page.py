"""The report while a sweep runs: in a real browser, beside trials that really train."""

from __future__ import annotations

import itertools
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from chromium import chromium
from playwright.sync_api import Browser
from playwright.sync_api import Page as Tab

from trial_records.trial_files import EPOCHS as EPOCHS_FILE

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.xdist_group("page")

EPOCHS = 6
SWEEP = f"""
import time
from pathlib import Path
from sweeps import Sweep, grid, maximize


def train(config, run):
    state = run.load() or {{"epoch": 0}}
    while not Path("GO").exists():
        time.sleep(0.05)
    for epoch in range(state["epoch"], {EPOCHS}):
        time.sleep(0.8)
        run.log(epoch=epoch, accuracy=1 - 1 / (epoch + 2) - config["lr"] / 100, at=time.time())
        run.save({{"epoch": epoch + 1}})
    return {{}}


sweep = Sweep(
    train,
    base={{"lr": 0.1, "epochs": {EPOCHS}}},
    space=grid({{"lr": [0.1, 0.2]}}),
    objective=maximize("accuracy"),
)
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def start(*words: object, at: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, words)],
        cwd=at, text=True, stdout=subprocess.PIPE, stderr=(at / "stderr.txt").open("a"),
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip


def end(process: subprocess.Popen[str], how: signal.Signals = signal.SIGINT) -> int:
    process.send_signal(how)
    return process.wait(20)


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Path]:
    """A folder in which a sweep of two trials runs, one after the other, once there is a file go;
    it ends with the test."""
    (tmp_path / "mine.py").write_text(SWEEP.replace("GO", str(tmp_path / "go")))
    words = ("mine.py", "--results", "results", "--workers", "1")
    launched = start("sweeps.launch", *words, at=tmp_path)
    results = tmp_path / "results" / "mine"
    wait_for(lambda: any(results.glob("lr*/claim.json")))
    yield tmp_path
    if launched.poll() is None:
        end(launched)


def wait_for(what: Callable[[], object], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


# Notes when the page first shows how many epochs a trial has.
OBSERVE = """
window.firstSeen = { opened: Date.now() / 1000 };
let there = [];
const note = () => {
  const rows = [...document.querySelectorAll("#progress tbody tr")];
  const names = rows.map((row) => row.cells[0].textContent);
  rows.forEach((row, i) => {
    window.firstSeen[`${names[i]} ${parseInt(row.cells[2].textContent)}`] ??= Date.now() / 1000;
  });
  for (const name of there.filter((one) => !names.includes(one)))
    window.firstSeen[`${name} done`] ??= Date.now() / 1000;
  if (!document.querySelector("#progress")) window.firstSeen.over ??= Date.now() / 1000;
  there = names;
};
note();
const what = { subtree: true, childList: true, characterData: true };
new MutationObserver(note).observe(document, what);
"""


def delays(seen: dict[str, float], results: Path) -> list[float]:
    """The seconds from each row that a trial logged, by its own word, to the page that had it, or a
    later one of the trial, or the trial as done; of rows since the page was opened."""
    found = []
    for folder in results.glob("lr*"):
        at = pd.read_parquet(folder / EPOCHS_FILE)["at"].tolist()
        shown = [seen.get(f"{folder.name} {epoch}", math.inf) for epoch in range(1, len(at) + 1)]
        shown.append(min(seen.get(f"{folder.name} done", math.inf), seen["over"]))
        later = list(itertools.accumulate(reversed(shown), min))[:0:-1]
        pairs = zip(later, at, strict=True)
        found += [one - moment for one, moment in pairs if moment > seen["opened"]]
    return found


def test_each_epoch_is_soon_on_the_page_and_the_last_page_is_the_report(
    sweep: Path, browser: Browser
) -> None:
    served = start("analysis.report", "--results", "results", "--serve=0", at=sweep)
    assert served.stdout is not None
    url = served.stdout.readline().strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", url)
    with browser.new_context(viewport={"width": 1000, "height": 500}) as context:
        tab = context.new_page()
        wrong: list[str] = []
        tab.on("console", lambda message: wrong.append(message.text))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.goto(url)
        tab.evaluate(OBSERVE)
        (sweep / "go").touch()
        tab.locator("#progress").wait_for(state="detached", timeout=90_000)
        seen = tab.evaluate("firstSeen")
        took = sorted(delays(seen, sweep / "results" / "mine"))
        # More programs than cores make all of it slower.
        slower = max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0)))
        said = [round(one, 2) for one in took]
        print(f"seconds from an epoch to the page, on a machine {slower:.1f} times slower: {said}")
        assert len(took) == 2 * EPOCHS
        assert took[int(0.9 * len(took))] < 2 * slower
        # What is shown in the end is what the report says that is made afterwards.
        wait_for(lambda: "every trial is over" in (sweep / "stderr.txt").read_text())
        shown = words_of(tab)
        assert wrong == []
        assert end(served) == 130
        made = start("analysis.report", "--results", "results", "--out", "after", at=sweep)
        assert made.wait(60) == 0
        written, after = sweep / "results" / "report", sweep / "after"
        assert files(written) == files(after)
        assert b"connect-src" not in files(after)["report.html"]
        tab.goto((after / "report.html").as_uri())
        assert words_of(tab) == shown


def words_of(tab: Tab) -> list[str]:
    """What the page says, without what its own scripts have added."""
    told = "[...document.querySelectorAll('main :is(h2, h3, p, figcaption, summary, th, td)')]"
    found: list[str] = tab.evaluate(f"{told}.map((one) => one.textContent.trim())")
    return found


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}
