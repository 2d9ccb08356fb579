"""Past runs: what the finished trials of a results folder tell of their cost."""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from local_machine.errors import InputError
from local_machine.files import matching
from trial_records import archive, trial_files

if TYPE_CHECKING:
    from sweeps.task import CostModel, PastRun

# Reading a run takes half a millisecond, so of many only some are read: the newest, and others
# at random, among which every shape of a grid is likely to be.
NEWEST, OTHERS = 100, 200

_File = tuple[int, bytes | None]
"""When it was written, in ns; and its content, where it is compacted."""


def past_runs(results: Path, model: CostModel) -> list[PastRun]:
    """Finished trials of any sweep in the folder, newest first; of many only some. A file that
    cannot be read, is of another task, or tells no cost, is left out."""
    files = _files(results)
    found = sorted(((when, path) for path, (when, _) in files.items()), reverse=True)
    others = found[NEWEST:]
    # Not every n-th: a grid's axis may have n values. The same ones in every call.
    chosen = found[:NEWEST] + random.Random(0).sample(others, min(OTHERS, len(others)))
    runs = (_read(Path(path), files[path][1], model) for _, path in sorted(chosen, reverse=True))
    return [run for run in runs if run is not None]


def _files(results: Path) -> dict[str, _File]:
    """Each run.parquet, by its path."""
    compacted = set(matching(results, f"*/{archive.FOLDER}/"))
    files = dict(_loose(matching(results, f"*/*/{trial_files.RUN}")))
    # What is compacted meanwhile is there now, and what is put back meanwhile in its folder.
    for sweep in {
        path.parent for path in compacted | set(matching(results, f"*/{archive.FOLDER}/"))
    }:
        files |= dict(_compacted(sweep))
        files = dict(_loose(matching(sweep, f"*/{trial_files.RUN}"))) | files
    return files


def _loose(paths: Iterable[Path]) -> Iterator[tuple[str, _File]]:
    for path in paths:
        with contextlib.suppress(OSError):
            yield str(path), (path.stat().st_mtime_ns, None)


def _compacted(sweep: Path) -> Iterator[tuple[str, _File]]:
    """The run.parquet of each compacted trial, under the path that it had."""
    column = f"files.{trial_files.RUN}"
    for part in archive.parts(sweep):
        try:
            table = archive.read(part, ["trial", column])
        except (InputError, OSError):
            continue
        files = table["files"].combine_chunks().field(trial_files.RUN)
        rows = zip(table["trial"].to_pylist(), files.to_pylist(), strict=True)
        for name, file in rows:
            yield str(sweep / name / trial_files.RUN), (file["mtime_ns"], file["bytes"])


def _read(path: Path, content: bytes | None, model: CostModel) -> PastRun | None:
    """The run of a run.parquet, whose content is given where it is not in its place."""
    import pyarrow as pa

    from trial_records import tables

    try:
        found = trial_files.content(path) if content is None else content
        table = tables.checked(path, found, model.columns).table
        tables.check_is_one_row(path, table)
        schema = pa.schema([one for one in tables.run_schema() if one.name in model.columns])
        (row,) = tables.conform(path, table, schema).to_pylist()
        return model.read(row, functools.partial(trial_files.read_values, path.parent))
    except (InputError, OSError, ValueError, LookupError, TypeError):
        return None
