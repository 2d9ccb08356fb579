"""Names: what a folder beneath a results folder may be called, typed or read from a file."""

from __future__ import annotations

import re

# What a trial, a sweep or a study may be called: it names a folder.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)
# A file's name may have 255 bytes, and what is written aside adds to it.
NAME_BYTES = 200


def is_name(name: str) -> bool:
    """Whether a name, typed or read from a file, may name a folder beneath another."""
    return NAME.fullmatch(name) is not None and len(name) <= NAME_BYTES


def is_file_name(name: str) -> bool:
    """Whether a name, read from a file, is of one file in a folder, and hides nothing."""
    return bool(name) and name[0] != "." and not set(name) & set("/\0")
