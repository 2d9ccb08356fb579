"""Check: one thing that was looked at, how it stands, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a thing stands."""

    OK = "ok"
    WARNING = "warning"
    """It works, and will surprise."""
    FAILURE = "failure"
    """A sweep would break on it."""


@dataclass(frozen=True)
class Check:
    """What was found of one thing; `todo` is empty where there is nothing to do."""

    name: str
    state: State
    found: str
    todo: str = ""


def ok(name: str, found: str) -> Check:
    return Check(name, State.OK, found)


def warning(name: str, found: str, todo: str) -> Check:
    return Check(name, State.WARNING, found, todo)


def failure(name: str, found: str, todo: str) -> Check:
    return Check(name, State.FAILURE, found, todo)
