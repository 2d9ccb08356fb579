"""Decoding: many images at once, in their order, in bounded memory, and how far it has come.

Pillow holds the interpreter's lock for images this small, so several processes decode. Each is a
bare interpreter of its own program (trainer.data.pixels), which starts in a tenth of a second and
imports nothing of the program that asked, such as torch or somebody's unguarded script.
"""

from __future__ import annotations

import contextlib
import os
import queue
import struct
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import IO, NamedTuple, cast

from local_machine import clock
from local_machine.devices import cores_here
from local_machine.errors import EXIT_IO, InputError
from local_machine.processes import start
from trainer.data import pixels

SMALLEST, LARGEST = 8, 1024
"""Sides of images that are trained on, in pixels."""
# How often it is said how far decoding has come.
_SAY_SECONDS = 2.0
# A process is given so many images at once, or fewer of many bytes.
_CHUNK, _CHUNK_BYTES = 64, 2**22
_UNKNOWN_SIDE = 224
# Each process has one chunk in work and one that waits, which bounds the memory.
_WAITING = 2
# For fewer images each a process is not worth its start.
_IMAGES_A_PROCESS = 512
_MOST_PROCESSES = 16


class Item(NamedTuple):
    """An image that is not decoded yet."""

    where: str
    """What an error names: a file, or a row of one."""
    source: str | bytes
    """The file's path, or what is in it."""


class Batch(NamedTuple):
    """Decoded images that follow each other."""

    side: int
    digests: list[bytes]
    """Of each image with its label, as the content's hash has it."""
    pixels: bytes
    """uint8 (images, side, side, 3)."""


class Progress:
    """Says every two seconds how many of `total` images are decoded."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._said = total, 0, clock.monotonic()

    def step(self, images: int) -> None:
        self._done += images
        if clock.monotonic() - self._said > _SAY_SECONDS:
            self._said = clock.monotonic()
            line = f"decoded {self._done:,} of {self._total:,} images"
            print(line, file=sys.stderr, flush=True)


def side_of(item: Item) -> int:
    """Of an image that is taken as it is. Raises InputError as `decoded` does."""
    return _batch([item], pixels.answer(_request([item], [0]), None), None, None).side


def decoded(
    items: Iterable[Item],
    labels: Sequence[int],
    size: int | None,
    progress: Progress,
    side: int | None = None,
) -> Iterator[Batch]:
    """The images, in their order, brought to `size` x `size` pixels, or as they are; as many as
    there are both items and labels.

    Raises InputError, which names the image, for one that cannot be decoded, or that without a size
    is not square or not of the given side, else not as large as the first.
    """
    processes = min(cores_here(), _MOST_PROCESSES, len(labels) // _IMAGES_A_PROCESS)
    chunks = _chunks(items, labels, 3 * (size or side or _UNKNOWN_SIDE) ** 2)
    replies = _here(chunks, size) if processes < 2 else _by_processes(chunks, size, processes)
    with contextlib.closing(replies):
        for chunk, reply in replies:
            batch = _batch(chunk.items, reply, size, side)
            side = batch.side
            yield batch
            progress.step(len(chunk.items))


class _Chunk(NamedTuple):
    items: list[Item]
    labels: list[int]


def _chunks(items: Iterable[Item], labels: Iterable[int], decoded_bytes: int) -> Iterator[_Chunk]:
    """Of images that have about so many bytes when they are decoded."""
    chunk, held = _Chunk([], []), 0
    # In this order no item is taken that has no label.
    for label, item in zip(labels, items, strict=False):
        chunk.items.append(item)
        chunk.labels.append(label)
        held += decoded_bytes + (len(item.source) if isinstance(item.source, bytes) else 0)
        if len(chunk.items) == _CHUNK or held > _CHUNK_BYTES:
            yield chunk
            chunk, held = _Chunk([], []), 0
    if chunk.items:
        yield chunk


def _request(items: Sequence[Item], labels: Sequence[int]) -> list[bytes]:
    sources = (item.source for item in items)
    return pixels.request(
        labels,
        [b"b" + one if isinstance(one, bytes) else b"p" + os.fsencode(one) for one in sources],
    )


def _batch(
    items: Sequence[Item], reply: list[bytes], size: int | None, before: int | None
) -> Batch:
    if (bad := pixels.check(reply)) is not None:
        number, error = bad
        # Bytes that are no image are damaged, as a disk or a copy leaves them; others are refused.
        code = {"exit_code": EXIT_IO} if error.is_damaged else {}
        raise InputError(f"{items[number].where}: {error.what}", error.remedy, **code)
    _, sizes, digests, found = reply
    if size is None:
        for item, (width, height) in zip(items, struct.iter_unpack("<II", sizes), strict=True):
            _check_taken_as_is(item.where, width, height, before)
            before = width
    (side,) = struct.unpack_from("<I", sizes)
    return Batch(side, [digests[at : at + 32] for at in range(0, len(digests), 32)], found)


def _check_taken_as_is(where: str, width: int, height: int, before: int | None) -> None:
    if width != height:
        what = "not square"
    elif before not in (None, width):
        what = f"but the images before it are {before}x{before}"
    elif not SMALLEST <= width <= LARGEST:
        what = f"outside {SMALLEST} to {LARGEST} pixels"
    else:
        return
    fits = min(max(min(width, height, before or width), 32), 224)
    raise InputError(
        f"{where}: the image is {width}x{height}, {what}",
        f"bring all images to one size: --set data.size={fits} resizes the shorter side to {fits} "
        "pixels and crops the centre",
    )


_Replies = Generator[tuple[_Chunk, list[bytes]], None, None]


def _here(chunks: Iterator[_Chunk], size: int | None) -> _Replies:
    for chunk in chunks:
        yield chunk, pixels.answer(_request(*chunk), size)


def _by_processes(chunks: Iterator[_Chunk], size: int | None, count: int) -> _Replies:
    idle: queue.SimpleQueue[_Decoder] = queue.SimpleQueue()
    work: deque[tuple[_Chunk, Future[list[bytes]]]] = deque()

    def ask(chunk: _Chunk) -> list[bytes]:
        decoder = idle.get()
        try:
            return decoder.ask(chunk)
        finally:
            idle.put(decoder)

    with contextlib.ExitStack() as stack:
        # Each thread only waits for its process. The pool ends after the processes are gone.
        threads = stack.enter_context(ThreadPoolExecutor(count))
        stack.callback(threads.shutdown, wait=False, cancel_futures=True)
        for _ in range(count):
            idle.put(stack.enter_context(contextlib.closing(_Decoder(size))))
        for chunk in chunks:
            work.append((chunk, threads.submit(ask, chunk)))
            if len(work) >= _WAITING * count:
                done, future = work.popleft()
                yield done, future.result()
        for done, future in work:
            yield done, future.result()


class _Decoder:
    """A process that decodes."""

    def __init__(self, size: int | None) -> None:
        # -P: what lies beside the program is nothing that it may import.
        command = [sys.executable, "-P", str(Path(pixels.__file__)), str(size or 0)]
        # A group of its own: Ctrl-C is for this process, which then closes it.
        self._process = start(command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, process_group=0)

    def ask(self, chunk: _Chunk) -> list[bytes]:
        process = self._process
        try:
            pixels.send(cast(IO[bytes], process.stdin), _request(*chunk))  # type: ignore[arg-type]
            return pixels.receive(cast(IO[bytes], process.stdout))  # type: ignore[arg-type]
        except (OSError, EOFError):
            raise InputError(
                f"a process that decodes images ended by itself (exit code {process.wait()}) "
                f"between {chunk.items[0].where} and {chunk.items[-1].where}",
                "look whether memory ran out, or which of these images is damaged",
                exit_code=EXIT_IO,
            ) from None

    def close(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                cast(IO[bytes], pipe).close()
        self._process.wait()
