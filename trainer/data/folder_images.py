"""What the images of a folder become in the cache: pixels, labels, class names and their hash."""

from __future__ import annotations

import functools
import itertools
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from local_machine.errors import EXIT_IO, InputError, printable
from sweeps.run.class_names import check_names
from trainer.config import DataConfig
from trainer.data.cache import (
    Write,
    array,
    begin_array,
    content_file,
    is_whole,
    link,
    may_be_a_copy,
    write_cache,
)
from trainer.data.content import sha256_of
from trainer.data.decoding import Progress, decoded
from trainer.data.known import CIFAR10
from trainer.data.labels import Indices
from trainer.data.layouts import Layout, Part


def fill(path: Path, layout: Layout, config: DataConfig, options: Sequence[object]) -> None:
    """The cache of a folder's images; `options` are what of the configuration decides it. Raises
    InputError for bad data, OSError where it cannot be written."""
    is_over = threading.Event()
    files = itertools.takewhile(lambda _: not is_over.is_set(), layout.files())
    with ThreadPoolExecutor(1) as beside:
        content = beside.submit(content_file, layout.root, files, options)
        try:
            # A copy of the folder, or one whose files were touched, has the same content.
            if may_be_a_copy() and is_whole(content.result()):
                link(content.result(), path)
                return
            what = f"decoding the images of {layout.root}, once, into {path}"
            print(what, file=sys.stderr, flush=True)
            images = FolderImages(layout, config.size)
            write_cache(path, images.members())
            link(path, content.result())
            print(images.summary(config.name), file=sys.stderr, flush=True)
        finally:
            is_over.set()


@dataclass
class FolderImages:
    """A folder's images on their way into the cache."""

    layout: Layout
    size: int | None
    side: int | None = None
    sha256: str = ""
    _digests: list[list[bytes]] = field(default_factory=list)

    def members(self) -> Iterator[tuple[str, Write]]:
        """By name. Raises InputError for bad data, as writing the images does."""
        labels = self.layout.labels
        progress = Progress(len(labels.train) + len(labels.test))
        parts: tuple[tuple[Part, Indices], ...]
        parts = ("train", labels.train), ("test", labels.test)
        for part, numbers in parts:
            yield f"{part}_images", functools.partial(self._write, part, numbers, progress)
            yield f"{part}_labels", array(numbers)
        self.sha256 = sha256_of(self._digests)
        yield "classes", array(np.array(class_names(labels.classes, self.sha256)))
        yield "sha256", array(np.array([self.sha256]))
        if labels.val:
            yield "val", array(np.array([labels.val]))

    def _write(self, part: Part, labels: Indices, progress: Progress, member: IO[bytes]) -> None:
        count, digests = len(labels), list[bytes]()
        items = self.layout.items(part)
        for batch in decoded(items, labels.tolist(), self.size, progress, self.side):
            if not digests:
                self.side = batch.side
                begin_array(member, (count, batch.side, batch.side, 3))
            digests += batch.digests
            member.write(batch.pixels)
        if len(digests) < count or next(items, None) is not None:
            raise InputError(
                f"data.root={self.layout.root} changed while it was decoded",
                "launch again when nobody writes there",
                exit_code=EXIT_IO,
            )
        self._digests.append(digests)

    def summary(self, name: str) -> str:
        labels, unused = self.layout.labels, self.layout.unused
        val = f" and {labels.val:,} to validate" * (labels.val > 0)
        lines = [
            f"found {len(labels.classes):,} classes, {len(labels.train) - labels.val:,} images to "
            f"train on{val}, {len(labels.test):,} to test, of {self.side}x{self.side} pixels"
        ]
        if unused:
            more = f" and {len(unused) - 5} more" * (len(unused) > 5)
            lines.append(f"not used: {', '.join(map(printable, unused[:5]))}{more}")
        if name == CIFAR10.name and self.sha256 != CIFAR10.sha256:
            lines.append(
                "these images are not CIFAR-10: --set data.name=NAME gives them a name in records"
            )
        return "\n".join(lines)


def class_names(classes: Sequence[str], sha256: str) -> tuple[str, ...]:
    """What is CIFAR-10 by content has CIFAR-10's names. Raises InputError for one that cannot be
    shown."""
    return CIFAR10.classes if sha256 == CIFAR10.sha256 else check_names(classes, "data")
