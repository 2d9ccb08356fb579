"""The real code of the store in simulated worlds (tests/simulation): new seeds each day, all that
ever failed, and proof that the simulation finds what is wrong."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from simulation.__main__ import failure
from simulation.mutations import MUTATIONS
from simulation.scenario import as_line, drawn, parsed
from simulation.shrink import play

from trial_records import config
from trial_records.config import Configuration

FOLDER = Path(__file__).parent / "simulation"
# 500 new ones a day, the same for everybody, in parts for the cores to share.
PARTS, SEEDS = 20, 25
FIRST = int(os.environ.get("SIMULATION_SEED", datetime.date.today().toordinal() * 1000))


@pytest.fixture(autouse=True)
def _without_slurm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("SLURM_CONF", raising=False)
    yield


def kept(name: str) -> list[str]:
    lines = (FOLDER / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS), ids=lambda part: f"from{FIRST + part * SEEDS}")
def test_new_seeds(part: int) -> None:
    first = FIRST + part * SEEDS
    print(f"seeds {first} to {first + SEEDS - 1}")
    for seed in range(first, first + SEEDS):
        if play(drawn(seed)).violations:
            pytest.fail(failure(str(seed)), pytrace=False)


@pytest.mark.long
@pytest.mark.parametrize("line", kept("seeds.txt"))
def test_what_once_failed(line: str) -> None:
    outcome = play(parsed(line))
    assert not outcome.violations, outcome.violations


@pytest.mark.parametrize("line", kept("known.txt"))
def test_what_is_known_to_fail(line: str) -> None:
    """So that who fixes it hears of it, and puts the line among the others."""
    assert play(parsed(line)).violations


@pytest.mark.long
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_is_found(name: str) -> None:
    seed = next(line.split()[1] for line in kept("found.txt") if line.split()[0] == name)
    assert int(seed) < 1000
    assert play(parsed(f"{seed} {name}")).violations
    assert not play(parsed(seed)).violations


@pytest.mark.long
def test_a_seed_is_played_the_same_each_time() -> None:
    code = (
        "from simulation.scenario import drawn\nfrom simulation.shrink import play\n"
        "print([play(drawn(seed)).digest for seed in range(6)])"
    )
    said = set()
    for salt in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": salt}
        environment["PYTHONPATH"] = f"{FOLDER.parent.parent}:{FOLDER.parent}"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env=environment,
        )  # fmt: skip
        said.add(done.stdout)
    assert len(said) == 1


def test_a_scenario_is_a_line_of_text() -> None:
    for seed in range(50):
        assert parsed(as_line(drawn(seed))) == drawn(seed)
    assert parsed("7 token_not_compared").mutated == "token_not_compared"


def test_what_a_process_has_imported_changes_no_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trainer declares its columns, which compact files then have."""

    class Declared(Configuration):
        depth: int

    digest = play(drawn(5)).digest  # in which trials are compacted
    monkeypatch.setattr(config, "_declared", [Declared])
    assert play(drawn(5)).digest == digest
