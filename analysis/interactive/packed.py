"""Packed: arrays as short text in a page's JSON, which `decode.js` reads when a reader asks."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

# What JavaScript's typed arrays are called here; all little-endian.
_KINDS = {"f8": "f64", "f4": "f32", "u4": "u32", "u2": "u16", "u1": "u8"}


def array(values: NDArray[Any]) -> dict[str, str]:
    """One dimension of float64, float32, uint32, uint16 or uint8, unchanged."""
    kind = f"{values.dtype.kind}{values.dtype.itemsize}"
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return {"type": _KINDS[kind], "data": _deflated(little.tobytes())}


def texts(values: Sequence[str]) -> dict[str, str]:
    return {"type": "json", "data": _deflated(json.dumps(list(values)).encode())}


def _deflated(content: bytes) -> str:
    # As DecompressionStream("deflate-raw") reads it: without header and checksum.
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return base64.b64encode(packer.compress(content) + packer.flush()).decode()
