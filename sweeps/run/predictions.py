"""Predictions: what a task predicted of some examples, checked, as the table that is stored.

Classes are stored as their places among the classes' names, which run.parquet has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from local_machine.errors import InputError, nearest
from sweeps.run.class_names import MOST, check_names, join
from trial_records.columns import CLASSES_SCHEMA, LOGITS_SCHEMA, VALUES_SCHEMA

MOST_EXAMPLES = 10_000_000
MOST_LOGITS = 100_000_000
# The square of a larger value is more than a float holds many of.
LARGEST = 1e100

_PAIRS = ({"labels", "logits"}, {"labels", "predicted"}, {"targets", "values"})
_Array = NDArray[Any]


@dataclass(frozen=True)
class Checked:
    table: pa.Table
    classes: str | None
    """The classes' names, as run.parquet has them; None where numbers are predicted."""


def checked(
    labels: Any,
    logits: Any,
    predicted: Any,
    classes: Sequence[object] | None,
    targets: Any,
    values: Any,
) -> Checked:
    """What `Run.predict` was given. Raises InputError, which says what is wrong, and where."""
    every = {
        "labels": labels, "logits": logits, "predicted": predicted, "targets": targets,
        "values": values,
    }  # fmt: skip
    given = {name: _array(name, one) for name, one in every.items() if one is not None}
    if given.keys() not in _PAIRS or (classes is not None and labels is None):
        names = [*given, *["classes"] * (classes is not None)]
        raise InputError(
            f"run.predict was given {', '.join(names) or 'nothing'}",
            "give labels and logits, or labels and predicted, with classes if they have names; "
            "or targets and values",
        )
    _check_sizes(given)
    if "values" in given:
        numbers = {name: _numbers(name, one, np.float64) for name, one in given.items()}
        return Checked(
            _table(VALUES_SCHEMA, target=numbers["targets"], value=numbers["values"]), None
        )
    scores = given.pop("logits", None)
    if scores is not None:
        scores = _numbers("logits", scores, np.float32)
    width = None if scores is None else int(scores.shape[1])
    known = _names(given, classes, width)
    places = {name: _places(name, one, known) for name, one in given.items()}
    if scores is None:
        table = _table(CLASSES_SCHEMA, label=places["labels"], predicted=places["predicted"])
    else:
        starts = np.arange(len(scores) + 1, dtype=np.int32) * scores.shape[1]
        rows = pa.ListArray.from_arrays(pa.array(starts, pa.int32()), pa.array(scores.reshape(-1)))
        table = _table(LOGITS_SCHEMA, label=places["labels"], logits=rows)
    return Checked(table, join(known))


def _table(schema: pa.Schema, **columns: Any) -> pa.Table:
    index = np.arange(len(next(iter(columns.values()))), dtype=np.int32)
    return pa.table({"index": index, **columns}).cast(schema)


def _array(name: str, given: Any) -> _Array:
    """One value for each example; of logits, a row. Raises InputError."""
    try:
        if isinstance(given, list | tuple) and given and hasattr(given[0], "detach"):
            given = [_plain(one) for one in given]
        found = np.asarray(_plain(given))
    except (ValueError, TypeError, RuntimeError) as error:
        said = str(error).partition("\n")[0]
        raise InputError(
            f"run.predict: {name} cannot be made one array: {said}",
            "put batches together first, as with torch.cat or numpy.concatenate",
        ) from None
    if name == "logits":
        if found.ndim != 2 or found.shape[1] < 2:
            raise InputError(
                f"run.predict: logits have the shape {found.shape}, not (examples, classes)",
                "give one for each class; of one logit z for two classes, "
                "numpy.stack([0 * z, z], axis=1)",
            )
        return found
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim != 1:
        raise InputError(
            f"run.predict: {name} have the shape {found.shape}, not one value for each example",
            "choose one output, such as [:, 0]; of scores for each class, give them as logits",
        )
    return found


def _plain(given: Any) -> Any:
    """Of a tensor, on whatever device, what numpy takes."""
    if not hasattr(given, "detach"):
        return given
    given = given.detach().cpu()
    return (given.float() if str(given.dtype) == "torch.bfloat16" else given).numpy()


def _check_sizes(given: dict[str, _Array]) -> None:
    (one, first), (two, second) = given.items()
    if len(first) != len(second):
        raise InputError(
            f"run.predict: {len(first):,} {one} and {len(second):,} {two}",
            "give both of the same examples, in the same order",
        )
    if not 0 < len(first) <= MOST_EXAMPLES:
        raise InputError(
            f"run.predict: {len(first):,} examples",
            f"give 1 to {MOST_EXAMPLES:,}: of more, a sample drawn from a fixed seed",
        )
    if second.size > MOST_LOGITS:
        raise InputError(
            f"run.predict: {second.size:,} logits, more than {MOST_LOGITS:,}",
            "give fewer examples, or the predicted classes: predicted=logits.argmax(1)",
        )


def _numbers(name: str, given: _Array, kind: type[np.floating[Any]]) -> _Array:
    """Finite ones. Raises InputError."""
    if given.dtype.kind not in "fiu":
        raise _of_another_type(name, given, "numbers")
    with np.errstate(over="ignore"):
        found = given.astype(kind)
    bad = ~np.isfinite(found)
    if not bad.any() and kind is np.float64:
        bad = np.abs(found) > LARGEST
    if bad.any():
        place = np.argwhere(bad)[0].tolist()
        raise InputError(
            f"run.predict: {name}{place} is {given[tuple(place)]}",
            f"give finite numbers up to {LARGEST if kind is np.float64 else 3e38:g}: leave out "
            "examples without a value",
        )
    return found


def _of_another_type(name: str, given: _Array, wanted: str) -> InputError:
    return InputError(f"run.predict: {name} are of type {given.dtype}", f"give {wanted}")


# Classes


def _names(
    given: dict[str, _Array], classes: Sequence[object] | None, width: int | None
) -> tuple[str, ...]:
    """The classes, by their place. Raises InputError."""
    if classes is not None:
        if isinstance(classes, str) or not isinstance(classes, Iterable):
            raise InputError(
                f"run.predict: classes is {classes!r}", 'give each name: classes=("cat", "dog")'
            )
        names = check_names([str(one) for one in classes], "run.predict: classes")
        if width is not None and width != len(names):
            raise InputError(
                f"run.predict: logits of {width:,} classes, and {len(names):,} names",
                "give a name for each column of the logits, in their order",
            )
        return names
    if any(map(_is_text, given.values())):
        if width is not None:
            raise InputError(
                "run.predict: labels are texts, and nothing says which logit is of which",
                'name the columns of the logits in their order: classes=("cat", "dog")',
            )
        if not all(map(_is_text, given.values())):
            raise InputError(
                "run.predict: one of labels and predicted are texts, and the other numbers",
                'give both alike, or name the classes in their order: classes=("cat", "dog")',
            )
        found = {str(one) for array in given.values() for one in np.unique(array)}
        return check_names(sorted(found), "run.predict: labels")
    if width is None:
        for name, array in given.items():
            _check_places(name, array, MOST)
        width = 1 + max(int(array.max()) for array in given.values())
    elif width > MOST:
        raise InputError(f"run.predict: {width:,} classes", f"give at most {MOST:,}")
    return tuple(map(str, range(width)))


def _is_text(given: _Array) -> bool:
    if given.dtype.kind == "O":
        return all(isinstance(one, str) for one in given)
    return given.dtype.kind in "UT"


def _places(name: str, given: _Array, names: tuple[str, ...]) -> NDArray[np.int32]:
    """Raises InputError for what is not among the names."""
    if not _is_text(given):
        _check_places(name, given, len(names))
        return given.astype(np.int32)
    known = {one: place for place, one in enumerate(names)}
    texts, which = np.unique(given, return_inverse=True)
    for number, text in enumerate(texts):
        if str(text) not in known:
            first = int(np.flatnonzero(which == number)[0])
            raise InputError(
                f"run.predict: {name}[{first}] is {str(text)!r}, which is not one of the "
                f"{len(names):,} classes",
                nearest(str(text), names),
            )
    return np.array([known[str(text)] for text in texts], np.int32)[which]


def _check_places(name: str, given: _Array, width: int) -> None:
    if given.dtype.kind not in "biuf":
        raise _of_another_type(name, given, "whole numbers from 0, or names of classes")
    bad = ~((given >= 0) & (given < width) & (given == np.floor(given)))
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"run.predict: {name}[{first}] is {given[first]}",
            f"give whole numbers from 0 to {width - 1:,}, which count the classes; leave out "
            "examples without a label",
        )
