"""Decoding by several processes, in bounded memory, into a cache that nobody else could write."""

from __future__ import annotations

import os
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from test_data import encoded
from test_own_images import kept as kept
from test_own_images import own, picture, saved, write_folders

from local_machine.errors import InputError
from trainer.data import cache, decoding
from trainer.data.datasets import Dataset, facts, load, prepare

NOBODY = 65534


def of_many(tmp_path: Path, count: int, side: int) -> Path:
    return write_folders(
        tmp_path / "many", {"a": count // 2, "b": count // 2}, ("train", "test"),
        lambda seed: encoded(np.full((side, side, 3), seed % 256, np.uint8)),
    )  # fmt: skip


def test_processes_decode_as_one_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = of_many(tmp_path, 300, 8)
    alone = load(own(root))
    monkeypatch.setattr(decoding, "_IMAGES_A_PROCESS", 40)
    monkeypatch.setattr(decoding, "cores_here", lambda: 3)
    together = load(own(root, size=8))  # another cache of the same images
    assert together.sha256 == alone.sha256
    for name in ("train_images", "val_images", "test_images", "test_labels"):
        assert np.array_equal(getattr(together, name), getattr(alone, name))
    (root / "train" / "b" / "007.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"train/b/007\.png: the image is damaged"):
        load(own(root))


def test_a_process_that_dies_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = of_many(tmp_path, 300, 8)
    monkeypatch.setattr(decoding, "_IMAGES_A_PROCESS", 40)
    monkeypatch.setattr(decoding, "cores_here", lambda: 2)
    program = tmp_path / "program.py"
    program.write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    monkeypatch.setattr("trainer.data.pixels.__file__", str(program))
    with pytest.raises(InputError, match=r"ended by itself \(exit code -9\) between .*000\.png"):
        load(own(root))


def test_memory_does_not_grow_with_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few images are held at once, of a folder's and of a Parquet file's; of each, its label, its
    digest and, for one class at a time, its name: a million files need some 100 MB."""
    monkeypatch.setattr(decoding, "_IMAGES_A_PROCESS", 10**9)
    root, images, side = tmp_path / "many", 1500, 64
    content = saved(Image.fromarray(picture(side)), "PNG", compress_level=0)
    write_folders(root, {"a": 4, "b": 4}, content=lambda seed: content)
    for number in range(images):
        os.link(root / "a" / "000.png", root / "ab"[number % 2] / f"x{number}.png")
    path = tmp_path / "many.parquet"
    table = pa.table({"image": [content] * images, "label": ["a", "b"] * (images // 2)})
    pq.write_table(table, path, row_group_size=500)
    prepare(own(write_folders(tmp_path / "small", {"a": 4, "b": 4})))  # what is imported once
    facts(own(path))
    for config in (own(root), own(path)):
        tracemalloc.start()
        try:
            prepare(config)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 5e6 + 500 * images < images * side * side * 3 / 2, peak


def test_a_copy_is_not_decoded_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_folders(tmp_path / "own", {"a": 4, "b": 4})
    first = load(own(root))
    assert capsys.readouterr().err.startswith("decoding")
    shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copyfile)
    os.utime(root / "a" / "000.png", (1, 1))
    for same in (own(root), own(tmp_path / "copy")):
        assert load(same).sha256 == first.sha256
        assert not capsys.readouterr().err
    # Another content of the same name, size and time is another data set.
    image = Image.fromarray(picture(32, seed=77))
    content = saved(image, "BMP")
    for seed in (1, 2):
        path = tmp_path / "same" / str(seed)
        write_folders(path, {"a": 4, "b": 4})
        changed = content[:-1] + bytes([seed])
        (path / "a" / "000.png").write_bytes(changed)
        os.utime(path / "a" / "000.png", (1, 1))
    one, other = (load(own(tmp_path / "same" / str(seed))) for seed in (1, 2))
    assert one.sha256 != other.sha256
    (root / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(InputError, match=r"cannot read .*a/gone\.png"):
        load(own(root))


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another user")
def test_what_another_user_decoded_is_not_used(tmp_path: Path) -> None:
    config = own(write_folders(tmp_path / "own", {"a": 4, "b": 4}))
    theirs = prepare(config)
    assert theirs is not None
    right = load(config)
    os.chown(theirs, NOBODY, NOBODY)
    mine = prepare(config)
    assert mine is not None and mine != theirs and mine.parent == theirs.parent
    theirs.write_bytes(b"theirs")
    assert load(config).sha256 == right.sha256 and prepare(config) == mine
    # Under my own number, too.
    os.chown(mine, NOBODY, NOBODY)
    assert not cache.is_there(mine)
    with pytest.raises(InputError, match="another user may have written") as told:
        cache.read_cache(mine, ("classes",))
    assert f"rm {mine}" in told.value.help


def test_a_cache_that_others_may_write_is_decoded_again(tmp_path: Path) -> None:
    config = own(write_folders(tmp_path / "own", {"a": 4, "b": 4}))
    path = prepare(config)
    assert path is not None and path.stat().st_mode & 0o022 == 0
    whole = path.read_bytes()
    path.write_bytes(b"changed")
    path.chmod(0o666)
    assert prepare(config) == path and path.read_bytes() == whole
    assert path.stat().st_mode & 0o022 == 0
    old = os.umask(0)
    try:
        path.unlink()
        assert prepare(config) == path and path.stat().st_mode & 0o022 == 0
    finally:
        os.umask(old)


def test_data_are_equal_however_they_lie(tmp_path: Path) -> None:
    """One content, one hash: what a report compares by."""
    root = write_folders(tmp_path / "own", {"a": 6, "b": 6}, ("train", "test"))
    first: Dataset = load(own(root))
    for part in ("train", "test"):
        paths = sorted(root.glob(f"{part}/*/*"))
        table = {
            "image": [path.read_bytes() for path in paths],
            "label": [path.parent.name for path in paths],
        }
        pq.write_table(pa.table(table), tmp_path / f"{part}.parquet")
    again = load(own(tmp_path))
    assert again.sha256 == first.sha256 and again.classes == first.classes
