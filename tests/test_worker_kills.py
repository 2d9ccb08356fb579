"""Workers killed all through a sweep of tiny trials: each is done once, none twice at once.

python tests/test_worker_kills.py 256      # as many trials, outside pytest
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
import time
from pathlib import Path

import pytest
from outcome import assert_one_at_a_time, attempts
from test_kill import kill, start, workers_of

from local_machine.files import matching
from sweeps.state.lease import read
from sweeps.state.trial_store import TrialStore

pytestmark = pytest.mark.usefixtures("forked")

DEFINITION = """
from sweeps import Sweep, grid
from trainer.recipes import reported

base = reported("wrn_10_1").override({{
    "data.name": "digits", "data.train_limit": 100, "data.test_limit": 100, "model.width": 0.5,
    "epochs": 1, "batch_size": 64,
}})
sweep = Sweep(base=base, space=grid({{"seed": list(range({trials}))}}))
"""
WORKERS = 3
# A worker takes seconds to start, and more of them where others use the machine: killed by the
# clock, none might ever get to a trial.
TRIALS_BETWEEN = 3


def survive(folder: Path, trials: int) -> str:
    """Run so many trials while workers are killed at random; what came of it, in a line."""
    definition = folder / "killed.py"
    definition.write_text(DEFINITION.format(trials=trials))
    moment, kills, launches, done = random.Random(0), 0, 0, 0
    results = folder / "results"
    code = None
    # A trial that three workers died at is given up until the next launch.
    while code != 0 and launches < 5:
        launches += 1
        with start(definition, results, WORKERS) as launch:
            while (code := launch.poll()) is None:
                time.sleep(moment.uniform(0.0, 0.4))
                now = len(list(matching(results, "*/*/run.parquet")))
                if now >= done + TRIALS_BETWEEN and (victims := workers_of(launch.pid)):
                    kill(moment.choice(victims))
                    kills, done = kills + 1, now
    assert code == 0
    assert kills >= trials // (4 * TRIALS_BETWEEN)

    store = TrialStore(results, "killed")
    (plan,) = store.plans()
    assert len(plan.trials) == trials
    assert {one.state for one in store.standings(plan.trials)} == {"done"}
    # One killed between its trial's record and giving it back leaves a lease, which nobody holds.
    left = [lease for one in plan.trials if (lease := read(store.folder_of(one))) is not None]
    assert not any(map(store.liveness.is_alive, left))
    assert len(left) <= kills
    logs = list((store.folder / "logs").glob("*.log"))
    most = assert_one_at_a_time(logs)
    spans = attempts(logs)
    assert set(spans) == {one.name for one in plan.trials}
    # One killed between the last record and that line is done all the same, and not run again.
    said = sum(len(re.findall("done: validation", log.read_text())) for log in logs)
    again = sum(map(len, spans.values())) - trials
    assert trials - kills <= said <= trials
    return (
        f"{trials} trials, each done once: {kills} kills, {again} attempts more than trials, at "
        f"most {most} at one trial, {launches} launches"
    )


@pytest.mark.long
@pytest.mark.timeout(240)
def test_every_trial_is_done_once_whoever_is_killed(tmp_path: Path) -> None:
    print(survive(tmp_path, 24))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        print(survive(Path(name), int(sys.argv[1])))
