"""Verifications: what came of running a finished trial again, as `sweeps.verify` records it.

results/<sweep>/verified/<trial>.<8 hex digits>.json

A file for each rerun, written once, beside the trials' folders: so two commands at once lose
nothing, and compaction leaves it alone. It speaks of one run, by the digest of its run.parquet's
row, and of none that was trained again since.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from local_machine.errors import InputError
from local_machine.files import unreadable
from local_machine.json_files import write_sealed_json
from trial_records.trial_files import SCHEMA_VERSION, read_note

FOLDER = "verified"
Outcome = Literal["equal", "close", "differs"]


@dataclass(frozen=True)
class Difference:
    """A value that the rerun has not."""

    file: str
    row: int  # from 0
    column: str
    recorded: str  # as Python writes it
    rerun: str
    share: float | None  # how far apart, as a part of the column's largest; None: no number says it

    @property
    def words(self) -> str:
        where = f"{self.file}, row {self.row}, {self.column}"
        return f"{where}: recorded {self.recorded}, rerun {self.rerun}"


@dataclass(frozen=True)
class Verification:
    trial: str
    fingerprint: str
    run: str | None  # `digest_of` the run that it is of
    outcome: Outcome  # equal: bit for bit; close: within the tolerance
    is_declared: bool  # the task says that a resumed trial is exact
    attempts: int  # of the trial
    setting: str | None  # of the trial, as `setting_of` says it
    setting_here: str | None  # of the rerun
    recorded: dict[str, Any]  # where the trial's run comes from: code, versions, device, host
    rerun: dict[str, Any]  # the same of the rerun
    tolerance: float | None  # a part of a column's largest value; None: bits were compared
    largest: float | None  # share of the largest difference; 0 where none differs
    difference: Difference | None  # the first one, beyond the tolerance where one is
    columns: int  # how many were compared
    left_out: list[str]  # of time and machine: not compared
    seconds: float  # the rerun took
    verified_at: str  # UTC, ISO 8601
    schema_version: int = SCHEMA_VERSION

    @property
    def is_same_code(self) -> bool | None:
        """None where the trial, or the rerun, does not say its code."""
        one, other = self.recorded.get("code_sha256"), self.rerun.get("code_sha256")
        return None if one is None or other is None else one == other

    def write(self, sweep: Path, token: str) -> Path:
        """Raises OSError."""
        path = sweep / FOLDER / f"{self.trial}.{token}.json"
        path.parent.mkdir(exist_ok=True)
        write_sealed_json(path, asdict(self))
        return path

    @property
    def words(self) -> str:
        """Such as `rerun bit for bit on 2026-11-30`."""
        within = "bit for bit" if self.tolerance is None else f"within {100 * self.tolerance:g} %"
        result = "not reproduced" if self.outcome == "differs" else "rerun"
        how = "bit for bit" if self.outcome == "equal" else within
        said = f"{result} {how} on {self.verified_at[:10]}"
        if not self.is_same_code:
            said += " by other code" if self.is_same_code is False else " by perhaps other code"
        if any(self.recorded.get(key) != self.rerun.get(key) for key in MACHINE):
            said += " on another device or other versions"
        if self.outcome != "differs" or self.difference is None:
            return said
        return f"{said}: {self.difference.words}"


class Exactness(NamedTuple):
    """What may be said of a finished trial."""

    word: str  # exact or unverified, of a resumed trial; else ""
    words: str  # with why
    last: Verification | None  # its own, which says it
    is_contradicted: bool  # its rerun differs


def read(sweep: Path) -> tuple[dict[str, list[Verification]], list[InputError]]:
    """The verifications of each fingerprint, oldest first, and what is wrong with the files that
    cannot be read."""
    found: dict[str, list[Verification]] = {}
    problems = []
    try:
        names = sorted(os.listdir(sweep / FOLDER))  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return {}, []
    except OSError as error:
        return {}, [unreadable(sweep / FOLDER, error)]
    for name in (name for name in names if name.endswith(".json") and name[0] != "."):
        try:
            note = read_note(Verification, sweep / FOLDER / name)
        except InputError as problem:
            problems.append(problem)
        else:
            if note is not None:
                found.setdefault(note.fingerprint, []).append(note)
    for notes in found.values():
        notes.sort(key=lambda one: one.verified_at)
    return found, problems


def digest_of(run: Mapping[str, Any]) -> str | None:
    """What tells one run of a trial from another, of its row of run.parquet."""
    digest = run.get("row_sha256")
    return digest[:64] if isinstance(digest, str) else None


MACHINE = ("device", "precision", "torch_version", "python_version")


def setting_of(
    run: Mapping[str, Any], keys: Iterable[str] = ("code_sha256", *MACHINE)
) -> str | None:
    """The code, versions and device that all attempts of a run share, of its row of run.parquet;
    None where they differ, or one does not say its code, or device."""
    keys = tuple(keys)
    told = {tuple(one.get(key) for key in keys) for one in attempts_of(run)}
    if len(told) != 1 or next(iter(told))[0] is None:
        return None
    ranks = run.get("world_size")
    return json.dumps([*told.pop(), int(ranks) if ranks and math.isfinite(ranks) else None])


def attempts_of(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What each attempt of a run says of itself; none where that cannot be read."""
    try:
        found = json.loads(run.get("attempts") or "[]")
    except (ValueError, RecursionError, TypeError):
        return []
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def exactness(
    found: Mapping[str, Iterable[Verification]],
    fingerprint: str,
    run: str | None,
    attempts: int,
    setting: str | None,
) -> Exactness:
    """Of a finished trial of so many attempts, by the verifications of its sweep.

    A resumed trial is exact where its task declares that, and its own rerun is equal; or where
    those of other resumed trials are, by the same code on such a machine, and none differs.
    """
    own = _verdict(one for one in found.get(fingerprint, ()) if one.run == run)
    differs = own is not None and own.outcome == "differs"
    if attempts < 2:
        return Exactness("", own.words if own else "", own, differs)
    if own is not None:
        is_exact = own.outcome == "equal" and own.is_declared
        word = "exact" if is_exact else "unverified"
        said = f"resumed, exact: {own.words}" if is_exact else f"resumed; {own.words}"
        if own.outcome == "equal" and not own.is_declared:
            said += "; its task does not declare exactness"
        return Exactness(word, said, own, differs)
    if setting is not None:
        alike = [
            one
            for notes in found.values()
            for one in notes
            if one.attempts > 1 and one.setting == one.setting_here == setting
        ]
        if alike and all(one.outcome == "equal" and one.is_declared for one in alike):
            count = len({one.fingerprint for one in alike})
            others = "1 trial alike was" if count == 1 else f"{count} trials alike were"
            return Exactness("exact", f"resumed, exact: {others} verified", None, False)
    return Exactness("unverified", "resumed, not verified", None, False)


def _verdict(notes: Iterable[Verification]) -> Verification | None:
    """Of several, one that differs stands; a rerun on another machine or by other code says less
    than one on its own."""
    every = list(notes)
    like = [one for one in every if one.setting and one.setting == one.setting_here] or every
    differing = [one for one in like if one.outcome == "differs"]
    return (differing or like)[-1] if like else None
