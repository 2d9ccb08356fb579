"""The picture of the packages in docs/ is of today's imports."""

from __future__ import annotations

import runpy
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "draw_packages.py"))


@pytest.mark.long
def test_the_picture_is_of_todays_imports(script: dict[str, Any]) -> None:
    drawn = script["draw"]()
    ElementTree.fromstring(drawn)
    assert 'class="up"' not in drawn, "an import leads upwards"
    assert (DOCS / "packages.svg").read_text() == drawn, "run: python docs/draw_packages.py"
    assert "packages.svg" in (DOCS / "architecture.md").read_text()


def test_what_leads_upwards_is_drawn_so_and_what_is_implied_is_not(script: dict[str, Any]) -> None:
    edges = Counter({("a", "b"): 3, ("b", "c"): 2, ("a", "c"): 1, ("c", "a"): 1})
    order = script["in_order"]("cab", edges)
    assert order == ["a", "b", "c"]
    assert script["floors"](order, edges) == {"a": 2, "b": 1, "c": 0}
    assert sorted(script["without_implied"](edges, order)) == [("a", "b"), ("b", "c")]
    assert script["upwards"](edges, order) == [("c", "a")]


@pytest.mark.long
def test_the_lowest_folders_import_nothing_of_ours(script: dict[str, Any]) -> None:
    edges = script["imports_of_folders"]()
    for node, other in edges:
        assert not node.startswith("local_machine") or other.startswith("local_machine"), other
    assert edges["sweeps/state", "sweeps/spec"] and not edges["sweeps/spec", "sweeps/state"]
