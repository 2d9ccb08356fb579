"""The stored values of a configuration, of whatever version: fingerprint and fields."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

# Fields that came after the first results, with the value that means "as before": whoever adds one
# adds it here, and no trial of anybody's has to run again. Never change a line.
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
    """As `TrainConfig.flat`, of the stored values of a configuration of any version."""
    return dict(_leaves(values))


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield prefix + key, ",".join(str(item) for item in value)
        else:
            yield prefix + key, value
