"""The fields of a configuration by their dotted names, be it a model, a dataclass or a mapping.

A section is a class with fields of its own (a pydantic model, a dataclass) or a nested mapping. A
mapping has no class, so one is made from what it holds: its values are the examples of its types.
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, RootModel
from typing_extensions import TypeAliasType, TypedDict, is_typeddict

_UNSEEN: Any = object()
_SETS = (set, frozenset)
# What a text of several values, separated by commas, cannot tell from the commas.
_NEEDS_JSON = re.compile(r"[,()\[\]{}\"]|^\s|\s$|^$")


@dataclass(frozen=True)
class Field:
    kind: Any
    """Its type, constraints included."""
    description: str = ""


def fields_of(kind: Any, value: Any = _UNSEEN, prefix: str = "") -> dict[str, Field]:
    """Every leaf field by its dotted name. With a configuration as `value`, also those that only
    the values tell: of a section that may be absent or of several classes, and a mapping's keys."""
    found: dict[str, Field] = {}
    for name, field in (_section(kind, value) or {}).items():
        part = _part(value, name)
        if _section(field.kind, part) is None:
            found[prefix + name] = field
        else:
            found |= fields_of(field.kind, part, f"{prefix}{name}.")
    return found


def _section(kind: Any, value: Any) -> dict[str, Field] | None:
    """The fields of a section; None where the type and the value are not one's."""
    for section in (type(value), kind):
        inside = members(section)
        if inside is not None:
            return inside
    if isinstance(value, Mapping) and value:
        options = typing.get_args(bare(kind))
        return {key: Field(options[1] if len(options) == 2 else Any) for key in value}
    return None


def _part(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(name, _UNSEEN)
    return getattr(value, name, _UNSEEN)


def members(kind: Any) -> dict[str, Field] | None:
    """The fields that a section's class is made with, by name; None for any other type."""
    section = bare(kind)
    if not is_section(section):
        return None
    if issubclass(section, BaseModel):
        return {
            name: Field(
                Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation,
                info.description or "",
            )
            for name, info in section.model_fields.items()
        }
    if dataclasses.is_dataclass(section):
        hints = typing.get_type_hints(section, include_extras=True)
        return {
            one.name: Field(hints[one.name], _said_of(hints[one.name], one.metadata))
            for one in dataclasses.fields(section)
            if one.init
        }
    hints = typing.get_type_hints(section, include_extras=True)
    return {name: Field(hint) for name, hint in hints.items()}


def is_section(kind: Any) -> bool:
    """Whether it is the class of a section: a model, a dataclass, or what a mapping is read by."""
    if not isinstance(kind, type):
        return False
    is_model = issubclass(kind, BaseModel) and not issubclass(kind, RootModel)
    return is_model or dataclasses.is_dataclass(kind) or is_typeddict(kind)


def derived(kind: Any) -> dict[str, Any]:
    """The fields that a dataclass computes from its others (init=False), as pydantic's `exclude`
    takes them, nested."""
    section, found = bare(kind), dict[str, Any]()
    if dataclasses.is_dataclass(section):
        found = {one.name: True for one in dataclasses.fields(section) if not one.init}
    for name, field in (members(kind) or {}).items():
        if inside := derived(field.kind):
            found[name] = inside
    return found


def _said_of(kind: Any, metadata: Mapping[Any, Any]) -> str:
    """What a dataclass says of a field: in its metadata, or in Annotated's."""
    notes = getattr(kind, "__metadata__", ())
    said = [metadata.get("help"), metadata.get("description")]
    said += [getattr(note, "description", None) for note in notes]
    said += [getattr(note, "documentation", None) for note in notes]
    return next((text for text in said if isinstance(text, str)), "")


def bare(kind: Any) -> Any:
    """The type without its constraints, and what an alias stands for."""
    while True:
        if typing.get_origin(kind) is Annotated:
            kind = typing.get_args(kind)[0]
        elif isinstance(kind, TypeAliasType):
            kind = kind.__value__
        else:
            return kind


def options_of(kind: Any) -> tuple[Any, ...]:
    """The members of a union; of any other type, itself."""
    plain = bare(kind)
    is_union = typing.get_origin(plain) in (Union, types.UnionType)
    return typing.get_args(plain) if is_union else (kind,)


def is_fixed(kind: Any) -> bool:
    """Whether the type has one value alone, as a version's has."""
    plain = bare(kind)
    return typing.get_origin(plain) is Literal and len(typing.get_args(plain)) == 1


def holds_sets(kind: Any) -> bool:
    """Whether values of the type may be sets, whose order differs from process to process."""
    plain = bare(kind)
    if plain in _SETS or typing.get_origin(plain) in _SETS:
        return True
    return any(holds_sets(option) for option in typing.get_args(plain))


def example_kind(value: Any) -> Any:
    """The type that a value of a mapping is an example of, one of JSON's. Nothing is known of None,
    of the items of an empty list, or of items of several types: any value will do there."""
    if isinstance(value, Mapping):
        return TypedDict("Section", {key: example_kind(one) for key, one in value.items()})  # type: ignore[operator]
    if isinstance(value, list):
        kinds = {Any if isinstance(one, Mapping) else example_kind(one) for one in value}
        item = kinds.pop() if len(kinds) == 1 else Any
        return list[item]  # type: ignore[valid-type]
    return next((kind for kind in (bool, int, float, str) if isinstance(value, kind)), Any)


def leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every leaf of stored values by its dotted name."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def flat_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same, with a list as the text that `override` parses."""
    return {
        key: _list_text(value) if isinstance(value, list) else value
        for key, value in leaves(values).items()
    }


def _list_text(values: list[Any]) -> str:
    """`0.3,0.6`; JSON where that would say too little."""
    if any(
        _NEEDS_JSON.search(value)
        if isinstance(value, str)
        else value is None or isinstance(value, list | dict)
        for value in values
    ):
        return json.dumps(values, ensure_ascii=False)
    return ",".join(str(value) for value in values)
