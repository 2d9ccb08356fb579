"""The documents name files, links and commands that are there."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest
import typer.main

ROOT = Path(__file__).parents[1]
OTHERS = ("docs/*.md", "examples/**/README.md")
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *(path for one in OTHERS for path in sorted(ROOT.glob(one))),
]
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
PACKAGES = (
    "local_machine|trial_records|trainer|sweeps|analysis|slurm|tests|benchmarks|docs|examples"
)


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_every_file_that_a_document_names_is_there(path: Path) -> None:
    text = path.read_text()
    named = set(re.findall(rf"(?<![\w/])(?:{PACKAGES})/[\w/]+\.\w+", text))
    named |= set(re.findall(rf"`((?:{PACKAGES})/(?:[\w/]+/)?)`", text))
    assert not [name for name in sorted(named) if not (ROOT / name).exists()]
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    assert not [link for link in links if not (path.parent / link).exists()]


def commands(path: Path) -> list[str]:
    """The lines that a document gives to type, and the commands in its sentences."""
    text = path.read_text().replace("\\\n", " ")
    lines = re.findall(
        r"^ {4,}(?:\w+=\S+ )*(python -m (?:sweeps|analysis|slurm)\.[^#\n]+)", text, re.M
    )
    spans = re.findall(r"`(python -m (?:sweeps|analysis|slurm)\.[^`\n]+)`", text)
    return [one.strip() for one in (*lines, *spans) if "[" not in one]


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_every_command_that_a_document_gives_is_understood(path: Path) -> None:
    """By the command's own parser, with all its words: it would run them."""
    for line in commands(path):
        _, _, name, *words = shlex.split(line)
        module = importlib.import_module(name)
        if hasattr(module, "__path__"):
            module = importlib.import_module(f"{name}.__main__")
        if words and words != ["--help"]:
            typer.main.get_command(module.app).make_context(name, words)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
