"""Marking: one mark of the sweep or of the trial that a command line names, written."""

from __future__ import annotations

import os
import sys
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from local_machine import processes
from local_machine.errors import EXIT_IO, InputError, nearest
from trial_records.history import marks
from trial_records.history.marks import Mark, Marked, Marks

if TYPE_CHECKING:
    from sweeps.state.trial_store import TrialStore

MAX_LENGTH = 10_000
"""Characters of a note."""


@dataclass(frozen=True)
class Target:
    """What is marked: a trial of a sweep, or the sweep itself."""

    store: TrialStore
    trial: str | None
    fingerprint: str | None

    @property
    def words(self) -> str:
        return self.store.sweep if self.trial is None else f"{self.store.sweep}/{self.trial}"

    def marks(self) -> Marks:
        """Of the whole sweep. What cannot be read is said on stderr."""
        found, problems = marks.read(self.store.folder)
        for problem in problems:
            print(f"warning: {problem.what}", file=sys.stderr)
        return found

    def marked(self) -> Marked:
        return self.marks().of(self.fingerprint)

    def mark(self, kind: str, text: str = "", tags: list[str] | None = None) -> Marked:
        """What its marks come to, with this one. Raises InputError where nothing can be written."""
        before = self.marks()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        mark = Mark(
            kind, self.trial, self.fingerprint, text, tags or [], _user(), processes.host_name(),
            now, before.next_order,
        )  # fmt: skip
        try:
            mark.write(self.store.folder, uuid.uuid4().hex[:8])
        except OSError as error:
            raise InputError(
                f"cannot write {self.store.folder / marks.FOLDER}: {error.strerror}",
                "mark a copy of the results that you may write: --results DIR",
                exit_code=EXIT_IO,
            ) from None
        return Marks([*before.every, mark]).of(self.fingerprint)


def target_of(results: Path, word: str) -> Target:
    """What `SWEEP` or `SWEEP/TRIAL` names. Raises InputError, with near names, where there is no
    such sweep or trial."""
    from sweeps.state.trial_store import resolve

    sweep, _, trial = word.rstrip("/").partition("/")
    store = resolve(results, sweep)
    if not trial:
        return Target(store, None, None)
    plans, problems = store.readable_plans()
    known = {one.name: one.fingerprint for plan in plans for one in plan.trials}
    if trial not in known:
        if problems:
            raise problems[0]
        raise InputError(f"no trial {trial!r} in {sweep}", nearest(trial, known))
    return Target(store, trial, known[trial])


def checked(what: str, text: str) -> str:
    """A text that a person typed, without blanks at its ends. Raises InputError for what cannot be
    kept or shown."""
    text = text.strip()
    if not text:
        raise InputError(f"the {what} is empty", "write some words, in quotes")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"the {what} is not UTF-8", "type it again") from None
    if len(text) > MAX_LENGTH:
        raise InputError(
            f"the {what} has {len(text)} characters", f"write at most {MAX_LENGTH} of them"
        )
    return text


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
