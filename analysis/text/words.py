"""Words: a column's values as a list, a text as a file name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def values(column: pd.Series[Any]) -> str:
    """Each once, in their order."""
    return ", ".join(str(value) for value in column.drop_duplicates())


def file_name(text: str) -> str:
    """A file name that needs no quoting anywhere."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", text)
