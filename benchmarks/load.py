"""How long the report takes to read what trials left, at 10,000 trials of 100 epochs.

    python benchmarks/load.py

Every trial has a run.parquet and an epochs.parquet, and one plan holds them all. The peer reads
the same columns of the same files with pyarrow.dataset into pandas, and neither checks them nor
tells which trial they are of. At the end the sweep is compacted and read so. Each reading is a
process of its own, and its seconds of processor time are what counts where others use the machine
too.

Two processors (AMD EPYC): 6.7 s, 11.8 s of processor time and 0.67 GiB, 0.72 of the peer's
processor time (16.2 s, 11.8 s by the clock, 2.07 GiB); 100 trials take 0.14 s. Nearly all of it is
pyarrow's: a footer of 75 columns to parse and 30 of them to decode is 0.7 ms a run.parquet.
Compacted: 1.5 s and 0.61 GiB, on the same machine with others on it.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from done import build, define

from sweeps.compact import archive_writer
from sweeps.state.trial_store import TrialStore
from trial_records import tables, trial_files


def ours(results: Path) -> int:
    from analysis.cifar10.task import load

    (plan,) = load(results, []).plans
    assert (plan.runs["state"] == "done").all()
    return len(plan.epochs)


def peer(results: Path) -> int:
    from pyarrow import dataset

    from analysis.reading.frames import run_schema

    rows = 0
    for file, schema in (
        (trial_files.RUN, run_schema()),
        (trial_files.EPOCHS, tables.EPOCHS_SCHEMA),
    ):
        paths = [str(path) for path in sorted(results.glob(f"*/*/{file}"))]
        rows = len(dataset.dataset(paths, schema=schema).to_table().to_pandas())
    return rows


READERS = {"ours": ours, "peer": peer}


@dataclass(frozen=True)
class Cost:
    rows: int
    wall: float  # seconds, and those of the processor, children included
    cpu: float
    gib: float  # the peak of the process plus the largest of its children's


def measured(reader: str, results: Path) -> Cost:
    """In this process, which has read nothing before. What is imported is not timed."""
    import pandas as pd
    import pyarrow.dataset
    import pyarrow.parquet

    import analysis.cifar10.task

    assert pd and pyarrow and analysis
    start = time.perf_counter(), _processor_seconds()
    rows = READERS[reader](results)
    wall, cpu = time.perf_counter() - start[0], _processor_seconds() - start[1]
    peaks = [resource.getrusage(who).ru_maxrss for who in _WHO]
    return Cost(rows, wall, cpu, sum(peaks) / 2**20)


_WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def _processor_seconds() -> float:
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, _WHO))


def compact(results: Path) -> float:
    """Compact the sweep; in how many seconds."""
    start = time.perf_counter()
    store = TrialStore(results, "wide")
    with archive_writer.held(store) as folder:
        found = archive_writer.gather(store, store.plans()[0].trials, folder)
    assert not found.open
    assert not found.damaged
    return time.perf_counter() - start


def put_back(results: Path) -> None:
    store = TrialStore(results, "wide")
    with archive_writer.held(store):
        archive_writer.put_back(store)


def one(reader: str, results: Path) -> Cost:
    command = [sys.executable, __file__, "--read", reader, "--results", str(results)]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root)
    return Cost(**json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the reading of many trials' results.")
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3, help="of each reader, in turn")
    parser.add_argument("--results", type=Path, help="a folder that an earlier run has built")
    parser.add_argument("--read", choices=READERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        print(json.dumps(asdict(measured(options.read, options.results))))
        return
    with tempfile.TemporaryDirectory() as folder:
        few, many = Path(folder) / "few", options.results or Path(folder) / "many"
        definition = Path(folder) / "wide.py"
        build(few, define(definition, 100))
        if not many.exists():
            build(many, define(definition, options.trials))
        found = [
            (one("ours", few), one("ours", many), one("peer", many)) for _ in range(options.runs)
        ]
        assert all(mine.rows == other.rows for _, mine, other in found)
        seconds = compact(many)
        packed = [one("ours", many) for _ in range(options.runs)]
        if options.results:
            put_back(many)
    assert all(after.rows == mine.rows for after, (_, mine, _) in zip(packed, found, strict=True))
    columns = [*zip(*found, strict=True), tuple(packed)]
    labels = ("100 trials", "many trials", "the peer", "many, compacted")
    for label, costs in zip(labels, columns, strict=True):
        wall, cpu, gib = (
            statistics.median(getattr(c, key) for c in costs) for key in ("wall", "cpu", "gib")
        )
        print(f"{label}: {wall:.2f} s, {cpu:.2f} s of processor time, {gib:.2f} GiB at the peak")
    ratio = statistics.median(mine.cpu / other.cpu for _, mine, other in found)
    growth = statistics.median(mine.cpu / first.cpu for first, mine, _ in found)
    print(f"processor time: {ratio:.2f} of the peer's; {growth:.0f} times that of 100 trials")
    print(f"compacted in {seconds:.1f} s")


if __name__ == "__main__":
    main()
