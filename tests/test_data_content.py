"""Data that is not what its name says: classes, counts and normalisation follow from the content,
and what no trial could be made of is refused before the first one."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_data import encoded, from_root, pixels

from analysis.data.class_names import parse
from local_machine.errors import InputError
from sweeps.run import class_names
from trainer.config import DataConfig, TrainConfig
from trainer.data import preflight
from trainer.data.datasets import (
    CIFAR10,
    CIFAR10_MEAN,
    check,
    content_sha256,
    counts,
    load,
    prepare,
)
from trainer.data.known import CIFAR10 as KNOWN_CIFAR10
from trainer.data.known import DIGITS
from trainer.data.layouts import Labels
from trainer.data.split import split

REPOSITORY = Path(__file__).resolve().parents[1]
REAL = Path(os.environ.get("CIFAR10_ROOT") or REPOSITORY.parent / "shared" / "data" / "cifar10")
Pixels = npt.NDArray[np.uint8]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEPS_CACHE", str(tmp_path / "cache"))


def write(
    path: Path,
    images: Pixels,
    labels: Sequence[int] | npt.NDArray[Any],
    hub: object = None,
    **more: Sequence[object],
) -> None:
    """A Parquet file as Hugging Face's library writes it; `hub` is its metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    structs = [{"bytes": encoded(image), "path": None} for image in images]
    table = pa.table({"image": structs, "label": pa.array(list(labels), pa.int64()), **more})
    if hub is not None:
        text = hub if isinstance(hub, bytes) else json.dumps(hub).encode()
        table = table.replace_schema_metadata({b"huggingface": text})
    pq.write_table(table, path)


def features(names: object) -> dict[str, Any]:
    return {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}


def data_set(
    root: Path, classes: int = 10, each: int = 10, hub: object = None, *, named: bool = False
) -> Path:
    """`each` training images of each class, and two to test."""
    for part, count, seed in (("train", each, 1), ("test", 2, 2)):
        labels = np.arange(count * classes) % classes
        more = {"label_name": [f"name {label}" for label in labels]} if named else {}
        write(
            root / f"{part}-00000-of-00001.parquet", pixels(len(labels), seed), labels, hub, **more
        )
    return root


def measured(images: Pixels) -> npt.NDArray[np.float64]:
    return np.asarray((images / 255).mean((0, 1, 2)))


# --- names and normalisation ------------------------------------------------------------------


def test_house_numbers_are_not_recorded_as_airplanes(tmp_path: Path) -> None:
    root = data_set(tmp_path / "svhn", hub=features([str(digit) for digit in range(10)]))
    data = load(from_root(root))
    assert data.classes == tuple("0123456789")
    np.testing.assert_allclose(data.mean, measured(data.train_images))
    assert data.mean != CIFAR10_MEAN
    assert data.sha256 not in (KNOWN_CIFAR10.sha256, DIGITS.sha256)


def test_names_come_from_metadata_then_from_a_column_then_from_the_labels(tmp_path: Path) -> None:
    names = ["tench, Tinca tinca", 'a "b"', "c/d", "<b>e</b>", "é"]
    root = data_set(tmp_path / "hub", 5, hub=features(names), named=True)
    assert load(from_root(root)).classes == tuple(names)
    root = data_set(tmp_path / "column", 5, hub={"info": {"features": {"label": {}}}}, named=True)
    assert load(from_root(root)).classes == tuple(f"name {label}" for label in range(5))
    root = data_set(tmp_path / "none", 5)
    assert load(from_root(root)).classes == tuple("01234")


def test_a_column_that_gives_a_label_two_names_holds_no_class_names(tmp_path: Path) -> None:
    root = data_set(tmp_path / "own", 3)
    labels = np.arange(30) % 3
    files = [f"{number}.png" for number in range(30)]
    write(root / "train-00000-of-00001.parquet", pixels(30, 1), labels, names=files)
    assert load(from_root(root)).classes == ("0", "1", "2")


def test_more_or_fewer_classes_than_ten(tmp_path: Path) -> None:
    data = load(from_root(data_set(tmp_path / "many", 12)))
    assert data.classes == tuple(map(str, range(12)))
    assert np.bincount(data.val_labels).tolist() == [1] * 12


@pytest.mark.parametrize(
    ("hub", "says"),
    [
        (features(["a", "a", "b"]), "2 classes are called 'a'"),
        (features(["a", "", "b"]), "the name of class 1 is empty"),
        (features(["a", "  ", "b"]), "the name of class 1 is empty"),
        (features(["a", "x" * 10_000, "b"]), "has 10,000 characters, more than 200"),
        (features(["a", "\x1b[31mred", "b"]), r"cannot be shown: '\\x1b\[31mred'"),
        (features(["a", "new\nline", "b"]), "cannot be shown"),
        (features(["a", "\u202etxt", "b"]), "cannot be shown"),
        (features(["a", 7, "b"]), "is not a text"),
        (features("abc"), "are not a list"),
        (features(["a", "b"]), "label 2 has no name"),
        (features(["a", "b", "c", "d"]), "class 'd' has 0 training images"),
        (features(list(map(str, range(40_000)))), "40,000 classes, more than 32,768"),
        (b'{"info": {"features": {"label": {"names": ["a", "\\ud800", "b"]}}}}', "cannot be shown"),
        (b"{", "metadata 'huggingface' cannot be read"),
        (b"[" * 100_000, "metadata 'huggingface' cannot be read"),
        (b"\xff\xfe", "metadata 'huggingface' cannot be read"),
    ],
)  # fmt: skip
def test_hostile_names_are_refused_by_name(tmp_path: Path, hub: object, says: str) -> None:
    root = data_set(tmp_path / "own", 3, hub=hub)
    for action in (check, load):
        with pytest.raises(InputError, match=says) as caught:
            action(from_root(root))
        assert caught.value.what.isprintable() and len(caught.value.what) < 600


def test_shards_that_name_the_classes_differently(tmp_path: Path) -> None:
    root = data_set(tmp_path / "own", 3, hub=features(["a", "b", "c"]))
    write(
        root / "test-00000-of-00001.parquet", pixels(6, 2), np.arange(6) % 3,
        features(["c", "b", "a"]),
    )  # fmt: skip
    with pytest.raises(InputError, match="name the classes differently"):
        check(from_root(root))


def test_hostile_folder_names(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in (b"fine", b"\xff\xfe"):
            (tmp_path / "own" / part / os.fsdecode(name)).mkdir(parents=True)
    with pytest.raises(InputError, match="cannot be shown"):
        check(from_root(tmp_path / "own"))


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=20),
        min_size=1, max_size=8, unique=True,
    )
)  # fmt: skip
def test_names_survive_their_record(names: list[str]) -> None:
    try:
        kept = class_names.check_names(names, "here")
    except InputError:
        return
    assert parse(class_names.join(kept)) == kept


@given(st.text(max_size=100))
def test_any_recorded_text_is_read(text: str) -> None:
    assert isinstance(parse(text), tuple)


def test_old_records_of_names_are_read_as_before() -> None:
    assert parse(",".join(CIFAR10)) == CIFAR10
    assert class_names.join(CIFAR10) == ",".join(CIFAR10)


# --- the content's hash -----------------------------------------------------------------------


def plain_sha256(parts: Sequence[tuple[Pixels, Sequence[int]]]) -> str:
    """The hash as its description reads."""
    whole = b""
    for images, labels in parts:
        digests = []
        for image, label in zip(images, labels, strict=True):
            head = b"".join(n.to_bytes(8, "little") for n in (label, *image.shape))
            digests.append(hashlib.sha256(head + bytes(image.ravel().tolist())).digest())
        whole += len(digests).to_bytes(8, "little") + b"".join(sorted(digests))
    return hashlib.sha256(whole).hexdigest()


def test_the_hash_is_of_the_content_whatever_its_order() -> None:
    train, test = pixels(7, 1), pixels(4, 2)
    a, b = np.arange(7) % 2, np.arange(4) % 2
    found = content_sha256(train, a, test, b)
    assert found == plain_sha256([(train, a.tolist()), (test, b.tolist())])
    order = np.random.default_rng(0).permutation(7)
    assert content_sha256(train[order], a[order], test, b) == found
    changed = train.copy()
    changed[3, 5, 5, 1] ^= 1
    others = [
        content_sha256(changed, a, test, b),
        content_sha256(train, 1 - a, test, b),
        content_sha256(train[:6], a[:6], test, b),
        content_sha256(test, b, train, a),
    ]
    assert len({found, *others}) == 5


def test_the_hash_is_of_the_whole_set_and_kept_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = data_set(tmp_path / "own", 10, 20)
    whole = load(from_root(root))
    monkeypatch.setattr(
        "trainer.data.datasets.content_sha256", lambda *_: pytest.fail("hashed again")
    )
    limited = load(from_root(root, train_limit=100, split_seed=1, val_fraction=0.2))
    assert limited.sha256 == whole.sha256 and len(limited.train_labels) == 80


def test_folders_and_parquet_of_the_same_images_are_the_same_data(tmp_path: Path) -> None:
    root = data_set(tmp_path / "parquet", 3)
    for part, count, seed in (("train", 30, 1), ("test", 6, 2)):
        for number, image in enumerate(pixels(count, seed)):
            folder = tmp_path / "folders" / part / "abc"[number % 3]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number:03}.png").write_bytes(encoded(image))
    one, other = load(from_root(root)), load(from_root(tmp_path / "folders"))
    assert one.sha256 == other.sha256
    assert (one.classes, other.classes) == (("0", "1", "2"), ("a", "b", "c"))


def test_the_digits_are_known_by_their_content() -> None:
    data = load(DataConfig(name="digits", train_limit=200))
    assert data.sha256 == DIGITS.sha256 and data.classes == DIGITS.classes
    whole = check(DataConfig(name="digits"))
    assert (whole.train + whole.val, whole.test) == (DIGITS.train_images, DIGITS.test_images)


def test_names_of_cifar10_make_no_cifar10(tmp_path: Path) -> None:
    data = load(from_root(data_set(tmp_path / "own", hub=features(list(CIFAR10)))))
    assert data.classes == CIFAR10 and data.mean != CIFAR10_MEAN
    assert data.sha256 != KNOWN_CIFAR10.sha256


@pytest.mark.skipif(not REAL.is_dir(), reason="CIFAR10_ROOT names no folder")
def test_the_real_cifar10_is_known_by_its_content_without_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Its cache is the user's own, as in test_data: decoding takes ten seconds.
    monkeypatch.delenv("SWEEPS_CACHE")
    data = load(from_root(REAL, train_limit=1000, test_limit=500))
    assert data.sha256 == KNOWN_CIFAR10.sha256
    assert data.classes == CIFAR10 and data.mean == CIFAR10_MEAN
    # A part of it is another data set.
    monkeypatch.setenv("SWEEPS_CACHE", str(tmp_path / "cache"))
    part = tmp_path / "part"
    write(part / "train-00000-of-00001.parquet", data.train_images[:300], data.train_labels[:300])
    write(part / "test-00000-of-00001.parquet", data.test_images[:200], data.test_labels[:200])
    assert load(from_root(part)).classes == tuple("0123456789")


# --- refused before the first trial -------------------------------------------------------------


def refusal(config: DataConfig) -> InputError:
    """What `check` says, which must be what loading says; nothing was decoded by then."""
    cache = Path(os.environ["SWEEPS_CACHE"])
    before = list(cache.glob("*.npz"))
    with pytest.raises(InputError) as told:
        check(config)
    assert list(cache.glob("*.npz")) == before
    with pytest.raises(InputError) as later:
        load(config)
    assert (told.value.what, told.value.help) == (later.value.what, later.value.help)
    with pytest.raises(InputError):  # from the cache, which knows the labels now
        check(config)
    return told.value


def test_two_hundred_classes_of_four_images(tmp_path: Path) -> None:
    root = data_set(tmp_path / "own", 200, 4)
    error = refusal(from_root(root))
    assert "class '80' has 4 training images" in error.what
    assert error.help.startswith("each class needs at least 10 images")
    assert error.help.endswith("raise data.val_fraction to 0.25")
    assert check(from_root(root, val_fraction=0.25)) == (600, 200, 400)


@pytest.mark.parametrize(
    ("train", "test", "says"),
    [
        ([0, 0, 2, 2], [0, 2], "class '1' has 0 training images"),
        ([0, 0, 1, 1], [0, 1, 2], "class '2' has 0 training images (0 training images and 1"),
        ([0, 0, 1, 1], [0], "class '1' has 0 test images"),
        ([0, 0, 0], [0], "1 class: there is nothing to tell apart"),
        ([0, 0, 1], [0, 1], "class '1' has 1 training images, of which"),
    ],
)
def test_classes_without_images(
    tmp_path: Path, train: list[int], test: list[int], says: str
) -> None:
    for part, labels in (("train", train), ("test", test)):
        path = tmp_path / "own" / f"{part}-00000-of-00001.parquet"
        write(path, pixels(len(labels), 1), labels)
    assert says in refusal(from_root(tmp_path / "own", val_fraction=0.5)).what


def test_limits_below_the_classes_name_the_number(tmp_path: Path) -> None:
    root = data_set(tmp_path / "own", 120, 20)
    error = refusal(from_root(root, train_limit=100))
    assert "has 1 training images under data.train_limit=100" in error.what
    assert "raise data.train_limit to at least 1200" in error.help
    assert check(from_root(root, train_limit=1200)) == (1080, 120, 240)
    error = refusal(from_root(root, test_limit=100))
    assert "data.test_limit=100 leaves class '100' without test images" in error.what
    assert error.help == "raise data.test_limit to at least 120"
    assert check(from_root(root, test_limit=120)).test == 120


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=8),
    st.floats(0.001, 0.999),
    st.none() | st.integers(100, 300),
)
def test_the_remedy_works(each: list[int], fraction: float, limit: int | None) -> None:
    labels = np.repeat(np.arange(len(each)), each)
    names = tuple(map(str, range(len(each))))
    full = Labels(labels, labels, names)
    config = DataConfig(val_fraction=fraction, train_limit=limit)
    try:
        found = counts(full, config)
    except InputError as error:
        if "data.val_fraction to " in error.help:
            other = float(error.help.rpartition("data.val_fraction to ")[2])
            counts(full, config.model_copy(update={"val_fraction": other}))
        needed = int(error.help.partition("at least ")[2].split()[0])
        more = np.repeat(labels, math.ceil(needed / min(each)))
        counts(Labels(more, more, names), config.model_copy(update={"train_limit": None}))
        return
    # What is told without images is what is made with them.
    if limit is None or limit >= len(labels):
        train, val = split(labels, names, fraction, 42)
        assert (found.train, found.val) == (len(train), len(val))


@pytest.mark.parametrize("changes", [{}, {"train_limit": 100}, {"val_fraction": 0.3}])
def test_what_is_told_beforehand_is_what_is_loaded(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = from_root(data_set(tmp_path / "own", 5, 30), **changes)
    told, data = check(config), load(config)
    made = (len(data.train_labels), len(data.val_labels), len(data.test_labels))
    assert told == made == check(config)


def test_a_last_batch_of_one_is_told_beforehand(tmp_path: Path) -> None:
    root = data_set(tmp_path / "own", 10, 30)
    config = TrainConfig().override(
        {"data.root": str(root), "model.name": "resnet18", "model.stem": "imagenet"}
    )
    preflight.check([config.override({"batch_size": 90})], 1)
    with pytest.raises(InputError, match="leaves 1 of 270 images for the last batch"):
        preflight.check([config.override({"batch_size": 269})], 1)
    preflight.check([config.override({"batch_size": 267})], 1)
    with pytest.raises(InputError, match="needs two on each of 2 ranks"):
        preflight.check([config.override({"batch_size": 267})], 2)


def test_a_trial_does_not_go_on_with_other_images(tmp_path: Path) -> None:
    root = data_set(tmp_path / "own", 5)
    data = load(from_root(root))
    path = tmp_path / "trial" / "checkpoint.pt"
    data.check_same(None, path)
    data.check_same(data.sha256, path)
    with pytest.raises(InputError, match="began on other images") as caught:
        data.check_same("0" * 64, path)
    assert f"mv {path.parent}" in caught.value.help and caught.value.exit_code == 3


def test_the_cache_of_another_content_is_another_file(tmp_path: Path) -> None:
    root = data_set(tmp_path / "own", 5)
    first = prepare(from_root(root))
    data_set(root, 5, 12)
    assert prepare(from_root(root)) != first
