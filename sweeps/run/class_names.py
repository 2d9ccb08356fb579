"""Class names: which ones can be recorded, and how they stand in one text.

They come from folders and files that anybody may have written. The text is one line of CSV
(RFC 4180): names with commas between them, in quotes where a name has a comma or a quote itself.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence

from local_machine.errors import InputError, printable

MOST = 2**15
"""Classes: the labels of predictions.parquet are 16-bit integers."""
LONGEST = 200
"""Characters of a name."""


def check_names(names: Sequence[object], where: str) -> tuple[str, ...]:
    """The names by label. Raises InputError, which names `where`, for one that cannot be shown."""
    if len(names) > MOST:
        raise InputError(
            f"{where}: {len(names):,} classes, more than {MOST:,}", "leave some of them out"
        )
    kept = []
    for label, name in enumerate(names):
        if not isinstance(name, str):
            raise InputError(f"{where}: the name of class {label} is not a text", _RENAME)
        if not name.strip():
            raise InputError(f"{where}: the name of class {label} is empty", _RENAME)
        if len(name) > LONGEST:
            raise InputError(
                f"{where}: the name of class {label} has {len(name):,} characters, more than "
                f"{LONGEST}: {printable(name[:40])!r}...",
                _RENAME,
            )
        if not name.isprintable():
            raise InputError(
                f"{where}: the name of class {label} has characters that cannot be shown: {name!a}",
                _RENAME,
            )
        kept.append(name)
    for name, count in Counter(kept).items():
        if count > 1:
            raise InputError(f"{where}: {count} classes are called {name!r}", _RENAME)
    return tuple(kept)


_RENAME = f"rename it: 1 to {LONGEST} printable characters, different for each class"


def join(names: Sequence[str]) -> str:
    """The names as run.parquet has them, by label."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(names)
    return line.getvalue()
