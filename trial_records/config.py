"""A trial's configuration, whatever program it is of: stored values, and the base of its schema.

Stored values are data, of whatever version: their fingerprint and fields need no schema. A
`Configuration` is what a program makes of them, checked by its rules of today.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from local_machine.errors import InputError, nearest
from local_machine.files import read_file

# Fields that came after the first results, with the value that means "as before": whoever adds one
# adds it here, and no finished trial has to run again. Never change a line. It lies here and not
# with the trainer's schema, since every stored fingerprint depends on it: a process that only
# reads records has to know it, also where the field, or the trainer, is gone.
ADDED: dict[str, Any] = {
    "augment.cutmix": 0.0,
    "augment.trivial_augment": False,
    "compile": "auto",
    "deterministic": False,
    "optimizer.ema_decay": 0.0,
}


def fingerprint_of(values: Mapping[str, Any]) -> str:
    """The fingerprint of a configuration of any version, nested as in JSON: 64 hex digits.

    Covers every field, defaults included, so that a changed default is a new trial; does not depend
    on field order, process or Python version, nor on what this version knows of the fields. A field
    of ADDED is left out where it has the value under which a trial is what it was before there was
    the field. Raises ValueError for a number that is not finite.
    """
    kept = _without_added(values)
    canonical = json.dumps(kept, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _without_added(values: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    return {
        name: _without_added(value, f"{section}{name}.") if isinstance(value, Mapping) else value
        for name, value in values.items()
        if section + name not in ADDED or value != ADDED[section + name]
    }


def as_before(values: Mapping[str, Any]) -> dict[str, Any]:
    """The stored values of a configuration of any version, with those of ADDED that it has not."""
    completed = dict(values)
    for name, value in ADDED.items():
        section, _, leaf = name.rpartition(".")
        fields = completed.get(section, {}) if section else completed
        if isinstance(fields, Mapping) and leaf not in fields:
            completed |= {section: {**fields, leaf: value}} if section else {leaf: value}
    return completed


def flat_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """As `Configuration.flat`, of the stored values of a configuration of any version."""
    return dict(_leaves(values))


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield prefix + key, ",".join(str(item) for item in value)
        else:
            yield prefix + key, value


def is_of(values: Mapping[str, Any], fingerprint: str) -> bool:
    """Whether the stored values of a configuration are those that the fingerprint names; also where
    another tool wrote them anew and made 0 of 0.0, which only a declared schema can tell."""
    if fingerprint_of(values) == fingerprint:
        return True
    for schema in _declared:
        try:
            made = schema.from_json(json.dumps(values))
        except InputError:
            continue
        if made.fingerprint == fingerprint and made.flat() == flat_of(as_before(values)):
            return True
    return False


class Section(BaseModel):
    """A configuration's fields, or some of them: a field's docstring is what errors say of it."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True
    )


class Configuration(Section):
    """What a program trains by. Equal configurations have equal fingerprints, and only those."""

    HELP_KEYS: ClassVar[str] = "keys are dotted field names, as in --set SECTION.FIELD=VALUE"
    HELP_FIELDS: ClassVar[str] = "change one of the fields named, as in --set SECTION.FIELD=VALUE"

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "configuration") -> Self:
        """Parse what `to_json` wrote. Raises InputError that names `where` and the field."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise _input_error(cls, error, where) from None

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Raises InputError where the file is missing, unreadable or no configuration."""
        try:
            return cls.from_json(read_file(path), where=str(path))
        except FileNotFoundError as error:
            raise InputError(
                f"cannot read {path}: {error.strerror}", "give the path of a config.json"
            ) from None
        except InputError as error:
            raise InputError(error.what, error.help) from None

    def to_json(self) -> str:
        return json.dumps(self.model_dump(mode="json"), indent=2, allow_nan=False) + "\n"

    def override(self, changes: Mapping[str, Any]) -> Self:
        """A copy with dotted keys changed: `{"optimizer.weight_decay": 5e-4}`.

        A string is parsed by the field's type (`"5e-4"`, `"true"`, `"none"`, `"0.3,0.6"`); any
        other value must already have it. Raises InputError for an unknown key or a bad value.
        """
        values = self.model_dump(mode="json")
        for key, value in changes.items():
            kind = _type_of(type(self), key)
            *sections, leaf = key.split(".")
            target = values
            for section in sections:
                target = target[section]
            target[leaf] = self._parsed(key, value, kind) if isinstance(value, str) else value
        where = "override " + ", ".join(map(str, changes))
        try:
            text = json.dumps(values, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(
                f"{where}: {error}",
                f"give texts, true or false, finite numbers, None, or lists of them; "
                f"{self.HELP_KEYS}",
            ) from None
        return self.from_json(text, where=where)

    @classmethod
    def _parsed(cls, key: str, text: str, kind: Any) -> Any:
        """The JSON value that `text` stands for in a field of type `kind`."""
        bare = typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind
        options = typing.get_args(bare)
        if text.lower() in ("none", "null") and type(None) in options:
            return None
        if typing.get_origin(bare) is tuple:
            parts = [part for part in text.strip("()[] ").split(",") if part.strip()]
            return [cls._parsed(key, part.strip(), options[0]) for part in parts]
        integers = typing.get_origin(bare) is Literal and all(isinstance(o, int) for o in options)
        try:
            return TypeAdapter[Any](int if integers else kind).validate_strings(text)
        except ValidationError as error:
            raise InputError(
                f"{key}={text}: {_sentence(error.errors()[0])}", f"{key}: {cls.describe(key)}"
            ) from None

    def model_copy(self, **how: Any) -> Self:
        """As pydantic's, which would take the fingerprint along."""
        copied = super().model_copy(**how)
        copied.__dict__.pop("fingerprint", None)
        return copied

    def flat(self) -> dict[str, Any]:
        """Every leaf by its dotted name, tuples as the text that `override` parses."""
        return flat_of(self.model_dump(mode="json"))

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON, 64 hex digits.

        See `fingerprint_of`.
        """
        return fingerprint_of(self.model_dump(mode="json"))

    @classmethod
    def field_types(cls) -> dict[str, Any]:
        """The annotation of every leaf field by its dotted name, constraints included."""
        return {
            name: Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
            for name, info in _fields(cls).items()
        }

    @classmethod
    def describe(cls, key: str) -> str:
        """The field's own sentence."""
        return _fields(cls)[key].description or ""


# Registered and not imported: records know no program. One whose schema nobody declared is read
# all the same, by fingerprint and as stored. A schema adds the columns of its fields to the
# run.parquet that its program writes, and the repair in `is_of`.
_declared: list[type[Configuration]] = []


def declare(schema: type[Configuration]) -> None:
    """Make a program's schema known to those who read and write records; it does so itself."""
    _declared.append(schema)


def declared() -> tuple[type[Configuration], ...]:
    return tuple(_declared)


@functools.cache
def _fields(schema: type[BaseModel]) -> dict[str, FieldInfo]:
    """Every leaf field by its dotted name."""
    found: dict[str, FieldInfo] = {}
    for name, info in schema.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= {f"{name}.{leaf}": one for leaf, one in _fields(kind).items()}
        else:
            found[name] = info
    return found


def _type_of(schema: type[Configuration], key: str) -> Any:
    """Raises InputError for a key that is not a field's, or not one that a person may change."""
    types = {name: kind for name, kind in schema.field_types().items() if name != "schema_version"}
    if key not in types:
        section = [name for name in types if name.startswith(f"{key}.")]
        if section:
            raise InputError(f"{key} is a section, not a field", nearest(key + ".", section))
        raise InputError(f"unknown field {key!r}", _nearest_field(key, types))
    return types[key]


def _nearest_field(key: str, names: Mapping[str, Any]) -> str:
    """Closest by the whole dotted name, or by the last part alone (`weight_decay`, `lr`)."""
    same_leaf = [name for name in names if name.rpartition(".")[2] == key.rpartition(".")[2]]
    return f"did you mean {same_leaf[0]!r}?" if same_leaf else nearest(key, names)


def _sentence(problem: Any) -> str:
    message = re.sub(r"^Value error, ", "", problem["msg"])
    return message[0].lower() + message[1:] if message[:2].istitle() else message


def _input_error(schema: type[Configuration], error: ValidationError, where: str) -> InputError:
    problem = error.errors()[0]
    path = [str(part) for part in problem["loc"]]
    name, types = ".".join(path), _fields(schema)
    if problem["type"] == "json_invalid":
        return InputError(f"{where} is not JSON: {_sentence(problem)}", "write it again or fix it")
    if problem["type"] == "extra_forbidden":
        return InputError(f"{where}: unknown field {name!r}", _nearest_field(name, types))
    given = problem["input"]
    shown = f"={given!r}" if isinstance(given, (str, int, float, bool)) else ""
    # A key inside a tuple or a union ends in an index or a type's name: describe its field.
    prefixes = (".".join(path[:n]) for n in range(len(path), 0, -1))
    field = next((prefix for prefix in prefixes if prefix in types), None)
    if field:
        help_line = f"{field}: {schema.describe(field)}"
    else:
        # A rule between fields has no one field to describe: its sentence names them.
        is_rule = problem["type"] == "value_error"
        help_line = schema.HELP_FIELDS if is_rule else schema.HELP_KEYS
    return InputError(
        f"{where}: {name}{shown}: {_sentence(problem)}".replace(": :", ":"), help_line
    )
