"""Programs of ten kinds, as other people write them, lose nothing where they are killed."""

from __future__ import annotations

from pathlib import Path

import pytest
from foreign_drill import EXAMPLES, KILLS, TRIALS, Example, ForeignDrill, built_kill_points

pytestmark = [pytest.mark.xdist_group("foreign"), pytest.mark.usefixtures("forked")]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_kill_points(tmp_path_factory.mktemp("library"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one.name)
def test_killed_anywhere_it_loses_nothing(example: Example, library: Path, tmp_path: Path) -> None:
    drill = ForeignDrill(example, tmp_path, library)
    drill.run()
    assert len(drill.done()) == TRIALS
    assert drill.kills == KILLS
    assert drill.happened() == {*example.points}
    assert TRIALS * 12 <= drill.executed <= drill.most


def test_what_changes_in_a_program() -> None:
    changed = {one.name: one.changed for one in EXAMPLES if one.changed}
    assert changed == {"torch_loop": 4}
