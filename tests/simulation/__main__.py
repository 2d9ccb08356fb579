"""Play many seeds, on all cores; show, shrink and keep those that fail.

python -m simulation --count 10000 [--start S]    # with tests/ on PYTHONPATH
python -m simulation --replay 17     # one, with its trace
python -m simulation --mutations                  # the first seed that finds each of them
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable

from simulation.mutations import MUTATIONS
from simulation.scenario import as_line, drawn, parsed
from simulation.shrink import play, shrunk

TRACE_LINES = 60
MOST_SEEDS = 1000
MOST_SHRUNK = 3


def violations_of(line: str) -> tuple[str, list[str], int]:
    """The line of a scenario, what did not hold, and the steps it took."""
    outcome = play(parsed(line))
    return line, outcome.violations, outcome.steps


def failure(line: str) -> str:
    """A failing scenario, shrunk, with the end of its trace."""
    small = shrunk(parsed(line))
    outcome = play(small, traced=True)
    found = [at for at, one in enumerate(outcome.trace) if " VIOLATION " in one]
    trace = outcome.trace[: found[0] + 1] if found else outcome.trace
    return "\n".join(
        [
            f"seed {line} fails; shrunk: {as_line(small)}",
            *(f"  {one}" for one in trace[-TRACE_LINES:]),
            *outcome.violations[:3],
            "put the shrunk line into tests/simulation/seeds.txt, and fix what is wrong",
        ]
    )


def play_all(lines: Iterable[str], jobs: int) -> tuple[int, int, list[str]]:
    """Play the scenarios: how many, how many steps, and the lines of those that fail."""
    count = steps = 0
    failing: list[str] = []
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        for line, violations, taken in pool.imap_unordered(violations_of, lines, chunksize=10):
            count, steps = count + 1, steps + taken
            if violations:
                failing.append(line)
                print(f"seed {line}: {violations[0]}", flush=True)
    return count, steps, failing


def first_found(name: str) -> tuple[str, int | None, str]:
    """The first seed that finds a mutation, and what it found."""
    for seed in range(MOST_SEEDS):
        outcome = play(parsed(f"{seed} {name}"))
        if outcome.violations:
            return name, seed, outcome.violations[0]
    return name, None, ""


def show_mutations(jobs: int) -> int:
    missed = 0
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        for name, seed, what in pool.imap_unordered(first_found, MUTATIONS):
            missed += seed is None
            print(f"{name}: {'not found' if seed is None else f'seed {seed}: {what}'}", flush=True)
    return int(missed > 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--start", type=int, default=int(time.time()) // 60 * 1000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--replay")
    parser.add_argument("--mutations", action="store_true")
    asked = parser.parse_args()
    if asked.mutations:
        return show_mutations(asked.jobs)
    if asked.replay:
        outcome = play(parsed(asked.replay), traced=True)
        print(drawn(parsed(asked.replay).seed))
        print("\n".join([*outcome.trace, *outcome.violations]))
        return int(bool(outcome.violations))
    began, end = time.monotonic(), asked.start + asked.count
    lines = (str(seed) for seed in range(asked.start, end))
    count, steps, failing = play_all(lines, asked.jobs)
    for line in failing[:MOST_SHRUNK]:
        print(failure(line), flush=True)
    seconds = time.monotonic() - began
    print(
        f"seeds {asked.start} to {end - 1}: {count} schedules, {steps} steps, {seconds:.0f} s, "
        f"{len(failing)} violations"
    )
    return int(bool(failing))


if __name__ == "__main__":
    sys.exit(main())
