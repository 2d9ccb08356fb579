"""What figures draw of hostile names and of values without a spread: no box, no axis of 1e-17."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis.data.search_space import Range
from analysis.figures import (
    compare,
    cost,
    curves,
    diagnostics,
    explain,
    glyphs,
    grid,
    search,
    style,
)
from analysis.output.model import Part, Picture, Section
from analysis.output.page import Page

CAT = "\u732b"
IBIS, OWL = "\U0001315e", "\U00013153"  # hieroglyphs, of which hardly a machine has a font
HEBREW = "\u05d7\u05ea\u05d5\u05dc"
HOSTILE = (
    "$x^2$",
    "a_b",
    "_hidden",
    "e\u0301te\u0301",
    f"\u202e{HEBREW}",
    "z\u0351\u036b",
    "x" * 90,
)


@pytest.fixture(autouse=True)
def every_glyph_is_there() -> Iterator[None]:
    """Matplotlib warns of each character that it draws as a box."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def texts(figure: Figure) -> list[str]:
    """All that the figure draws, in any format."""
    for draw in (style.svg, style.png, style.pdf):
        draw(figure)
    ticks = [
        label.get_text()
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for label in axis.get_ticklabels()
    ]
    return ticks + [str(text.get_text()) for text in figure.findobj(Text)]  # type: ignore[union-attr]


@pytest.fixture
def font(tmp_path: Path) -> Iterator[str]:
    """A font with one Chinese letter, installed for this test."""
    pen = TTGlyphPen(None)
    for step, corner in enumerate(((0, 0), (0, 700), (700, 700), (700, 0))):
        (pen.lineTo if step else pen.moveTo)(corner)
    pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "cat"])
    builder.setupCharacterMap({ord(CAT): "cat"})
    builder.setupGlyf({".notdef": square, "cat": square})
    builder.setupHorizontalMetrics(dict.fromkeys((".notdef", "cat"), (800, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Cats Only", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "cats.ttf")
    glyphs._add_packaged_fonts()
    before = list(font_manager.fontManager.ttflist)
    font_manager.fontManager.addfont(str(tmp_path / "cats.ttf"))
    yield "Cats Only"
    font_manager.fontManager.ttflist[:] = before
    glyphs._covering.cache_clear()


def matrix(*names: str) -> Figure:
    return diagnostics.matrix(np.eye(len(names), dtype=np.int64), names)


def test_a_name_is_drawn_with_the_font_that_has_its_letters(font: str) -> None:
    figure = matrix(CAT, "dog")
    assert CAT in texts(figure)
    label = figure.axes[0].get_yticklabels()[0]
    if label.get_fontfamily() != [glyphs.BASE, font]:  # unless the machine has a better one
        assert ord(CAT) in glyphs._charmap(glyphs._file(label.get_fontfamily()[1]))


def test_chinese_japanese_and_korean_class_names_are_drawn_as_they_are() -> None:
    names = ("\u732b", "\u9e1f", "\u306d\u3053", "\uace0\uc591\uc774")  # 鸟 is a simplified one
    figure = matrix(*names)
    assert Page("t", [Section("s", [Part(pictures=[Picture("a", "", figure)])])]).sections[1:] == []
    assert set(names) <= set(texts(figure))
    # Every name looks different, so that none is a box for a missing letter.
    drawn = [style.png(matrix(name)) for name in names]
    assert len(set(drawn)) == len(names)


def test_a_name_that_no_font_draws_has_a_stand_in_and_a_page_says_it_once() -> None:
    pictures = [Picture(name, "", matrix(IBIS, f"{OWL}-2", "dog")) for name in ("one", "two")]
    rows: list[explain.Row] = [(f"{IBIS} {OWL}", None, None)]
    pictures.append(Picture("three", "", explain.grad_cam(rows)))
    page = Page("t", [Section("s", [Part(pictures=pictures)])])
    for picture in pictures[:2]:
        drawn = texts(picture.figure)
        assert {"[name 1]", "[name 2]-2", "dog"} <= set(drawn)
        assert not any(IBIS in text or OWL in text for text in drawn)
    assert "[name 1] [name 2]" in texts(pictures[2].figure)
    text = page.markdown()
    assert text.count("No font of the machine") == 1
    assert f"| \\[name 1\\] | {IBIS} |" in text and f"| \\[name 2\\] | {OWL} |" in text


def test_a_page_whose_names_can_be_drawn_says_nothing() -> None:
    page = Page(
        "t", [Section("s", [Part(pictures=[Picture("a", "", matrix("cat", "\u00e9t\u00e9"))])])]
    )
    assert [section.title for section in page.sections] == ["s"]


def test_hostile_names_are_drawn_as_they_are() -> None:
    drawn = texts(matrix(*HOSTILE))
    assert "$x^2$" in drawn and "_hidden" in drawn and "\u00e9t\u00e9" in drawn
    assert not any("\u202e" in text for text in drawn)
    rows = [(10, compare.Row(name, [0.5], [False])) for name in HOSTILE]
    legend = [text.get_text().strip() for text in compare.sizes(rows).legends[0].get_texts()]
    assert "_hidden" in legend and len(legend) == len(HOSTILE)


@pytest.mark.parametrize("name", HOSTILE)
def test_older_matplotlib_gets_no_letters_that_it_would_misplace(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glyphs, "_SHAPES", False)
    glyphs._covering.cache_clear()
    drawn = glyphs._drawn(name, {})
    glyphs._covering.cache_clear()
    assert (drawn == "[name 1]") == (HEBREW in name or "\u0351" in name)


def test_classes_that_are_alike_when_cut_are_told_apart() -> None:
    names = [f"a long name of a class, {end}" for end in ("one", "two")]
    ticks = [label.get_text() for label in matrix(*names).axes[0].get_yticklabels()]
    assert len(set(ticks)) == 2


# --- axes ------------------------------------------------------------------------------------

NOISE = [0.1 + 0.2, 0.3, 0.3 + 1e-16]  # one number but for rounding


def epochs(values: list[float], trial: str = "t") -> pd.DataFrame:
    columns = ("lr", "train_loss", "train_accuracy", "val_loss", "val_loss_smoothed")
    frame = pd.DataFrame(dict.fromkeys(columns, values))
    return frame.assign(val_accuracy=values, epoch=range(len(values)), trial=trial)


def panels(values: list[float]) -> Figure:
    return diagnostics.panels(epochs(values), {"t": "seed 1"}, {}, smoothing=True, mixed=False)


def asked(values: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "order": range(1, len(values) + 1),
            "lr": [0.1] * len(values),
            "mark": "done",
            "value": values,
        }
    )


NO_MEANS = pd.DataFrame(columns=["x", "value", "n", "planned"])


def cells(values: list[float]) -> pd.DataFrame:
    frame = pd.DataFrame({"test": values, "epochs": range(len(values))})
    return frame.assign(batch_size=64, n=1, planned=1, flags="", **{"test sd": math.nan})


def priced(values: list[float]) -> pd.DataFrame:
    frame = pd.DataFrame({"test": values, "point": [f"row {i}" for i in range(len(values))]})
    return frame.assign(flops=2e12, front=True, n=1, flags="")


def seeds(values: list[float]) -> pd.DataFrame:
    frame = pd.DataFrame({"value": [1e-4 * (i + 1) for i in range(len(values))]})
    return frame.assign(model="m", validation=values, test=values, flagged=False)


def rows(values: list[float]) -> list[compare.Row]:
    return [compare.Row(f"row {i}", [value], [False]) for i, value in enumerate(values)]


def differences(values: list[float]) -> Figure:
    gaps = [0.1 + 0.2 - 0.3 if value == value else math.nan for value in values]
    return compare.differences({"points": rows(gaps)}, "the baseline")


FIGURES: dict[str, Any] = {
    "cost": lambda values: cost.cost(priced(values)),
    "curves": lambda values: curves.curves(
        epochs(values).assign(at=range(len(values)), value=values), {"t": "lr 1"}, set(), "x", "y"
    ),
    "panels": panels,
    "heatmap": lambda values: grid.heatmap(cells(values), cells(values)),
    "accuracies": lambda values: compare.accuracies(rows(values)),
    "differences": differences,
    "sizes": lambda values: compare.sizes([(1000, row) for row in rows(values)]),
    "decay": lambda values: compare.decay(seeds(values), {"m": 1e-4}, {}),
    "history": lambda values: search.history(asked(values), 0.0, "pruned"),
    "parameter": lambda values: search.parameter(
        asked(values),
        "lr",
        Range(kind="float", low=0.1, high=0.1, log=False),
        NO_MEANS,
        {},
        0.0,
        "p",
    ),
}


def ticks_of(figure: Figure) -> Iterator[tuple[str, float, float, list[str]]]:
    """The name and ends of every axis, and the texts of the ticks in view."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            places = [place for place in axis.get_majorticklocs() if low <= place <= high]
            shown = axis.get_major_formatter().format_ticks(places)
            yield axis.axis_name, low, high, [text for text in shown if text]
            assert axis.get_offset_text().get_text() in ("", "1e\N{MINUS SIGN}2")  # of a rate


@pytest.mark.long
@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize(
    "values",
    [NOISE, [0.5] * 3, [0.5], [0.0] * 3, [1.0, 1.0]],
    ids=["noise", "equal", "one", "0", "1"],
)
def test_values_without_a_spread_have_a_readable_axis(name: str, values: list[float]) -> None:
    figure = FIGURES[name](values)
    style.svg(figure)
    for _, low, high, shown in ticks_of(figure):
        assert high - low > 1e-9 * max(abs(low), abs(high), 0.1)
        assert len(set(shown)) == len(shown)
        assert all(len(text) <= 9 for text in shown if text[:1].isdigit())


@pytest.mark.parametrize("name", ["curves", "panels"])
def test_one_epoch_is_seen_and_counted_whole(name: str) -> None:
    figure = FIGURES[name]([0.5])
    style.svg(figure)
    first = ("1",) if name == "panels" else ("0",)  # its epochs count from 0, the others' as given
    assert {tuple(shown) for name, *_, shown in ticks_of(figure) if name == "x"} == {first}
    for axes in figure.axes:
        marked = [line for line in axes.get_lines() if line.get_marker() not in ("None", None)]
        assert any(0 in (line.get_markevery() or [0]) for line in marked)


def test_a_value_between_two_gaps_has_a_mark() -> None:
    figure = FIGURES["curves"]([0.1, math.nan, 0.3, math.nan, 0.4, 0.5])
    assert [line.get_markevery() for line in figure.axes[0].get_lines()] == [[0, 2], [0, 2]]


def test_axes_without_a_value_say_so() -> None:
    figure = diagnostics.panels(
        epochs([0.1, 0.2]).assign(lr=math.nan), {"t": "seed 1"}, {}, smoothing=False, mixed=False
    )
    style.svg(figure)
    loss, _, rate, _ = figure.axes
    assert [text.get_text() for text in rate.texts] == ["no values"] and not rate.get_yticks().size
    assert not loss.texts and loss.get_yticks().size


def test_numbers_that_are_alike_in_six_digits_have_more() -> None:
    assert style.numbers([1e-4, 5e-4]) == ["0.0001", "0.0005"]
    assert style.numbers([0.1, 0.1 + 1e-9]) == ["0.1", "0.100000001"]
    figure = compare.decay(
        pd.concat([seeds([0.5]), seeds([0.6]).assign(value=1e-4 + 1e-12)]), {"m": 1e-4}, {}
    )
    shown = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert len(set(shown)) == 2
