"""Class folders: images in a folder for each class, as torchvision's ImageFolder has them.

One class is listed at a time, so that a million files need the memory of the largest class's names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from local_machine.errors import EXIT_IO, InputError
from sweeps.run.class_names import check_names
from trainer.data.decoding import Item
from trainer.data.labels import Indices
from trainer.data.pixels import SUFFIXES


@dataclass(frozen=True)
class ClassFolders:
    root: Path
    """As the user named it."""
    parts: Mapping[str, Path]
    """By part, the folder with its class folders."""

    def files(self) -> Iterator[str]:
        """Paths, part by part, class by class, sorted."""
        for part in self.parts:
            yield from (item.where for item in self.items(part))

    def labels(self) -> tuple[dict[str, Indices], tuple[str, ...]]:
        """By part; and the class names, sorted, which is CIFAR-10's own order for its names.

        Raises InputError where parts have different classes, or a file is not an image.
        """
        classes = self._classes()
        numbers = {}
        for part, folder in self.parts.items():
            counts = [sum(1 for _ in _images(folder / name)) for name in classes]
            numbers[part] = np.arange(len(classes), dtype=np.int64).repeat(counts)
        return numbers, classes

    def items(self, part: str) -> Iterator[Item]:
        folder = self.parts[part]
        for name in subfolders(folder):
            start = str(folder / name) + os.sep
            for file in _images(folder / name):
                yield Item(start + file, start + file)

    def _classes(self) -> tuple[str, ...]:
        (first, names), *others = ((folder, subfolders(folder)) for folder in self.parts.values())
        for folder, found in others:
            if differing := sorted({*names} ^ {*found}):
                one = differing[0]
                here, there = (first, folder) if one in names else (folder, first)
                raise InputError(
                    f"data.root={self.root}: class {one!r} is in {here.name} but not in "
                    f"{there.name}",
                    f"{first.name} and {folder.name} need a folder for each class, with the same "
                    "names",
                )
        return check_names(names, f"data.root={self.root}")


def subfolders(folder: Path) -> list[str]:
    """Names, sorted, without hidden ones and what macOS adds to an archive."""
    return sorted(
        entry.name for entry in _listed(folder) if entry.name != "__MACOSX" and entry.is_dir()
    )


def holds_images(folder: Path) -> bool:
    return any(_is_image(entry.name) for entry in _listed(folder))


def _images(folder: Path) -> list[str]:
    """Names, sorted. Raises InputError for a file of another kind, which is left out nowhere."""
    names = sorted(entry.name for entry in _listed(folder))
    for name in names:
        if not _is_image(name):
            raise InputError(
                f"{folder / name} is not an image of a kind known here",
                "move it away, or make it a PNG",
            )
    return names


def _is_image(name: str) -> bool:
    return name[name.rfind(".") :].lower() in SUFFIXES


def _listed(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name[0] != ".":
                    yield entry
    except OSError as error:
        raise InputError(
            f"cannot read the folder {folder}: {error.strerror}",
            "correct its permissions",
            exit_code=EXIT_IO,
        ) from None
