"""The packages that are installed where this process finds its modules: their names and versions.

They are told by the names of their folders of metadata: to read thousands of files would take
longer than a small trial.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import sys
from pathlib import Path

from local_machine.files import write_atomic

_METADATA = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)(?:-.+)?\.(?:dist|egg)-info")


@functools.cache
def installed() -> tuple[tuple[str, str], ...]:
    """Name and version of each, sorted; of two with one name the one that is found first."""
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            names = sorted(os.listdir(folder or "."))  # noqa: PTH208
        except OSError:
            continue
        for name in names:
            if match := _METADATA.fullmatch(name):
                found.setdefault(match["name"].replace("_", "-").lower(), match["version"])
    return tuple(sorted(found.items()))


@functools.cache
def _content() -> bytes:
    return json.dumps({"schema_version": 1, "packages": dict(installed())}, indent=1).encode()


@functools.cache
def digest() -> str:
    """SHA-256 of what `keep` writes."""
    return hashlib.sha256(_content()).hexdigest()


def file_of(folder: Path) -> Path:
    return folder / f"packages-{digest()}.json"


def keep(folder: Path) -> Path:
    """The file in the folder that lists them, one for each content. Raises OSError."""
    path = file_of(folder)
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, lambda file: file.write(_content()))
    return path
