"""Reading every layout, the cache, the limits and the split; and what bad data answers."""

from __future__ import annotations

import io
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from local_machine.errors import InputError
from trainer.config import DataConfig
from trainer.data.datasets import CIFAR10, CIFAR10_MEAN, CIFAR10_STD, check, load, prepare
from trainer.data.split import split

REPOSITORY = Path(__file__).resolve().parents[1]
REAL = Path(os.environ.get("CIFAR10_ROOT") or REPOSITORY.parent / "shared" / "data" / "cifar10")
TRAIN, TEST = 120, 30  # images of the small data sets written here
_SPLIT_OF_CIFAR10 = "f432d274d58d2bc7467f53be58ffcc044bea532cd185b0e7767759191689fe0c"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("SWEEPS_CACHE", str(folder))
    return folder


def pixels(count: int, seed: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def encoded(image: npt.NDArray[np.uint8], kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, lossless=True)
    return file.getvalue()


def write_parquet(path: Path, images: Sequence[bytes | None], labels: object, **names: str) -> None:
    structs = [{"bytes": content, "path": None} for content in images]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {
        names.get("image", "img"): pa.array(structs, kind),
        names.get("label", "label"): pa.array(labels),
    }
    pq.write_table(pa.table(columns), path)


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    root = tmp_path / "parquet"
    root.mkdir()
    train, test = pixels(TRAIN, 1), pixels(TEST, 2)
    half = TRAIN // 2
    for number, part in enumerate((train[:half], train[half:])):
        labels = np.arange(half) % 10
        images = [encoded(image, "WEBP") for image in part]
        write_parquet(root / f"train-{number:05}-of-00002.parquet", images, labels)
    images = [encoded(image) for image in test]
    write_parquet(root / "test-00000-of-00001.parquet", images, np.arange(TEST) % 10)
    return root


def write_folders(root: Path, classes: Sequence[str]) -> None:
    for part, count, seed in (("train", 6, 1), ("test", 2, 2)):
        images = iter(pixels(count * len(classes), seed))
        for name in classes:
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number}.png").write_bytes(encoded(next(images)))


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    write_folders(tmp_path / "folders", CIFAR10)
    return tmp_path / "folders"


def from_root(root: Path, **changes: object) -> DataConfig:
    return DataConfig(root=str(root), **changes)  # type: ignore[arg-type]


# ---- the split -------------------------------------------------------------------------------


def test_split_of_cifar10_is_45000_and_5000() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 5000))
    train, val = split(labels, CIFAR10, 0.1, 42)
    assert (len(train), len(val)) == (45_000, 5_000)
    assert np.bincount(labels[val]).tolist() == [500] * 10
    assert np.bincount(labels[train]).tolist() == [4500] * 10


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(2, 60), min_size=1, max_size=12),
    st.floats(0.01, 0.99),
    st.integers(0, 2**40),
)
def test_split_laws(counts: list[int], fraction: float, seed: int) -> None:
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))
    classes = [str(name) for name in range(len(counts))]
    try:
        train, val = split(labels, classes, fraction, seed)
    except InputError as error:
        # Only where some class's share is within one of nothing or of everything.
        shares = np.array(counts) * fraction
        assert ((shares < 1) | (shares > np.array(counts) - 1)).any()
        assert "at least one" in error.what
        assume(False)
    assert np.array_equal(np.sort(np.concatenate([train, val])), np.arange(len(labels)))
    assert (np.diff(train) > 0).all() and (np.diff(val) > 0).all()
    assert len(val) == round(len(labels) * fraction)
    held_out = np.bincount(labels[val], minlength=len(counts))
    assert (np.abs(held_out - np.array(counts) * fraction) < 1).all()
    again = split(labels, classes, fraction, seed)
    assert np.array_equal(train, again[0]) and np.array_equal(val, again[1])


def test_split_depends_on_its_seed() -> None:
    labels = np.repeat(np.arange(10), 50)
    first, second = split(labels, CIFAR10, 0.2, 1)[1], split(labels, CIFAR10, 0.2, 2)[1]
    assert not np.array_equal(first, second)


def test_a_class_without_validation_images_is_named() -> None:
    labels = np.array([0] * 100 + [1])
    with pytest.raises(InputError, match="'b' has 1 training images") as caught:
        split(labels, ("a", "b"), 0.1, 42)
    assert "data.train_limit" in caught.value.help


# ---- digits ----------------------------------------------------------------------------------


def test_digits() -> None:
    data = load(DataConfig(name="digits"))
    assert data.train_images.shape == (1294, 32, 32, 3)
    assert data.val_images.shape == (144, 32, 32, 3)
    assert data.test_images.shape == (359, 32, 32, 3)
    for images in (data.train_images, data.val_images, data.test_images):
        assert images.dtype == np.uint8 and images.flags.c_contiguous
        blocks = images.reshape(-1, 8, 4, 8, 4, 3)
        assert (blocks == blocks[:, :, :1, :, :1, :1]).all()
    assert data.train_images.max() == 255 and data.train_images.min() == 0
    assert data.train_labels.dtype == np.int64 and data.test_index.dtype == np.int32
    assert data.classes == tuple("0123456789")
    assert data.test_index.tolist() == list(range(359))
    scaled = data.train_images / 255
    np.testing.assert_allclose(data.mean, scaled.mean((0, 1, 2)))
    np.testing.assert_allclose(data.std, scaled.std((0, 1, 2)))
    # Pinned: another split would make old and new results incomparable without a word.
    assert data.split_sha256 == "3b019a6fce60688a4cc654a816aa10292d95ce2f7fa402d7143a9bcb4df0d3ae"


def test_the_digits_are_scikit_learns() -> None:
    """Though it is not what reads them."""
    source = load_digits()
    _, test = split(source.target, tuple("0123456789"), 0.2, 1797)
    data = load(DataConfig(name="digits"))
    assert data.classes == tuple(str(name) for name in source.target_names)
    assert (data.test_labels == source.target[test]).all()
    assert (data.test_images[:, ::4, ::4, 0] == np.rint(source.images[test] * (255 / 16))).all()


def test_the_digits_test_set_is_the_same_for_every_split() -> None:
    first = load(DataConfig(name="digits"))
    second = load(DataConfig(name="digits", split_seed=7, val_fraction=0.3))
    assert np.array_equal(first.test_images, second.test_images)
    assert first.split_sha256 != second.split_sha256


def test_limits_are_balanced_and_seeded() -> None:
    config = DataConfig(name="digits", train_limit=205, test_limit=104)
    data = load(config)
    counts = np.bincount(np.concatenate([data.train_labels, data.val_labels]), minlength=10)
    assert counts.sum() == 205 and counts.max() - counts.min() == 1
    counts = np.bincount(data.test_labels, minlength=10)
    assert counts.sum() == 104 and counts.max() - counts.min() == 1
    assert (np.diff(data.test_index) > 0).all()
    full = load(DataConfig(name="digits"))
    assert np.array_equal(data.test_images, full.test_images[data.test_index])
    assert np.array_equal(data.test_labels, full.test_labels[data.test_index])
    assert np.array_equal(load(config).train_images, data.train_images)
    other = load(config.model_copy(update={"split_seed": 43}))
    assert not np.array_equal(other.test_index, data.test_index)


def test_a_limit_above_the_images_changes_nothing() -> None:
    limited = load(DataConfig(name="digits", train_limit=100_000, test_limit=100_000))
    assert limited.split_sha256 == load(DataConfig(name="digits")).split_sha256
    assert len(limited.test_labels) == 359


def test_digits_take_no_root(tmp_path: Path) -> None:
    config = DataConfig(name="digits", root=str(tmp_path))
    for action in (check, prepare, load):
        with pytest.raises(InputError, match="digits"):
            action(config)


# ---- the layouts -----------------------------------------------------------------------------


def test_parquet(parquet: Path) -> None:
    config = from_root(parquet, val_fraction=0.25)
    check(config)
    data = load(config)
    assert data.classes == tuple(map(str, range(10)))
    np.testing.assert_allclose(data.mean, (data.train_images / 255).mean((0, 1, 2)))
    np.testing.assert_allclose(data.std, (data.train_images / 255).std((0, 1, 2)))
    source, labels = pixels(TRAIN, 1), np.tile(np.arange(TRAIN // 2) % 10, 2)
    train, val = split(labels, CIFAR10, 0.25, 42)
    assert np.array_equal(data.train_images, source[train])
    assert np.array_equal(data.val_images, source[val])
    assert np.array_equal(data.train_labels, labels[train])
    assert np.array_equal(data.val_labels, labels[val])
    assert np.array_equal(data.test_images, pixels(TEST, 2))
    assert np.array_equal(data.test_labels, np.arange(TEST) % 10)


def test_class_folders_named_like_cifar10s_have_its_order_and_their_own_normalisation(
    folders: Path,
) -> None:
    data = load(from_root(folders, val_fraction=0.5))
    assert data.classes == CIFAR10
    np.testing.assert_allclose(data.mean, (data.train_images / 255).mean((0, 1, 2)))
    assert np.array_equal(data.test_images, pixels(20, 2))
    assert np.array_equal(data.test_labels, np.repeat(np.arange(10), 2))


def test_other_class_folders_are_sorted_and_measured(tmp_path: Path) -> None:
    write_folders(tmp_path / "own", ["pear", "apple"])
    (tmp_path / "own" / "train" / "pear" / ".DS_Store").write_bytes(b"")
    data = load(from_root(tmp_path / "own", val_fraction=0.5))
    assert data.classes == ("apple", "pear")
    # Written in the order pear, apple.
    assert np.array_equal(data.test_images[:2], pixels(4, 2)[2:])
    np.testing.assert_allclose(data.mean, (data.train_images / 255).mean((0, 1, 2)))


def damage(root: Path, where: str) -> Path:
    path = root / where
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def test_a_damaged_parquet_file_is_named(parquet: Path) -> None:
    path = damage(parquet, "train-00001-of-00002.parquet")
    with pytest.raises(InputError, match="is damaged") as caught:
        load(from_root(parquet))
    assert str(path) in caught.value.what and caught.value.exit_code == 3


@pytest.mark.long
@pytest.mark.parametrize(
    ("images", "labels", "names", "says"),
    [
        ([b"no image"], [0], {}, "row 0: the image is damaged"),
        ([None], [0], {}, "row 0: there is no image"),
        ([encoded(pixels(1, 0)[0])], [10], {}, "class '10' has 0 training images"),
        ([encoded(pixels(1, 0)[0])], [2**40], {}, "row 0: label 1099511627776 is outside"),
        ([encoded(pixels(1, 0)[0])], [-1], {}, "row 0: label -1 is outside"),
        ([encoded(pixels(1, 0)[0])], ["cat"], {}, "has numbers for labels, and .* has names"),
        ([encoded(pixels(1, 0)[0])], [None], {}, "column 'label' must hold integers or names"),
        ([encoded(pixels(1, 0)[0])], [0.5], {}, "column 'label' must hold integers or names"),
        ([encoded(pixels(1, 0)[0, :16])] * 10, range(10), {}, "row 0: the image is 32x16"),
        ([encoded(pixels(1, 0)[0, :16, :16])] * 10, range(10), {}, "is 16x16, but .* are 32x32"),
        ([encoded(pixels(1, 0)[0])], [0], {"image": "photo"}, "no column img or image"),
        (
            [encoded(pixels(1, 0)[0])],
            [0],
            {"label": "y"},
            "no column label or labels or fine_label",
        ),
        ([], np.array([], np.int64), {}, "no test images"),
    ],
)
def test_bad_parquet_content(
    parquet: Path, images: list[bytes | None], labels: object, names: dict[str, str], says: str
) -> None:
    write_parquet(parquet / "test-00000-of-00001.parquet", images, labels, **names)
    with pytest.raises(InputError, match=says):
        load(from_root(parquet))


def test_a_missing_shard_is_no_smaller_data_set(parquet: Path) -> None:
    (parquet / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(InputError, match="1 of 2 files train"):
        check(from_root(parquet))
    (parquet / "test-00000-of-00001.parquet").unlink()
    shutil.copy(parquet / "train-00000-of-00002.parquet", parquet / "train-00001-of-00002.parquet")
    with pytest.raises(InputError, match="no file test"):
        check(from_root(parquet))


def test_bad_class_folders(folders: Path) -> None:
    config = from_root(folders, val_fraction=0.5)
    odd = folders / "train" / "cat" / "odd.png"
    odd.write_bytes(b"no image")
    with pytest.raises(InputError, match="damaged") as caught:
        load(config)
    assert str(odd) in caught.value.what
    odd.rename(odd.with_suffix(".txt"))
    with pytest.raises(InputError, match=r"odd\.txt is not an image"):
        load(config)
    odd.with_suffix(".txt").unlink()
    (folders / "test" / "cow").mkdir()
    with pytest.raises(InputError, match="'cow' is in test but not in train"):
        load(config)
    (folders / "train" / "cow").mkdir()
    with pytest.raises(InputError, match="'cow' has 0 training images"):
        load(config)


def test_roots_without_data(tmp_path: Path) -> None:
    for root in (tmp_path / "nowhere", tmp_path):
        for action in (check, prepare, load):
            with pytest.raises(InputError, match=str(root)) as caught:
                action(from_root(root))
            assert "train-*.parquet" in caught.value.help


def test_check_touches_nothing(parquet: Path, folders: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    own = from_root(folders, val_fraction=0.5)
    for config in (from_root(parquet), own, DataConfig(), DataConfig(name="digits")):
        check(config)
    assert sorted(tmp_path.rglob("*")) == before


# ---- the cache -------------------------------------------------------------------------------


def test_the_cache_is_read_and_follows_its_source(parquet: Path, cache: Path) -> None:
    config = from_root(parquet, val_fraction=0.25)
    first = prepare(config)
    assert first is not None and first.parent == cache
    written = first.stat().st_mtime_ns
    assert prepare(config.model_copy(update={"split_seed": 1, "test_limit": 100})) == first
    assert first.stat().st_mtime_ns == written
    path = parquet / "test-00000-of-00001.parquet"
    write_parquet(path, [encoded(image) for image in pixels(10, 9)], np.arange(10))
    second = prepare(config)
    assert second != first
    assert np.array_equal(load(config).test_images, pixels(10, 9))


def test_the_cache_folder_follows_the_environment(
    parquet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SWEEPS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    found = prepare(from_root(parquet))
    assert found is not None and found.parent == tmp_path / "xdg" / "sweeps"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    found = prepare(from_root(parquet))
    assert found is not None and found.parent == tmp_path / "home" / ".cache" / "sweeps"


def test_a_damaged_cache_is_named_and_left(parquet: Path) -> None:
    config = from_root(parquet, val_fraction=0.25)
    path = prepare(config)
    assert path is not None
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"x" * 100):
        path.write_bytes(content)
        with pytest.raises(InputError, match="damaged") as caught:
            load(config)
        assert caught.value.exit_code == 3
        assert caught.value.help.endswith(f"rm {path}")
        assert path.read_bytes() == content
    path.unlink()
    assert len(load(config).test_labels) == TEST


def test_no_flipped_bit_of_the_cache_goes_unseen(parquet: Path) -> None:
    config = from_root(parquet, val_fraction=0.25)
    path = prepare(config)
    assert path is not None
    right = load(config)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    # The headers, where a flip can change what is read at all, and a sample of the rest.
    ends = [*range(260), *range(len(whole) - 500, len(whole))]
    places = [*random.choice(ends, 250, replace=False), *random.integers(0, len(whole), 50)]
    damaged = [bytearray(whole) for _ in places]
    for content, place in zip(damaged, places, strict=True):
        content[place] ^= 1 << int(random.integers(8))
    # An array's header that asks for less than there is.
    damaged += [
        bytearray(whole.replace(old, new))
        for old, new in [(b"(120, 32, ", b"(110, 32, "), (b"(120,)", b"(110,)"), (b"<U1", b"<U0")]
    ]
    seen = 0
    for content in damaged:
        assert content != whole
        path.write_bytes(content)
        try:
            data = load(config)
        except InputError:
            seen += 1
            continue
        # Bytes that carry no data: times, flags, versions.
        for name in ("train_images", "train_labels", "val_labels", "test_images", "test_labels"):
            assert np.array_equal(getattr(data, name), getattr(right, name))
        assert data.classes == right.classes
    assert seen > 100


def test_a_cache_that_cannot_be_written(
    parquet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("SWEEPS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(InputError, match="cannot write") as caught:
        prepare(from_root(parquet))
    assert caught.value.exit_code == 3 and "SWEEPS_CACHE" in caught.value.help


def _prepare(barrier: Barrier, root: str, answers: multiprocessing.Queue[tuple[int, int]]) -> None:
    barrier.wait()
    path = prepare(DataConfig(root=root))
    assert path is not None
    facts = path.stat()
    answers.put((facts.st_ino, facts.st_mtime_ns))


@pytest.mark.long
def test_processes_that_start_together_decode_once(parquet: Path, cache: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(4), context.Queue()
    workers = [
        context.Process(target=_prepare, args=(barrier, str(parquet), answers)) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    found = {answers.get(timeout=60) for _ in workers}
    for worker in workers:
        worker.join(60)
    # Whoever decoded a second time would have put a new file in place.
    assert len(found) == 1
    assert len(list(cache.glob("*.npz"))) == 1 and not list(cache.glob(".*"))


@pytest.mark.long
def test_a_download_without_network_says_what_to_do(cache: Path) -> None:
    code = (
        "from trainer.config import DataConfig\n"
        "from trainer.data.datasets import prepare\n"
        "from local_machine.errors import InputError\n"
        "try: prepare(DataConfig())\n"
        "except InputError as error: print(error.exit_code, error.what, error.help)\n"
    )
    # A proxy where nothing listens: no request leaves this machine.
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **nowhere, "no_proxy": "", "NO_PROXY": ""},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout.startswith("3 cannot download CIFAR-10"), done.stderr
    assert "--set data.root=FOLDER" in done.stdout
    assert not list(cache.glob("*.npz"))


def test_importing_loads_no_torch() -> None:
    code = (
        "import sys, trainer.data.datasets\n"
        "heavy = {'torch', 'torchvision', 'sklearn', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.skipif(not REAL.is_dir(), reason="CIFAR10_ROOT names no folder")
def test_the_real_cifar10(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # Decoding takes ten seconds, so its cache is the user's own: it stays from run to run.
    monkeypatch.delenv("SWEEPS_CACHE")
    data = load(from_root(REAL))
    assert data.classes == CIFAR10 and (data.mean, data.std) == (CIFAR10_MEAN, CIFAR10_STD)
    # Pinned, as the digits' is: trials of version 0.1 had this split.
    assert data.split_sha256 == _SPLIT_OF_CIFAR10
    assert data.train_images.shape == (45_000, 32, 32, 3)
    assert np.bincount(data.train_labels).tolist() == [4500] * 10
    assert np.bincount(data.val_labels).tolist() == [500] * 10
    assert np.bincount(data.test_labels).tolist() == [1000] * 10
    counts = np.zeros((3, 256))
    for images in (data.train_images, data.val_images):
        for channel in range(3):
            counts[channel] += np.bincount(images[..., channel].ravel(), minlength=256)
    levels = np.arange(256) / 255
    mean = counts @ levels / counts.sum(1)
    std = (counts @ levels**2 / counts.sum(1) - mean**2) ** 0.5
    np.testing.assert_allclose(mean, data.mean, atol=1e-4)
    np.testing.assert_allclose(std, data.std, atol=1e-4)
