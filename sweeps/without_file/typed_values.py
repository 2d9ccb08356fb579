"""Typed values: what `NAME=V,V` and `NAME=LOW..HIGH` mean on a command line.

3 is a whole number, 0.1 and 1e-3 are numbers, true and false are bools, [0.9, 0.99] is a list, and
all else is text. "3" in quotes is text, and so may hold commas; a shell takes quotes away, so they
need quotes of its own: --grid 'x="a,b","3"'. The values of one name have one type: whole numbers
beside other numbers become such, and where one is text, all are, as they were typed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from local_machine.errors import InputError
from sweeps.search_space.distributions import Range, integers, log_integers, log_uniform, uniform

_INT = re.compile(r"-?(0|[1-9][0-9]*)", re.ASCII)
_FLOAT = re.compile(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
# Up to the next comma that is in neither quotes nor brackets.
_QUOTED = r"\"(?:[^\"\\]|\\.)*\"|'[^']*'"
_PIECE = re.compile(rf"(?:(?:{_QUOTED}|\[[^\]]*\])(?=,|$)|[^,]*)", re.DOTALL)


def values_of(option: str, words: Iterable[str] | None) -> dict[str, list[Any]]:
    """Each name's values. Raises InputError for a word that is not NAME=V,V."""
    return {
        name: _of_one_type(pieces := _pieces(option, name, text), [_value(x) for x in pieces])
        for name, text in _named(option, words, "V,V", "lr=0.1,0.01").items()
    }


def single_values(words: dict[str, str]) -> dict[str, Any]:
    """The value of each name; a comma is a part of it."""
    return {name: _value(text) for name, text in words.items()}


def ranges_of(option: str, words: Iterable[str] | None, *, whole: bool) -> dict[str, Range]:
    """Each name's range. Raises InputError for a word that is not NAME=LOW..HIGH."""
    example = "layers=2..8" if whole else "lr=1e-5..1e-1:log"
    found: dict[str, Range] = {}
    for name, text in _named(option, words, "LOW..HIGH", example).items():
        ends = text.removesuffix(":log")
        low, dots, high = ends.partition("..")
        numbers = [_value(end) for end in (low, high)]
        kinds = (int,) if whole else (int, float)
        if not dots or high.startswith(".") or not all(type(one) in kinds for one in numbers):
            kind = "whole numbers" if whole else "numbers"
            raise InputError(
                f"{option} {name}={text} does not give two {kind}",
                f"write the lower end, two dots, and the upper one: {option} {example}",
            )
        makers: dict[tuple[bool, bool], Callable[[Any, Any], Range]] = {
            (True, True): log_integers,
            (True, False): integers,
            (False, True): log_uniform,
            (False, False): uniform,
        }
        found[name] = makers[whole, ends != text](*numbers)
    return found


def _named(option: str, words: Iterable[str] | None, form: str, example: str) -> dict[str, str]:
    """NAME=... words as a mapping. Raises InputError."""
    found: dict[str, str] = {}
    for word in words or ():
        name, equals, text = word.partition("=")
        if not name or not equals or not text:
            raise InputError(f"{option} {word}", f"write NAME={form}, as in {option} {example}")
        if name in found:
            raise InputError(f"{option} {name} is given twice", "give it once, with all its values")
        found[name] = text
    return found


def _pieces(option: str, name: str, text: str) -> list[str]:
    """The text at its commas. Raises InputError where there is nothing between two of them."""
    pieces, place = [], 0
    while place <= len(text):
        found = _PIECE.match(text, place)
        assert found is not None
        pieces.append(found[0])
        place = found.end() + 1
    if "" in pieces:
        raise InputError(
            f"{option} {name}={text} has a value that is empty",
            f"leave the comma out; an empty text is in quotes: {option} '{name}=\"\",a'",
        )
    return pieces


def _value(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and not re.match(r"-?0[0-9]", text) and math.isfinite(float(text)):
        return float(text)
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1]
    if text[:1] in ('"', "["):
        try:
            found = json.loads(text, strict=False)
        except (ValueError, RecursionError):
            return text
        return found if isinstance(found, str | list) else text
    return text


def _of_one_type(typed: Sequence[str], values: list[Any]) -> list[Any]:
    kinds = {type(value) for value in values}
    if len(kinds) == 1:
        return values
    if kinds == {int, float}:
        return [float(value) for value in values]
    return [
        value if isinstance(value, str) else text for text, value in zip(typed, values, strict=True)
    ]
