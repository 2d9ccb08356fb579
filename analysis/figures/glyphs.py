"""Glyphs: which font draws a name, and what stands in a figure for a name that none can draw."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FuncFormatter

from local_machine.files import matching

_PACKAGE = "notojp_matplotlib"
BASE = "DejaVu Sans"  # comes with matplotlib

# Of two fonts that have a letter, the one made for reading; then any other that is installed.
_PREFERRED = (
    "Noto Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC",
    "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "PingFang SC",
    "Hiragino Sans GB", "Microsoft YaHei", "SimHei", "Arial Unicode MS",
)  # fmt: skip
# Not to be read: boxes that only name a letter's script, and the parts of formulas.
_NO_TEXT = re.compile(r"Last ?Resort|STIX|^cm[a-z]+10$|Math|Emoji")
# From 3.11 on matplotlib joins, stacks and reorders letters; before, such text comes out wrong.
_SHAPES = tuple(int(part) for part in mpl.__version__.split(".")[:2]) >= (3, 11)
_WORD = re.compile(r"(?:\w|[^\x00-\x7f→…±])+")


def prepare(figures: Iterable[Figure], names: dict[str, str] | None = None) -> dict[str, str]:
    """Give the figures' texts fonts that have their letters, and put stand-ins, [name 1] and so on,
    in place of the names that no installed font can draw; returns them by name.

    `names` are those of earlier figures. Characters that are not drawn, such as those that turn the
    direction of a text, are taken out.
    """
    names = {} if names is None else names
    for figure in figures:
        axes = [axis for one in figure.axes for axis in (one.xaxis, one.yaxis)]
        for axis in axes:
            _prepare_ticks(axis, names)
        texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
        for text in texts:
            if (drawn := _drawn(text.get_text(), names)) != text.get_text():
                text.set_text(drawn)
        labels = [label for axis in axes if _has_names(axis) for label in axis.get_ticklabels()]
        families, _ = _fonts("".join(text.get_text() for text in [*texts, *labels]))
        if families != (BASE,):
            for text in texts:
                text.set_fontfamily(list(families))
            for axis in axes:
                axis.set_tick_params(which="both", labelfontfamily=list(families))
    return names


def _has_names(axis: Axis) -> bool:
    return isinstance(axis.get_major_formatter(), FuncFormatter | FixedFormatter)


def _prepare_ticks(axis: Axis, names: dict[str, str]) -> None:
    """Ticks take their texts again from their formatter whenever they are drawn."""
    if not _has_names(axis):
        return
    texts = [label.get_text() for label in axis.get_ticklabels()]
    if any(_drawn(text, names) != text for text in texts):
        inner = axis.get_major_formatter()
        axis.set_major_formatter(
            FuncFormatter(lambda value, place: _drawn(inner(value, place), names))
        )


def _drawn(text: str, names: dict[str, str]) -> str:
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    text = unicodedata.normalize("NFC", text)
    text = "".join(
        char for char in text if char == "\n" or unicodedata.category(char) not in ("Cc", "Cf")
    )
    if not _fonts(text)[1]:
        return text

    def stand_in(found: re.Match[str]) -> str:
        if not _fonts(found[0])[1]:
            return found[0]
        return names.setdefault(found[0], f"[name {len(names) + 1}]")

    return _WORD.sub(stand_in, text)


def _fonts(text: str) -> tuple[tuple[str, ...], frozenset[str]]:
    """The families that draw the text, BASE first, and the characters that none of them can."""
    wanted = frozenset(char for char in text if not char.isascii())
    if wanted:
        _add_packaged_fonts()
    return _covering(wanted, len(font_manager.fontManager.ttflist))


@lru_cache(maxsize=4096)
def _covering(wanted: frozenset[str], _installed: int) -> tuple[tuple[str, ...], frozenset[str]]:
    wrong = frozenset() if _SHAPES else frozenset(filter(_needs_shaping, wanted))
    families = [BASE]
    missing = {char for char in wanted - wrong if ord(char) not in _charmap(_file(BASE))}
    for family in _candidates() if missing else ():
        has = {char for char in missing if ord(char) in _charmap(_file(family))}
        if has:
            families.append(family)
            missing -= has
        if not missing:
            break
    return tuple(families), wrong | missing


@cache
def _add_packaged_fonts() -> None:
    """The fonts of the extra `fonts`: Noto Sans CJK, for Chinese, Japanese and Korean. The package
    is found and not imported, since importing it changes how all figures are drawn."""
    package = find_spec(_PACKAGE)
    for folder in (package and package.submodule_search_locations) or ():
        for path in sorted(matching(Path(folder, "fonts"), "*.otf")):
            font_manager.fontManager.addfont(path)


def _needs_shaping(char: str) -> bool:
    """Written to the left, joined to its neighbours, or above, below or before one of them."""
    return unicodedata.bidirectional(char) in ("R", "AL") or unicodedata.category(char)[0] == "M"


def _candidates() -> list[str]:
    installed = {font.name for font in font_manager.fontManager.ttflist} - {BASE}
    first = [name for name in _PREFERRED if name in installed]
    rest = sorted(installed - set(first))
    return [name for name in (*first, *rest) if not _NO_TEXT.search(name)]


@cache
def _file(family: str) -> str:
    return str(font_manager.findfont(font_manager.FontProperties(family=[family])))


@cache
def _charmap(path: str) -> frozenset[int]:
    """The code points that a font's file has a glyph of; none where it cannot be read."""
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
