"""The values that a configuration may hold, and whether storing them loses any."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from local_machine.errors import InputError, printable
from trial_records.fields.sections import members

# Of a dotted name: it becomes a column's, and a part of it a folder's.
NAME_LENGTH = 200
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def check_names(values: Mapping[Any, Any], where: str, prefix: str = "") -> None:
    """Raises InputError for a mapping with a key that does not name a field or a section."""
    for key, value in values.items():
        if not isinstance(key, str):
            raise InputError(
                f"{where}: {prefix}{shown(key)} is not a field's name", "make it a text"
            )
        _check_key(key, where, prefix)
        if isinstance(value, Mapping):
            check_names(value, where, f"{prefix}{key}.")


def _check_key(key: str, where: str, prefix: str) -> None:
    if "." in key:
        raise InputError(
            f"{where}: {prefix}{shown(key)} has a dot in it",
            "nest it: {'optimizer': {'lr': 0.1}} is what optimizer.lr names",
        )
    check_name(prefix + key, where)


def check_name(name: str, where: str) -> None:
    """Raises InputError for a dotted name that cannot be a column's."""
    if not name.rpartition(".")[2] or _CONTROL.search(name):
        raise InputError(f"{where}: {shown(name)} is not a field's name", "use letters and digits")
    if len(name) > NAME_LENGTH:
        raise InputError(
            f"{where}: the name {shown(name)} has {len(name)} characters",
            f"use at most {NAME_LENGTH}, sections included",
        )


def plain(values: Mapping[str, Any], where: str, prefix: str = "") -> dict[str, Any]:
    """JSON values as they are stored, -0.0 as 0.0. Raises InputError that names `where` and the
    field of a value that cannot be."""
    found = {}
    for key, value in values.items():
        name = prefix + key
        if not key.isidentifier() or len(name) > NAME_LENGTH:
            _check_key(key, where, prefix)
        found[key] = _plain(value, where, name)
    return found


def _plain(value: Any, where: str, name: str) -> Any:
    if value is None or value is True or value is False:
        return value
    if isinstance(value, dict):
        return plain(value, where, f"{name}.")
    if isinstance(value, list):
        return [_plain(one, where, name) for one in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InputError(
                f"{where}: {name}={value}: not a finite number",
                f"{name}: give a finite number, or None",
            )
        return float(value) + 0.0
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise InputError(
            f"{where}: {name}={shown(value)}: it has more than 64 bits", f"{name}: use a text"
        )
    if isinstance(value, str) and _SURROGATE.search(value):
        raise InputError(
            f"{where}: {name}={value!a}: not a valid text", f"{name}: give it as Unicode"
        )
    return value


def lost(before: Any, after: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """The first field that did not come back as it was, with both of its values."""
    return next(_lost(before, after, name), None)


def _lost(before: Any, after: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    fields = members(type(before))
    inside = f"{name}." if name else ""
    if fields is not None and type(before) is type(after):
        for part in fields:
            yield from _lost(getattr(before, part), getattr(after, part), inside + part)
    elif isinstance(before, Mapping) and isinstance(after, Mapping):
        if before.keys() != after.keys():
            yield name, before, after
        else:
            for key in before:
                yield from _lost(before[key], after[key], f"{inside}{key}")
    elif isinstance(before, list | tuple) and isinstance(before, type(after)):
        if len(before) != len(after):
            yield name, before, after
        else:
            for one, other in zip(before, after, strict=True):
                yield from _lost(one, other, name)
    elif not _same(before, after):
        yield name, before, after


def _same(before: Any, after: Any) -> bool:
    if isinstance(before, bool) or isinstance(after, bool):
        return before is after
    if not isinstance(before, type(after)) and (type(before), type(after)) != (int, float):
        return False
    try:
        return bool(before == after)
    except Exception:
        return False


def shown(value: object) -> str:
    """Short, and also where its own __repr__ fails."""
    try:
        text = repr(value)
    except Exception:
        return f"a {type(value).__name__}"
    return printable(text if len(text) <= 80 else f"{text[:77]}...")
