"""What a page of 10,000 trials weighs and how soon it answers, in Chromium.

    python benchmarks/report_10000.py [--trials 10000] [--out DIR]

A search's launch with made-up figures: six axes, two of them logarithmic, two metrics at 100
epochs, seeded. It is made of the records that reading gives, since writing 20,000 files takes
minutes and says nothing of the page. The page is the whole report: static tables, figures and
interactive charts; to make and write it takes 200 s of processor time. The latency of a move of
the mouse or of a key is from the event's time stamp to the end of the frame that follows: what is
filtered is counted and drawn by then, of many lines an even sample, and listed where the list is in
sight; `all lines` is how long the whole picture takes, which is drawn when the mouse rests. The
processor time of the page's main thread is that of 50 ms from the event on (of keys 150), in which
all that follows is done. The same moves over an empty page say what of that the machine takes for
itself.

Last measured on two cores that twelve other processes shared (an empty page: p50 10 ms, p95 17; its
main thread 0 and 13), Chromium 1280 x 900 without a GPU: page 5.10 MB (data of the charts 2.80,
Bokeh 1.27), first paint 312 ms, charts drawn 3.1 s after they are opened; brushes p50 39 to 58 ms,
p95 71 to 98, main thread p50 21 to 25 ms, p95 25 to 55; search p50 52 (p95 88), main thread 24
(37); filter p50 56 (p95 127), main thread 23 (55). Processor time itself is about twice as long
under such load. On idle cores it is not measured yet.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from playwright.sync_api import Browser, sync_playwright
from playwright.sync_api import Page as Tab

from analysis.cifar10.task import trainer
from analysis.data.progress import Progress
from analysis.data.search_space import Choice, Range, Search
from analysis.data.study import Study, Sweep
from analysis.reading import exclusions, frames, launch_frame
from analysis.reading.launches import Launch
from analysis.reading.unfinished import Ends
from analysis.whole_report import build
from trial_records.config import content_of, fingerprint_of
from trial_records.history.marks import Marks
from trial_records.plan import PlanFile, PlannedTask, PlannedTrial
from trial_records.tables import DIGESTS
from trial_records.trial_files import EPOCHS as EPOCHS_FILE

EPOCHS = 100
_FRAMES = 50  # milliseconds: what follows from a move is drawn by then
TASK = PlannedTask(
    name="made up", reference="made_up.py:task", metric="val_loss", direction="minimize"
)
SPACE = {
    "lr": Range(kind="float", low=1e-4, high=1.0, log=True),
    "weight_decay": Range(kind="float", low=1e-6, high=1e-2, log=True),
    "momentum": Range(kind="float", low=0.5, high=0.99),
    "depth": Range(kind="int", low=2, high=20),
    "batch_size": Choice(kind="choice", values=[32, 64, 128, 256]),
    "optimizer": Choice(kind="choice", values=["sgd", "adamw", "lion"]),
}
# Installed by each move and key: when the frame after it has ended.
LATENCY = """(kind) => {
  window.took = [];
  addEventListener(kind, (event) => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => took.push(performance.now() - event.timeStamp);
    requestAnimationFrame(() => channel.port2.postMessage(0));
  }, { capture: true });
}"""


def made_up(trials: int) -> Study:
    draw = np.random.default_rng(20)
    points = {
        "lr": 10 ** draw.uniform(-4, 0, trials),
        "weight_decay": 10 ** draw.uniform(-6, -2, trials),
        "momentum": draw.uniform(0.5, 0.99, trials),
        "depth": draw.integers(2, 21, trials),
        "batch_size": draw.choice([32, 64, 128, 256], trials),
        "optimizer": draw.choice(["sgd", "adamw", "lion"], trials),
    }
    end = 0.3 + np.abs(np.log10(points["lr"]) + 1.5) / 3 + draw.gamma(2, 0.05, trials)
    epochs = np.arange(EPOCHS)
    loss = end[:, None] + 2 * np.exp(-epochs / 12) + draw.normal(0, 0.02, (trials, EPOCHS))
    accuracy = np.exp(-loss) + draw.normal(0, 0.004, loss.shape)
    values = zip(*(found.tolist() for found in points.values()), strict=True)
    planned = [_planned(dict(zip(points, row, strict=True))) for row in values]
    names = [one.name for one in planned]
    rows = {
        "trial": np.repeat(np.array(names, object), EPOCHS),
        "at": np.tile(epochs.astype(float), trials),
        "by": "epoch",
    }
    logged = [
        pd.DataFrame(rows | {"metric": name, "value": values.ravel()})
        for name, values in (("val_loss", loss), ("val_accuracy", accuracy))
    ]
    outcomes: dict[str, Any] = dict.fromkeys(frames.run_schema().names) | {
        "trial": names, "status": "done", "objective": loss.min(axis=1),
        "seconds": draw.gamma(9, 20, trials).round(3),
    }  # fmt: skip
    file = PlanFile(
        schema_version=2, task=TASK, id="0000000a", scale="full", overrides={}, axes=list(SPACE),
        seeds=[0], created="2026-01-01T00:00:00+00:00", command="", trials=planned,
    )  # fmt: skip
    search = Search(
        sampler="random", pruner="none", objective="best", trials=trials, seed=0, space=SPACE
    )
    plan = launch_frame.plan_of(
        "made_up", Launch(file, search), pd.DataFrame(outcomes).drop(columns=DIGESTS[EPOCHS_FILE]),
        (pd.DataFrame({"trial": []}), pd.concat(logged, ignore_index=True)),
        Progress(), Ends({}, {}), {}, trainer(),
    )  # fmt: skip
    plan = exclusions.told(plan, Marks())
    return Study(Path("nowhere"), [Sweep("made_up", [plan], [])], [], trainer())


def _planned(point: dict[str, Any]) -> PlannedTrial:
    fingerprint = fingerprint_of(content_of(point, TASK.name))
    name = f"lr{point['lr']:.4g}-depth{point['depth']}-{fingerprint[:8]}"
    return PlannedTrial(name=name, fingerprint=fingerprint, point=point, config=point)


class MainThread:
    """The processor time of the thread on which a page's scripts run, layout and painting with
    them. Other programs on the machine disturb it less than the time that passes."""

    def __init__(self, browser: Browser) -> None:
        told = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")
        pages = [one for one in told["processInfo"] if one["type"] == "renderer"]
        pid = max(pages, key=lambda one: float(one["cpuTime"]))["id"]
        self._path = Path(f"/proc/{pid}/task/{pid}/schedstat")

    @property
    def ms(self) -> float:
        return int(self._path.read_text().split()[0]) / 1e6


def quantiles(found: Sequence[float]) -> str:
    p95 = statistics.quantiles(found, n=20)[-1]
    return f"p50 {statistics.median(found):.0f} ms, p95 {p95:.0f} ms"


def told(what: str, tab: Tab, acts: Sequence[Callable[[], None]], pause: int) -> None:
    """What the acts took, one after the other, and then again with pauses between them, in which
    the page does all that follows from each."""
    tab.evaluate("took.length = 0")
    for act in acts:
        act()
        if pause > _FRAMES:
            tab.wait_for_timeout(pause)
    tab.wait_for_timeout(300)
    passed = tab.evaluate("took.splice(0)")
    browser = tab.context.browser
    assert browser is not None
    thread, spent = MainThread(browser), []
    for act in acts:
        before = thread.ms
        act()
        tab.wait_for_timeout(max(pause, _FRAMES))
        spent.append(thread.ms - before)
    print(f"{what}: {quantiles(passed)}; processor of the main thread {quantiles(spent)}")


def until(tab: Tab, condition: str) -> None:
    """The page's policy lets Playwright's own waiting, which evaluates texts, not work."""
    for _ in range(3_000):
        if tab.evaluate(condition):
            return
        tab.wait_for_timeout(10)
    raise TimeoutError(condition)


def floor(tab: Tab) -> None:
    """What the same moves take where nothing listens: the machine's own share."""
    tab.goto("about:blank")
    tab.evaluate(LATENCY, "pointermove")
    told("an empty page", tab, moves(tab, 300, 500), 0)


def moves(tab: Tab, x: float, bottom: float) -> list[Callable[[], None]]:
    """Of the mouse, straight up and down again."""
    places = [bottom - 3.8 * step for step in (*range(60), *range(60, 0, -1))]
    return [partial(tab.mouse.move, x, place) for place in places]


def drive(tab: Tab, url: str, name: str) -> None:
    tab.goto(url)
    until(tab, "performance.getEntriesByName('first-contentful-paint').length > 0")
    paint = tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    tab.wait_for_timeout(1000)
    explorer = f"sweepsCharts['{name}'].explorer"
    begun = tab.evaluate(f"location.hash = '{name}', performance.now()")
    until(tab, f"{explorer}?.drawn > 0")
    ready = tab.evaluate("performance.now()")
    print(f"first paint {paint:.0f} ms; charts drawn {ready - begun:.0f} ms after they are opened")
    over = tab.locator(f"#{name} .axes")
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    assert box is not None
    tab.evaluate(LATENCY, "pointermove")
    axes = tab.evaluate(f"{explorer}.parallel.axes.map((_, i) => {explorer}.parallel.x(i))")
    for place in (0, 2, len(axes) - 1):
        x = box["x"] + axes[place]
        tab.mouse.move(x, box["y"] + 285)
        tab.mouse.down()
        told(f"brush on axis {place + 1}", tab, moves(tab, x, box["y"] + 280), 0)
        tab.mouse.up()
        tab.mouse.click(x, box["y"] + 150)
    tab.wait_for_timeout(500)
    tab.evaluate(f"window.start = performance.now(); {explorer}.parallel.drawLines()")
    until(tab, f"{explorer}.parallel.drawn > start")
    print(f"all lines: {tab.evaluate(f'{explorer}.parallel.drawn - start'):.0f} ms")
    tab.evaluate(LATENCY, "input")
    for label, text in (("Search trials", "depth=1 adamw"), ("Filter lr", "0.01..0.1")):
        tab.get_by_label(label).focus()
        typed = [partial(tab.keyboard.press, key) for key in text]
        erased = [partial(tab.keyboard.press, "Backspace")] * len(text)
        told(label, tab, [*typed, *erased] * 3, 150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    study = made_up(given.trials)
    out = given.out or Path(tempfile.mkdtemp()) / "report"
    page = build(study)
    (chart,) = (one for part in page.parts for one in part.interactive)
    path = page.write(out)
    sizes = {
        "page": path.stat().st_size,
        "data of the charts": len(chart.data),
        "Bokeh": len(chart.scripts[0]),
    }
    print(", ".join(f"{what} {size / 1e6:.2f} MB" for what, size in sizes.items()))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.on("pageerror", lambda error: print("error:", error))
        floor(tab)
        drive(tab, path.as_uri(), chart.name)
        browser.close()


if __name__ == "__main__":
    main()
