"""What the text of `--set FIELD=TEXT` stands for in a field of some type."""

from __future__ import annotations

import enum
import json
import re
import typing
from collections.abc import Sequence
from types import NoneType
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from trial_records.fields.sections import bare, options_of

_NONE = ("none", "null")
_WHOLE = re.compile(r"[+-]?[0-9]+")
_REAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


class NotThatTypeError(ValueError):
    """The part of a text that is not of its field's type, and pydantic's problem with it."""

    def __init__(self, text: str, error: ValidationError) -> None:
        super().__init__(text)
        self.text, self.problem = text, error.errors()[0]


def value_of(text: str, kind: Any) -> Any:
    """The JSON value that a text stands for in a field of the type. Raises NotThatTypeError."""
    options = options_of(kind)
    if text.lower() in _NONE and NoneType in options:
        return None
    some = [option for option in options if option is not NoneType]
    if len(some) > 1:
        return _of_union(text, kind, some)
    plain = bare(some[0]) if some else kind
    if plain in (Any, object):
        return _by_looks(text)
    origin, items = typing.get_origin(plain) or plain, typing.get_args(plain)
    if origin in (tuple, list, Sequence):
        return _listed(text, origin, items)
    if origin is Literal:
        return _chosen(text, kind, items)
    if origin is dict or (text[:1] == "{" and text[-1:] == "}" and origin is not str):
        return _json(text, text)
    if isinstance(plain, type) and issubclass(plain, enum.Enum):
        named = plain.__members__.get(text)
        return _chosen(text, kind, [*plain]) if named is None else _as_json(named, plain)
    return _as_json(_validated(text, kind), kind)


def _validated(text: str, kind: Any) -> Any:
    try:
        return TypeAdapter[Any](kind).validate_strings(text)
    except ValidationError as error:
        raise NotThatTypeError(text, error) from None


def _as_json(value: Any, kind: Any) -> Any:
    """A date, a path or a member of an enumeration as JSON has it."""
    if isinstance(value, str | int | float) and not isinstance(value, enum.Enum):
        return value
    return TypeAdapter[Any](kind).dump_python(value, mode="json")


def _of_union(text: str, kind: Any, options: Sequence[Any]) -> Any:
    """The first of the types that the text can be of; a text only where it is nothing else."""
    plain = [bare(option) for option in options]
    for option in sorted(options, key=lambda option: bare(option) is str):
        if bare(option) is int and not _WHOLE.fullmatch(text):
            continue  # 1.0 is a real number
        if bare(option) is bool and _WHOLE.fullmatch(text) and {int, float} & {*plain}:
            continue
        try:
            return value_of(text, option)
        except NotThatTypeError:
            continue
    return _as_json(_validated(text, kind), kind)


def _listed(text: str, origin: Any, items: Sequence[Any]) -> list[Any]:
    if text[:1] == "[" and text[-1:] == "]":
        found = _json(text, None)
        if isinstance(found, list) and any(isinstance(one, str | list | dict) for one in found):
            return found
    parts = [part.strip() for part in text.strip("()[] ").split(",") if part.strip()]
    if origin is tuple and items and Ellipsis not in items:
        if len(items) == len(parts):
            return [value_of(part, item) for part, item in zip(parts, items, strict=True)]
        return list(parts)  # its schema says how many there have to be
    return [value_of(part, items[0] if items else Any) for part in parts]


def _chosen(text: str, kind: Any, choices: Sequence[Any]) -> Any:
    for choice in choices:
        value = choice.value if isinstance(choice, enum.Enum) else choice
        loosely = isinstance(value, bool | None)
        if str(value) == text or (loosely and str(value).lower() == text.lower()):
            return value
    integers = all(type(choice) is int for choice in choices)
    return _validated(text, int if integers else kind)


def _by_looks(text: str) -> Any:
    if text.lower() in _NONE:
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if _WHOLE.fullmatch(text):
        return int(text) if len(text) < 20 else text
    if _REAL.fullmatch(text):
        return float(text)
    return _json(text, text) if text[:1] in ("[", "{") else text


def _json(text: str, otherwise: Any) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return otherwise
