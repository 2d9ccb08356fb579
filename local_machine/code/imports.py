"""The modules of a project that a file imports, as its text says it: nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from local_machine.files import matching
from local_machine.own_modules import PACKAGES


def closure(code: Path, root: Path) -> list[Path]:
    """The file, or the files of the package, and every module beneath `root` that they import,
    theirs included; sorted. What cannot be read or parsed imports nothing; our own packages, which
    a checkout of ours has, are not the project's."""
    files = sorted(matching(code, "**/*.py")) if code.is_dir() else [code]
    found = set(files)
    while files:
        file = files.pop()
        for one in _imported(file, root):
            if one not in found:
                found.add(one)
                files.append(one)
    return sorted(found)


def _imported(file: Path, root: Path) -> Iterator[Path]:
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    folders = [file.parent, *(one for one in file.parents if one.is_relative_to(root))]
    folders.append(root / "src")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(alias.name, folders)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            places = [file.parents[node.level - 1]] if node.level else folders
            yield from _files(module, places)
            for alias in node.names:
                yield from _files(f"{module}.{alias.name}".lstrip("."), places)


def _files(module: str, folders: list[Path]) -> Iterator[Path]:
    """Of a module, and of the packages around it, in the first of the folders that has it."""
    parts = module.split(".") if module else []
    if not parts or parts[0] in PACKAGES:
        return
    for folder in folders:
        packages = [
            folder.joinpath(*parts[:end], "__init__.py") for end in range(1, len(parts) + 1)
        ]
        files = [one for one in packages if one.is_file()]
        if (alone := folder.joinpath(*parts).with_suffix(".py")).is_file():
            files.append(alone)
        if files:
            yield from files
            return
