"""A trial's configuration, whatever program it is of: stored values, and the base of its schema.

Stored values are data, of whatever version: their fingerprint and fields need no schema. A
`Configuration` is what a program makes of them, checked by its rules of today.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

from local_machine.errors import InputError
from local_machine.files import read_file
from trial_records.fields.sections import flat_of as flat_of
from trial_records.schema import HELP_FIELDS, HELP_KEYS, Schema

# Fields that came after the first results, with the value that means "as before": whoever adds one
# adds it here, and no finished trial has to run again. Never change a line. It lies here and not
# with the trainer's schema, since every stored fingerprint depends on it: a process that only
# reads records has to know it, also where the field, or the trainer, is gone.
ADDED: dict[str, Any] = {
    "augment.cutmix": 0.0,
    "augment.first_size": 32,
    "augment.trivial_augment": False,
    "compile": "auto",
    "data.image_column": None,
    "data.label_column": None,
    "data.size": None,
    "deterministic": False,
    "hard_fraction": 1.0,
    "loss": "cross_entropy",
    "metrics": [],
    "optimizer.ema_decay": 0.0,
}


# The task that comes with the project: its trials are older than tasks are.
TRAINER = "trainer"


def content_of(values: Mapping[str, Any], task: str) -> dict[str, Any]:
    """What a trial's config.json holds, and its fingerprint is of: the values, and, but for the
    trainer, whose they are."""
    return dict(values) if task == TRAINER else {"task": task, "values": dict(values)}


def fingerprint_of(content: Mapping[str, Any]) -> str:
    """The fingerprint of a configuration of any version, nested as in JSON: 64 hex digits.

    Covers every field, defaults included, so that a changed default is a new trial; does not depend
    on field order, process or Python version, nor on what this version knows of the fields. A field
    of ADDED, of the trainer's, is left out where it has the value under which a trial is what it
    was before there was the field. Raises ValueError for a number that is not finite.
    """
    kept = _without_added(content)
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


def is_of(values: Mapping[str, Any], fingerprint: str) -> bool:
    """Whether the stored values of a configuration are those that the fingerprint names; also where
    another tool wrote them again and made 0 of 0.0, which only a declared schema can tell."""
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

    HELP_KEYS: ClassVar[str] = HELP_KEYS
    HELP_FIELDS: ClassVar[str] = HELP_FIELDS

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "configuration") -> Self:
        """Parse what `to_json` wrote. Raises InputError that names `where` and the field."""
        config: Self = Schema.of_class(cls).parse_json(text, where)
        return config

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
        """See `Schema.override`."""
        config: Self = Schema.of_class(type(self)).override(self, changes)
        return config

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
        return Schema.of_class(cls).field_types()

    @classmethod
    def describe(cls, key: str) -> str:
        """The field's own sentence."""
        return Schema.of_class(cls).describe(key)


# Registered and not imported: records know no program. One whose schema nobody declared is read
# all the same, by fingerprint and as stored. A schema adds the columns of its fields to the
# run.parquet that its program writes, and the repair in `is_of`.
_declared: list[type[Configuration]] = []


def declare(schema: type[Configuration]) -> None:
    """Make a program's schema known to those who read and write records; it does so itself."""
    _declared.append(schema)


def declared() -> tuple[type[Configuration], ...]:
    return tuple(_declared)
