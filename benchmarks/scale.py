"""What the orchestrator costs at 100, 1,000 and 10,000 trials: seconds and memory of each command.

    python benchmarks/scale.py

Each command is a process of its own, as a user types it, its start included. Trials are at their
beginning for a dry run and for a submission of 8 workers to a Slurm of its own
(slurm.dev_cluster), and done, with records of the real schemas (done.py), for all else. There is
no peer that does the same. Growth is seconds beside those of ten times fewer trials. Seconds of
processor time are what counts where others use the machine too.

Last measured at 10,000 trials on two processors of an AMD EPYC, nothing else running, one run, in
seconds (at 1,000): dry run 1.8 as a table (1.4) and 2.4 as JSON (1.0), submission 8.5 (1.7), status
1.7 (0.8), at its first look 21.2, launch with all done 1.6 (0.9), load 9.9 (3.3: imports of the
report are 1.5), compacted 3.4 (1.9), compacting 38 (4.9). The most memory was 587 MiB, of the
compacted load. The table is in docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from done import build, define

ROOT = Path(__file__).parents[1]
LOAD = """
import sys
from pathlib import Path
from analysis.cifar10.task import load
from local_machine.errors import seldom_collect
seldom_collect()  # as the report does
load(Path(sys.argv[1]), [])
"""
WORKERS = "8"


@dataclass(frozen=True)
class Cost:
    wall: float  # seconds
    cpu: float  # seconds of the processor, children included
    mib: float  # the peak of the largest of its processes


def cost(words: list[str], environment: dict[str, str]) -> Cost:
    """Of `python words...`. Raises CalledProcessError where it fails."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=ROOT,
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words, stderr=said.decode())
    unit = 2**20 if sys.platform == "darwin" else 2**10
    wall = time.perf_counter() - start
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / unit)


def costs(folder: Path, trials: int, cluster: dict[str, str]) -> Iterator[tuple[str, Cost]]:
    """What is measured, one after the other; with Slurm where there is a cluster's environment."""
    definition = str(define(folder / "wide.py", trials))
    none, done = str(folder / "none"), str(folder / "done")
    here = dict(os.environ)
    launch = ["-m", "sweeps.launch", definition, "--on", "local", "--results"]
    status = ["-m", "sweeps.status", "wide", "--results", done]
    load = ["-c", LOAD, done]
    yield "launch --dry-run", cost([*launch, none, "--dry-run"], here)
    yield "launch --dry-run --json", cost([*launch, none, "--dry-run", "--json"], here)
    if cluster:
        words = ["-m", "sweeps.launch", definition, "--on", "slurm", "--site", "dev_cluster"]
        words += ["--workers", WORKERS, "--detach", "--set", "data.name=digits", "--results", none]
        yield "launch on Slurm", cost(words, here | cluster)
        scheduler = ["scancel", "--user", str(os.getuid())]
        subprocess.run(scheduler, check=True, env=here | cluster)
    # In a process of its own: what a process had at most counts for the next one that it starts.
    building = multiprocessing.get_context("spawn").Process(
        target=build, args=(Path(done), Path(definition))
    )
    building.start()
    building.join()
    assert building.exitcode == 0
    yield "status, the first", cost(status, here)
    yield "status", cost(status, here)
    yield "status --json", cost([*status, "--json"], here)
    yield "launch, all done", cost([*launch, done], here)
    yield "load", cost(load, here)
    yield "compact", cost(["-m", "sweeps.compact", "wide", "--results", done], here)
    yield "load, compacted", cost(load, here)
    yield "status, compacted, the first", cost(status, here)
    yield "status, compacted", cost(status, here)


def up(folder: Path) -> dict[str, str]:
    """Start a Slurm; what to set to use it."""
    words = [sys.executable, "-m", "slurm.dev_cluster", "up", "--dir", str(folder)]
    said = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout
    name, _, value = said.strip().removeprefix("export ").partition("=")
    return {name: value}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the commands on sweeps of many trials.")
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--no-slurm", action="store_true", help="leave the submission out")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    found: dict[str, dict[int, Cost]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        cluster = {} if options.no_slurm else up(Path(temporary) / "cluster")
        try:
            for trials in options.trials:
                for label, one in costs(Path(temporary) / str(trials), trials, cluster):
                    found.setdefault(label, {})[trials] = one
                    print(f"{trials} {label}: {one}", file=sys.stderr)
        finally:
            if cluster:
                words = ["-m", "slurm.dev_cluster", "down", "--dir", f"{temporary}/cluster"]
                subprocess.run([sys.executable, *words], check=True, cwd=ROOT)
    if options.json:
        print(
            json.dumps(
                {label: {n: vars(c) for n, c in row.items()} for label, row in found.items()}
            )
        )
        return
    for label, row in found.items():
        print(label)
        last = None
        for trials, one in row.items():
            line = f"  {trials:>6} trials: {one.wall:6.2f} s, {one.cpu:6.2f} s of processor time, "
            line += f"{one.mib:5.0f} MiB"
            print(line + (f", {one.cpu / last.cpu:.1f} times" if last else ""))
            last = one


if __name__ == "__main__":
    main()
