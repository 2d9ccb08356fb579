"""A state of plain values and numpy arrays as a zip file, for which nobody needs torch.

`state.json` has the values; each array is a .npy beside it. A kind that JSON lacks is an object
with the key `$`. Nothing is unpickled.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

MEMBER = "state.json"
_KIND, _OF = "$", "of"
# JSON's readers bound how many digits a number has.
_LARGEST = 2**63

# What each kind is made of, and how it is made again.
_MAPPINGS: dict[str, type[Any]] = {"dict": dict, "ordered": OrderedDict, "counter": Counter}
_SEQUENCES: dict[str, type[Any]] = {"tuple": tuple, "set": set}
_TEXTS: dict[str, Callable[[str], Any]] = {
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "int": lambda text: int(text, 16),
    "complex": complex,
}


def encoded(value: Any) -> bytes:
    """The file's content, of a value that `checkpoint_file.refuse_unloadable` accepts."""
    arrays: list[Any] = []
    plain = _plain(value, arrays)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(MEMBER, json.dumps(plain))
        for number, array in enumerate(arrays):
            with archive.open(f"{number}.npy", "w", force_zip64=True) as file:
                _save(file, array)
    return buffer.getvalue()


def decoded(archive: zipfile.ZipFile) -> Any:
    """What `encoded` was given. Raises LookupError, TypeError or ValueError for what it did not
    write."""
    return _value(json.loads(archive.read(MEMBER)), archive)


def _plain(value: Any, arrays: list[Any]) -> Any:
    kind = type(value)
    if kind in (str, float, bool, type(None)) or (kind is int and abs(value) < _LARGEST):
        return value
    if kind is list:
        return [_plain(one, arrays) for one in value]
    if kind is dict and _KIND not in value and all(type(key) is str for key in value):
        return {key: _plain(one, arrays) for key, one in value.items()}
    for name, mapping in _MAPPINGS.items():
        if kind is mapping:
            pairs = [[_plain(key, arrays), _plain(one, arrays)] for key, one in value.items()]
            return {_KIND: name, _OF: pairs}
    for name, sequence in _SEQUENCES.items():
        if kind is sequence:
            return {_KIND: name, _OF: [_plain(one, arrays) for one in value]}
    if kind in (bytes, bytearray):
        return {_KIND: kind.__name__, _OF: value.hex()}
    if kind in (int, complex):
        return {_KIND: kind.__name__, _OF: hex(value) if kind is int else repr(value)}
    import numpy as np

    arrays.append(value)
    return {_KIND: "scalar" if isinstance(value, np.generic) else "array", _OF: len(arrays) - 1}


def _value(plain: Any, archive: zipfile.ZipFile) -> Any:
    if isinstance(plain, list):
        return [_value(one, archive) for one in plain]
    if not isinstance(plain, dict):
        return plain
    if _KIND not in plain:
        return {key: _value(one, archive) for key, one in plain.items()}
    kind, of = plain[_KIND], plain[_OF]
    if kind in _MAPPINGS:
        pairs = {_value(key, archive): _value(one, archive) for key, one in of}
        return _MAPPINGS[kind](pairs)
    if kind in _SEQUENCES:
        return _SEQUENCES[kind](_value(one, archive) for one in of)
    if kind in _TEXTS:
        return _TEXTS[kind](of)
    array = _load(archive, of)
    return array[()] if kind == "scalar" else array


def _save(file: Any, array: Any) -> None:
    import numpy as np

    np.save(file, array, allow_pickle=False)


def _load(archive: zipfile.ZipFile, number: int) -> Any:
    import numpy as np

    return np.load(io.BytesIO(archive.read(f"{number}.npy")), allow_pickle=False)
