"""The file of predictions that a program left in its folder: CSV, Parquet or numpy's .npz.

Its columns, or arrays, are those of predictions.parquet: label and logit_0, logit_1, ...; label and
predicted; or target and value. `logit_cat, logit_dog` name the classes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from local_machine.errors import InputError
from local_machine.files import open_regular
from sweeps.run.handle import Run

LARGEST = 2**31
"""Bytes."""
# A column, and what `Run.predict` calls it.
_NAMES = {"label": "labels", "predicted": "predicted", "target": "targets", "value": "values"}
_LOGIT = "logit_"


def tell(run: Run, path: Path) -> None:
    """Have the run store what the file says. Raises InputError, which names it, where it is not
    there or holds something else; OSError."""
    given = _given(path)
    try:
        run.predict(**given)
    except InputError as error:
        what = error.what.removeprefix("run.predict: ").replace("run.predict was given", "it has")
        raise InputError(f"{path}: {what}", error.help) from None


def _given(path: Path) -> dict[str, Any]:
    try:
        with io.BufferedReader(open_regular(path)) as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise InputError(
            f"the program ended and left no predictions: {path}: {error.strerror}",
            "have it write that file before it ends, or leave out predictions=",
        ) from None
    if len(content) > LARGEST:
        raise InputError(f"{path} has more than {LARGEST:,} bytes", "write fewer examples")
    try:
        columns = _npz(content) if path.suffix == ".npz" else _table(content, path.suffix)
    # A file of another kind makes the libraries raise anything.
    except Exception as error:
        said = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(
            f"{path} cannot be read: {said}", "write CSV with a header, Parquet or numpy.savez"
        ) from None
    given = {_NAMES[name]: columns.pop(name) for name in list(columns) if name in _NAMES}
    if "logits" in columns and "classes" in columns:
        given["classes"] = columns.pop("classes").reshape(-1).tolist()
    if "logits" in columns:
        return given | {"logits": columns["logits"]}
    names = [name for name in columns if name.startswith(_LOGIT)]
    if names:
        classes = [name.removeprefix(_LOGIT) for name in names]
        if set(classes) == set(map(str, range(len(names)))):
            names.sort(key=lambda name: int(name.removeprefix(_LOGIT)))
        else:
            given["classes"] = classes
        given["logits"] = np.stack([columns[name] for name in names], axis=1)
    return given


def _table(content: bytes, suffix: str) -> dict[str, Any]:
    if suffix == ".csv":
        return _csv(content)
    table = pq.read_table(pa.BufferReader(content), use_threads=False, pre_buffer=False)
    return {name: table[name].to_numpy() for name in table.column_names}


def _csv(content: bytes) -> dict[str, Any]:
    """Not by pyarrow: a process that has read CSV with it cannot be forked any more."""
    rows = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    header, cells = next(rows, []), [row for row in rows if row]
    if not header or len(set(header)) < len(header):
        raise ValueError("its first line does not name its columns, each once")
    for number, row in enumerate(cells, start=1):
        if len(row) != len(header):
            raise ValueError(f"row {number} has {len(row)} cells, and the header {len(header)}")
    columns = zip(*cells, strict=True) if cells else [()] * len(header)
    return dict(zip(header, map(_column, columns), strict=True))


def _column(texts: Sequence[str]) -> Any:
    """As whole numbers or as numbers, where all of them are; an empty cell is not a number."""
    if not any("_" in text for text in texts):  # which Python takes for a thousands separator
        try:
            return np.array([int(text) for text in texts], np.int64)
        except (ValueError, OverflowError):
            pass
        try:
            return np.array([float(text or "nan") for text in texts])
        except ValueError:
            pass
    return np.array(texts, object)


def _npz(content: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)
