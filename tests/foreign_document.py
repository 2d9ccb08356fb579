"""The examples in docs/tasks.md are the files in tests/foreign/: `python tests/foreign_document.py`
writes them into it again."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "tasks.md"
_BLOCK = re.compile(r"(`(tests/foreign/[\w./]+)`:\n\n```\w*\n)(.*?)(```\n)", re.DOTALL)


def filled(text: str) -> str:
    """With the content of each file that a line before a block of code names."""
    return _BLOCK.sub(lambda one: one[1] + (ROOT / one[2]).read_text() + one[4], text)


def named(text: str) -> set[str]:
    return {one[2] for one in _BLOCK.finditer(text)}


if __name__ == "__main__":
    DOCUMENT.write_text(filled(DOCUMENT.read_text()))
