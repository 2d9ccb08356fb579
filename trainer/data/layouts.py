"""Layouts: where in a folder the images of each part lie.

Class folders or Parquet files, for train and test, with or without a validation part; or all in
one, of which a fifth of each class becomes the test images, the same whatever a configuration says.
In the folder itself or in its sub-folder `data`, as on the Hugging Face hub. Labels and class names
are also read alone, without decoding an image, so that a launch can tell what is wrong with a data
set before its first trial.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from local_machine.errors import InputError
from local_machine.files import matching
from trainer.data.decoding import Item
from trainer.data.folders import ClassFolders, holds_images, subfolders
from trainer.data.labels import Indices, Labels
from trainer.data.parquet import Columns, ParquetFiles
from trainer.data.split import held_out_for_test

SIDE = 32
"""Of CIFAR-10's images, and of the digits, in pixels."""
LAYOUTS = (
    "data.root must hold train/CLASS/*.png and test/CLASS/*.png (also val; jpg, webp, tif, ...), "
    "CLASS/*.png alone, train-*.parquet and test-*.parquet, or any *.parquet"
)
Part = Literal["train", "test"]
_WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_ALL = "all"  # the part where a folder has no parts
_LOOKED_AT = 100  # sub-folders, for one that was meant


@dataclass(frozen=True)
class Layout:
    """A data set's files."""

    root: Path
    source: ClassFolders | ParquetFiles
    unused: tuple[str, ...] = ()
    """What lies beside its files, and looks as if it were some of them."""

    def files(self) -> Iterator[str]:
        """The path of every file that the data come from, in an order of their own. All begin with
        the root."""
        return self.source.files()

    @functools.cached_property
    def labels(self) -> Labels:
        """Without looking at an image. Raises InputError for bad labels or class names."""
        numbers, classes = self._numbers
        if (every := numbers.get(_ALL)) is not None:
            found = Labels(every[~self._is_test], every[self._is_test], classes)
        elif "test" not in numbers:
            found = Labels(numbers["train"], numbers["val"], classes)
        else:
            val = numbers.get("val", np.empty(0, np.int64))
            both = np.concatenate([numbers["train"], val])
            found = Labels(both, numbers["test"], classes, len(val))
        for word, labels in (("training", found.train), ("test", found.test)):
            if not len(labels):
                raise InputError(f"data.root={self.root}: no {word} images", LAYOUTS)
        return found

    def items(self, part: Part) -> Iterator[Item]:
        """The images, in the order of the labels; those for validation are the last to train on."""
        numbers, _ = self._numbers
        if _ALL in numbers:
            chosen = self._is_test if part == "test" else ~self._is_test
            # More or fewer than the labels are told by whoever counts them.
            yield from (
                item for item, one in zip(self.source.items(_ALL), chosen, strict=False) if one
            )
        elif part == "test":
            yield from self.source.items("test" if "test" in numbers else "val")
        else:
            for one in ("train", "val") if {"val", "test"} <= {*numbers} else ("train",):
                yield from self.source.items(one)

    @functools.cached_property
    def _numbers(self) -> tuple[dict[str, Indices], tuple[str, ...]]:
        return self.source.labels()

    @functools.cached_property
    def _is_test(self) -> npt.NDArray[np.bool_]:
        numbers, classes = self._numbers
        return held_out_for_test(numbers[_ALL], classes)


def find(root: Path, columns: Columns) -> Layout:
    """Raises InputError where there is no data, or only a part of them."""
    if root.is_file():
        if root.suffix != ".parquet":
            raise InputError(f"data.root={root} is a file, but not a .parquet", LAYOUTS)
        return Layout(root, ParquetFiles(root, {_ALL: [root]}, columns))
    if not root.is_dir():
        raise InputError(f"data.root={root}: there is no such folder", LAYOUTS)
    for folder in (root, root / "data"):
        if folder.is_dir() and (found := _in(folder, root, columns)) is not None:
            return found
    meant = next(_below(root, columns), None)
    raise InputError(
        f"data.root={root}: no data in a layout known here",
        LAYOUTS if meant is None else f"did you mean --set data.root={meant}?",
    )


def _below(root: Path, columns: Columns) -> Iterator[Path]:
    for name in subfolders(root)[:_LOOKED_AT]:
        with contextlib.suppress(InputError):
            if _in(root / name, root, columns) is not None:
                yield root / name


def _in(folder: Path, root: Path, columns: Columns) -> Layout | None:
    return _parquet(folder, root, columns) or _class_folders(folder, root)


def _parquet(folder: Path, root: Path, columns: Columns) -> Layout | None:
    paths = sorted(matching(folder, "*.parquet"))
    parts: dict[str, list[Path]] = {}
    for part, words in _WORDS.items():
        name = re.compile(rf"({'|'.join(words)})([-_.].*)?\.parquet")
        inside = [path for word in words for path in sorted(matching(folder, f"{word}/*.parquet"))]
        if found := [path for path in paths if name.fullmatch(path.name)] + inside:
            _check_shards(root, part, found)
            parts[part] = found
    if not parts:
        return Layout(root, ParquetFiles(root, {_ALL: paths}, columns)) if paths else None
    _check_complete(root, parts, "-*.parquet")
    unused = {*paths} - {path for files in parts.values() for path in files}
    names = sorted(path.name for path in unused)
    return Layout(root, ParquetFiles(root, parts, columns), tuple(names))


def _check_shards(root: Path, part: str, paths: Sequence[Path]) -> None:
    """Half a copied folder must not become half a data set."""
    promised = re.search(r"-of-(\d+)\.parquet$", paths[0].name)
    if promised and int(promised[1]) != len(paths):
        raise InputError(
            f"data.root={root}: {len(paths)} of {int(promised[1])} files {part}-*.parquet",
            "copy the missing files there too, and remove those that do not belong",
        )


def _class_folders(folder: Path, root: Path) -> Layout | None:
    names = subfolders(folder)
    parts = {
        part: folder / name
        for part, words in _WORDS.items()
        for name in names
        # A class may be called `train`, and then holds images itself.
        if name.lower() in words and subfolders(folder / name)
    }
    if not parts:
        has_images = any(holds_images(folder / name) for name in names)
        return Layout(root, ClassFolders(root, {_ALL: folder})) if has_images else None
    _check_complete(root, parts, "")
    unused = {*names} - {path.name for path in parts.values()}
    return Layout(root, ClassFolders(root, parts), tuple(sorted(unused)))


def _check_complete(root: Path, parts: Mapping[str, object], ending: str) -> None:
    for part in ("train", "test"):
        if part not in parts and not (part == "test" and "val" in parts):
            what = f"file {part}{ending}" if ending else f"folder {part}"
            raise InputError(
                f"data.root={root}: no {what}, beside {' and '.join(parts)}",
                f"copy the {part} images there, too; where there are none, name the folder of all "
                "images, of which a fifth becomes the test images",
            )
