"""Anybody's images: each of them trains with its own names, or is refused by name with a remedy,
before the first trial."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from test_data import encoded, pixels

from local_machine.errors import InputError
from trainer.config import DataConfig
from trainer.data.datasets import check, content_sha256, facts, load, prepare

NOBODY = 65534
Pixels = npt.NDArray[np.uint8]


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("SWEEPS_CACHE", str(folder))
    return folder


def picture(height: int, width: int | None = None, seed: int = 0) -> Pixels:
    shape = (height, width or height, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_folders(
    root: Path,
    classes: Mapping[str, int],
    parts: Sequence[str] = ("",),
    content: Callable[[int], bytes] = lambda seed: encoded(picture(32, seed=seed)),
    ending: str = "png",
) -> Path:
    """So many images of each class, in each part; no two alike."""
    seed = 0
    for part in parts:
        for name, count in classes.items():
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                (root / part / name / f"{number:03}.{ending}").write_bytes(content(seed))
                seed += 1
    return root


def write_parquet(path: Path, labels: Sequence[object], **columns: Sequence[object]) -> None:
    """Of 32x32 images, in columns `image` and `label` if not given otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": encoded(image), "path": None} for image in pixels(len(labels), 3)]
    pq.write_table(pa.table({"image": images, "label": labels} | columns), path)


def own(root: Path, **changes: Any) -> DataConfig:
    return DataConfig(root=str(root), **{"name": "flowers", "val_fraction": 0.5} | changes)


def refused(config: DataConfig) -> InputError:
    """Before anything is decoded, in the words of loading."""
    cache = Path(os.environ["SWEEPS_CACHE"])
    before = {*cache.glob("*")}
    with pytest.raises(InputError) as told:
        facts(config)
        check(config)
    assert {*cache.glob("*")} == before
    with pytest.raises(InputError) as later:
        load(config)
    assert later.value.what == told.value.what and later.value.help == told.value.help
    return told.value


def one_image(tmp_path: Path, name: str, content: bytes, **changes: Any) -> Pixels:
    """As it is trained on: the first one of class `a`, for a folder of otherwise plain images."""
    root = write_folders(tmp_path / "own", {"a": 3, "b": 4}, ("train", "test"))
    (root / "train" / "a" / name).write_bytes(content)
    data = load(own(root, **changes))
    images = np.concatenate([data.train_images, data.val_images])
    before = sum(path.name < name for path in (root / "train" / "a").iterdir())
    labels = np.concatenate([data.train_labels, data.val_labels])
    plain = {encoded(image) for image in (picture(32, seed=seed) for seed in range(14))}
    (found,) = [
        image
        for image, label in zip(images, labels, strict=True)
        if label == 0 and encoded(image) not in plain
    ]
    assert before == 3
    return np.asarray(found)


def saved(image: Image.Image, kind: str, **how: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


# --- layouts ------------------------------------------------------------------------------------


def test_one_folder_of_classes_gives_a_fifth_of_each_class_to_the_test(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "own", {"rose": 20, "oak": 11, "fern": 4})
    config = own(root)
    told, data = check(config), load(config)
    assert data.classes == ("fern", "oak", "rose")
    assert np.bincount(data.test_labels).tolist() == [1, 2, 4]
    assert told == (len(data.train_labels), len(data.val_labels), 7)
    other = load(own(root, split_seed=7, val_fraction=0.3))
    assert np.array_equal(other.test_images, data.test_images)
    every = [data.train_images, data.val_images, data.test_images]
    assert len({image.tobytes() for part in every for image in part}) == 35


def test_a_folders_own_validation_images_are_the_validation_images(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "own", {"a": 6, "b": 6}, ("train", "val", "test"))
    config = own(root, val_fraction=0.01)
    assert check(config) == (12, 12, 12)
    data = load(config)
    validated = {encoded(image) for image in data.val_images}
    assert validated == {path.read_bytes() for path in root.glob("val/*/*")}
    assert {encoded(image) for image in data.train_images} == {
        path.read_bytes() for path in root.glob("train/*/*")
    }
    assert data.sha256 == content_sha256(
        np.concatenate([data.train_images, data.val_images]),
        np.concatenate([data.train_labels, data.val_labels]),
        data.test_images,
        data.test_labels,
    )
    assert check(config) == (12, 12, 12)  # from the cache


def test_own_validation_images_are_under_the_limit_too(tmp_path: Path) -> None:
    image = encoded(picture(8))
    root = write_folders(tmp_path / "own", {"a": 80, "b": 70}, ("train", "valid", "test"),
                         lambda seed: image)  # fmt: skip
    config = own(root, train_limit=100)
    data = load(config)
    assert check(config) == (100, 100, 150)
    assert np.bincount(data.train_labels).tolist() == np.bincount(data.val_labels).tolist()


def test_validation_without_a_test_part_is_the_test(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "own", {"a": 4, "b": 4}, ("train", "val"))
    assert check(own(root)) == (4, 4, 8)


def test_the_hubs_sub_folder_and_plain_names_of_files(tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    for part, count in (("train", 8), ("validation", 4), ("test", 6)):
        write_parquet(hub / "data" / f"{part}-00000-of-00001.parquet", [0, 1] * (count // 2))
    write_parquet(tmp_path / "plain" / "train.parquet", [0, 1] * 4)
    write_parquet(tmp_path / "plain" / "test.parquet", [0, 1])
    write_parquet(tmp_path / "converted" / "train" / "0000.parquet", [0, 1] * 4)
    write_parquet(tmp_path / "converted" / "test" / "0000.parquet", [0, 1])
    assert check(own(hub)) == (8, 4, 6)
    assert check(own(tmp_path / "plain")) == check(own(tmp_path / "converted")) == (4, 4, 2)
    folders = write_folders(tmp_path / "folders" / "data", {"a": 5, "b": 5})
    assert check(own(folders.parent)) == check(own(folders)) == (4, 4, 2)


def test_one_parquet_file_with_names_for_labels(tmp_path: Path) -> None:
    images = pixels(20, 1)
    table = {"image": [encoded(image) for image in images], "label": ["oak", "rose"] * 10}
    pq.write_table(pa.table(table), tmp_path / "all.parquet")
    data = load(own(tmp_path / "all.parquet"))
    assert data.classes == ("oak", "rose")
    assert np.bincount(data.test_labels).tolist() == [2, 2]
    roses = {image.tobytes() for image in images[1::2]}
    found = {image.tobytes() for image in data.test_images[data.test_labels == 1]}
    assert len(found) == 2 and found <= roses


def test_cifar100_and_house_numbers_need_no_code(tmp_path: Path) -> None:
    fine = [f"fine {label}" for label in range(100)]
    features = {"fine_label": {"names": fine}, "coarse_label": {"names": ["a", "b"]}}
    text = pa.py_buffer(str({"info": {"features": features}}).replace("'", '"').encode())
    for part, count in (("train", 200), ("test", 100)):
        table = {
            "img": [{"bytes": encoded(image)} for image in pixels(count, 1)],
            "fine_label": np.arange(count) % 100, "coarse_label": np.arange(count) % 2,
        }  # fmt: skip
        path = tmp_path / "cifar100" / f"{part}-00000-of-00001.parquet"
        path.parent.mkdir(exist_ok=True)
        whole = pa.table(table).replace_schema_metadata({b"huggingface": text.to_pybytes()})
        pq.write_table(whole, path)
        for kind, many in ((part, count), ("extra", 10)):
            write_parquet(
                tmp_path / "svhn" / f"{kind}-00000-of-00001.parquet", [*range(10)] * (many // 10)
            )
    assert facts(own(tmp_path / "cifar100")).labels.classes == tuple(fine)
    coarse = own(tmp_path / "cifar100", label_column="coarse_label")
    assert facts(coarse).labels.classes == ("a", "b")
    data = load(own(tmp_path / "svhn"))
    assert data.classes == tuple("0123456789") and len(data.test_labels) == 100
    assert data.mean != (0.4914, 0.4822, 0.4465)


def test_what_is_found_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_folders(tmp_path / "own", {"a": 4, "b": 4}, ("train", "test", "unlabeled"))
    prepare(own(root))
    said = capsys.readouterr().err
    assert "2 classes, 8 images to train on, 8 to test, of 32x32 pixels" in said
    assert "not used: unlabeled" in said and "data.name" not in said
    prepare(own(root, name="cifar10", size=16))
    assert "not CIFAR-10: --set data.name=NAME" in capsys.readouterr().err


def test_the_folder_that_was_meant_is_named(tmp_path: Path) -> None:
    write_folders(tmp_path / "downloads" / "flower_photos", {"a": 4, "b": 4})
    error = refused(own(tmp_path / "downloads"))
    assert error.help == f"did you mean --set data.root={tmp_path}/downloads/flower_photos?"


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "own", {"bus": 5, "train": 5})
    assert facts(own(root)).labels.classes == ("bus", "train")


@pytest.mark.parametrize(
    ("columns", "says", "remedy"),
    [
        ({"label": [0.5, 0.1] * 5}, "column 'label' must hold integers or names", "=NAME"),
        ({}, "no column label or labels or fine_label: its columns are image, kind",
         "--set data.label_column=NAME"),
        ({"fine_label": [0, 1] * 5}, "2 columns that may be its labels: label and fine_label",
         "--set data.label_column=label"),
        ({"img": [b""] * 10}, "2 columns that may be its images: image and img",
         "--set data.image_column=image"),
        ({"image": [1] * 10}, "column 'image' is int64, not images", "data.image_column=NAME"),
        ({"label": [0, 40_000] * 5}, "row 1: label 40000 is outside 0 to 32,767", "from 0"),
        ({"label": [0, -1] * 5}, "row 1: label -1 is outside", "from 0"),
        ({"label": [0, 3] * 5}, "class '1' has 0 training images", "without a gap"),
    ],
)  # fmt: skip
def test_columns_of_parquet(
    tmp_path: Path, columns: dict[str, Any], says: str, remedy: str
) -> None:
    path = tmp_path / "own.parquet"
    write_parquet(path, [0, 1] * 5, **{"kind": [0, 1] * 5, **columns})
    if not columns:
        pq.write_table(pq.read_table(path).drop_columns(["label"]), path)
    error = refused(own(path))
    assert says in error.what and remedy in error.help
    if "column" in error.help:
        fixed = own(path, label_column="kind") if "label_column" in error.help else None
        assert fixed is None or check(fixed).test == 2


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    write_parquet(tmp_path / "own.parquet", [0, 1] * 5)
    error = refused(own(tmp_path / "own.parquet", label_column="kind"))
    assert "data.label_column=kind" in error.what and "image, label" in error.help


# --- sizes and kinds of images --------------------------------------------------------------------


def photos(seed: int) -> bytes:
    """Grey stripes, which a resize keeps: dark, middle and bright thirds of the width."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :21], image[:, 21:43], image[:, 43:] = 10 + seed % 8, 120, 240
    return saved(Image.fromarray(image), "JPEG", quality=95)


def test_64x48_jpegs_of_12_classes(tmp_path: Path) -> None:
    names = [f"kind {number}" for number in range(12)]
    root = write_folders(
        tmp_path / "own", dict.fromkeys(names, 3), ("train", "test"), photos, "jpg"
    )
    error = refused(own(root))
    assert "000.jpg: the image is 64x48, not square" in error.what
    assert "--set data.size=48 resizes the shorter side" in error.help
    data = load(own(root, size=24))
    assert data.classes == tuple(sorted(names)) and data.side == 24
    # The centre 48x48 of 64x48: a fifth of the dark and of the bright third are cut away.
    row = data.train_images[0, 12, :, 0].astype(int)
    assert row[:5].max() < 40 and row[9:14].min() > 100 and row[-5:].min() > 220


def test_other_sizes_are_taken_as_they_are_where_all_are_alike(tmp_path: Path) -> None:
    root = write_folders(
        tmp_path / "own", {"a": 5, "b": 5}, content=lambda seed: encoded(picture(48, seed=seed))
    )
    assert facts(own(root)).side == 48 and load(own(root)).side == 48
    assert facts(own(root)).side == 48  # from the cache
    (root / "b" / "odd.png").write_bytes(encoded(picture(40)))
    with pytest.raises(InputError, match=r"odd\.png: the image is 40x40, but .* are 48x48") as told:
        prepare(own(root))
    assert "data.size=40" in told.value.help
    assert load(own(root, size=40)).side == 40


def test_images_of_one_pixel(tmp_path: Path) -> None:
    root = write_folders(
        tmp_path / "own", {"a": 4, "b": 4}, content=lambda seed: encoded(picture(1, seed=seed))
    )
    error = refused(own(root))
    assert "the image is 1x1, outside 8 to 1024 pixels" in error.what
    assert "--set data.size=32" in error.help
    data = load(own(root, size=32))
    assert (data.train_images == data.train_images[:, :1, :1]).all()


def test_a_16_bit_grey_png(tmp_path: Path) -> None:
    values = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32) * 64
    found = one_image(tmp_path, "x.png", saved(Image.fromarray(values), "PNG"))
    assert np.array_equal(found, np.stack([values >> 8] * 3, axis=-1))


def test_alpha_is_seen_on_white(tmp_path: Path) -> None:
    image = np.zeros((32, 32, 4), np.uint8)
    image[..., 0], image[:16, :, 3] = 200, 255
    found = one_image(tmp_path, "x.png", saved(Image.fromarray(image), "PNG"))
    assert (found[:16] == (200, 0, 0)).all() and (found[16:] == 255).all()


def test_a_palette_and_grey_with_alpha(tmp_path: Path) -> None:
    image = Image.fromarray(picture(32, seed=99) // 64 * 64).quantize(16)
    palette = one_image(tmp_path, "x.png", saved(image, "PNG"))
    assert np.array_equal(palette, np.asarray(image.convert("RGB")))
    grey = Image.new("LA", (32, 32), (90, 0))
    assert (one_image(tmp_path / "2", "x.png", saved(grey, "PNG")) == 255).all()


@pytest.mark.parametrize("kind", ["TIFF", "BMP", "WEBP", "GIF"])
def test_other_kinds_of_files(tmp_path: Path, kind: str) -> None:
    image = Image.new("RGB", (32, 32), (0, 0, 255))
    found = one_image(tmp_path, f"x.{kind.lower()}", saved(image, kind))
    assert (np.abs(found.astype(int) - (0, 0, 255)) < 5).all()


def test_a_big_endian_tiff_of_16_bits_and_one_of_floats(tmp_path: Path) -> None:
    values = np.full((32, 32), 0x8001, ">u2")
    sixteen = Image.frombytes("I;16B", (32, 32), values.tobytes())
    assert (one_image(tmp_path, "x.tif", saved(sixteen, "TIFF")) == 0x80).all()
    floats = Image.fromarray(np.zeros((32, 32), np.float32))
    with pytest.raises(InputError, match=r"x\.tif: its values are 32-bit floats") as told:
        one_image(tmp_path / "2", "x.tif", saved(floats, "TIFF"))
    assert "convert it to 8 or 16 bits" in told.value.help


def test_a_photograph_is_turned_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (32, 32))
    image.paste((255, 255, 255), (0, 0, 16, 32))  # its left half, which is up
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    found = one_image(tmp_path, "x.jpg", saved(image, "JPEG", exif=exif, quality=95))
    assert (found[:14] > 240).all() and (found[18:] < 15).all()


def test_a_corrupt_file_is_named(tmp_path: Path) -> None:
    whole = encoded(picture(32, seed=50))
    for number, content in enumerate((whole[: len(whole) // 2], b"no image", b"")):
        with pytest.raises(InputError, match=r"train/a/x\.png: the image is damaged") as told:
            one_image(tmp_path / str(number), "x.png", content)
        assert told.value.exit_code == 3


def test_a_script_that_calls_itself_an_image_is_not_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="damaged"):
        one_image(
            tmp_path, "x.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\nshowpage\n"
        )


# --- classes ------------------------------------------------------------------------------------


def test_200_classes_of_4_images(tmp_path: Path) -> None:
    image = encoded(picture(8))
    root = write_folders(
        tmp_path / "own", {f"c{number:03}": 4 for number in range(200)}, content=lambda seed: image
    )
    error = refused(own(root, val_fraction=0.1))
    assert "class 'c060' has 3 training images" in error.what
    assert "raise data.val_fraction to 0.34" in error.help
    assert check(own(root, val_fraction=0.34)) == (396, 204, 200)


def test_an_empty_class_folder_and_one_of_one_image(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "own", {"a": 4, "b": 4, "none": 0})
    error = refused(own(root))
    assert (
        "class 'none' has 0 training images" in error.what and "leave the class out" in error.help
    )
    (root / "none").rmdir()
    write_folders(root, {"one": 1})
    error = refused(own(root))
    assert "class 'one' has 1 image" in error.what


def test_classes_that_differ_between_parts(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "own", {"a": 4, "b": 4}, ("train", "val", "test"))
    (root / "val" / "b").rename(root / "val" / "c")
    error = refused(own(root))
    assert "class 'b' is in train but not in val" in error.what


def test_a_part_that_is_missing(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "own", {"a": 4, "b": 4}, ("test",))
    error = refused(own(root))
    assert "no folder train, beside test" in error.what and "copy the train images" in error.help
