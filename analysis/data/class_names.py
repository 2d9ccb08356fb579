"""Class names as run.parquet has them: by label, in one line of CSV."""

from __future__ import annotations

import csv


def parse(text: object) -> tuple[str, ...]:
    """The names; none where the record has no text. Never raises: records are data."""
    if not isinstance(text, str):
        return ()
    try:
        return tuple(next(csv.reader([text]), ()))
    except csv.Error:
        return tuple(text.split(","))
