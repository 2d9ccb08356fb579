"""What a page of 10,000 trials weighs and how soon it answers, in Chromium.

    python benchmarks/report_10000.py [--trials 10000] [--out DIR]

A search's launch with made-up figures: six axes, two of them logarithmic, two metrics at 100
epochs, seeded. It is made as the frames that reading gives, since writing 20,000 files takes
minutes and says nothing of the page. The page holds the launch's interactive charts and nothing
else; the static table of the same trials is weighed beside it. The latency of a move of the mouse
or of a key is from the event's time stamp to the end of the frame that follows: what is filtered
is counted, listed and drawn by then, of many lines an even sample; `all lines` is how long the
whole picture takes, which is drawn when the mouse rests. The same moves over an empty page say what
of that the machine takes for itself.

Last measured on two cores that nine other processes shared (an empty page: p50 13 ms, p95 27), so
that the 95th percentiles are the machine's more than the page's; Chromium 1280 x 900 without a GPU:
page 4.13 MB (data 2.80, Bokeh 1.27), first paint 60 ms, charts drawn 1.8 s, brush p50 31 to 38 ms,
p95 133 to 171, all lines 0.5 s, search p50 21 (p95 80), filter p50 16 (p95 80). The processor time
of the page's main thread was 23 ms for each move of a brush. The static table adds 1.96 MB.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from playwright.sync_api import Page as Tab
from playwright.sync_api import sync_playwright

from analysis.cifar10.task import trainer
from analysis.data.search_space import Choice, Range, Search
from analysis.data.study import POINT, Plan, Study, Sweep
from analysis.interactive.parts import charts
from analysis.output.model import Part, Section
from analysis.output.page import Page
from analysis.sections import any_task
from trial_records.plan import PlannedTask

EPOCHS = 100
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
    names = [
        f"lr{lr:.4g}-depth{depth}-{fingerprint:08x}"
        for lr, depth, fingerprint in zip(
            points["lr"], points["depth"], draw.integers(0, 2**32, trials), strict=True
        )
    ]
    end = 0.3 + np.abs(np.log10(points["lr"]) + 1.5) / 3 + draw.gamma(2, 0.05, trials)
    epochs = np.arange(EPOCHS)
    loss = end[:, None] + 2 * np.exp(-epochs / 12) + draw.normal(0, 0.02, (trials, EPOCHS))
    accuracy = np.exp(-loss) + draw.normal(0, 0.004, loss.shape)
    rows = {
        "trial": np.repeat(np.array(names, object), EPOCHS),
        "at": np.tile(epochs.astype(float), trials),
        "by": "epoch",
    }
    logged = [
        pd.DataFrame(rows | {"metric": name, "value": values.ravel()})
        for name, values in (("val_loss", loss), ("val_accuracy", accuracy))
    ]
    runs = pd.DataFrame({"trial": names} | {POINT + axis: found for axis, found in points.items()})
    runs = runs.assign(
        objective=loss.min(axis=1), state="done", seed=0, failure="", predictions_sha256=None,
        seconds=draw.gamma(9, 20, trials).round(3), exactness="", contradicted=False,
    )  # fmt: skip
    runs["flags"] = [[] for _ in names]
    about: dict[str, Any] = {"pruner": "none", "objective": "best", "seed": 0}
    search = Search(sampler="random", trials=trials, space=SPACE, **about)
    plan = Plan(
        "made_up", "0000000a", "full", {}, list(SPACE), [0], "2026-01-01T00:00:00+00:00", "",
        runs, pd.DataFrame(), search, task=TASK, logged=pd.concat(logged, ignore_index=True),
        is_of_today=False,
    )  # fmt: skip
    return Study(Path("nowhere"), [Sweep("made_up", [plan], [])], [], trainer())


def quantiles(found: Sequence[float]) -> str:
    p95 = statistics.quantiles(found, n=20)[-1]
    return f"p50 {statistics.median(found):.0f} ms, p95 {p95:.0f} ms, n {len(found)}"


def took(tab: Tab) -> list[float]:
    tab.wait_for_timeout(300)
    found: list[float] = tab.evaluate("took.splice(0)")
    return found


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
    for step in range(120):
        tab.mouse.move(300, 200 + 3 * step)
    print(f"an empty page: {quantiles(took(tab))}")


def drive(tab: Tab, url: str, name: str) -> None:
    tab.goto(url)
    until(tab, "performance.getEntriesByName('first-contentful-paint').length > 0")
    paint = tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    until(tab, f"sweepsCharts['{name}'].explorer?.drawn > 0")
    ready = tab.evaluate("performance.now()")
    print(f"first paint {paint:.0f} ms, charts drawn {ready:.0f} ms")
    over = tab.locator(".axes")
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    assert box is not None
    tab.evaluate(LATENCY, "pointermove")
    explorer = f"sweepsCharts['{name}'].explorer"
    axes = tab.evaluate(f"{explorer}.parallel.axes.map((_, i) => {explorer}.parallel.x(i))")
    for place in (0, 2, len(axes) - 1):
        x = box["x"] + axes[place]
        tab.mouse.move(x, box["y"] + 285)
        tab.mouse.down()
        tab.evaluate("took.length = 0")
        for step in range(60):
            tab.mouse.move(x, box["y"] + 280 - 3.8 * step)
        found = took(tab)
        tab.mouse.up()
        print(f"brush on axis {place + 1}: {quantiles(found)}")
        tab.mouse.click(x, box["y"] + 150)
    tab.wait_for_timeout(500)
    tab.evaluate(f"window.start = performance.now(); {explorer}.parallel.drawLines()")
    tab.wait_for_timeout(1000)
    print(f"all lines: {tab.evaluate(f'{explorer}.parallel.drawn - start'):.0f} ms")
    tab.evaluate(LATENCY, "input")
    for label, text in (("Search trials", "depth=1 adamw"), ("Filter lr", "0.01..0.1")):
        field = tab.get_by_label(label)
        field.focus()
        tab.evaluate("took.length = 0")
        for _ in range(3):
            for letter in text:
                tab.keyboard.type(letter)
                tab.wait_for_timeout(150)
            for _ in text:
                tab.keyboard.press("Backspace")
                tab.wait_for_timeout(150)
        print(f"{label}: {quantiles(took(tab))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    study = made_up(given.trials)
    (plan,) = study.plans
    out = given.out or Path(tempfile.mkdtemp()) / "report"
    (chart,) = charts(plan, study)
    page = Page("10,000 trials", [Section("Every trial", [Part(interactive=[chart])])])
    path = page.write(out)
    print(f"page {path.stat().st_size / 1e6:.2f} MB, of it data {len(chart.data) / 1e6:.2f} MB, "
          f"scripts {sum(map(len, chart.scripts)) / 1e6:.2f} MB")  # fmt: skip
    table = Page("t", [Section("Every trial", any_task.trials(plan))]).html()
    print(f"the static table of the same trials: {len(table) / 1e6:.2f} MB")
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
