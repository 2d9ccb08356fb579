"""A sweep that trains while its page is looked at: how soon the page has each epoch, and whether it
ends as the page that is made afterwards."""

from __future__ import annotations

import itertools
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import pandas as pd
from playwright.sync_api import Browser
from playwright.sync_api import Page as Tab

from analysis.live.served_page import served
from local_machine.files import matching
from trial_records.trial_files import EPOCHS as EPOCHS_FILE

ROOT = Path(__file__).parent.parent
EPOCHS = 6
DEFINITION = f"""
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
    space=grid({{"lr": RATES}}),
    objective=maximize("accuracy"),
)
"""

# Notes when the page first shows how many epochs a trial has.
_OBSERVE = """
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


def write(folder: Path, rates: list[float]) -> None:
    """The definition of a sweep with a trial per rate, which train once `folder` has a file go."""
    text = DEFINITION.replace("GO", str(folder / "go")).replace("RATES", str(rates))
    (folder / "mine.py").write_text(text)


def start(*words: object, at: Path) -> subprocess.Popen[str]:
    with (at / "stderr.txt").open("a") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", *map(str, words)],
            cwd=at, text=True, stdout=subprocess.PIPE, stderr=errors,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip


def end(process: subprocess.Popen[str], how: signal.Signals = signal.SIGINT) -> int:
    process.send_signal(how)
    return process.wait(20)


def wait_for(what: Callable[[], object], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


def watched(folder: Path, browser: Browser) -> list[float]:
    """Serve the report of the folder's sweep, let it train, and look at the page to the end: the
    seconds from each epoch to the page, ascending.

    At the end the served page is the report that is made afterwards, byte for byte but for what
    lets it change, and so are the files on disk and what the browser has.
    """
    report = start("analysis.report", "--results", "results", "--serve=0", at=folder)
    try:
        return _watched(folder, browser, report)
    finally:
        report.kill()


def _watched(folder: Path, browser: Browser, report: subprocess.Popen[str]) -> list[float]:
    assert report.stdout is not None
    url = report.stdout.readline().strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", url)
    with browser.new_context(viewport={"width": 1000, "height": 500}) as context:
        tab = context.new_page()
        wrong: list[str] = []
        tab.on("console", lambda message: wrong.append(message.text))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.goto(url)
        tab.evaluate(_OBSERVE)
        (folder / "go").touch()
        tab.locator("#progress").wait_for(state="detached", timeout=90_000)
        took = sorted(delays(tab.evaluate("firstSeen"), folder / "results" / "mine"))
        wait_for(lambda: "every trial is over" in (folder / "stderr.txt").read_text())
        with urlopen(url, timeout=10) as answer:
            page = answer.read()
        shown = words_of(tab), data_of(tab)
        assert wrong == []
        assert end(report) == 130
        made = start("analysis.report", "--results", "results", "--out", "after", at=folder)
        assert made.wait(60) == 0
        after = files(folder / "after")
        assert after == files(folder / "results" / "report")
        assert b"connect-src" not in after["report.html"]
        assert page == served(after["report.html"].decode()).encode()
        tab.goto((folder / "after" / "report.html").as_uri())
        assert (words_of(tab), data_of(tab)) == shown
    return took


def delays(seen: dict[str, float], results: Path) -> list[float]:
    """The seconds from each row that a trial logged, by its own word, to the page that had it, or a
    later one of the trial, or the trial as done; of rows since the page was opened."""
    found = []
    for folder in matching(results, "lr*"):
        at = pd.read_parquet(folder / EPOCHS_FILE)["at"].tolist()
        shown = [seen.get(f"{folder.name} {epoch}", math.inf) for epoch in range(1, len(at) + 1)]
        shown.append(min(seen.get(f"{folder.name} done", math.inf), seen["over"]))
        later = list(itertools.accumulate(reversed(shown), min))[:0:-1]
        pairs = zip(later, at, strict=True)
        found += [one - moment for one, moment in pairs if moment > seen["opened"]]
    return found


def words_of(tab: Tab) -> list[str]:
    """What the page says, without what its own scripts have added."""
    told = "[...document.querySelectorAll('main :is(h2, h3, p, figcaption, summary, th, td)')]"
    found: list[str] = tab.evaluate(f"{told}.map((one) => one.textContent.trim())")
    return found


def data_of(tab: Tab) -> dict[str, str]:
    """What the page's charts are drawn from, by the id of its element."""
    told = "[...document.querySelectorAll('script[type=\"application/json\"]')]"
    found: dict[str, str] = tab.evaluate(
        f"Object.fromEntries({told}.map((one) => [one.id, one.textContent]))"
    )
    assert found
    return found


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}
