"""Curves: what trials logged over epochs or steps, packed; of many trials a part of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.data.study import Plan
from analysis.interactive import packed
from analysis.interactive.columns import ranked
from analysis.interactive.rows import LoggedRows

EXACT = 100
"""How many of the best trials keep every value as it is."""
POINTS = 32
"""Of any other trial so many of its steps are kept, the first and the last among them."""
METRICS_OF_MANY = 2
_MOST_METRICS = 12
# A curve's values are its lowest plus a part of its span, in 16 bits; the last code is none.
_STEPS, _NONE = 65534, 65535


def curves(plan: Plan, rows: LoggedRows) -> dict[str, Any]:
    """`exact` and `sampled` have the trials' places (`rows`), how many points each has (`lengths`),
    and all their points behind one another."""
    names = list(plan.runs["trial"])
    has = set(rows.frame["trial"])
    order = [place for place in ranked(plan) if names[place] in has]
    many = len(order) > EXACT
    metrics = rows.metrics[: METRICS_OF_MANY if many else _MOST_METRICS]
    place = {name: place for place, name in enumerate(names)}
    places = rows.frame["trial"].map(place).to_numpy(np.int64)
    exact, rest = _starts(places, order[:EXACT]), _starts(places, order[EXACT:])
    return {
        "by": rows.by,
        "metrics": metrics,
        "points": POINTS,
        "exact": _exact(rows, metrics, exact),
        "sampled": _sampled(rows, metrics, rest) if many else None,
    }


def _starts(places: NDArray[np.int64], wanted: list[int]) -> list[tuple[int, NDArray[np.int64]]]:
    """Of each wanted trial its rows."""
    order = np.argsort(places, kind="stable")
    ends = np.searchsorted(places[order], [[one, one + 1] for one in wanted] or np.empty((0, 2)))
    return [(one, order[a:b]) for one, (a, b) in zip(wanted, ends, strict=True)]


def _exact(
    rows: LoggedRows, metrics: list[str], trials: list[tuple[int, NDArray[np.int64]]]
) -> dict[str, Any]:
    return _group(rows, trials) | {
        "values": [packed.array(_numbers(rows.values(name), trials)) for name in metrics]
    }


def _sampled(
    rows: LoggedRows, metrics: list[str], trials: list[tuple[int, NDArray[np.int64]]]
) -> dict[str, Any]:
    kept = []
    for place, found in trials:
        few = np.linspace(0, len(found) - 1, min(len(found), POINTS)).round().astype(int)
        kept.append((place, found[few]))
    return _group(rows, kept) | {
        "values": [_in_16_bits(rows.values(name), kept) for name in metrics]
    }


def _group(rows: LoggedRows, trials: list[tuple[int, NDArray[np.int64]]]) -> dict[str, Any]:
    return {
        "rows": packed.array(np.array([place for place, _ in trials], np.uint32)),
        "lengths": packed.array(np.array([len(found) for _, found in trials], np.uint32)),
        "at": packed.array(_numbers(rows.frame["at"], trials)),
    }


def _numbers(
    column: pd.Series[Any], trials: list[tuple[int, NDArray[np.int64]]]
) -> NDArray[np.float64]:
    values = column.to_numpy(np.float64, na_value=np.nan)
    return np.concatenate([values[found] for _, found in trials] or [values[:0]])


def _in_16_bits(
    column: pd.Series[Any], trials: list[tuple[int, NDArray[np.int64]]]
) -> dict[str, Any]:
    """`low` and `span` of each trial's finite values, and `codes` between them."""
    values = column.to_numpy(np.float64, na_value=np.nan)
    lows, spans, codes = [], [], []
    for _, found in trials:
        own = values[found]
        finite = np.isfinite(own)
        low = np.float32(own[finite].min(initial=np.inf)) if finite.any() else np.float32(0)
        span = np.float32(own[finite].max() - low) if finite.any() else np.float32(0)
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = (own - low) / (span or 1) * _STEPS
        inside = np.where(finite, scaled, 0).round().clip(0, _STEPS)
        codes.append(np.where(finite, inside, _NONE).astype(np.uint16))
        lows.append(low)
        spans.append(span)
    return {
        "low": packed.array(np.array(lows, np.float32)),
        "span": packed.array(np.array(spans, np.float32)),
        "codes": packed.array(np.concatenate(codes)),
    }
