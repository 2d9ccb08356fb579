"""The charts that a reader works with, in a real browser: by mouse, by keyboard, by address."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import chromium, strict_tab
from playwright.sync_api import Browser, Locator
from playwright.sync_api import Page as Tab
from predicted_results import launch, small

from analysis.cifar10.task import load
from analysis.data.study import Study
from analysis.interactive.parts import charts, data
from analysis.output.model import Gallery, Part, Sample, Section
from analysis.output.page import Page
from trainer.config import TrainConfig
from trial_records.trial_files import RUN

ROOT = Path(__file__).parent.parent
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
)
HOSTILE = "</script><b onclick=x> \" ' --> $$x$$ & é"

UNFOLD = "for (const one of document.querySelectorAll('details:not(.explorer *)')) one.open = true"

# One browser for all of them, also where tests run in several processes.
# Twelve trials on three axes. The deeper a network, the more of the 60 examples it gets wrong.
DEFINITION = """
import numpy as np
from sweeps import Sweep, grid, minimize

BASE = {"lr": 0.1, "depth": 2, "kind": "a", "twice": 4, "seed": 0}
NAMES = np.array(["ant", "bee", HOSTILE])

def loss(config, epoch):
    return config["depth"] * config["lr"] / 3 + 1 / (epoch + 1) + (config["kind"] != "a") / 7

def train(config, run):
    labels = np.arange(60) % 3
    wrong = np.arange(60) < 3 * config["depth"]
    run.predict(labels=NAMES[labels], predicted=NAMES[(labels + wrong) % 3])
    for epoch in range(6):
        run.log(epoch=epoch, **{"loss": loss(config, epoch), HOSTILE: float(epoch)})

space = grid({"lr": [0.1, 0.01, 0.001], "depth": [2, 4], "kind": ["a", HOSTILE]})
sweep = Sweep(train, base=BASE, space=space, objective=minimize("loss"))
"""


# --- a page ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Study]:
    """A launch with one trial that still runs, and when it has ended."""
    folder = tmp_path_factory.mktemp("interactive")
    definition, results = folder / "tried.py", folder / "results"
    definition.write_text(DEFINITION.replace("HOSTILE", repr(HOSTILE)))
    words = [sys.executable, "-m", "sweeps.launch", str(definition), "--results", str(results)]
    done = subprocess.run([*words, "--on", "debug"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ended = load(results, [])
    (plan,) = ended.plans
    (results / plan.sweep / running(ended) / RUN).unlink()
    return load(results, []), ended


def running(study: Study) -> str:
    return str(study.plans[0].runs["trial"].iloc[-1])


def state_of_last(study: Study) -> str:
    return str(study.plans[0].runs["state"].iloc[-1])


@pytest.fixture(scope="module")
def page(studies: tuple[Study, Study], tmp_path_factory: pytest.TempPathFactory) -> Page:
    """That launch, and one of the trainer whose test images the page has, each as a picture."""
    study, _ = studies
    results = tmp_path_factory.mktemp("trainers")
    configs = [TrainConfig(seed=seed) for seed in (1, 2)]
    for folder, config in zip(launch(results, configs), configs, strict=True):
        small(folder, config, validation=0.9 - config.seed / 10)
    trainers = load(results, [])
    (plan,) = trainers.plans
    samples = [Sample(PIXEL, index, "c0", "c1", 0.9) for index in range(30)]
    images = Gallery("Images", samples, str(plan.runs["data"].iloc[0]))
    foreign = Gallery("Other images", samples, "another data set")
    parts = [
        Part("A launch", interactive=charts(study.plans[0], study)),
        Part("Of the trainer", interactive=charts(plan, trainers)),
        Part("Others", gallery=foreign),
        Part("Images", gallery=images),
    ]
    return Page("Charts", [Section("Every trial", parts)])


@pytest.fixture(scope="module")
def name(page: Page) -> str:
    return page.sections[0].parts[0].interactive[0].name


@pytest.fixture(scope="module")
def url(page: Page, tmp_path_factory: pytest.TempPathFactory) -> str:
    return page.write(tmp_path_factory.mktemp("page") / "report").as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def tab(browser: Browser, url: str, name: str) -> Iterator[Tab]:
    with strict_tab(browser, url, 1400) as tab:
        tab.evaluate(UNFOLD)
        settle(tab, name)
        yield tab


def settle(tab: Tab, name: str, seen: int = 0) -> int:
    """Waits until the charts were drawn more than `seen` times; how many times they were."""
    until(tab, f"(sweepsCharts['{name}'].explorer?.drawn ?? 0) > {seen}")
    found: int = tab.evaluate(f"sweepsCharts['{name}'].explorer.drawn")
    return found


def until(tab: Tab, condition: str) -> None:
    """The page's policy lets Playwright's own waiting, which evaluates texts, not work."""
    for _ in range(1_000):
        if tab.evaluate(condition):
            return
        tab.wait_for_timeout(10)
    raise AssertionError(f"never: {condition}")


def explorer(tab: Tab, name: str) -> Locator:
    return tab.locator(f"#{name}")


def told(tab: Tab, name: str) -> str:
    return explorer(tab, name).locator("output").first.inner_text()


def column(tab: Tab, name: str, head: str) -> list[str]:
    """What the table shows of a column, of the trials that are kept."""
    table = explorer(tab, name).locator(".trials table")
    heads = table.locator("th").all_inner_texts()
    place = [text.split("\n")[0].strip() for text in heads].index(head) + 1
    return table.locator(f"tbody tr:not(.space) td:nth-child({place})").all_inner_texts()


def wait_for_lines(tab: Tab, name: str, number: int) -> None:
    """Until so many curves are drawn."""
    until(tab, f"sweepsCharts['{name}'].explorer.curves.lines.data.xs.length === {number}")


def spot(tab: Tab, name: str, point: int) -> tuple[float, float, str]:
    """Where in the window a point of the best trial lies, and its value as JavaScript has it."""
    found = tab.evaluate(
        """([name, point]) => {
          const { plot, lines, place } = sweepsCharts[name].explorer.curves;
          const view = Bokeh.index.find_one(plot);
          const box = view.el.getBoundingClientRect();
          const [x, y] = [lines.data.xs.at(-1)[point], lines.data.ys.at(-1)[point]];
          const { x_scale, y_scale } = view.frame;
          return [box.left + x_scale.compute(x), box.top + y_scale.compute(y), `${y}`];
        }""",
        [name, point],
    )
    return found[0], found[1], found[2]


def ends(tab: Tab, name: str) -> tuple[float, float]:
    """Of the epochs that can be seen."""
    found = tab.evaluate(
        f"(({{ start, end }}) => [start, end])(sweepsCharts['{name}'].explorer.curves.plot.x_range)"
    )
    return found[0], found[1]


# --- by mouse --------------------------------------------------------------------------------


@pytest.mark.long
def test_hovering_shows_the_stored_value(tab: Tab, name: str, studies: tuple[Study, Study]) -> None:
    x, y, value = spot(tab, name, 2)
    tab.mouse.move(x - 30, y - 60)
    tab.mouse.move(x, y)
    tip = tab.locator(".bk-tooltip-content")
    tip.first.wait_for()
    shown = tip.first.inner_text()
    plan = studies[0].plans[0]
    rows = plan.logged[plan.logged["metric"] == "loss"]
    best = str(plan.runs.loc[plan.runs["objective"].idxmin(), "trial"])
    assert best in shown
    assert re.search(r"epoch:?\s+3\b", shown)  # counted from 1
    stored = rows[(rows["trial"] == best) & (rows["at"] == 2)]["value"].item()
    assert float(value) == stored
    assert repr(stored) in shown


def test_a_click_in_the_legend_hides_a_curve_and_shows_it_again(tab: Tab, name: str) -> None:
    wait_for_lines(tab, name, 12)
    entry = explorer(tab, name).locator(".legend label").first
    entry.click()
    wait_for_lines(tab, name, 11)
    entry.click()
    wait_for_lines(tab, name, 12)
    explorer(tab, name).get_by_role("button", name="Hide all curves").click()
    wait_for_lines(tab, name, 0)


def test_a_drag_zooms_and_a_button_resets(tab: Tab, name: str) -> None:
    before = ends(tab, name)
    x, y, _ = spot(tab, name, 1)
    right, bottom, _ = spot(tab, name, 3)
    tab.mouse.move(x, min(y, bottom) - 20)
    tab.mouse.down()
    tab.mouse.move((x + right) / 2, max(y, bottom))
    tab.mouse.move(right, max(y, bottom) + 20)
    tab.mouse.up()
    until(tab, f"sweepsCharts['{name}'].explorer.curves.plot.x_range.end < 5")
    assert ends(tab, name) == pytest.approx((2, 4), abs=0.1)
    explorer(tab, name).get_by_role("button", name="Reset zoom").click()
    until(tab, f"sweepsCharts['{name}'].explorer.curves.plot.x_range.end > 5")
    assert ends(tab, name) == pytest.approx(before)


def test_brushes_on_two_axes_keep_what_is_in_both(tab: Tab, name: str) -> None:
    over = explorer(tab, name).locator(".axes")
    box = over.bounding_box()
    assert box is not None
    chart = f"sweepsCharts['{name}'].explorer.parallel"
    axes = tab.evaluate(f"{chart}.axes.map((axis, i) => [axis.column.name, {chart}.x(i)])")
    at = {axis: box["x"] + x for axis, x in axes}
    assert list(at)[:4] == ["lr", "depth", "kind", "loss"]
    # Each drag from the axis' upper end to a little below its middle; lr is drawn by its logarithm.
    for axis in ("lr", "depth"):
        tab.mouse.move(at[axis], box["y"] + 40)
        tab.mouse.down()
        tab.mouse.move(at[axis], box["y"] + 100)
        tab.mouse.move(at[axis], box["y"] + 190)
        tab.mouse.up()
    assert told(tab, name) == "4 of 12 trials"
    assert set(column(tab, name, "lr")) == {"0.1", "0.01"}
    assert set(column(tab, name, "depth")) == {"4"}
    lowest = explorer(tab, name).get_by_label("Lowest lr")
    assert 0.001 < float(lowest.input_value()) < 0.01
    tab.mouse.click(at["lr"], box["y"] + 100)
    assert told(tab, name) == "6 of 12 trials"
    assert lowest.input_value() == ""


def test_a_search_and_filters_of_any_field_keep_what_all_of_them_do(
    tab: Tab, name: str, studies: tuple[Study, Study]
) -> None:
    one = explorer(tab, name)
    one.get_by_label("Search trials").fill("depth=2  KIND=</script>")
    assert told(tab, name) == "3 of 12 trials"
    assert set(column(tab, name, "kind")) == {HOSTILE}
    one.get_by_label("Filter lr").fill(">= 0.01")
    assert told(tab, name) == "2 of 12 trials"
    one.get_by_label("Filter lr").fill("0.0005..0.002")
    assert column(tab, name, "lr") == ["0.001"]
    one.get_by_role("button", name="Keep all trials").click()
    assert told(tab, name) == "12 of 12 trials"
    one.get_by_label("Filter state").fill(state_of_last(studies[0]))
    assert told(tab, name) == "1 of 12 trials"


def test_the_table_sorts(tab: Tab, name: str) -> None:
    head = explorer(tab, name).locator(".trials th", has_text="loss").first
    by_loss = [float(text) for text in column(tab, name, "loss") if text != "-"]
    assert by_loss == sorted(by_loss)  # the best first, from the start
    for expected, reverse in (("ascending", False), ("descending", True)):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == expected
        found = [float(text) for text in column(tab, name, "loss")[:-1]]
        assert found == sorted(found, reverse=reverse)
        assert column(tab, name, "loss")[-1] == "-"  # of the one that runs, last either way


def test_two_trials_are_compared(tab: Tab, name: str, studies: tuple[Study, Study]) -> None:
    runs = studies[0].plans[0].runs
    a, b = runs.loc[(runs["point.lr"] == 0.1) & (runs["point.kind"] == "a"), "trial"]
    for trial in (a, b):
        explorer(tab, name).get_by_label(f"Compare {trial}", exact=True).check()
    shown = explorer(tab, name).locator(".comparison")
    shown.locator("tbody").wait_for()
    assert shown.locator("tbody tr", has_text="setting").all_inner_texts() == [
        "depth\tsetting\t2\t4"
    ]
    # Wrong about 6 and about 12 of them, the same 6 among these.
    assert "different classes for 6 of 60 examples" in shown.inner_text()
    assert "the first is right about 6, the second about 0" in shown.inner_text()
    assert shown.locator("li").first.inner_text() == "6: ant → ant, bee"
    wait_for_lines(tab, name, 2)
    shown.get_by_role("button").click()
    wait_for_lines(tab, name, 12)


def test_a_metric_of_any_name_has_its_curves(tab: Tab, name: str) -> None:
    explorer(tab, name).get_by_label("Curves of").select_option(label=HOSTILE)
    ys = f"JSON.stringify(sweepsCharts['{name}'].explorer.curves.lines.data.ys)"
    until(
        tab, f"{ys} === {json.dumps(json.dumps([[0, 1, 2, 3, 4, 5]] * 12, separators=(',', ':')))}"
    )


def test_differing_predictions_have_their_images_where_the_page_has_them(
    tab: Tab, page: Page
) -> None:
    name = page.sections[0].parts[1].interactive[0].name
    one = explorer(tab, name)
    one.scroll_into_view_if_needed()
    settle(tab, name)
    for box in one.get_by_role("checkbox", name=re.compile("^Compare ")).all():
        box.check()
    items = one.locator(".differing li")
    items.first.wait_for()
    stored = tab.evaluate(f"sweepsCharts['{name}'].explorer.data.predictions.data")
    for item in items.all():
        index = item.inner_text().split(":")[0].strip()
        assert item.locator("img").get_attribute("alt") == f"test image {index}"
    assert stored == page.sections[0].parts[3].gallery.data
    seed = one.locator(".comparison tr", has_text="setting")
    assert seed.all_inner_texts() == ["seed\tsetting\t1\t2"]


# --- the address, new data, and those without a mouse or scripts -----------------------------


def test_a_link_leads_back_after_a_reload(
    tab: Tab, name: str, studies: tuple[Study, Study]
) -> None:
    one = explorer(tab, name)
    one.get_by_text("Ranges as numbers").click()
    trials = list(studies[0].plans[0].runs["trial"][:2])
    one.get_by_label("Search trials").fill("depth")
    one.get_by_label("Lowest lr").fill("0.005")
    one.get_by_label("Value of kind").select_option(label=HOSTILE)
    one.get_by_label("Filter depth").fill("2")
    one.locator(".trials th button", has_text="depth").click()
    one.get_by_role("button", name="Keep all trials").focus()
    kept = told(tab, name)
    assert kept == "2 of 12 trials"
    one.get_by_label("Curves of").select_option(label=HOSTILE)
    one.get_by_role("button", name="Keep all trials").click()
    for trial in trials:
        one.get_by_label(f"Compare {trial}", exact=True).check()
    one.get_by_label("Lowest lr").fill("0.005")
    one.get_by_label("Value of kind").select_option(label=HOSTILE)
    until(tab, "['trial=', 'min.kind'].every((said) => location.hash.includes(said))")
    before = tab.evaluate(f"JSON.stringify([...sweepsCharts['{name}'].explorer.state.brushes])")
    tab.reload()
    settle(tab, name)
    state = f"sweepsCharts['{name}'].explorer.state"
    assert told(tab, name) == "4 of 12 trials"
    assert tab.evaluate(f"JSON.stringify([...{state}.brushes])") == before
    assert tab.evaluate(f"{state}.chosen") == trials
    assert one.get_by_label("Curves of").input_value() == HOSTILE
    assert one.locator(".trials th[aria-sort=ascending]").inner_text().startswith("depth")
    assert one.locator(".comparison tbody").count() == 1


@pytest.mark.parametrize(
    "hash", ["?trial=nobody&min.lr=x&max.none=1&metric=<b>", "?filter.=1", "?"]
)
def test_an_address_that_speaks_of_nothing_changes_nothing(tab: Tab, name: str, hash: str) -> None:
    seen = settle(tab, name)
    tab.evaluate(f"location.hash = {json.dumps(name + hash)}")
    settle(tab, name, seen)
    assert told(tab, name) == "12 of 12 trials"


def test_by_keyboard_alone(tab: Tab, name: str) -> None:
    one = explorer(tab, name)

    def tab_to(label: str) -> None:
        """Press Tab until that is focused."""
        for _ in range(120):
            tab.keyboard.press("Tab")
            focused = tab.evaluate(
                "(({ labels, ariaLabel, textContent }) =>"
                " ariaLabel ?? labels?.[0]?.textContent ?? textContent)(document.activeElement)"
            )
            if str(focused).startswith(label):
                return
        raise AssertionError(f"Tab never comes to {label}")

    tab_to("Search trials")
    tab.keyboard.type("depth=4")
    assert told(tab, name) == "6 of 12 trials"
    tab_to("Ranges as numbers")
    tab.keyboard.press("Enter")
    tab_to("Lowest lr")
    tab.keyboard.type("0.01")
    assert told(tab, name) == "4 of 12 trials"
    tab_to("Value of kind")
    tab.keyboard.press("ArrowDown")
    assert told(tab, name) == "2 of 12 trials"
    before = ends(tab, name)
    tab_to("Zoom in")
    tab.keyboard.press("Enter")
    assert ends(tab, name)[1] < before[1]
    wait_for_lines(tab, name, 2)
    tab_to(column(tab, name, "trial")[0])
    tab.keyboard.press("Space")
    wait_for_lines(tab, name, 1)
    for trial in column(tab, name, "trial"):
        tab_to(f"Compare {trial}")
        tab.keyboard.press("Space")
    one.locator(".comparison tbody").wait_for()
    tab_to("End the comparison")
    tab.keyboard.press("Enter")
    one.get_by_text("Choose two trials").wait_for()


def test_new_data_are_drawn_and_what_was_chosen_stays(
    tab: Tab, name: str, studies: tuple[Study, Study]
) -> None:
    one = explorer(tab, name)
    one.get_by_label("Filter state").fill(state_of_last(studies[0]))
    box = one.get_by_label(f"Compare {running(studies[0])}", exact=True)
    box.check()
    assert column(tab, name, "loss") == ["-"]
    _, ended = studies
    fresh = data(ended.plans[0], ended)
    tab.evaluate("([name, fresh]) => sweepsCharts[name].update(fresh)", [name, fresh])
    assert told(tab, name) == "0 of 12 trials"
    one.get_by_label("Filter state").fill("done")
    assert told(tab, name) == "12 of 12 trials"
    assert box.is_checked()
    assert "-" not in column(tab, name, "loss")


def test_a_page_that_changes_itself_draws_what_is_new(
    tab: Tab, name: str, studies: tuple[Study, Study]
) -> None:
    """As the page of a running sweep does: it puts the new text in its place, and says so."""
    _, ended = studies
    assert "-" in column(tab, name, "loss")
    seen = settle(tab, name)
    say = (
        "dispatchEvent(new CustomEvent('report:changed', { bubbles: true, detail: { replaced } }))"
    )
    tab.evaluate(
        "([name, fresh, replaced]) => { const at = document.getElementById(`${name}-data`);"
        f"at.textContent = fresh; at.{say}; }}",
        [name, data(ended.plans[0], ended), False],
    )
    settle(tab, name, seen)
    assert "-" not in column(tab, name, "loss")
    # A whole figure that is new has its chart, too.
    tab.evaluate(
        "([name, replaced]) => { const old = document.getElementById(name).closest('figure');"
        "const fresh = old.cloneNode(true); fresh.querySelector('.explorer').replaceChildren();"
        f"old.replaceWith(fresh); fresh.{say}; }}",
        [name, True],
    )
    settle(tab, name)
    assert told(tab, name) == "12 of 12 trials"


def test_without_scripts_no_chart_is_promised(browser: Browser, url: str) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        tab = context.new_page()
        tab.goto(url)
        assert tab.locator("figure.interactive").count() == 2
        assert not tab.locator("figure.interactive").first.is_visible()


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(tab: Tab, width: int) -> None:
    tab.set_viewport_size({"width": width, "height": 800})
    until(tab, "document.scrollingElement.scrollWidth <= innerWidth")  # charts follow in a moment


@pytest.mark.long
def test_a_page_has_each_script_once(page: Page) -> None:
    text = page.html()
    assert text.count("Bokeh Contributors") == page.sections[0].parts[0].interactive[0].scripts[
        0
    ].count("Bokeh Contributors")
    assert text.count('"use strict";\n(() => {\nconst SHEET') == 1
    policy: Any = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert "unsafe-eval" not in policy[1]
    assert re.findall("'unsafe-inline'", policy[1]) == ["'unsafe-inline'"]  # of styles
