"""Parquet: a column of images and a column of labels, in one file or several for each part.

An image is a struct with the file's bytes, as Hugging Face's library writes it, or the bytes alone.
A label is a number or a name. Class names come from the metadata that Hugging Face's library
writes, from the labels, from a column of names beside them, else they are the labels' numbers.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from local_machine.errors import EXIT_IO, InputError
from local_machine.files import open_file
from sweeps.run.class_names import MOST, check_names
from trainer.data.decoding import Item
from trainer.data.labels import Indices

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_NAME_COLUMNS = ("label_name", "label_names", "label_text", "class_name", "class_names", "names")
_IMAGES = ("img", "image")
_LABELS = ("label", "labels", "fine_label")
_ROWS = 32  # are held at once, since an image may have megabytes
_LABEL_TYPES = "integers or names"


class Columns(NamedTuple):
    """What a configuration says of the columns; None: found by their names."""

    image: str | None = None
    label: str | None = None


class _Read(NamedTuple):
    """What a file says of its labels."""

    path: Path
    numbers: Indices
    texts: tuple[str, ...] | None
    """What the numbers count, where the labels are names."""
    metadata_names: tuple[str, ...] | None
    column_names: set[tuple[int, str]] | None
    """A pair of a label and a name for each that the file has; None where it has no names."""


@dataclass(frozen=True)
class ParquetFiles:
    root: Path
    """As the user named it."""
    parts: Mapping[str, Sequence[Path]]
    columns: Columns

    def files(self) -> Iterator[str]:
        for paths in self.parts.values():
            yield from map(str, paths)

    def labels(self) -> tuple[dict[str, Indices], tuple[str, ...]]:
        """By part; and the class names. Raises InputError for bad labels or names."""
        read = {part: [self._read(path) for path in paths] for part, paths in self.parts.items()}
        every = [one for files in read.values() for one in files]
        if any(one.texts is not None for one in every):
            return _named(read, every, self.root)
        numbers = {part: _joined([one.numbers for one in files]) for part, files in read.items()}
        return numbers, _classes(self.root, every)

    def items(self, part: str) -> Iterator[Item]:
        """Raises InputError for a row without an image, and for a damaged file."""
        for path in self.parts[part]:
            for row, content in enumerate(self._contents(path)):
                if not isinstance(content, bytes):
                    raise InputError(
                        f"{path}, row {row}: there is no image",
                        "leave the row out, or put the image's bytes there",
                    )
                yield Item(f"{path}, row {row}", content)

    def _contents(self, path: Path) -> Iterator[bytes | None]:
        import pyarrow as pa
        import pyarrow.compute as pc

        with _opened(path) as file:
            name = self._image(path, file.schema_arrow)
            for batch in file.iter_batches(_ROWS, columns=[name]):
                column = batch.column(0)
                if pa.types.is_struct(column.type):
                    column = pc.struct_field(column, "bytes")
                yield from column.to_pylist()

    def _image(self, path: Path, schema: pa.Schema) -> str:
        import pyarrow as pa

        name = _column(path, schema.names, _IMAGES, self.columns.image, "image")
        kind = schema.field(name).type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            kind = kind.field("bytes").type
        if not pa.types.is_binary(kind) and not pa.types.is_large_binary(kind):
            raise InputError(
                f"{path}: column {name!r} is {kind}, not images: the bytes of a file, or a struct "
                "with them",
                "write it again as datasets.Image() does, or name another column: "
                "--set data.image_column=NAME",
            )
        return name

    def _read(self, path: Path) -> _Read:
        with _opened(path) as file:
            schema = file.schema_arrow
            self._image(path, schema)
            label = _column(path, schema.names, _LABELS, self.columns.label, "label")
            beside = [name for name in _NAME_COLUMNS if name in schema.names and name != label][:1]
            table = file.read([label, *beside])
            hub = _hub_names(path, schema.metadata, label)
            numbers, texts = _numbers(path, label, table.column(label))
        pairs = _pairs(numbers, table.column(beside[0])) if beside else None
        return _Read(path, numbers, texts, hub, pairs)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    """Raises InputError for what is damaged, also while it is read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Some of a column at a time, since one of images may be larger than the memory.
        with (
            open_file(path) as source,
            pq.ParquetFile(source, page_checksum_verification=True, buffer_size=2**20) as file,
        ):
            yield file
    except FileNotFoundError:
        raise InputError(
            f"{path} is gone", "copy or download it again", exit_code=EXIT_IO
        ) from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(
            f"{path} is damaged: {str(error).splitlines()[0] if str(error) else error!r}",
            "copy or download it again",
            exit_code=EXIT_IO,
        ) from None


def _joined(numbers: Sequence[Indices]) -> Indices:
    return np.concatenate([np.empty(0, np.int64), *numbers])


def _column(
    path: Path, columns: Sequence[str], names: Sequence[str], asked: str | None, what: str
) -> str:
    """The one that was asked for, or that has one of the names."""
    found = [name for name in columns if name == asked or (asked is None and name in names)]
    if len(found) == 1:
        return found[0]
    has = f"its columns are {', '.join(columns)}"
    choose = f"name the column: --set data.{what}_column=NAME"
    if found:
        raise InputError(
            f"{path} has {len(found)} columns that may be its {what}s: {' and '.join(found)}",
            choose.replace("NAME", found[0]),
        )
    if asked is not None:
        raise InputError(
            f"data.{what}_column={asked}: {path} has no such column", f"choose one of them: {has}"
        )
    raise InputError(f"{path} has no column {' or '.join(names)}: {has}", choose)


def _numbers(
    path: Path, column: str, values: pa.ChunkedArray
) -> tuple[Indices, tuple[str, ...] | None]:
    import pyarrow as pa

    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not (is_text or pa.types.is_integer(values.type)) or values.null_count:
        raise InputError(
            f"{path}: column {column!r} must hold {_LABEL_TYPES}, none missing",
            "leave those rows out, or name another column: --set data.label_column=NAME",
        )
    if is_text:
        encoded = values.cast(pa.string()).combine_chunks().dictionary_encode()
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.combine_chunks()
        texts = tuple(encoded.dictionary.to_pylist())
        return encoded.indices.to_numpy().astype(np.int64), texts
    numbers: Indices = values.to_numpy().astype(np.int64)
    outside = np.flatnonzero((numbers < 0) | (numbers >= MOST))
    if len(outside):
        raise InputError(
            f"{path}, row {outside[0]}: label {numbers[outside[0]]} is outside 0 to {MOST - 1:,}",
            "number the classes from 0 without a gap",
        )
    return numbers, None


def _named(
    read: Mapping[str, Sequence[_Read]], every: Sequence[_Read], root: Path
) -> tuple[dict[str, Indices], tuple[str, ...]]:
    """Of files whose labels are names, sorted."""
    for one in every:
        if one.texts is None and len(one.numbers):
            other = next(file.path for file in every if file.texts is not None)
            raise InputError(
                f"{one.path} has numbers for labels, and {other} has names",
                f"write all files alike: labels are {_LABEL_TYPES}",
            )
    classes = check_names(
        sorted({text for one in every for text in one.texts or ()}), f"data.root={root}"
    )
    place = {name: number for number, name in enumerate(classes)}
    numbers = {
        part: _joined(
            [np.array([place[text] for text in one.texts or ()], np.int64)[one.numbers]
             for one in files if len(one.numbers)]
        )
        for part, files in read.items()
    }  # fmt: skip
    return numbers, classes


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


def _classes(root: Path, files: Sequence[_Read]) -> tuple[str, ...]:
    """By the metadata, else by a column that gives each label one name, else the numbers."""
    told = [(one.path, one.metadata_names) for one in files if one.metadata_names]
    count = 1 + max((int(one.numbers.max()) for one in files if len(one.numbers)), default=-1)
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
    columns = [one.column_names for one in files]
    pairs: set[tuple[int, str]] = set().union(*(names for names in columns if names is not None))
    by_label = dict(pairs)
    if None not in columns and len(by_label) == len(pairs) == count:
        return check_names([by_label[label] for label in range(count)], f"data.root={root}")
    return tuple(map(str, range(count)))
