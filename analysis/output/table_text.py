"""A table's numbers as text."""

from __future__ import annotations

import math
from typing import Any, Literal

import pandas as pd

from analysis.stats.summary_tables import DIFFERENCE_95, SAMPLE, SEEDS, SPLITS, UNFLAGGED
from analysis.text.numbers import MISSING, interval, percent

_PERCENT = {*SPLITS, *(f"{split} sd" for split in SPLITS), UNFLAGGED, f"{UNFLAGGED} sd"}
_PERCENT |= {"reported", "reported train", "reported validation", SAMPLE, SEEDS}
_SIGNED = {"difference", DIFFERENCE_95}


def show(table: pd.DataFrame, *, merge: bool = True, missing: str = MISSING) -> pd.DataFrame:
    """The table as text: percent with two decimals, intervals as `low to high`.

    With `merge`, `x sd` joins `x` as `x ± sd`, and `planned` joins `n` as `n of planned`; without,
    every number keeps its own column.
    """
    texts = {
        name: [_text(str(name), value, missing) for value in table[name]] for name in table.columns
    }
    if merge:
        for name in [name for name in texts if f"{name} sd" in texts]:
            spreads = texts.pop(f"{name} sd")
            pairs = zip(texts[name], spreads, strict=True)
            texts[name] = [a if b == missing else f"{a} ± {b}" for a, b in pairs]
        if {"n", "planned"} <= texts.keys():
            pairs = zip(texts["n"], texts.pop("planned"), strict=True)
            texts["n"] = [f"{a} of {b}" for a, b in pairs]
    return pd.DataFrame(texts)


def _text(column: str, value: Any, missing: str) -> str:
    sign: Literal["", "+"] = "+" if column in _SIGNED else ""
    if isinstance(value, tuple):
        return interval(value, sign)
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return missing
    if isinstance(value, float) and (column in _PERCENT or sign):
        return percent(value, sign)
    return str(value)
