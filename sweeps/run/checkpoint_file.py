"""checkpoint.pt: what a task saved, what of the log that commits, and the random generators; one
file, written whole, and never unpickled freely."""

from __future__ import annotations

import errno
import functools
import io
import json
import os
import sys
import zipfile
from collections import Counter, OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_machine import json_files
from local_machine.errors import InputError, need
from local_machine.files import write_atomic
from sweeps.run import torchless
from sweeps.run.random_states import State
from trial_records.log import START, Mark

SCHEMA_VERSION = 2
# Version 0.1's: the state's fields beside these two, the trial's rows among them.
OF_0_1 = 1

# How a plain one begins.
_OBJECT = b"{"
# A zip file ends in a record that begins so, and that holds a comment of at most 64 KiB.
ZIP_END, ZIP_END_BYTES = b"PK\x05\x06", 22 + 2**16


class DamagedCheckpointError(Exception):
    """The file is not a checkpoint of this trial; the message says why."""


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds."""

    state: Any
    fingerprint: str
    attempt: int = 1
    log: Mark = START
    """What of the log it commits."""
    generators: tuple[State, ...] = ()
    """Of each rank; none where the task draws its numbers from its seed."""
    folder: str = ""
    """Beside it: what `run.checkpoint` committed; "" for none."""
    version: int = SCHEMA_VERSION


def encoded(value: Any) -> bytes | memoryview:
    """A zip file, in memory. It is torch's where the process has imported torch, without which no
    value holds a tensor; torch's own writer turns a full disk into a RuntimeError without a cause.
    """
    if "torch" not in sys.modules:
        return torchless.encoded(value)
    import torch

    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getbuffer()


def write(path: Path, saved: Saved, *, plain: bool = False) -> None:
    """Write aside, sync, rename, sync the folder; `plain`: as sealed JSON, for which nobody needs
    torch. Raises OSError; the file that was there then still is."""
    value = {
        "schema_version": SCHEMA_VERSION,
        "fingerprint": saved.fingerprint,
        "attempt": saved.attempt,
        "log": tuple(saved.log),
        "generators": saved.generators,
        "folder": saved.folder,
        "state": saved.state,
    }
    content = json_files.sealed(json.dumps(value)) if plain else encoded(value)
    write_atomic(path, lambda file: file.write(content))


def read(path: Path, fingerprint: str) -> Saved | None:
    """What was saved, on the CPU; None where there is no file.

    Raises DamagedCheckpointError where the file is cut short, has a flipped bit, holds another
    trial's state or anything but tensors, numpy arrays and plain values; OSError where the disk
    does not give the file, which may be whole, and for what is not a file.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    try:
        with path.open("rb") as file:
            if file.read(1) == _OBJECT:
                return _saved(_opened(_OBJECT + file.read()), fingerprint)
            # What is not a checkpoint may be of any size, and its end tells.
            file.seek(-min(file.seek(0, os.SEEK_END), ZIP_END_BYTES), os.SEEK_END)
            if ZIP_END not in file.read():
                raise DamagedCheckpointError("File is not a zip file")
            file.seek(0)
            content = io.BytesIO(file.read())
    except FileNotFoundError:
        return None
    return _saved(decoded(content), fingerprint)


def _opened(content: bytes) -> Any:
    """Of a plain checkpoint. Raises DamagedCheckpointError."""
    try:
        value, is_sealed = json_files.opened(content)
    except (ValueError, RecursionError) as error:
        raise DamagedCheckpointError(str(error)) from None
    if not is_sealed:
        raise DamagedCheckpointError("it has no seal")
    return value


def decoded(content: io.BytesIO) -> Any:
    """What `encoded` was given. Raises DamagedCheckpointError, and InputError where it takes torch,
    which is not installed."""
    try:
        with zipfile.ZipFile(content) as archive:
            # torch reads tensors without looking at the checksums that it wrote.
            if (bad := archive.testzip()) is not None:
                raise DamagedCheckpointError(f"checksum of {bad} is wrong")
            if torchless.MEMBER in archive.namelist():
                return torchless.decoded(archive)
        content.seek(0)
        return _by_torch(content)
    except (DamagedCheckpointError, InputError):
        raise
    # Flipped bits make zipfile and torch raise whatever they happen to run into.
    except Exception as error:
        first = str(error).partition("\n")[0]
        raise DamagedCheckpointError(first or type(error).__name__) from None


def _by_torch(content: io.BytesIO) -> Any:
    need("torch", "a checkpoint with tensors in it")
    import torch

    with torch.serialization.safe_globals(_of_numpy()):
        return torch.load(content, map_location="cpu", weights_only=True)


@functools.cache
def _of_numpy() -> list[Any]:
    """What makes numpy's arrays and scalars, none of which runs code that a file gives."""
    import _codecs

    import numpy as np

    kinds = {type(np.dtype(code)) for code in "?bhilqBHILQefdgFDGSUMm"}
    array, scalar = np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]
    return [np.ndarray, np.dtype, array, scalar, _codecs.encode, *kinds]


def _saved(value: Any, fingerprint: str) -> Saved:
    version = value.get("schema_version") if isinstance(value, dict) else None
    if version not in (OF_0_1, SCHEMA_VERSION):
        raise DamagedCheckpointError("written by another version")
    if (other := value.get("fingerprint")) != fingerprint:
        raise DamagedCheckpointError(f"holds trial {str(other)[:8]}")
    if version == OF_0_1:
        named = ("schema_version", "fingerprint")
        state = {name: one for name, one in value.items() if name not in named}
        return Saved(state, fingerprint, version=OF_0_1)
    try:
        return Saved(
            value["state"], fingerprint, value["attempt"], Mark(*value["log"]),
            tuple(value["generators"]), value["folder"],
        )  # fmt: skip
    except (KeyError, TypeError) as error:
        raise DamagedCheckpointError(f"it lacks {error}") from None


def refuse_unloadable(state: Any, at: str = "state") -> None:
    """Raises InputError for what could be saved and not be loaded, with the key it stands at."""
    kind = type(state)
    if kind.__module__.partition(".")[0] in ("torch", "numpy"):
        if _is_loadable(state):
            return
    elif kind in (int, float, bool, str, bytes, bytearray, complex, type(None)):
        return
    elif kind in (dict, OrderedDict, Counter):
        _refuse_in(state, at)
        return
    elif kind in (list, tuple, set):
        for place, value in enumerate(state):
            refuse_unloadable(value, f"{at}[{place}]")
        return
    elif _is_tensor(state):
        return
    raise InputError(
        f"{at} cannot be saved: it is of type {kind.__module__}.{kind.__qualname__}, which could "
        "not be loaded again",
        "save what it is made of: its state_dict(), or tensors, numpy arrays, numbers, texts, "
        "lists and dicts of them",
    )


def _refuse_in(state: dict[Any, Any], at: str) -> None:
    for key, value in state.items():
        refuse_unloadable(key, f"the key {key!r} of {at}")
        refuse_unloadable(value, f"{at}[{key!r}]")


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _is_loadable(value: Any) -> bool:
    """Of what numpy or torch has made."""
    import numpy as np

    if isinstance(value, np.ndarray | np.generic):
        # A subclass, such as a masked array, would come back without what it adds.
        is_one = type(value) is np.ndarray or isinstance(value, np.generic)
        return is_one and type(value.dtype) in _of_numpy() and not value.dtype.hasobject
    if (torch := sys.modules.get("torch")) is None:
        return False
    return isinstance(value, (torch.Tensor, torch.dtype, torch.device, torch.Size))
