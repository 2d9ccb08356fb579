"""The documents name files, and links, that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGES = "local_machine|trial_records|trainer|sweeps|analysis|slurm|tests|benchmarks|docs"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_a_document_names_is_there(path: Path) -> None:
    text = path.read_text()
    named = set(re.findall(rf"(?<![\w/])(?:{PACKAGES})/[\w/]+\.\w+", text))
    named |= set(re.findall(rf"`((?:{PACKAGES})/(?:[\w/]+/)?)`", text))
    assert not [name for name in sorted(named) if not (ROOT / name).exists()]
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    assert not [link for link in links if not (path.parent / link).exists()]
