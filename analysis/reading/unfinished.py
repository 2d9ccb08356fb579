"""Trials without a result: the notes in their folders that say why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from analysis.stats.outliers import FLAGS
from local_machine.errors import InputError
from trial_records.trial_files import PRUNED, Failure, Note, Pruned


@dataclass(frozen=True)
class Ends:
    """By trial: `failures` the flag and a sentence, `pruned` the search that stopped it ("" where
    its note is damaged) and a sentence."""

    failures: dict[str, tuple[str, str]]
    pruned: dict[str, tuple[str, str]]


def ends(folder: Path, trials: list[str], problems: list[InputError]) -> Ends:
    """What became of these trials of a sweep's folder. A note that cannot be read is added to the
    problems; a trial that was pruned has not failed."""
    pruned = {name: _pruned(note) for name, note in _notes(Pruned, folder, trials, problems)}
    rest = [name for name in trials if name not in pruned]
    failures = {name: _failure(note) for name, note in _notes(Failure, folder, rest, problems)}
    return Ends(failures, pruned)


def _notes(
    kind: type[Note], folder: Path, names: Iterable[str], problems: list[InputError]
) -> Iterator[tuple[str, Note | None]]:
    """The note of each trial whose folder has one; None for one that cannot be read, which becomes
    a problem."""
    for name in names:
        try:
            note = kind.read(folder / name)
        except InputError as problem:
            problems.append(problem)
            yield name, None
        else:
            if note is not None:
                yield name, note


def _failure(failure: Failure | None) -> tuple[str, str]:
    """Flag and sentence."""
    if failure is None:
        return "ERROR", "its failure.json is damaged"
    known = failure.cause in FLAGS
    cause = "" if known else f"{failure.cause}: "
    epoch = "" if failure.epoch is None else f" (epoch {failure.epoch})"
    words = " ".join(failure.exception.split())
    return failure.cause if known else "ERROR", cause + words + epoch


def _pruned(pruned: Pruned | None) -> tuple[str, str]:
    """Search and sentence; a damaged note names no search."""
    if pruned is None:
        return "", f"its {PRUNED} is damaged"
    return pruned.search, f"pruned by search {pruned.search} (epoch {pruned.epoch})"
