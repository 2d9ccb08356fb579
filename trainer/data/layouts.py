"""Layouts: images and labels from a folder of Parquet files, or from class folders.

Labels and class names are also read alone, without decoding an image, so that a launch can tell
what is wrong with a data set before its first trial. Class names come from the files: from the
metadata that Hugging Face's library writes, from a column of names, else they are the labels'
numbers.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from local_machine import clock
from local_machine.errors import EXIT_IO, InputError
from local_machine.files import matching, open_file
from sweeps.run.class_names import MOST, check_names

if TYPE_CHECKING:
    import pyarrow as pa

Images = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]

SIDE = 32
LAYOUTS = (
    "data.root must hold train-*.parquet and test-*.parquet, "
    "or train/CLASS/*.png and test/CLASS/*.png (also jpg, webp)"
)
# How often it is said how far decoding has come.
_SAY_SECONDS = 2.0
_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}
_NAME_COLUMNS = ("label_name", "label_names", "label_text", "class_name", "class_names", "names")


class Labels(NamedTuple):
    """A data set without its images."""

    train: Indices
    test: Indices
    classes: tuple[str, ...]
    """Names by label; the labels' numbers where the files have no names."""


def layout(root: Path) -> Literal["parquet", "folders"]:
    """Raises InputError where the folder has no data in it, or only a part of them."""
    if not root.is_dir():
        raise InputError(f"data.root={root}: there is no such folder", LAYOUTS)
    shards = {part: _shards(root, part) for part in ("train", "test")}
    if any(shards.values()):
        for part, paths in shards.items():
            _check_complete(root, part, paths)
        return "parquet"
    if (root / "train").is_dir() and (root / "test").is_dir():
        return "folders"
    raise InputError(f"data.root={root}: no data in a layout known here", LAYOUTS)


def files(root: Path) -> list[Path]:
    """Every file that the data come from."""
    if layout(root) == "parquet":
        return _shards(root, "train") + _shards(root, "test")
    return sorted(matching(root, "train/*/*")) + sorted(matching(root, "test/*/*"))


def labels(root: Path) -> Labels:
    """Without looking at an image. Raises InputError for bad labels or class names."""
    return _read(root, images=False)[0]


def decode(root: Path) -> tuple[Labels, Images, Images]:
    """Labels, and the training and test images. Raises InputError also for a bad image."""
    found, train, test = _read(root, images=True)
    return found, _read_images(train.sources), _read_images(test.sources)


_PARTS = ("train", "test")


@dataclass
class _Part:
    """What was read of one part's files."""

    labels: list[Indices] = field(default_factory=list)
    sources: list[tuple[str, bytes | Path]] = field(default_factory=list)
    """Of each image, where it is from, and the file or what is in it."""
    metadata_names: list[tuple[Path, tuple[str, ...] | None]] = field(default_factory=list)
    column_names: list[set[tuple[int, str]] | None] = field(default_factory=list)
    """A pair of a label and a name for each that a file has; None for a file without names."""


def _read(root: Path, *, images: bool) -> tuple[Labels, _Part, _Part]:
    if layout(root) == "parquet":
        train, test = (_read_parquet(_shards(root, part), images=images) for part in _PARTS)
        classes = _parquet_classes(root, train, test)
    else:
        classes = _folder_names(root)
        train, test = (_list_folders(root / part, classes) for part in _PARTS)
    both = [np.concatenate([np.empty(0, np.int64), *part.labels]) for part in (train, test)]
    for word, numbers in zip(("training", "test"), both, strict=True):
        if not len(numbers):
            raise InputError(f"data.root={root}: no {word} images", LAYOUTS)
    return Labels(both[0], both[1], classes), train, test


# --- Parquet ---------------------------------------------------------------------------------


def _shards(root: Path, part: str) -> list[Path]:
    return sorted(matching(root, f"{part}-*.parquet"))


def _check_complete(root: Path, part: str, paths: Sequence[Path]) -> None:
    """Half a copied folder must not become half a data set."""
    if not paths:
        raise InputError(f"data.root={root}: no file {part}-*.parquet", LAYOUTS)
    promised = re.search(r"-of-(\d+)\.parquet$", paths[0].name)
    if promised and int(promised[1]) != len(paths):
        raise InputError(
            f"data.root={root}: {len(paths)} of {int(promised[1])} files {part}-*.parquet",
            "copy the missing files there too, and remove those that do not belong",
        )


def _read_parquet(paths: Sequence[Path], *, images: bool) -> _Part:
    """Hugging Face's layout: a struct with the image file's bytes, and a label."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    part = _Part()
    for path in paths:
        try:
            with (
                open_file(path) as source,
                pq.ParquetFile(source, page_checksum_verification=True) as file,
            ):
                schema = file.schema_arrow
                image = _column(path, schema.names, ("img", "image"))
                label = _column(path, schema.names, ("label", "fine_label"))
                names = [name for name in _NAME_COLUMNS if name in schema.names][:1]
                kind = schema.field(image).type
                if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
                    raise InputError(
                        f"{path}: column {image!r} is {kind}, not a struct with the image's bytes",
                        LAYOUTS,
                    )
                table = file.read([label, *names, *([image] if images else [])])
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputError(
                f"{path} is damaged: {str(error).splitlines()[0] if str(error) else error!r}",
                "copy or download it again",
                exit_code=EXIT_IO,
            ) from None
        numbers = _numbers(path, label, table.column(label))
        part.labels.append(numbers)
        part.metadata_names.append((path, _hub_names(path, schema.metadata, label)))
        part.column_names.append(_pairs(numbers, table.column(names[0])) if names else None)
        for row, item in enumerate(table.column(image).to_pylist() if images else ()):
            content = (item or {}).get("bytes")
            if not isinstance(content, bytes):
                raise InputError(f"{path}, row {row}: there is no image", LAYOUTS)
            part.sources.append((f"{path}, row {row}", content))
    return part


def _column(path: Path, columns: Sequence[str], names: Sequence[str]) -> str:
    for name in names:
        if name in columns:
            return name
    raise InputError(
        f"{path} has no column {' or '.join(names)}, but {', '.join(columns)}", LAYOUTS
    )


def _numbers(path: Path, column: str, values: pa.ChunkedArray) -> Indices:
    import pyarrow as pa

    if not pa.types.is_integer(values.type) or values.null_count:
        raise InputError(f"{path}: column {column!r} must hold integers, none missing", LAYOUTS)
    numbers: Indices = values.to_numpy().astype(np.int64)
    outside = np.flatnonzero((numbers < 0) | (numbers >= MOST))
    if len(outside):
        raise InputError(
            f"{path}, row {outside[0]}: label {numbers[outside[0]]} is outside 0 to {MOST - 1:,}",
            "number the classes from 0 without a gap",
        )
    return numbers


def _hub_names(
    path: Path, metadata: dict[bytes, bytes] | None, label: str
) -> tuple[str, ...] | None:
    """The names in Hugging Face's metadata; None where it has none for the label's column."""
    text = (metadata or {}).get(b"huggingface")
    if text is None:
        return None
    where = f"{path}, metadata 'huggingface'"
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{where} cannot be read: {str(error)[:100]}", "copy or download it again"
        ) from None
    for key in ("info", "features", label, "names"):
        value = value.get(key) if isinstance(value, dict) else None
    if value is None:
        return None
    if not isinstance(value, list):
        raise InputError(f"{where}: the names of {label!r} are not a list", _WRITE_AGAIN)
    return check_names(value, where)


_WRITE_AGAIN = "write the files again with datasets.ClassLabel(names=[...])"


def _pairs(numbers: Indices, names: pa.ChunkedArray) -> set[tuple[int, str]] | None:
    """Each label with each name that stands beside it; None where the column holds no names."""
    import pyarrow as pa

    kind = names.type.value_type if pa.types.is_dictionary(names.type) else names.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)) or names.null_count:
        return None
    try:
        unique = (
            pa.table({"label": numbers, "name": names.cast(pa.string())})
            .group_by(["label", "name"])
            .aggregate([])
        )
        return set(zip(unique["label"].to_pylist(), unique["name"].to_pylist(), strict=True))
    # Text that is not UTF-8.
    except (pa.ArrowException, ValueError):
        return None


def _parquet_classes(root: Path, train: _Part, test: _Part) -> tuple[str, ...]:
    """By the metadata, else by a column that gives each label one name, else the numbers."""
    told = [(path, names) for path, names in train.metadata_names + test.metadata_names if names]
    count = 1 + max(
        (int(n.max()) for part in (train, test) for n in part.labels if len(n)), default=-1
    )
    if told:
        first, classes = told[0]
        for path, names in told:
            if names != classes:
                raise InputError(
                    f"{path} and {first} name the classes differently: are they of one data set?",
                    "remove the files that do not belong, or " + _WRITE_AGAIN,
                )
        if count > len(classes):
            raise InputError(
                f"data.root={root}: label {count - 1} has no name: the files' metadata name "
                f"{len(classes)} classes",
                _WRITE_AGAIN,
            )
        return classes
    columns = train.column_names + test.column_names
    pairs: set[tuple[int, str]] = set().union(*(names for names in columns if names is not None))
    by_label = dict(pairs)
    if None not in columns and len(by_label) == len(pairs) == count:
        return check_names([by_label[label] for label in range(count)], f"data.root={root}")
    return tuple(map(str, range(count)))


# --- class folders ---------------------------------------------------------------------------


def _folder_names(root: Path) -> tuple[str, ...]:
    """Sorted, which is CIFAR-10's own order for CIFAR-10's names."""
    train, test = (
        {path.name for path in (root / part).iterdir() if path.is_dir() and path.name[0] != "."}
        for part in _PARTS
    )
    if train != test:
        name = min(train ^ test)
        here, there = ("train", "test") if name in train else ("test", "train")
        raise InputError(
            f"data.root={root}: class {name!r} is in {here} but not in {there}",
            "train and test need a folder for each class, with the same names",
        )
    return check_names(sorted(train), f"data.root={root}")


def _list_folders(folder: Path, classes: Sequence[str]) -> _Part:
    part = _Part()
    for label, name in enumerate(classes):
        paths = [path for path in sorted((folder / name).iterdir()) if path.name[0] != "."]
        for path in paths:
            if path.suffix.lower() not in _SUFFIXES:
                raise InputError(
                    f"{path} is not an image of a kind known here", "move it away, or make it a PNG"
                )
            part.sources.append((str(path), path))
        part.labels.append(np.full(len(paths), label, np.int64))
    return part


# --- images ----------------------------------------------------------------------------------


def _read_images(sources: Iterable[tuple[str, bytes | Path]]) -> Images:
    sources = list(sources)
    images = np.empty((len(sources), SIDE, SIDE, 3), np.uint8)
    said = clock.monotonic()
    # One thread: Pillow holds the interpreter lock for images this small, and two were slower.
    for place, (where, content) in enumerate(sources):
        images[place] = _read_image(where, content)
        if clock.monotonic() - said > _SAY_SECONDS:
            said = clock.monotonic()
            print(f"decoded {place + 1:,} of {len(sources):,} images", file=sys.stderr, flush=True)
    return images


def _read_image(where: str, content: bytes | Path) -> Images:
    from PIL import Image

    try:
        source = io.BytesIO(content) if isinstance(content, bytes) else open_file(content)
        with source, Image.open(source) as image:
            kind = f"{image.width}x{image.height} {image.mode}"
            if kind == f"{SIDE}x{SIDE} RGB":
                return np.asarray(image)
    except InputError:
        raise
    # Pillow's decoders raise anything on damaged bytes: OSError, SyntaxError, ValueError, ...
    except Exception as error:
        raise InputError(
            f"{where}: the image is damaged: {error}",
            "copy or download it again",
            exit_code=EXIT_IO,
        ) from None
    raise InputError(
        f"{where}: the image is {kind}, not {SIDE}x{SIDE} RGB",
        f"convert the images to {SIDE}x{SIDE} RGB",
    )
