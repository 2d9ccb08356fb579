"""JSON files: written whole; with a seal (seal.py) as their last field, where a reader is to see
what was changed. Files from before there were seals are read without."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from local_machine import seal
from local_machine.errors import EXIT_IO, InputError, move_away
from local_machine.files import read_file, write_atomic

FIELD = "sha256"


class ChangedError(ValueError):
    """The object was changed since it was sealed."""


def write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    write_atomic(path, lambda file: file.write(text.encode()))


def write_sealed_json(path: Path, value: Any) -> None:
    """Write an object with its digest, which `read_json` verifies. Raises OSError."""
    text = json.dumps(value, indent=2, allow_nan=False)
    write_atomic(path, lambda file: file.write(sealed(text)))


def read_json(path: Path) -> Any:
    """What a JSON file holds, without its seal. Raises InputError where the file is damaged, was
    changed since it was sealed or cannot be read, FileNotFoundError where there is none."""
    return parse_json(path, read_file(path))


def parse_json(path: Path, content: bytes) -> Any:
    """As `read_json`, of a file's content."""
    try:
        return opened(content)[0]
    except (ValueError, RecursionError) as error:
        todo = f"move it away: {move_away(path)}"
        if isinstance(error, ChangedError):
            todo = f"if you changed it yourself, delete its field {FIELD}; else {todo}"
        raise InputError(f"{path} is damaged: {error}", todo, exit_code=EXIT_IO) from None


_DIGEST = re.compile("[0-9a-f]{64}")
# Only such numbers may be infinite: to look at each takes as long as all the rest.
_HUGE = re.compile(rb"[eE]\+?\d{3}|\d{300}")
_MARKER = f'"{FIELD}": "'.encode()


def sealed(text: str) -> bytes:
    """The text of a JSON object that has fields, with its seal as one more."""
    body = text.rstrip().removesuffix("}").rstrip()
    content = f'{body}, "{FIELD}": "{seal.BLANK.decode()}"}}\n'
    return seal.sealed(content.encode(), _MARKER)


def opened(content: bytes) -> tuple[Any, bool]:
    """What the JSON says, without its seal; and whether it had one.

    Raises ValueError or RecursionError for what is not JSON, holds a field twice or a number that
    is not finite, and ChangedError for an object that was changed since it was sealed. The same
    object in another layout (indented by a tool) is not changed.
    """
    text = content.decode()
    if seal.holds(content, _MARKER):
        # What its writer vouches for needs no second look, which takes twice as long.
        value = json.loads(text)
        if isinstance(value, dict) and value.pop(FIELD, None) is not None:
            return value, True
    value = json.loads(
        text,
        object_pairs_hook=_once,
        parse_float=_finite if _HUGE.search(content) else None,
        parse_constant=_finite,
    )
    if not isinstance(value, dict) or FIELD not in value:
        last = next(reversed(value.values()), None) if isinstance(value, dict) else None
        if isinstance(last, str) and _DIGEST.fullmatch(last):
            raise ValueError(f"it ends in a digest that is not called {FIELD}")
        return value, False
    told = value.pop(FIELD)
    # In the two layouts that our writers use.
    layouts = (sealed(json.dumps(value, indent=indent)) for indent in (None, 2))
    if not any(json.loads(layout)[FIELD] == told for layout in layouts):
        raise ChangedError(f"it was changed since it was written: its {FIELD} is of other content")
    return value, True


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twice!r} is there twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number
