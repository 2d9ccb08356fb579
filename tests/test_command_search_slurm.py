"""A search over a command line on a real Slurm: it prunes, and asks nothing twice when killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from drill import ROOT, SITE, running, wait_for
from outcome import assert_given_back

from local_machine.files import matching
from slurm.dev_cluster.cluster import Cluster
from sweeps.search.optuna_journal import JOURNAL

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(400)]

TRIALS, EPOCHS, JOBS = 16, 18, 4
# The first four are good, and have the driver's death; hardly any drawn one comes near them.
GOOD = (0.01, 0.011, 0.012, 0.009)
ROOMY = SITE.replace("signal_seconds = 20", "signal_seconds = 60")
# It knows nothing of sweeps, and goes on from what it saved in its folder. A line an epoch in
# `ran`, whatever becomes of it.
PROGRAM = f"""
import json, math, os, sys, time
rate, folder = float(sys.argv[1]), sys.argv[2]
saved = os.path.join(folder, "saved")
begin = int(open(saved).read()) if os.path.exists(saved) else 0
for epoch in range(begin, {EPOCHS}):
    time.sleep(0.6)
    loss = (math.log10(rate) + 2) ** 2 + 1 / (epoch + 1)
    with open(os.path.join(folder, "ran"), "a") as file:
        file.write(f"{{epoch}}\\n")
    with open(os.path.join(folder, "metrics.jsonl"), "a") as file:
        file.write(json.dumps({{"epoch": epoch, "loss": loss}}) + "\\n")
    with open(saved + ".new", "w") as file:
        file.write(str(epoch + 1))
    os.replace(saved + ".new", saved)
"""
SEARCH = f"""
from sweeps import Search, log_uniform, minimize
search = Search(
    command="python {{program}} {{{{lr}}}} {{{{folder}}}} --epochs {{{{epochs}}}}",
    base={{{{"epochs": {EPOCHS}}}}}, space={{{{"lr": log_uniform(1e-5, 10.0)}}}}, trials={TRIALS},
    start=[{{{{"lr": lr}}}} for lr in {GOOD}], sampler="random", seed=3,
    pruner="successive_halving", metrics="metrics.jsonl",
    objective=minimize("loss"), grace=2,
)
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("c") / "cluster", cpus_per_node=4) as one:
        yield one


def values_asked(results: Path) -> list[float]:
    """The rates that the journal's trials were given, in the order of their numbers."""
    (journal,) = results.rglob(JOURNAL)
    lines = [json.loads(line) for line in journal.read_bytes().splitlines()]
    return [line["param_value_internal"] for line in lines if "param_value_internal" in line]


def test_it_prunes_and_asks_nothing_twice_when_its_driver_is_killed(
    cluster: Cluster, tmp_path: Path
) -> None:
    program, results = tmp_path / "program.py", tmp_path / "results"
    program.write_text(PROGRAM)
    (tmp_path / "mine.py").write_text(SEARCH.format(program=program))
    (tmp_path / "here.toml").write_text(ROOMY)
    command = [
        sys.executable, "-m", "sweeps.search", str(tmp_path / "mine.py"), "--results", str(results),
        "--json", "--on", "slurm", "--site", str(tmp_path / "here.toml"), "--workers", str(JOBS),
    ]  # fmt: skip

    def ran() -> int:
        return sum(len(path.read_text().splitlines()) for path in matching(results, "**/files/ran"))

    said = tmp_path / "said"
    for epochs in (8, 30):
        with said.open("a") as log, subprocess.Popen(command, cwd=ROOT, stderr=log) as driver:
            wait_for(lambda least=epochs: ran() >= least or driver.poll() is not None, every=0.1)  # type: ignore[misc]
            assert driver.poll() is None, said.read_text()
            driver.send_signal(signal.SIGKILL)
    begun = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    told = answer["trials"]
    assert [one["number"] for one in told] == list(range(TRIALS))
    assert {one["state"] for one in told} == {"complete", "pruned"}
    # Each number was given one value, and no value was given twice.
    asked = values_asked(results)
    assert len(asked) == len(set(asked)) == TRIALS
    assert len({one["trial"] for one in told}) == TRIALS
    lengths = {}
    for one in told:
        (path,) = results.rglob(f"{one['trial']}/files/ran")
        epochs_run = [int(line) for line in path.read_text().split()]
        lengths[one["trial"]] = len(set(epochs_run))
        # A job goes on while its driver is gone, so nothing ran twice.
        assert epochs_run == list(range(len(epochs_run)))
        assert (len(epochs_run) == EPOCHS) == (one["state"] == "complete"), (one, epochs_run)
    print(ran(), "epochs of", TRIALS * EPOCHS, f"{time.monotonic() - begun:.0f} s", lengths)
    assert ran() <= 2 / 3 * TRIALS * EPOCHS
    best = min((one for one in told if one["state"] == "complete"), key=lambda one: one["value"])
    assert answer["best"]["trial"] == best["trial"]
    assert_given_back(results)
    wait_for(lambda: not cluster.command("squeue", "--noheader"), 60)
