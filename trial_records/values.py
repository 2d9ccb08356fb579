"""Digests of values: what a table says, however it is stored.

A rewrite of the table by another program with equal values has the same digest: the order and width
of columns, whether they may be null, dictionaries, and columns that somebody added do not matter.
A null and a NaN are the same, as they are for pandas; so are an integer and an equal float.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

# From here on, floats do not hold every integer.
_EXACT = 2**53


def digest(table: pa.Table, names: Iterable[str]) -> str:
    """`<64 hex digits>:<name>,<name>,...`: the SHA-256 of the columns of these names, then which
    they are, since a later version may have others. One that is missing, or has no value at all, is
    as if it were empty."""
    covered = sorted(names)
    whole = hashlib.sha256(str(table.num_rows).encode())
    for name in covered:
        content = _canonical(table[name].combine_chunks()) if name in table.column_names else b""
        if content:
            whole.update(f"\n{json.dumps(name)} {len(content)} ".encode())
            whole.update(content)
    return f"{whole.hexdigest()}:{','.join(covered)}"


def match(table: pa.Table, expected: str) -> bool:
    """Whether the table has the values that the digest was made of."""
    return digest(table, covered(expected)) == expected


def covered(digest: str) -> list[str]:
    """The names of the columns that a digest is of."""
    return digest.partition(":")[2].split(",")


def _canonical(column: pa.Array) -> bytes:
    """The column's values; nothing where it has none."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _canonical(column.dictionary_decode())
    if column.null_count == len(column):
        return b""
    if pa.types.is_boolean(kind):
        states: NDArray[np.uint8] = column.cast(pa.uint8()).fill_null(2).to_numpy()
        return b"bool " + states.tobytes()
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _numbers(column)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        lengths: NDArray[np.integer] = pc.fill_null(pc.list_value_length(column), -1).to_numpy()
        return b"list " + lengths.astype("<i8").tobytes() + _canonical(pc.list_flatten(column))
    return b"other " + json.dumps(column.to_pylist(), default=str).encode()


def _numbers(column: pa.Array) -> bytes:
    stored: NDArray[np.generic] = column.fill_null(0).to_numpy(zero_copy_only=False)
    floats = stored.astype("<f8") + 0.0  # of the two zeros, the positive one
    floats[column.is_null().to_numpy(zero_copy_only=False) | np.isnan(floats)] = np.nan
    if np.isnan(floats).all():
        return b""
    large = np.isfinite(floats) & (np.abs(floats) >= _EXACT)
    rest = str([int(value) for value in stored[large].tolist()]) if large.any() else ""
    return b"number " + floats.tobytes() + rest.encode()
