"""History: every mark of a sweep or of a trial as a table, oldest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sweeps.cli import table

if TYPE_CHECKING:
    from sweeps.marks.marking import Target


def show(target: Target) -> None:
    """Print them; of a sweep, those of its trials as well."""
    rows = [
        (one.at[:16].replace("T", " "), one.by, one.trial or "-", one.kind,
         one.text or ", ".join(one.tags) or "-")
        for one in target.marks().every
        if target.trial is None or one.fingerprint == target.fingerprint
    ]  # fmt: skip
    if rows:
        table.show(("at (UTC)", "by", "trial", "mark", "text"), rows)
    else:
        print(f"{target.words}: no notes, no tags")
