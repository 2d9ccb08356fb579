"""Schema: what a person's configuration may be, whether a pydantic model, a dataclass or a mapping.

Its values are JSON's, nested by section, and nothing of a configuration may be lost in them: one
that does not come back equal is refused when its schema is made. So a mapping holds what JSON does:
a worker has nothing but its values. What counts as equal: a real number is not a whole number (1.0
is not 1), neither is True or False, 0.0 and -0.0 are one number, and texts are compared by their
characters. A field for real numbers takes 1 for 1.0. Whole numbers have 64 bits, since they are
stored in columns. Numbers that are not finite, sets (they have no order that lasts) and objects
that JSON does not know are refused.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Generic, TypeVar, cast

from pydantic import TypeAdapter, ValidationError
from typing_extensions import is_typeddict

from local_machine.errors import InputError, nearest, printable
from trial_records.fields import typed_text
from trial_records.fields.plain_values import check_name, check_names, lost, plain, shown
from trial_records.fields.sections import (
    Field,
    bare,
    derived,
    example_kind,
    fields_of,
    flat_of,
    holds_sets,
    is_fixed,
    is_section,
    options_of,
)

Config = TypeVar("Config")

HELP_KEYS = "keys are dotted field names, as in --set SECTION.FIELD=VALUE"
HELP_FIELDS = "change one of the fields named, as in --set SECTION.FIELD=VALUE"
_PLAIN = "give texts, true or false, finite numbers, None, or lists of them"

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


class Schema(Generic[Config]):
    """The fields of a configuration's class, or of a mapping by its example, and their types."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        # A class may have examples of its own.
        self._help_keys: str = getattr(kind, "HELP_KEYS", HELP_KEYS)
        self._help_fields: str = getattr(kind, "HELP_FIELDS", HELP_FIELDS)

    @classmethod
    @functools.cache
    def of_class(cls, kind: Hashable) -> Schema[Any]:
        """The schema of a model's or a dataclass's class."""
        return cls(kind)

    @classmethod
    def of(cls, base: Config, where: str = "base") -> Schema[Config]:
        """The schema that a configuration follows. Raises InputError, which names the field, for
        one that has a value that is lost when it is stored, or whose types nobody can check."""
        if isinstance(base, type):
            raise InputError(
                f"{where} is the class {base.__name__}", f"make one: {base.__name__}()"
            )
        if isinstance(base, Mapping):
            check_names(base, where)
            schema: Schema[Config] = cls(example_kind(base))
        elif is_section(type(base)):
            schema = cls.of_class(cast(Hashable, type(base)))
        else:
            raise InputError(
                f"{where} is a {type(base).__name__}",
                "give a dataclass, a pydantic model or a dict; of argparse's, vars(options)",
            )
        schema._check_kept(base, where)
        return schema

    def values(self, config: Config, where: str = "configuration") -> dict[str, Any]:
        """The configuration as nested JSON values. Raises InputError that names `where` and a field
        whose value is not like JSON."""
        try:
            found = self._adapter.dump_python(
                config,
                mode="json",
                exclude=self._derived,
                by_alias=False,
                exclude_computed_fields=True,
                warnings=False,
            )
        except ValueError as error:
            name, value = _odd(config)
            raise InputError(
                f"{where}: {name}={shown(value)}: {_first_line(error)}", f"{name}: {_PLAIN}"
            ) from None
        return plain(found, where)

    def parse(self, values: Mapping[str, Any], where: str = "configuration") -> Config:
        """The configuration of these values. Raises InputError that names `where` and the field."""
        return self.parse_json(self._json(values, where), where)

    def parse_json(self, text: str | bytes, where: str = "configuration") -> Config:
        """As `parse`, of values as JSON."""
        try:
            config: Config = self._adapter.validate_json(
                text, strict=True, extra="forbid", by_alias=False, by_name=True
            )
            return config
        except ValidationError as error:
            raise self._refused(error, where) from None
        except InputError:
            raise
        except Exception as error:  # of a validator or a __post_init__ of the person's own
            raise InputError(
                f"{where}: {self._name} fails with {type(error).__name__}: {_first_line(error)}",
                self._help_fields,
            ) from error

    def override(self, config: Config, changes: Mapping[str, Any]) -> Config:
        """A copy with dotted keys changed: `{"optimizer.weight_decay": 5e-4}`.

        A string is parsed by the field's type (`"5e-4"`, `"true"`, `"none"`, `"0.3,0.6"`); any
        other value must already have it. Given the values of a model or a dataclass, gives values.
        Raises InputError for an unknown key or a bad value.
        """
        if isinstance(config, Mapping) and not is_typeddict(self._kind):
            return cast(Config, self.values(self.override(self.parse(config), changes)))
        values = self.values(config)
        for key, value in changes.items():
            field = self._field(key, config)
            *sections, leaf = key.split(".")
            target = values
            for section in sections:
                target = target[section]
            target[leaf] = self._typed(key, value, field) if isinstance(value, str) else value
        where = "override " + ", ".join(map(str, changes))
        return self.parse_json(self._json(values, where), where)

    def flat(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Every leaf by its dotted name, tuples and lists as the text that `override` parses."""
        return flat_of(values)

    def field_types(self) -> dict[str, Any]:
        """The type of every leaf field by its dotted name, constraints included."""
        return {name: field.kind for name, field in self._fields.items()}

    def describe(self, key: str) -> str:
        """What the field's class says of it, else its type."""
        return _described(self._fields[key])

    @functools.cached_property
    def _fields(self) -> dict[str, Field]:
        return fields_of(self._kind)

    @functools.cached_property
    def _derived(self) -> dict[str, Any]:
        return derived(self._kind)

    @functools.cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self._kind)

    @property
    def _name(self) -> str:
        return str(getattr(self._kind, "__name__", self._kind))

    def _field(self, key: str, config: Config) -> Field:
        """Raises InputError for a key that is not a field's, or that nobody may change."""
        if key in self._fields and not is_fixed(self._fields[key].kind):
            return self._fields[key]
        fields = fields_of(self._kind, config)
        names = [name for name, field in fields.items() if not is_fixed(field.kind)]
        if key in names:
            return fields[key]
        if section := [name for name in names if name.startswith(f"{key}.")]:
            if (whole := self._fields.get(key)) and len(options_of(whole.kind)) > 1:
                return whole  # a section that may be absent
            raise InputError(f"{key} is a section, not a field", nearest(f"{key}.", section))
        raise InputError(f"unknown field {key!r}", _nearest_field(str(key), names))

    def _typed(self, key: str, text: str, field: Field) -> Any:
        try:
            return typed_text.value_of(text, field.kind)
        except typed_text.NotThatTypeError as error:
            raise InputError(
                f"{key}={error.text}: {_sentence(error.problem)}",
                f"write another value for {key}: {_described(field)}",
            ) from None

    def _json(self, values: Mapping[str, Any], where: str) -> str:
        try:
            return json.dumps(values, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"{where}: {error}", f"{_PLAIN}; {self._help_keys}") from None

    def _refused(self, error: ValidationError, where: str) -> InputError:
        problem = error.errors()[0]
        path = [str(part) for part in problem["loc"]]
        name, types = ".".join(path), self._fields
        if problem["type"] == "json_invalid":
            what = f"{where} is not JSON: {_sentence(problem)}"
            return InputError(what, "write it again or fix it")
        if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            return InputError(f"{where}: unknown field {name!r}", _nearest_field(name, types))
        given = problem["input"]
        said = f"={given!r}" if isinstance(given, (str, int, float, bool)) else ""
        # A key inside a tuple or a union ends in an index or a type's name: describe its field.
        prefixes = (".".join(path[:n]) for n in range(len(path), 0, -1))
        field = next((prefix for prefix in prefixes if prefix in types), None)
        if field:
            help_line = f"write another value for {field}: {self.describe(field)}"
        else:
            # A rule between fields has no one field to describe: its sentence names them.
            is_rule = problem["type"] in ("value_error", "assertion_error")
            help_line = self._help_fields if is_rule else self._help_keys
        return InputError(
            f"{where}: {name}{said}: {_sentence(problem)}".replace(": :", ":"), help_line
        )

    def _check_kept(self, base: Config, where: str) -> None:
        """Raises InputError, which names the field, where the configuration is not kept whole."""
        self._check_types(where)
        fields = fields_of(self._kind, base)
        for name in (name for name, field in fields.items() if holds_sets(field.kind)):
            raise InputError(
                f"{where}: {name} is a set, which has no order that lasts", "make it a tuple"
            )
        values = self.values(base, where)
        different = lost(base, self.parse(values, where))
        if different is not None:
            name, before, after = different
            raise InputError(
                f"{where}: {name}={shown(before)} would come back as {shown(after)}",
                f"{name}: {_PLAIN}; a dataclass keeps tuples, dates, paths and enumerations too, "
                "where its annotations say so",
            )
        for name in (name for name in fields if _excluded(name, values)):
            raise InputError(
                f"{where}: {name} is left out when the configuration is stored",
                f"{name}: remove its exclude=True",
            )

    def _check_types(self, where: str) -> None:
        try:
            fields, _ = self._fields, self._adapter
        except Exception as error:  # of pydantic, or a NameError of an annotation
            for name, field in _typed_fields(self._kind):
                try:
                    TypeAdapter(field.kind)
                except Exception as own:
                    raise InputError(
                        f"{where}: {name}: {_first_line(own)}", f"{name}: {_PLAIN}"
                    ) from None
            raise InputError(
                f"{where}: {self._name}: {_first_line(error)}", "fix the annotations of its fields"
            ) from None
        for name in fields:
            check_name(name, where)


def _typed_fields(kind: Any) -> Iterable[tuple[str, Field]]:
    try:
        return fields_of(kind).items()
    except Exception:
        return ()


def _excluded(name: str, values: Mapping[str, Any]) -> bool:
    found: Any = values
    for part in name.split("."):
        if part not in found:
            return True
        found = found[part]
    return False


def _odd(config: Any) -> tuple[str, Any]:
    """The first field whose value JSON does not know, and the value."""
    for name, _ in fields_of(type(config), config).items():
        value = config
        for part in name.split("."):
            value = value[part] if isinstance(value, Mapping) else getattr(value, part)
        try:
            TypeAdapter(Any).dump_python(value, mode="json")
        except ValueError:
            return name, value
    return "configuration", config


def _nearest_field(key: str, names: Iterable[str]) -> str:
    """Closest by the whole dotted name, or by the last part alone (`weight_decay`, `lr`)."""
    same_leaf = [name for name in names if name.rpartition(".")[2] == key.rpartition(".")[2]]
    return f"did you mean {same_leaf[0]!r}?" if same_leaf else nearest(key, names)


def _described(field: Field) -> str:
    kind = bare(field.kind)
    word = _WORDS.get(kind) or (kind.__name__ if isinstance(kind, type) else str(kind))
    return field.description or f"it is {word}"


def _sentence(problem: Any) -> str:
    message = re.sub(r"^(Value error|Assertion failed), ", "", problem["msg"])
    return message[0].lower() + message[1:] if message[:2].istitle() else message


def _first_line(error: BaseException) -> str:
    return printable(str(error).partition("\n")[0].partition(". Set `arbitrary")[0])
