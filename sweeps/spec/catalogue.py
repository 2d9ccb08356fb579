"""The catalogue: which sweeps, searches and studies there are, as their files' text says it. No
definition is run, and nothing heavy is imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from local_machine.files import matching

DEFINITIONS = Path(__file__).parents[1] / "definitions"
STUDIES = DEFINITIONS.with_name("studies")
_KINDS = re.compile(r"^(sweep|search|study) = ", re.MULTILINE)


@dataclass(frozen=True)
class Listed:
    """A definition, by the name that a command takes."""

    kind: str
    """sweep, search or study: what the file calls it."""
    name: str
    about: str
    """The first line of the file's docstring; "" for none."""
    path: Path


def of_project() -> list[Listed]:
    """What comes with the project; a file that holds two has two entries."""
    return _listed([*matching(DEFINITIONS, "**/*.py"), *matching(STUDIES, "*.py")])


def of_results(results: Path) -> list[Listed]:
    """What command lines have defined in a results folder."""
    return _listed(path for path in matching(results, "*/*.py") if path.stem == path.parent.name)


def names(kind: str = "sweep") -> list[str]:
    """Those of a kind that come with the project."""
    return [one.name for one in of_project() if one.kind == kind]


def _listed(paths: Iterable[Path]) -> list[Listed]:
    return sorted(
        (one for path in paths for one in _in(path)), key=lambda one: (one.kind, one.name)
    )


def _in(path: Path) -> Iterator[Listed]:
    try:
        text = path.read_text()
        kinds = dict.fromkeys(_KINDS.findall(text))
        about = (ast.get_docstring(ast.parse(text)) or "") if kinds else ""
    except (OSError, ValueError, SyntaxError, RecursionError):
        return  # whoever launches it is told what is wrong
    for kind in kinds:
        yield Listed(kind, path.stem, about.partition("\n")[0], path)
