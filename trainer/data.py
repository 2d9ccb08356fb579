"""Data sets as arrays, and the split into training and validation images.

CIFAR-10 comes from a folder of Parquet files, from class folders, or from a download; it is decoded
once into a cache that every worker then reads in a fraction of a second. The digits of
scikit-learn come with it. Everything depends on the DataConfig alone, never on a trial's seed.
Imports no torch.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import importlib.util
import io
import json
import re
import shlex
import socket
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from trainer.config import DataConfig
from trainer.errors import EXIT_IO, InputError
from trainer.private_folder import cache_home
from trainer.record import write_atomic

Images = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]
Channels = tuple[float, float, float]

SIDE = 32
CIFAR10 = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
# Over all pixels of the 50,000 training images. The often seen std 0.2023 0.1994 0.2010 is a
# mistake: the mean over images of each image's own deviation.
CIFAR10_MEAN: Channels = (0.4914, 0.4822, 0.4465)
CIFAR10_STD: Channels = (0.2470, 0.2435, 0.2616)

_CACHE_FORMAT = 1  # part of the cache's name: raise it when what is decoded changes
_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}
_LAYOUTS = (
    "data.root must hold train-*.parquet and test-*.parquet, "
    "or train/CLASS/*.png and test/CLASS/*.png (also jpg, webp)"
)
# One random stream for each use of the split's seed, so that none moves another.
_SPLIT, _TRAIN_LIMIT, _TEST_LIMIT = 1, 2, 3
# The digits have no test set of their own; theirs is the same whatever the configuration says.
_DIGITS_TEST_FRACTION, _DIGITS_TEST_SEED = 0.2, 1797


@dataclass(frozen=True)
class Dataset:
    """One data set, decoded, limited and split. Images are uint8 (N, 32, 32, 3), contiguous."""

    train_images: Images
    train_labels: Indices
    val_images: Images
    val_labels: Indices
    test_images: Images
    test_labels: Indices
    test_index: npt.NDArray[np.int32]
    """Each test image's place in the full test set."""
    classes: tuple[str, ...]
    """Names by label."""
    mean: Channels
    """Of the training images, for each channel, where 1 is white."""
    std: Channels
    split_sha256: str
    """Of the training, then the validation indices, into the full training set."""


class _Decoded(NamedTuple):
    train_images: Images
    train_labels: Indices
    test_images: Images
    test_labels: Indices
    classes: npt.NDArray[np.str_]


def check(config: DataConfig) -> None:
    """Raise InputError where data.root is no folder with data in it. Touches nothing."""
    root = _root(config)
    if root is not None:
        _layout(root)


def cache(config: DataConfig) -> Path | None:
    """Where the decoded images are, or will be; None for the digits, which need none.

    Raises InputError where data.root is no folder with data in it. Touches nothing.
    """
    root = _root(config)
    return None if config.name == "digits" else cache_home() / f"cifar10-{_key(root)}.npz"


def prepare(config: DataConfig) -> Path | None:
    """Decode (and, without a root, download) into the cache where that was not done before.

    Returns the cache's file; None for the digits, which need none. Processes that start together
    decode once. Raises InputError for bad data and where the cache cannot be written.
    """
    path = cache(config)
    if path is None or path.exists():
        return path
    root = _root(config)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_suffix(".lock")):
            if not path.exists():
                decoded = _download(path.parent) if root is None else _decode(root)
                write_atomic(path, lambda file: np.savez(file, **decoded._asdict()))
    except OSError as error:
        raise InputError(
            f"cannot write the decoded images to {path}: {error.strerror or error}",
            "choose a folder with 200 MB of room that you may write: export SWEEPS_CACHE=FOLDER",
            exit_code=EXIT_IO,
        ) from None
    return path


def load(config: DataConfig) -> Dataset:
    """The configuration's images: prepared, limited, split. Raises InputError for bad data."""
    path = prepare(config)
    full = _digits() if path is None else _read(path)
    classes = tuple(str(name) for name in full.classes)
    seed = config.split_seed
    kept = _balanced(full.train_labels, config.train_limit, len(classes), seed, _TRAIN_LIMIT)
    train, val = split(full.train_labels[kept], classes, config.val_fraction, seed)
    train, val = kept[train], kept[val]
    test = _balanced(full.test_labels, config.test_limit, len(classes), seed, _TEST_LIMIT)
    train_images = full.train_images[train]
    if config.name == "cifar10" and classes == CIFAR10:
        mean, std = CIFAR10_MEAN, CIFAR10_STD
    else:
        mean, std = _moments(train_images)
    return Dataset(
        train_images=train_images,
        train_labels=full.train_labels[train],
        val_images=full.train_images[val],
        val_labels=full.train_labels[val],
        test_images=full.test_images[test],
        test_labels=full.test_labels[test],
        test_index=test.astype(np.int32),
        classes=classes,
        mean=mean,
        std=std,
        split_sha256=_hash(train, val),
    )


def split(
    labels: Indices, classes: Sequence[str], val_fraction: float, seed: int
) -> tuple[Indices, Indices]:
    """Indices of the training and of the validation images, each ascending, stratified by label.

    Validation has round(N * val_fraction) images, and of every class within one of its share
    (largest remainders). Raises InputError where a class is left without either.
    """
    counts = np.bincount(labels, minlength=len(classes))
    shares = counts * val_fraction
    held_out = np.floor(shares).astype(np.int64)
    missing = round(len(labels) * val_fraction) - int(held_out.sum())
    held_out[np.argsort(held_out - shares, kind="stable")[:missing]] += 1
    for name, count, val_count in zip(classes, counts, held_out, strict=True):
        if not 0 < val_count < count:
            raise InputError(
                f"data: class {name!r} has {count} training images, of which "
                f"data.val_fraction={val_fraction} takes {val_count} for validation: "
                "both parts need at least one",
                "raise data.train_limit or change data.val_fraction",
            )
    is_val = _ranks(labels, len(classes), seed, _SPLIT) < held_out[labels]
    return np.flatnonzero(~is_val), np.flatnonzero(is_val)


def _hash(train: Indices, val: Indices) -> str:
    return hashlib.sha256(np.concatenate([train, val]).astype("<i8").tobytes()).hexdigest()


def _balanced(labels: Indices, limit: int | None, classes: int, seed: int, stream: int) -> Indices:
    """Ascending indices of at most `limit` images, as many of each class (give or take one).

    A class that has fewer than its part keeps them all, and the others get no more for it.
    """
    if limit is None or limit >= len(labels):
        return np.arange(len(labels))
    quota = limit // classes + (np.arange(classes) < limit % classes)
    return np.flatnonzero(_ranks(labels, classes, seed, stream) < quota[labels])


def _ranks(labels: Indices, classes: int, seed: int, stream: int) -> Indices:
    """For each image, its place in a random order of the images of its class."""
    random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, stream])))
    order = random.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels, minlength=classes)
    ranks = np.empty(len(labels), np.int64)
    ranks[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ranks


def _moments(images: Images) -> tuple[Channels, Channels]:
    """Mean and standard deviation of each channel, from exact counts of the 256 values."""
    levels = np.arange(256) / 255
    means, stds = [], []
    for channel in range(3):
        weights = np.bincount(images[..., channel].ravel(), minlength=256) / images[..., 0].size
        mean = float(weights @ levels)
        means.append(mean)
        # A constant channel has no deviation to divide by.
        stds.append(float(weights @ (levels - mean) ** 2) ** 0.5 or 1.0)
    return (means[0], means[1], means[2]), (stds[0], stds[1], stds[2])


def _root(config: DataConfig) -> Path | None:
    if config.root is None:
        return None
    if config.name == "digits":
        raise InputError(
            f"data.root={config.root}: the digits come with scikit-learn, not from a folder",
            "drop data.root, or set data.name=cifar10",
        )
    return Path(config.root).expanduser().resolve()


def _layout(root: Path) -> Literal["parquet", "folders"]:
    if not root.is_dir():
        raise InputError(f"data.root={root}: there is no such folder", _LAYOUTS)
    shards = {part: _shards(root, part) for part in ("train", "test")}
    if any(shards.values()):
        for part, paths in shards.items():
            _check_complete(root, part, paths)
        return "parquet"
    if (root / "train").is_dir() and (root / "test").is_dir():
        return "folders"
    raise InputError(f"data.root={root}: no data in a layout known here", _LAYOUTS)


def _shards(root: Path, part: str) -> list[Path]:
    return sorted(root.glob(f"{part}-*.parquet"))


def _check_complete(root: Path, part: str, paths: Sequence[Path]) -> None:
    """Half a copied folder must not become half a data set."""
    if not paths:
        raise InputError(f"data.root={root}: no file {part}-*.parquet", _LAYOUTS)
    promised = re.search(r"-of-(\d+)\.parquet$", paths[0].name)
    if promised and int(promised[1]) != len(paths):
        raise InputError(
            f"data.root={root}: {len(paths)} of {int(promised[1])} files {part}-*.parquet",
            "copy the missing files there too, and remove those that do not belong",
        )


def cache_file(kind: str, key: Sequence[Any]) -> Path:
    """A small JSON file of the cache, of its own for each key; JSON can hold the key. Touches
    nothing."""
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    return cache_home() / f"{kind}-{digest}.json"


def _key(root: Path | None) -> str:
    """Names the decoded form of these very source files: a changed file is another cache."""
    files = []
    if root is not None:
        if _layout(root) == "parquet":
            paths = _shards(root, "train") + _shards(root, "test")
        else:
            paths = sorted(root.glob("train/*/*")) + sorted(root.glob("test/*/*"))
        for path in paths:
            facts = path.stat()
            files.append([str(path.relative_to(root)), facts.st_size, facts.st_mtime_ns])
    text = json.dumps([_CACHE_FORMAT, None if root is None else str(root), files])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        # Some network filesystems refuse locks. Then several may decode: wasteful, but each
        # renames a whole file into place.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(cache: Path) -> _Decoded:
    """Raises InputError where the file is damaged: every member of a zip file has a CRC."""
    try:
        with zipfile.ZipFile(cache) as file:
            # np.load on the archive stops where an array ends, by a header that may be damaged,
            # and then looks at no CRC; a member read whole is always checked.
            members = (_array(file.read(f"{name}.npy")) for name in _Decoded._fields)
            return _Decoded(*members)
    # Flipped bits make zipfile raise whatever they happen to run into.
    except Exception as error:
        raise InputError(
            f"cannot read {cache}, it may be damaged: {error or type(error).__name__}",
            f"have it decoded again: rm {shlex.quote(str(cache))}",
            exit_code=EXIT_IO,
        ) from None


def _array(content: bytes) -> npt.NDArray[Any]:
    """A member of the cache, without another copy of it: read-only. Raises for a damaged header."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
    if version != (1, 0) or by_columns or dtype.hasobject:
        raise ValueError("an array of another form")
    return np.frombuffer(content, dtype, offset=file.tell()).reshape(shape)


def _decode(root: Path) -> _Decoded:
    if _layout(root) == "parquet":
        train = _read_parquet(_shards(root, "train"))
        test = _read_parquet(_shards(root, "test"))
        classes: Sequence[str] = CIFAR10
    else:
        classes = _class_names(root)
        train, test = _read_folders(root / "train", classes), _read_folders(root / "test", classes)
    for part, (images, _) in (("training", train), ("test", test)):
        if not len(images):
            raise InputError(f"data.root={root}: no {part} images", _LAYOUTS)
    return _Decoded(*train, *test, np.array(classes))


def _read_parquet(paths: Sequence[Path]) -> tuple[Images, Indices]:
    """Images and labels of Hugging Face's layout: a struct with the file's bytes, and a label."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sources: list[tuple[str, bytes | Path]] = []
    labels = []
    for path in paths:
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                table = file.read()
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"{path} is damaged: {str(error).splitlines()[0] if str(error) else error!r}",
                "copy or download it again",
                exit_code=EXIT_IO,
            ) from None
        image = _column(path, table.column_names, ("img", "image"))
        label = _column(path, table.column_names, ("label", "fine_label"))
        kind = table.schema.field(image).type
        if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
            raise InputError(
                f"{path}: column {image!r} is {kind}, not a struct with the image's bytes", _LAYOUTS
            )
        values = table.column(label)
        if not pa.types.is_integer(values.type) or values.null_count:
            raise InputError(f"{path}: column {label!r} must hold integers, none missing", _LAYOUTS)
        numbers = values.to_numpy().astype(np.int64)
        outside = np.flatnonzero((numbers < 0) | (numbers >= len(CIFAR10)))
        if len(outside):
            raise InputError(
                f"{path}, row {outside[0]}: label {numbers[outside[0]]} is outside the "
                f"{len(CIFAR10)} classes",
                "data.name=cifar10 has labels 0 to 9",
            )
        labels.append(numbers)
        for row, item in enumerate(table.column(image).to_pylist()):
            content = (item or {}).get("bytes")
            if not isinstance(content, bytes):
                raise InputError(f"{path}, row {row}: there is no image", _LAYOUTS)
            sources.append((f"{path}, row {row}", content))
    return _read_images(sources), np.concatenate(labels)


def _column(path: Path, columns: Sequence[str], names: Sequence[str]) -> str:
    for name in names:
        if name in columns:
            return name
    raise InputError(
        f"{path} has no column {' or '.join(names)}, but {', '.join(columns)}", _LAYOUTS
    )


def _class_names(root: Path) -> tuple[str, ...]:
    """In CIFAR-10's order where they are CIFAR-10's, else sorted."""
    train, test = (
        {path.name for path in (root / part).iterdir() if path.is_dir() and path.name[0] != "."}
        for part in ("train", "test")
    )
    if train != test:
        name = min(train ^ test)
        here, there = ("train", "test") if name in train else ("test", "train")
        raise InputError(
            f"data.root={root}: class {name!r} is in {here} but not in {there}",
            "train and test need a folder for each class, with the same names",
        )
    # Classes are recorded as one comma-separated text.
    for name in train:
        if "," in name:
            raise InputError(f"{root}: a class's name cannot have a comma: {name!r}", "rename it")
    return CIFAR10 if train == set(CIFAR10) else tuple(sorted(train))


def _read_folders(folder: Path, classes: Sequence[str]) -> tuple[Images, Indices]:
    sources: list[tuple[str, bytes | Path]] = []
    labels = []
    for label, name in enumerate(classes):
        for path in sorted((folder / name).iterdir()):
            if path.name.startswith("."):
                continue
            if path.suffix.lower() not in _SUFFIXES:
                raise InputError(
                    f"{path} is no image of a kind known here", "move it away, or make it a PNG"
                )
            sources.append((str(path), path))
            labels.append(label)
    return _read_images(sources), np.array(labels, np.int64)


def _read_images(sources: Sequence[tuple[str, bytes | Path]]) -> Images:
    images = np.empty((len(sources), SIDE, SIDE, 3), np.uint8)
    # One thread: Pillow holds the interpreter lock for images this small, and two were slower.
    for place, (where, content) in enumerate(sources):
        images[place] = _read_image(where, content)
    return images


def _read_image(where: str, content: bytes | Path) -> Images:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as image:
            kind = f"{image.width}x{image.height} {image.mode}"
            if kind == f"{SIDE}x{SIDE} RGB":
                return np.asarray(image)
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


def _download(folder: Path) -> _Decoded:
    # Imports torch, which costs seconds: only where there is no cache yet.
    from torchvision import datasets

    before = socket.getdefaulttimeout()
    # A compute node often drops what it sends out; without a limit that waits for ever.
    socket.setdefaulttimeout(30.0)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            train, test = (
                datasets.CIFAR10(str(folder), train=part, download=True) for part in (True, False)
            )
    except (OSError, RuntimeError, HTTPException) as error:
        raise InputError(
            f"cannot download CIFAR-10 into {folder}: {error}",
            "where there is no network, name a folder that has the images: --set data.root=FOLDER",
            exit_code=EXIT_IO,
        ) from None
    finally:
        socket.setdefaulttimeout(before)
    return _Decoded(
        train.data,
        np.array(train.targets, np.int64),
        test.data,
        np.array(test.targets, np.int64),
        np.array(CIFAR10),
    )


def _digits() -> _Decoded:
    """8x8 values from 0 to 16, each brought to a block of 4x4 grey pixels from 0 to 255."""
    table = _digits_table()
    values = np.rint(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    grey = values.repeat(SIDE // 8, axis=1).repeat(SIDE // 8, axis=2)
    images = np.stack([grey] * 3, axis=-1)
    labels = table[:, -1].astype(np.int64)
    classes = tuple(str(digit) for digit in range(10))
    train, test = split(labels, classes, _DIGITS_TEST_FRACTION, _DIGITS_TEST_SEED)
    return _Decoded(images[train], labels[train], images[test], labels[test], np.array(classes))


def _digits_table() -> npt.NDArray[np.float64]:
    """A row an image: 64 values, and the digit.

    Read from scikit-learn's file: importing its load_digits takes two seconds, in every worker.
    """
    package = importlib.util.find_spec("sklearn")
    assert package is not None and package.origin is not None
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    with gzip.open(path, "rt") as file:
        return np.loadtxt(file, delimiter=",")
