"""Ranges: what a search may choose a field's value from.

log_uniform(1e-5, 1e-2)    uniform(0.0, 0.3)    integers(0, 16)    choice([64, 128, 256])
choice(sgd={"lr": log_uniform(1e-3, 1)}, adamw={})    # with ranges that only one value has
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from local_machine.errors import InputError

if TYPE_CHECKING:
    from optuna.trial import Trial as OptunaTrial

# Of one choice: Optuna writes all of them for each trial.
MAX_VALUES = 1000
Value = str | int | float | bool


@dataclass(frozen=True)
class Numbers:
    """Every number from `low` to `high`, both included; on a logarithmic scale where `log`."""

    kind: str
    """float or int."""
    low: float
    high: float
    log: bool = False

    @property
    def ends(self) -> tuple[Value, ...]:
        """Values to check beforehand; what lies between is mostly valid where these are."""
        return self.low, self.high

    def suggest(self, trial: OptunaTrial, name: str) -> Value:
        """The trial's value, as its sampler has it."""
        if self.kind == "int":
            number: int = trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
            return number
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def holds(self, value: Value) -> bool:
        kinds = (int,) if self.kind == "int" else (int, float)
        return (
            isinstance(value, kinds)
            and not isinstance(value, bool)
            and self.low <= value <= self.high
        )

    def __str__(self) -> str:
        words = {("int", False): "integers", ("int", True): "log_integers"}
        word = words.get((self.kind, self.log), "log_uniform" if self.log else "uniform")
        return f"{word}({_short(self.low)}, {_short(self.high)})"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Choice:
    """One of some values, without an order."""

    values: tuple[Value, ...]
    branches: Mapping[Value, Mapping[str, Range]] = field(default_factory=dict)
    """By value, the ranges of the fields that are searched only where it is chosen."""

    @property
    def ends(self) -> tuple[Value, ...]:
        return self.values

    def suggest(self, trial: OptunaTrial, name: str) -> Value:
        chosen = trial.suggest_categorical(name, self.values)
        assert chosen is not None
        return chosen

    def holds(self, value: Value) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return f"choice({list(self.values)!r})"

    def to_json(self) -> dict[str, Any]:
        return {"kind": "choice", "values": list(self.values)}


Range: TypeAlias = Numbers | Choice


def _short(number: float) -> str:
    """The number in few digits, or in all of them where few would be another number."""
    short = f"{number:g}"
    return short if float(short) == number else repr(number)


def uniform(low: float, high: float) -> Numbers:
    """Raises InputError where the range is empty or inverted."""
    return _numbers("float", low, high, log=False)


def log_uniform(low: float, high: float) -> Numbers:
    """Uniform in the logarithm. Raises InputError as `uniform`, and where 0 is in the range."""
    return _numbers("float", low, high, log=True)


def integers(low: int, high: int) -> Numbers:
    """Raises InputError as `uniform`."""
    return _numbers("int", low, high, log=False)


def log_integers(low: int, high: int) -> Numbers:
    """Raises InputError as `log_uniform`."""
    return _numbers("int", low, high, log=True)


def choice(
    values: Sequence[Value] | Mapping[Value, Mapping[str, Range]] = (),
    /,
    **branches: Mapping[str, Range],
) -> Choice:
    """One of the values. With a mapping, or by keyword, each value has ranges of its own for other
    fields: choice(sgd={"momentum": uniform(0, 1)}, adamw={}), choice({64: {...}, 128: {}}).

    Raises InputError where there are no values, one twice, or one that is not a plain value, and
    where a branch holds something else than ranges.
    """
    if isinstance(values, Mapping):
        branches = {**values, **branches}  # type: ignore[dict-item] # of any plain value
        values = ()
    elif branches and values:
        raise InputError(
            f"choice({reprlib.repr(values)}, ...): values beside branches",
            "give each value as a branch: choice(sgd={...}, adamw={})",
        )
    found = list(branches) if branches else values
    if isinstance(found, str) or not isinstance(found, Sequence) or not found:
        raise InputError(
            f"choice({reprlib.repr(found)}): no values", "give a list: choice([64, 128])"
        )
    if len(found[: MAX_VALUES + 1]) > MAX_VALUES:  # of a range, len() may not say
        raise InputError(
            f"choice({reprlib.repr(found)}): more than {MAX_VALUES} values",
            "search numbers with integers(LOW, HIGH), or list a few: choice([64, 128])",
        )
    for value in found:
        if not isinstance(value, (str, int, float, bool)):
            raise InputError(
                f"choice: {reprlib.repr(value)} is a {type(value).__name__}",
                "give texts, numbers or bools",
            )
    if len(set(found)) < len(found):
        raise InputError(f"choice({reprlib.repr(found)}) has a value twice", "give each once")
    for value, ranges in branches.items():
        _check_branch(value, ranges)
    return Choice(tuple(found), {value: dict(ranges) for value, ranges in branches.items()})


def _check_branch(value: Value, ranges: object) -> None:
    if not isinstance(ranges, Mapping):
        raise InputError(
            f"choice: the branch {value!r} is a {type(ranges).__name__}",
            f'give the ranges of its fields, or none: {value}={{"lr": log_uniform(1e-4, 1)}}',
        )
    for key, one in ranges.items():
        if not isinstance(key, str) or not isinstance(one, (Numbers, Choice)):
            raise InputError(
                f"choice: in the branch {value!r}, {key!r}: {reprlib.repr(one)} is not a range",
                "make it with log_uniform, choice, ...",
            )


def _numbers(kind: str, low: float, high: float, *, log: bool) -> Numbers:
    wanted = (int,) if kind == "int" else (int, float)
    for value in (low, high):
        if isinstance(value, bool) or not isinstance(value, wanted) or not math.isfinite(value):
            raise InputError(f"a range from {low!r} to {high!r}", f"give two finite {kind}s")
    made = (
        Numbers(kind, low, high, log)
        if kind == "int"
        else Numbers(kind, float(low), float(high), log)
    )
    if low >= high:
        word = "empty" if low == high else "inverted"
        raise InputError(f"{made} is {word}", "give the lower end first, and a higher one")
    if log and low <= 0:
        raise InputError(
            f"{made}: a logarithmic range cannot hold {low:g}", "begin above 0, as at 1e-6"
        )
    return made
