"""Contenders measured in turns, and the table of what came out: median, spread, ratio."""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar

T = TypeVar("T")


def alternate(contenders: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Each contender once a round; every other round backwards, so that none is always first."""
    found: dict[str, list[T]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in list(contenders)[:: -1 if number % 2 else 1]:
            print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr)
            found[name].append(contenders[name]())
    return found


def show(
    what: str,
    values: Mapping[str, Sequence[float]],
    base: str,
    unit: Literal["images/s", "s"],
) -> None:
    """A line a contender: median (least to most), and how many times as fast as `base` it was.

    The ratio is taken in each round and has a median and a spread of its own: what slows a whole
    round does not move it.
    """
    print(f"\n{what}")
    for name, own in values.items():
        pairs = zip(own, values[base], strict=True)
        ratios = [mine / other if unit == "images/s" else other / mine for mine, other in pairs]
        print(
            f"  {name:48} {_spread(own):>28} {unit:8}  "
            f"{statistics.median(ratios):6.2f} x ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def _spread(values: Sequence[float]) -> str:
    digits = 0 if min(values) >= 1000 else 1 if min(values) >= 50 else 2
    low, middle, high = (
        f"{value:,.{digits}f}" for value in (min(values), statistics.median(values), max(values))
    )
    return f"{middle} ({low} to {high})"


def machine() -> str:
    """The device's name, and torch's version."""
    import torch

    from trainer.perf.device import device_name

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return f"{device_name(device)}, {os.cpu_count()} processors, torch {torch.__version__}"
