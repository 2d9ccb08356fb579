"""Marks: what people say of a sweep and of its trials: notes, tags, and which trials are excluded.

results/<sweep>/marks/<order>.<8 hex digits>.json

A file for each mark, written once and never changed, beside the trials' folders: so two people at
once lose nothing, and compaction leaves it alone. To take a mark back is another mark. Marks are no
part of a trial's records or identity.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from local_machine.errors import InputError
from local_machine.files import unreadable
from local_machine.json_files import write_sealed_json
from trial_records.trial_files import SCHEMA_VERSION, read_note

FOLDER = "marks"
NOTE, TAG, UNTAG, EXCLUDE, INCLUDE = "note", "tag", "untag", "exclude", "include"


@dataclass(frozen=True)
class Mark:
    kind: str  # one of the above; a later version may know more of them
    trial: str | None  # None: of the sweep
    fingerprint: str | None  # of the trial
    text: str  # of a note; the reason of an exclusion
    tags: list[str]
    by: str  # the user's name
    host: str
    at: str  # UTC, ISO 8601
    order: int  # one more than of all marks that its writer saw: clocks of hosts differ
    schema_version: int = SCHEMA_VERSION

    def write(self, sweep: Path, token: str) -> Path:
        """Raises OSError."""
        path = sweep / FOLDER / f"{self.order:06}.{token}.json"
        path.parent.mkdir(exist_ok=True)
        write_sealed_json(path, asdict(self))
        return path

    @property
    def who(self) -> str:
        """Such as `alice on 2026-11-30`."""
        return f"{self.by} on {self.at[:10]}"

    @property
    def words(self) -> str:
        """Of an exclusion."""
        return f"excluded by {self.who}: {self.text}"


@dataclass(frozen=True)
class Marked:
    """What the marks of a trial, or of a sweep, come to."""

    notes: list[Mark] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    excluded: Mark | None = None

    @property
    def words(self) -> str:
        """In a line: whether it is excluded, its tags, its notes."""
        excluded = self.excluded.words if self.excluded else ""
        return "; ".join(one for one in (excluded, self.remarks) if one)

    @property
    def remarks(self) -> str:
        """Its tags and notes in a line."""
        said = [f"tags: {', '.join(self.tags)}"] if self.tags else []
        return "; ".join([*said, *(f"{one.by}: {one.text}" for one in self.notes)])

    def to_json(self) -> dict[str, Any]:
        return {
            "tags": self.tags,
            "notes": [_said(one) for one in self.notes],
            "excluded": None if self.excluded is None else _said(self.excluded),
        }


NOTHING = Marked()


class Marks:
    """Of one sweep."""

    def __init__(self, every: Iterable[Mark] = ()) -> None:
        self.every = sorted(every, key=lambda one: (one.order, one.at))
        self._of: dict[str | None, Marked] = {}
        for one in self.every:
            self._of[one.fingerprint] = _after(self.of(one.fingerprint), one)

    def of(self, fingerprint: str | None) -> Marked:
        """Of the trial of that fingerprint; of the sweep itself for None."""
        return self._of.get(fingerprint, NOTHING)

    @property
    def excluded(self) -> dict[str, Mark]:
        """By the trial's fingerprint, why it is in no comparison."""
        found = {key: one.excluded for key, one in self._of.items() if key is not None}
        return {key: mark for key, mark in found.items() if mark is not None}

    @property
    def next_order(self) -> int:
        return max((one.order for one in self.every), default=0) + 1


def read(sweep: Path) -> tuple[Marks, list[InputError]]:
    """The marks, and what is wrong with the files that cannot be read."""
    found, problems = [], []
    try:
        names = sorted(os.listdir(sweep / FOLDER))  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return Marks(), []
    except OSError as error:
        return Marks(), [unreadable(sweep / FOLDER, error)]
    for name in (name for name in names if name.endswith(".json") and name[0] != "."):
        try:
            mark = read_note(Mark, sweep / FOLDER / name)
        except InputError as problem:
            problems.append(problem)
        else:
            found += [mark] if mark is not None else []
    return Marks(found), problems


def _after(before: Marked, mark: Mark) -> Marked:
    notes, tags, excluded = before.notes, before.tags, before.excluded
    if mark.kind == NOTE:
        notes = [*notes, mark]
    elif mark.kind in (TAG, UNTAG):
        others = [one for one in tags if one not in mark.tags]
        tags = sorted({*others, *(mark.tags if mark.kind == TAG else ())})
    elif mark.kind in (EXCLUDE, INCLUDE):
        excluded = mark if mark.kind == EXCLUDE else None
    return Marked(notes, tags, excluded)


def _said(mark: Mark) -> dict[str, str]:
    return {"text": mark.text, "by": mark.by, "at": mark.at}
