"""Saving and resuming: everything that the next epoch needs, in one file, written atomically."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import zipfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import torch
from torch.utils._pytree import tree_map_only

from local_machine.files import write_atomic

log = logging.getLogger("trainer")

SCHEMA_VERSION = 1

# A zip file ends in a record that begins so, and that holds a comment of at most 64 KiB.
ZIP_END, ZIP_END_BYTES = b"PK\x05\x06", 22 + 2**16


class DamagedCheckpointError(Exception):
    """The file is not a checkpoint of this trial; the message says why."""


def save(path: Path, state: dict[str, Any], fingerprint: str) -> None:
    """Raises OSError where the disk is full; the checkpoint that was there then still is."""
    state = {"schema_version": SCHEMA_VERSION, "fingerprint": fingerprint, **state}
    # Through memory: torch's writer turns a full disk into a RuntimeError without a cause.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomic(path, lambda file: file.write(buffer.getbuffer()))


def load(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """The saved state, on the CPU; None where there is no file.

    Raises DamagedCheckpointError where the file is cut short, has a flipped bit, holds another
    trial's state or anything but tensors and plain values (it is never unpickled freely); OSError
    where the disk does not give the file, which may be whole, and for what is not a file.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    try:
        with path.open("rb") as file:
            # What is not a checkpoint may be of any size, and its end tells.
            file.seek(-min(file.seek(0, os.SEEK_END), ZIP_END_BYTES), os.SEEK_END)
            if ZIP_END not in file.read():
                raise DamagedCheckpointError("File is not a zip file")
            file.seek(0)
            content = io.BytesIO(file.read())
    except FileNotFoundError:
        return None
    try:
        with zipfile.ZipFile(content) as archive:
            # torch reads tensors without looking at the checksums that it wrote.
            if (bad := archive.testzip()) is not None:
                raise DamagedCheckpointError(f"checksum of {bad} is wrong")
        content.seek(0)
        state = torch.load(content, map_location="cpu", weights_only=True)
    except DamagedCheckpointError:
        raise
    # Flipped bits make zipfile and torch raise whatever they happen to run into.
    except Exception as error:
        first = str(error).partition("\n")[0]
        raise DamagedCheckpointError(first or type(error).__name__) from None
    if not isinstance(state, dict) or state.get("schema_version") != SCHEMA_VERSION:
        raise DamagedCheckpointError("written by another version")
    if (other := state.get("fingerprint")) != fingerprint:
        raise DamagedCheckpointError(f"holds trial {str(other)[:8]}")
    return state


class Writer:
    """Does the writing of an epoch while a GPU trains the next; on a CPU, which has nothing to
    spare, at once. One epoch's at a time. Leaving its context waits for the last one.

    A ResNet-18's checkpoint takes half a second and a WRN-28-10's two and a half, of epochs that
    take an H100 one and four.
    """

    def __init__(self, device: torch.device, *, aside: bool | None = None) -> None:
        self._device = device
        self._aside = device.type == "cuda" if aside is None else aside
        self._threads = ThreadPoolExecutor(1, "checkpoint")
        self._last: Future[None] | None = None

    def __call__(self, state: dict[str, Any], write: Callable[[dict[str, Any]], None]) -> None:
        """Have `write(state)` done, with the tensors as they are now. Raises what the one before
        raised."""
        self.wait()
        if not self._aside:
            write(state)
            return
        # best_weights are never written into, and lie on the host already.
        moving = {key: value for key, value in state.items() if key != "best_weights"}
        copied = tree_map_only(torch.Tensor, torch.clone, moving)
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()
        self._last = self._threads.submit(self._write, {**state, **copied}, write)

    def _write(self, state: dict[str, Any], write: Callable[[dict[str, Any]], None]) -> None:
        # On a stream of its own: on the training's, each tensor would wait for all the steps that
        # have been launched by then.
        stream = (
            torch.cuda.stream(torch.cuda.Stream(self._device))  # type: ignore[no-untyped-call]
            if self._device.type == "cuda"
            else contextlib.nullcontext()
        )
        with stream:
            write(state)

    def wait(self) -> None:
        """Until nothing is being written. Raises what the last writing raised."""
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.wait()
        except OSError as error:
            # What ended the training says more.
            if kind is None:
                raise
            log.warning("the last epoch was not written: %s", error)
        finally:
            self._threads.shutdown()
