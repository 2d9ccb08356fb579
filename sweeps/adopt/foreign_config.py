"""The configuration of a foreign run: what a file of it, or the name of its folder, says."""

from __future__ import annotations

import datetime
import functools
import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from local_machine.errors import InputError
from local_machine.files import read_file
from local_machine.secrets import masked_values
from sweeps.adopt import foreign_files
from trial_records.fields.plain_values import check_name, plain
from trial_records.fields.typed_text import value_of

FROM_NAME = "name"
"""In place of a file: the run's folder is called by its values."""
_MOST_VALUES, _MOST_DEPTH, _MOST_CHARACTERS = 10_000, 20, 10_000
# `lr=0.1,bs=32`, also `lr=0.1-bs=32` and `weight_decay=1e-3_lr=0.1`.
_PAIR = re.compile(
    r"(?:^|(?<=[,;&\s_-]))([A-Za-z+][\w.]*)=([^=,;&\s]*?)(?=$|[,;&\s]|[-_]+[A-Za-z][\w.]*=)"
)
# `lr0.1-bs32`, also `lr_0.1_bs_32` and `lr-0.1-bs-32`.
_STUCK = re.compile(
    r"(?:^|(?<=[,;&\s_-]))([A-Za-z]+(?:[_.][A-Za-z]+)*)[_-]?"
    r"((?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?=$|[,;&\s_-])"
)
# YAML 1.1, which the library reads, takes 1e-3 for a text; nobody who writes it means one.
_REAL = re.compile(
    r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?"
    r"|\.(?:inf|Inf|INF))$|^\.(?:nan|NaN|NAN)$"
)


def values_in(path: Path) -> dict[str, Any]:
    """The values of a file: JSON, YAML or TOML, by its name. Raises InputError."""
    foreign_files.check_regular(path, foreign_files.MOST_CONFIG_BYTES)
    content = read_file(path)
    kinds = {".yaml": _yaml, ".yml": _yaml, ".toml": _toml}
    try:
        found = kinds.get(path.suffix.lower(), json.loads)(content)
        if not isinstance(found, Mapping):
            raise ValueError(f"it holds a {type(found).__name__}, not values by name")
        return plain(_nested(masked_values(_flat(_unwrapped(found))), str(path)), str(path))
    except InputError:
        raise
    except FileNotFoundError:
        raise
    # The libraries raise errors of their own, and RecursionError.
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{path} cannot be read as a configuration: {first}",
            "name a file that holds the run's values: JSON, YAML or TOML",
        ) from None


def values_of_name(path: Path) -> dict[str, Any]:
    """The values that a run's path says, such as `vit/lr=0.1,bs=32` or `lr0.1-bs32`; none where it
    says nothing. Raises InputError for names that no field can have."""
    found: dict[str, Any] = {}
    for part in path.parts:
        found |= {key: value_of(text, Any) for key, text in _PAIR.findall(part)}
    if not found:
        name = path.name
        found = {key: value_of(text, Any) for key, text in _STUCK.findall(name)}
        rest = re.sub(r"[,;&\s_-]+", "-", _STUCK.sub("", name)).strip("-")
        if found and rest:
            found["label"] = rest
    where = foreign_files.named(path)
    try:
        return plain(_nested(masked_values(_flat(found)), where), where)
    except ValueError as error:
        raise InputError(f"{where}: {error}", "give the values in a file: --config FILE") from None


def _toml(content: bytes) -> Any:
    return tomllib.loads(content.decode())


def _yaml(content: bytes) -> Any:
    if find_spec("yaml") is None:
        raise InputError(
            "the configuration is YAML, and the package pyyaml is not installed",
            "pip install pyyaml",
        )
    import yaml

    return yaml.load(content, Loader=_loader())


@functools.cache
def _loader() -> Any:
    import yaml

    made: Any = type("Loader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {})
    made.add_implicit_resolver("tag:yaml.org,2002:float", _REAL, list("-+0123456789."))
    # A whole number matches that, too: the first that matches counts.
    whole = made.yaml_implicit_resolvers
    for first, known in whole.items():
        whole[first] = sorted(known, key=lambda one: not one[0].endswith((":int", ":timestamp")))
    return made


def _unwrapped(found: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Of W&B's config.yaml, which has {desc, value} for each value, the values."""
    own = {key: one for key, one in found.items() if key not in ("_wandb", "wandb_version")}
    is_wrapped = own and all(
        isinstance(one, Mapping) and "value" in one and one.keys() <= {"desc", "value"}
        for one in own.values()
    )
    return {key: one["value"] for key, one in own.items()} if is_wrapped else found


def _flat(found: Mapping[Any, Any]) -> dict[str, Any]:
    """Every value by its dotted name, as JSON can hold it. Raises ValueError for what is not a
    configuration: too many values, or too deep, as aliases of YAML make them."""
    flat: dict[str, Any] = {}
    for number, (name, value) in enumerate(_leaves(found, "", 0)):
        if number == _MOST_VALUES:
            raise ValueError(f"it has more than {_MOST_VALUES} values")
        if name in flat:
            raise ValueError(f"it has {name!r} twice")
        flat[name] = value
    return flat


def _leaves(found: Mapping[Any, Any], prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    if depth == _MOST_DEPTH:
        raise ValueError(f"it is nested more than {_MOST_DEPTH} deep")
    for key, value in found.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{name}.", depth + 1)
        else:
            yield name, _leaf(name, value, [_MOST_VALUES], depth)


def _leaf(name: str, value: Any, left: list[int], depth: int) -> Any:
    """`left` is how many values a list may still have, those in its lists included."""
    left[0] -= 1
    if left[0] < 0 or depth == _MOST_DEPTH:
        raise ValueError(f"{name} has more than {_MOST_VALUES} values, or is nested too deep")
    if isinstance(value, list | tuple):
        return [_leaf(name, one, left, depth + 1) for one in value]
    if isinstance(value, Mapping):  # in a list
        return {str(key): _leaf(name, one, left, depth + 1) for key, one in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such number
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        return str(value) if value.bit_length() < 10_000 else _too_long(name)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, str):
        return value if len(value) <= _MOST_CHARACTERS else _too_long(name)
    if value is None or isinstance(value, bool | int | float):
        return value
    raise ValueError(f"{name} is a {type(value).__name__}, which is not a value")


def _too_long(name: str) -> str:
    raise ValueError(f"{name} has more than {_MOST_CHARACTERS} characters")


def _nested(flat: Mapping[str, Any], where: str) -> dict[str, Any]:
    """By section: a name with dots in it is one in sections. Raises ValueError, InputError."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        check_name(name, where)
        *sections, last = name.split(".")
        inside = nested
        for section in sections:
            inside = inside.setdefault(section, {})
            if not isinstance(inside, dict) or not section:
                raise ValueError(f"{name!r} is in a section that is a value itself")
        if isinstance(inside.get(last), dict):
            raise ValueError(f"{name!r} is a value and a section")
        inside[last] = value
    return nested
