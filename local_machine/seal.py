"""A seal: a file's own SHA-256, kept inside the file, so that each of its bytes is verified.

The writer leaves 64 zeros behind a marker, hashes the file with them, and puts the digits in their
place. It takes a tenth of the time of reading the smallest Parquet file, and needs no second file.
"""

from __future__ import annotations

import hashlib

BLANK = b"0" * 64


def sealed(content: bytes, marker: bytes) -> bytes:
    """The content, which has BLANK behind its last marker, with its seal there."""
    start = content.rindex(marker) + len(marker)
    return content[:start] + _digits(content, start) + content[start + len(BLANK) :]


def holds(content: bytes, marker: bytes) -> bool | None:
    """Whether the content is, byte for byte, what was sealed; None where it has no seal."""
    place = content.rfind(marker)
    if place < 0:
        return None
    start = place + len(marker)
    return content[start : start + len(BLANK)] == _digits(content, start)


def _digits(content: bytes, start: int) -> bytes:
    whole = hashlib.sha256(memoryview(content)[:start])
    whole.update(BLANK)
    whole.update(memoryview(content)[start + len(BLANK) :])
    return whole.hexdigest().encode()
