"""The page: in a real browser, as text in every format, and as a folder that is replaced whole."""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from chromium import chromium, strict_tab
from matplotlib.figure import Figure
from PIL import Image
from playwright.sync_api import Browser, Locator
from playwright.sync_api import Page as Tab

from analysis.output.model import PAGE_ROWS, Gallery, Look, Part, Picture, Sample, Section, Table
from analysis.output.page import Page

HOSTILE = "</script></style><b onclick=x>\" ' --> <img src=x onerror=alert(1)> $x_1$ | `q`"

# One browser for all of them, also where tests run in several processes.

# --- a page ----------------------------------------------------------------------------------

CLASSES = ("cat", "dog", "ship")

MEANS = ["95.50 ± 0.12", "-", "9.10 ± 0.50", "101.00", "95.50 ± 0.01", *["50.00"] * 5]

INTERVALS = ["88.50 to 93.40", "-", "-1.00 to 2.00", "", *["1.00 to 2.00"] * 6]


def scores() -> pd.DataFrame:
    """Ten rows, so that they can be filtered."""
    return pd.DataFrame(
        {
            "trial": [f"t{i}" for i in range(10)],
            "mean": MEANS,
            "interval": INTERVALS,
            "images": ["1,000", "900", "10,000", *["7"] * 7],
            "note": ["two\nlines", HOSTILE, *["x"] * 8],
        }
    )


def drawing(lines: int = 3, points: int = 50) -> Figure:
    figure = Figure(figsize=(6, 4))
    axes = figure.subplots()
    for i in range(lines):
        axes.plot(100 * np.sin(np.arange(points) / 9 + i))
    axes.set_title("a name with $ and <")
    return figure


def sample(index: int, true: str, predicted: str, confidence: float = 0.98) -> Sample:
    pixels = np.random.default_rng(index).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return Sample(buffer.getvalue(), index, true, predicted, confidence)


def gallery(number: int = 12) -> Gallery:
    pairs = [(a, b) for a in CLASSES for b in CLASSES if a != b]
    samples = [sample(i, *pairs[i % len(pairs)], 0.998 if i == 0 else 0.98) for i in range(number)]
    return Gallery("Misclassified", samples)


def example() -> Page:
    many = pd.DataFrame({"trial": [f"trial-{i}" for i in range(60)], "seed": list(range(60))})
    few = pd.DataFrame({"command": ["python -m sweeps.launch " + "x" * 300, "=1+1"]})
    first = Part("one " + HOSTILE, ["A note. " + HOSTILE], [Table("scores", "Scores", scores())])
    pictures = [Picture("curve", "A curve", drawing()), Picture("map", "A map", drawing(1), True)]
    second = Part("", tables=[Table("many", "Many", many)], pictures=pictures, gallery=gallery())
    brief = pd.DataFrame({"setting": ["lr", HOSTILE], "value": [0.1, 2]})
    sections = [
        Section("Results", [first, second], "What is found. " + HOSTILE),
        Section("Provenance", [Part(tables=[Table("few", "Few", few)], footnotes=["A footnote."])]),
        Section("At a glance", [Part(tables=[Table("brief", "In brief", brief)])], "A.", Look.CARD),
        Section("Claims", [Part(tables=[Table("claims", "Claims", brief)])], "B.", Look.OPEN),
    ]
    answers = pd.DataFrame({"sweep": ["one " + HOSTILE, "two"], "winner": ["lr 0.1", "-"]})
    links = (sections[0].anchors[0], "")
    answer = Part(
        notes=["How to read it."],
        tables=[Table("answers", "Answers", answers, links)],
        pictures=[Picture("answer", "The answer", drawing())],
    )
    lead = ["The best. " + HOSTILE, "And more."]
    return Page("Sweep " + HOSTILE, sections, lead, "2 sweeps", answer)


PAGE = example()


# --- in a browser ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return PAGE.write(tmp_path_factory.mktemp("page") / "report").as_uri()


@pytest.fixture
def tab(browser: Browser, url: str) -> Iterator[Tab]:
    with strict_tab(browser, url, 900) as tab:
        yield tab


def shown(found: Locator) -> list[str]:
    return [one.inner_text() for one in found.all() if one.is_visible()]


def column(tab: Tab, name: str, number: int) -> list[str]:
    cells = tab.locator(f"#table-{name} tbody tr td:nth-child({number})")
    return list(cells.all_inner_texts())


def open_all(tab: Tab) -> None:
    tab.get_by_role("button", name="Open all sections").click()


def test_the_page_holds_every_section_table_figure_and_image(tab: Tab) -> None:
    tables = [table for part in PAGE.parts for table in part.tables]
    assert tab.locator("main details").count() == 2
    assert tab.locator("main section").count() == 2
    assert tab.locator("table").count() == len(tables)
    assert tab.locator("tbody tr").count() == sum(len(table.frame) for table in tables)
    assert tab.locator("figure.picture img").count() == 3
    assert tab.locator("figure.gallery li").count() == 12
    assert tab.locator(".lead p").all_inner_texts() == PAGE.lead
    assert tab.title() == PAGE.title
    assert tab.locator(".finding").all_inner_texts() == ["A.", "B.", PAGE.sections[0].finding]
    # The pictures are drawn, at the size that was kept free for them.
    images = "[...document.images].filter((i) => i.src && !i.closest('dialog'))"
    assert tab.evaluate(f"{images}.every((i) => i.complete && i.naturalWidth > 0)")
    kinds = [image.get_attribute("src") or "" for image in tab.locator(".picture img").all()]
    assert [kind.split(";")[0] for kind in kinds] == [
        "data:image/svg+xml", "data:image/svg+xml", "data:image/png",
    ]  # fmt: skip
    open_all(tab)
    box = tab.locator(".picture img").first.bounding_box()
    assert box is not None
    assert box["height"] / box["width"] == pytest.approx(4 / 6, abs=0.01)
    caption = tab.locator("figure.gallery li").first
    assert caption.inner_text() == "cat → dog, > 99 %"
    assert caption.locator("img").get_attribute("alt") == "test image 0"


def test_what_is_folded_opens_by_itself_by_a_link_and_all_at_once(tab: Tab) -> None:
    first, second = tab.locator("main details").all()
    inside = first.locator(".part").first
    assert not inside.is_visible()
    first.locator("summary").focus()
    tab.keyboard.press("Enter")
    assert inside.is_visible()
    tab.keyboard.press("Enter")
    assert not inside.is_visible()
    # From the first screen, twice, and by the address alone.
    link = tab.locator("header td a")
    for _ in range(2):
        link.click()
        assert inside.is_visible()
        first.locator("summary").click()
    tab.reload()
    assert inside.is_visible()
    assert tab.evaluate("document.querySelector(':target').getBoundingClientRect().top") < 900
    toggle = tab.get_by_role("button", name="all sections")
    toggle.click()
    assert second.locator("table").is_visible()
    toggle.click()
    assert not second.locator("table").is_visible()
    assert not inside.is_visible()


def test_every_table_and_figure_has_a_link_and_its_files(tab: Tab, url: str) -> None:
    open_all(tab)
    folder = Path(unquote(urlparse(url).path)).parent
    for table in (table for part in PAGE.parts for table in part.tables):
        figure = tab.locator(f"[id='{table.anchor}']")
        figure.get_by_label("Link to this table").click()
        assert tab.evaluate("location.hash") == f"#{table.anchor}"
        with tab.expect_download() as found:
            figure.get_by_label("CSV of").click()
        assert found.value.suggested_filename == f"{table.name}.csv"
        assert found.value.path().read_text() == (folder / f"tables/{table.name}.csv").read_text()
        tex = figure.get_by_label("LaTeX of").get_attribute("href")
        assert (folder / str(tex)).is_file()
    for picture in (picture for part in PAGE.parts for picture in part.pictures):
        figure = tab.locator(f"[id='{picture.anchor}']")
        figure.get_by_label("Link to this figure").click()
        assert tab.evaluate("location.hash") == f"#{picture.anchor}"
        for kind in ("PNG", "SVG", "PDF"):
            assert (folder / f"figures/{picture.name}.{kind.lower()}").is_file()
            href = figure.get_by_label(f"{kind} of").get_attribute("href") or ""
            # What the page shows is in the page, so that it can be sent without its folder.
            own = figure.locator("img").get_attribute("src")
            assert href in (own, f"figures/{picture.name}.{kind.lower()}")


def test_a_large_table_is_linked_and_not_held_twice() -> None:
    frame = pd.DataFrame({"trial": [f"trial-{i}" for i in range(20_000)]})
    page = Page("t", [Section("s", [Part(tables=[Table("large", "c", frame)])])]).html()
    assert 'href="tables/large.csv"' in page and "data:text/csv" not in page


def test_of_a_long_table_the_page_has_the_first_or_the_best_rows_and_files_have_all() -> None:
    names = [f"t{i}" for i in range(PAGE_ROWS + 2)]
    frame = pd.DataFrame({"trial": names, "loss": [3.0, None] * (PAGE_ROWS // 2 + 1)})
    frame.loc[PAGE_ROWS + 1, "loss"] = 1.0

    def shown(table: Table) -> list[str]:
        html = Page("x", [Section("s", [Part(tables=[table])])]).html()
        return re.findall(r'data-head="trial">(t\d+)<', html)

    first = Table("long", "c", frame)
    assert shown(first) == names[:PAGE_ROWS]
    assert first.left_out == "These are the first 500 of 502 rows. The CSV file has all of them."
    best = Table("long", "c", frame, best=("loss", "minimize"))
    # The lowest, then equal ones, then those without a value, each in the order of the table.
    assert shown(best) == ["t501", *names[::2], *names[1:-5:2]]
    assert best.left_out.startswith("These are the best 500 by loss of 502 rows.")
    page = Page("x", [Section("s", [Part(tables=[best])])])
    assert 'class="scroll long"' in page.html()
    assert best.left_out in page.html() and best.left_out not in page.markdown()
    files = dict(page.files())
    assert all(name in str(files["tables/long.csv"]) for name in names)
    assert all(name in str(files["report.md"]) for name in names)
    whole = Table("long", "c", frame[:PAGE_ROWS])
    assert len(shown(whole)) == PAGE_ROWS and whole.left_out == ""


def test_a_page_without_an_answer_is_open() -> None:
    sections = [Section("s", [Part(notes=["x"])])]
    assert '<details id="s" open>' in Page("t", sections).html()
    assert '<details id="s">' in Page("t", sections, ["An answer."]).html()


def test_a_part_has_its_place_by_its_title() -> None:
    section = Section("A section", [Part(), Part("One, 1"), Part("One: 1"), Part("会")])
    assert section.anchors == [
        "a-section.all",
        "a-section.one-1",
        "a-section.one-1.2",
        "a-section.x",
    ]


def test_a_table_sorts_by_its_numbers_and_comes_back(tab: Tab) -> None:
    open_all(tab)
    scores = tab.locator("#table-scores")
    head = scores.locator("th").nth(1)
    rising = ["9.10 ± 0.50", *["50.00"] * 5, "95.50 ± 0.12", "95.50 ± 0.01", "101.00", "-"]
    falling = ["101.00", "95.50 ± 0.12", "95.50 ± 0.01", *["50.00"] * 5, "9.10 ± 0.50", "-"]
    head.locator("button").focus()
    for sort, order in (("ascending", rising), ("descending", falling), (None, MEANS)):
        tab.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == sort
        assert column(tab, "scores", 2) == order
    # Equal ones keep the order of before.
    head.locator("button").click()
    assert column(tab, "scores", 1)[1:6] == [f"t{i}" for i in range(5, 10)]
    scores.locator("th").nth(2).locator("button").click()
    assert head.get_attribute("aria-sort") is None
    assert column(tab, "scores", 3) == [
        "-1.00 to 2.00",
        *["1.00 to 2.00"] * 6,
        "88.50 to 93.40",
        "-",
        "",
    ]
    scores.locator("th").nth(3).locator("button").click()
    assert column(tab, "scores", 4)[7:] == ["900", "1,000", "10,000"]
    tab.locator("#table-many th button").first.click()
    assert column(tab, "many", 1) == [f"trial-{i}" for i in range(60)]  # 9 before 10


def test_a_table_of_more_than_eight_rows_filters(tab: Tab) -> None:
    open_all(tab)
    boxes = tab.get_by_label("Filter rows")
    assert boxes.count() == 2
    first = tab.locator("#table-scores")
    told = first.locator("output")
    assert told.inner_text() == "10 of 10"
    boxes.first.fill("T1  script")
    assert told.inner_text() == "1 of 10"
    assert len(shown(first.locator("tbody tr"))) == 1
    # What is hidden stays so when the table is sorted.
    first.locator("th button").first.click()
    assert len(shown(first.locator("tbody tr"))) == 1
    boxes.first.fill("")
    assert len(shown(first.locator("tbody tr"))) == 10


def test_a_gallery_filters_by_both_classes(tab: Tab) -> None:
    open_all(tab)
    figure = tab.locator("figure.gallery")
    told = figure.locator("output")
    actual, predicted = tab.get_by_label("True class"), tab.get_by_label("Predicted class")
    assert actual.locator("option").all_inner_texts() == ["all", *CLASSES]
    actual.select_option(label="cat")
    assert told.inner_text() == "4 of 12"
    predicted.select_option(label="ship")
    assert told.inner_text() == "2 of 12"
    assert shown(figure.locator("li")) == ["cat → ship, 98 %"] * 2
    actual.select_option(label="all")
    assert told.inner_text() == "4 of 12"


def test_a_figure_is_enlarged_zoomed_and_closed_by_keyboard(tab: Tab) -> None:
    open_all(tab)
    opener = tab.get_by_role("button", name="Enlarge: A curve")
    dialog, level = tab.locator("dialog"), tab.locator("dialog output")
    place = "new DOMMatrix(document.querySelector('dialog img').style.transform)"

    def at() -> tuple[float, float, float]:
        found = tab.evaluate(f"(({{a, e, f}}) => [a, e, f])({place})")
        return found[0], found[1], found[2]

    opener.focus()
    tab.keyboard.press("Enter")
    assert dialog.is_visible()
    assert dialog.locator("p").inner_text() == "A curve"
    assert level.inner_text() == "100 %"
    tab.keyboard.press("ArrowRight")
    assert at() == (1, 0, 0)
    tab.keyboard.press("+")
    assert level.inner_text() == "150 %"
    tab.keyboard.press("ArrowRight")
    assert at() == (1.5, -60, 0)
    for _ in range(99):
        tab.keyboard.press("ArrowDown")
    assert -at()[2] == pytest.approx(tab.locator(".stage").evaluate("(s) => s.clientHeight / 4"))
    tab.keyboard.press("-")
    assert at() == (1, 0, 0)
    # By wheel, about the pointer; by dragging; by buttons.
    box = tab.locator(".stage").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 4, box["y"] + box["height"] / 2
    tab.mouse.move(x, y)
    tab.mouse.wheel(0, -100)
    tab.wait_for_function(f"{place}.a > 1")
    assert at() == pytest.approx((1.2, 0.2 * box["width"] / 4, 0), abs=1)
    before = at()
    tab.mouse.down()
    tab.mouse.move(x - 40, y + 10)
    tab.mouse.up()
    tab.mouse.move(x + 200, y)
    assert at() == pytest.approx((1.2, before[1] - 40, 10), abs=1)
    tab.keyboard.press("0")
    assert at() == (1, 0, 0)
    tab.get_by_role("button", name="Zoom in").click()
    assert level.inner_text() == "150 %"
    tab.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert opener.evaluate("(button) => button === document.activeElement")
    # A click on the second one opens that one, from the start.
    tab.locator("#figure-map img").click()
    assert level.inner_text() == "100 %"
    assert dialog.locator("img").get_attribute("alt") == "A map"


def test_without_scripts_all_is_there_and_no_dead_control(browser: Browser, url: str) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        tab = context.new_page()
        tab.goto(url)
        assert tab.locator("button, input, select, dialog, output").count() == 0
        for summary in tab.locator("summary").all():
            summary.click()  # which needs no script
        for item in ("tbody tr", "figure img", "figure.gallery li", ".part", ".lead"):
            found = tab.locator(item)
            assert found.count() > 0
            assert len(shown(found)) == found.count()


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(tab: Tab, width: int) -> None:
    tab.set_viewport_size({"width": width, "height": 800})
    open_all(tab)
    assert tab.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    # The wide table scrolls in its own region, and a word beside it says so.
    tab.wait_for_function("document.querySelectorAll('#table-scores .more').length === 1")
    wide = tab.locator("#table-scores .scroll")
    assert wide.evaluate("(region) => region.scrollWidth > region.clientWidth") == (width == 390)
    for box in tab.locator(".scroll").all():
        is_wide = box.evaluate("(region) => region.scrollWidth > region.clientWidth")
        assert box.locator("xpath=..").locator(".more").is_visible() == is_wide
    # On a phone the first tables have a row below the other, each cell with its column's name.
    for table in tab.locator("header .scroll, .open .scroll").all():
        assert table.evaluate("(region) => region.scrollWidth <= region.clientWidth")
    tab.locator(".enlarge").first.click()
    assert tab.evaluate("document.scrollingElement.scrollWidth <= innerWidth")


def test_the_first_tab_skips_the_contents_and_focus_is_seen(tab: Tab) -> None:
    tab.keyboard.press("Tab")
    focused = "document.activeElement"
    assert tab.evaluate(f"{focused}.textContent") == "Skip to the details"
    assert tab.evaluate(f"{focused}.getBoundingClientRect().left >= 0")
    tab.keyboard.press("Enter")
    for _ in range(6):
        tab.keyboard.press("Tab")
        assert tab.evaluate(f"document.querySelector('main').contains({focused})")
        assert tab.evaluate(f"getComputedStyle({focused}).outlineStyle") == "solid"


def test_print_shows_whole_tables_and_no_control(tab: Tab) -> None:
    tab.emulate_media(media="print", color_scheme="dark")
    tab.set_viewport_size({"width": 688, "height": 1000})  # A4 less its margins
    assert shown(tab.locator(".files, .controls, .enlarge, .skip")) == []
    assert len(shown(tab.locator("tbody tr"))) == 78  # those of the closed sections too
    # The answer fits on the first sheet, and nothing else is on it.
    assert tab.evaluate("document.querySelector('header').getBoundingClientRect().bottom") < 1000
    assert tab.evaluate("getComputedStyle(document.querySelector('header')).breakAfter") == "page"
    for region in tab.locator(".scroll").all():
        assert region.evaluate("(one) => one.scrollWidth <= one.clientWidth")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_an_accessibility_engine_finds_no_serious_fault(tab: Tab, width: int, scheme: Any) -> None:
    tab.set_viewport_size({"width": width, "height": 900})
    tab.emulate_media(color_scheme=scheme)
    for opened in (False, True):
        if opened:
            open_all(tab)
        found = Axe().run(tab).response["violations"]
        serious = [one for one in found if one["impact"] in ("serious", "critical")]
        assert [(one["id"], one["nodes"][0]["html"][:200]) for one in serious] == []


def test_what_is_pressed_is_large_enough_for_a_finger(tab: Tab) -> None:
    open_all(tab)
    for control in tab.locator("button, input, select, summary, .files a, td a").all():
        if (box := control.bounding_box()) is not None:  # not in the closed dialog
            assert min(box["width"], box["height"]) >= 24, control.inner_text()


# --- contrast --------------------------------------------------------------------------------

CSS = (Path(__file__).parents[1] / "analysis" / "output" / "templates" / "report.css").read_text()


def contrast(one: str, other: str) -> float:
    """WCAG 2's ratio of two colours, written #rrggbb."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_known_contrasts() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_colours_are_far_enough_apart_in_light_and_in_dark() -> None:
    blocks = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
    schemes = [dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block)) for block in blocks]
    assert len(schemes) == 2
    assert schemes[0].keys() == schemes[1].keys()
    for colours in schemes:
        for ground in ("paper", "panel"):
            for text in ("ink", "faint", "link"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        for edge in ("control", "accent", "link"):
            assert contrast(colours[edge], colours["paper"]) >= 3, edge
    # No other colour is used, but for white under the figures.
    rules = re.sub(r":root \{.*?\}", "", CSS, flags=re.DOTALL)
    assert set(re.findall(r"#[0-9a-f]{3,8}\b|rgb\S+|hsl\S+", rules)) == {"#ffffff"}


READABLE = """() => {
  const found = new Set();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    let at = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !at.checkVisibility()) continue;
    const ink = getComputedStyle(at).color;
    const clear = (one) => getComputedStyle(one).backgroundColor === "rgba(0, 0, 0, 0)";
    while (clear(at)) at = at.parentElement;
    found.add(ink + " on " + getComputedStyle(at).backgroundColor);
  }
  return [...found];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(tab: Tab, scheme: Any) -> None:
    tab.emulate_media(color_scheme=scheme)
    open_all(tab)
    tab.locator(".enlarge").first.click()
    pairs = tab.evaluate(READABLE)
    assert len(pairs) >= 4
    dark = []
    for pair in pairs:
        numbers = [int(number) for number in re.findall(r"\d+", pair)]
        assert len(numbers) == 6, pair
        ink, ground = ("#" + bytes(numbers[i : i + 3]).hex() for i in (0, 3))
        assert contrast(ink, ground) >= 4.5, pair
        dark.append(numbers[3] < 128)
    assert all(dark) == any(dark) == (scheme == "dark")


# --- size and bytes --------------------------------------------------------------------------


def test_the_studys_full_size_stays_under_ten_megabytes() -> None:
    pictures = [Picture(f"p{i}", f"Picture {i}", drawing(60, 100)) for i in range(6)]
    samples = gallery(400)
    trials = pd.DataFrame({"trial": [f"trial-{i}" for i in range(60)], "test": [0.9] * 60})
    part = Part("x", tables=[Table("t", "Trials", trials)], pictures=pictures, gallery=samples)
    assert len(Page("t", [Section("s", [part])]).html()) < 6_000_000


def test_a_drawing_too_large_as_vectors_is_kept_as_pixels() -> None:
    # Points of which no path can leave any out.
    points = np.random.default_rng(0).normal(size=(2, 4_000))
    figure = Figure(figsize=(3, 3))
    figure.subplots().scatter(*points, s=1, c=points[0])
    assert Picture("many", "Many points", figure).data_uri.startswith("data:image/png;")
    assert Picture("few", "Few lines", drawing()).data_uri.startswith("data:image/svg+xml;")


def sums(page: Page) -> list[str]:
    contents = ((name, text) for name, text in page.files())
    data = ((n, text if isinstance(text, bytes) else text.encode()) for n, text in contents)
    return [f"{name} {hashlib.sha256(content).hexdigest()}" for name, content in data]


@pytest.mark.long
def test_same_page_same_bytes_in_another_process() -> None:
    # Where sets of strings fall in another order, and objects lie elsewhere in memory.
    code = "import sys; sys.path.insert(0, 'tests'); from test_page import *; print(*sums(PAGE))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"PYTHONHASHSEED": "7"},
        capture_output=True,
        check=True,
        text=True,
    )
    here = sums(PAGE)
    assert done.stdout.split() == " ".join(here).split()
    assert len(here) == 2 * 6 + 3 * 3 + 2
