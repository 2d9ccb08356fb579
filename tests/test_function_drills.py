"""Jobs of a real Slurm that are killed inside the commit protocol: a plain function's and the
trainer's, on one rank and on two nodes. They end as trials that nobody disturbed.

Each trial is killed once, in its first attempt, at a place of its own, and the next launch ends it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import killed_sweeps
import pytest
from drill import Drill, wait_for
from forked_attempts import begin, ended
from kill_points import TRAINED, five, of_python, trained
from killed_sweeps import DEFINITIONS, EPOCHS, FILES, result
from outcome import assert_given_back, assert_one_at_a_time

from slurm.dev_cluster.cluster import Cluster
from sweeps.state.trial_store import State
from trial_records import tables

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]

Case = tuple[str, int]
"""A task and the number of its ranks."""
CASES: list[Case] = [(task, ranks) for ranks in (2, 1) for task in DEFINITIONS]
# The job's ranks, and who goes on: jobs of a trial each, or a worker that takes trial after trial.
WORDS = {1: [(), ("--workers", "1")], 2: [("--nodes", "2", "--gpus-per-node", "1")] * 2}


@pytest.fixture(scope="module")
def drills(
    booted: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Case, Drill]]:
    """All at once: each trial was killed, and is done."""
    del booted
    folder, found = tmp_path_factory.mktemp("k"), dict[Case, Drill]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", of_python(folder / "site"))
        for launch in range(2):
            for task, ranks in CASES:
                at = folder / f"{task}-{ranks}"
                at.mkdir(exist_ok=True)
                patch.setenv(TRAINED, str(at))
                patch.setenv("DIES_AT", " ".join(five(EPOCHS[task])))
                definition = killed_sweeps.write(at, task, 5).read_text()
                found[task, ranks] = Drill(at, definition)
                found[task, ranks].launch("--detach", *WORDS[ranks][launch])
            state = (State.LOST, State.DONE)[launch]
            for drill in found.values():
                wait_for(lambda drill=drill, state=state: are(drill, state), 300, 1, drill.told)
    yield found


def are(drill: Drill, state: State) -> bool:
    states = {one.state for one in drill.standings()}
    assert State.FAILED not in states, [one.failure for one in drill.standings()]
    return states == {state}


@pytest.mark.parametrize(("task", "ranks"), CASES)
def test_killed_anywhere_in_a_job_it_ends_as_if_nothing_had_been(
    drills: dict[Case, Drill], tmp_path: Path, task: str, ranks: int
) -> None:
    drill, epochs = drills[task, ranks], EPOCHS[task]
    assert assert_one_at_a_time(drill.logs()) == 2
    assert_given_back(drill.results)
    for trial, place in zip(drill.trials, five(epochs), strict=True):
        folder = drill.store.folder_of(trial)
        begun = trained(drill.folder, trial.name)
        # What was not committed yet is trained again, and nothing else.
        assert len(begun) == epochs + (place in ("sync:1", "rename:1")), place
        assert sorted({*begun}) == list(range(epochs))
        run = tables.read_run(folder, trial.fingerprint)
        assert (run["status"], run["world_size"]) == ("done", ranks)
        assert len(json.loads(run["attempts"])) == 2
        assert {path.name for path in folder.iterdir()} == FILES[task]
        found = result(folder, trial)
        assert [row["epoch"] for row in found["rows"]] == list(range(epochs))
        assert len(found["generators"]) == (ranks if task == "function" else 0)
        alone = tmp_path / "drill" / trial.name
        assert ended(begin(alone, trial, "only", 1, ranks)) == [0] * ranks
        assert found == result(alone, trial), place
