"""Programs of ten kinds, as other people write them, lose nothing where they are killed."""

from __future__ import annotations

import os
from pathlib import Path

import foreign_document
import pytest
from foreign_drill import (
    EPOCHS,
    EXAMPLES,
    KILLS,
    TRIALS,
    Example,
    ForeignDrill,
    built_kill_points,
)
from test_kill import ROOT

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("forked"),
]


VERIFIED = ("argparse_script", "shell_script", "c_program")
"""Those whose trials are run again undisturbed: they have the same bits."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_kill_points(tmp_path_factory.mktemp("library"))


@pytest.mark.long
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one.name)
def test_killed_anywhere_it_loses_nothing(example: Example, library: Path, tmp_path: Path) -> None:
    drill = ForeignDrill(example, tmp_path, library)
    drill.run()
    assert len(drill.done()) == TRIALS
    assert drill.kills == KILLS
    assert drill.happened() == {*example.points}
    assert TRIALS * EPOCHS <= drill.executed <= drill.most
    if example.name in VERIFIED:
        said = drill.verified()
        assert said.returncode == 0, said.stdout
        assert "rerun bit for bit" in said.stdout
    note(drill)


def note(drill: ForeignDrill) -> None:
    """Into the file that FOREIGN_TABLE names: the line of docs/tasks.md."""
    if path := os.environ.get("FOREIGN_TABLE"):
        with Path(path).open("a") as file:
            file.write(drill.table_line() + "\n")


def test_what_changes_in_a_program() -> None:
    changed = {one.name: one.changed for one in EXAMPLES if one.changed}
    assert changed == {"torch_loop": 4}


def test_the_document_has_all_examples_as_they_are() -> None:
    text = foreign_document.DOCUMENT.read_text()
    assert foreign_document.filled(text) == text
    files = {path for one in EXAMPLES for path in one.folder.rglob("*.*") if path.is_file()}
    expected = {str(path.relative_to(ROOT)) for path in files if path.suffix != ".pyc"}
    assert foreign_document.named(text) == expected


def test_the_document_says_of_each_example_what_it_lost() -> None:
    text = foreign_document.DOCUMENT.read_text()
    for one in EXAMPLES:
        start = f"| {one.what} | {one.changed} | {KILLS} + {len(one.points)} | 0 | "
        assert start in text, start
