"""Programs of ten kinds as jobs of a real Slurm, killed five times and where they save: nothing is
lost.

All sweeps run beside each other, each as an array of its trials. First each is killed once at each
point where it saves. Then in turn a program is killed, a job is requeued, a worker is killed, a job
is cancelled, a program is killed again; what is lost is launched again.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import kill_points
import pytest
from drill import SITE, running
from foreign_drill import (
    EPOCH_SECONDS,
    EXAMPLES,
    KILLS,
    NAMED,
    TRIALS,
    ForeignDrill,
    built_kill_points,
)
from test_kill import kill

from local_machine.files import matching
from slurm.dev_cluster.cluster import Cluster
from sweeps.state import lease as leases

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("forked"),
]

HOW = ("program", "requeue", "worker", "scancel", "program")
ASK_SECONDS = 1.0
# Epochs of a trial, so that none is over before it was killed: Slurm may take seconds to do that.
LONG = 40


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("c")
    with running(folder, nodes=2, gpus_per_node=3, cpus_per_node=6, grace_seconds=5) as one:
        yield one


@dataclass
class SlurmDrill(ForeignDrill):
    """One example on the cluster."""

    launching: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        site = kill_points.of_python(self.folder / "site")
        return {**super().environment(), "PYTHONPATH": site}

    def begin(self) -> None:
        # The longest that a command may take to stop has to fit.
        site = SITE.replace("signal_seconds = 20", "signal_seconds = 60")
        (self.at / "here.toml").write_text(site)
        words = ("--on", "slurm", "--site", "here.toml", "--detach", *self.length)
        with (self.folder / "launch.log").open("ab") as log:
            self.launching = subprocess.Popen(
                self.command("sweeps.launch", *words), cwd=self.at, env=self.environment(),
                stdout=log, stderr=log,
            )  # fmt: skip

    def is_done(self) -> bool:
        return len(list(matching(self.results / self.example.name, "*/run.parquet"))) == TRIALS

    def step(self, cluster: Cluster, in_queue: Sequence[str] | None) -> None:
        """Kill something, where there is something; launch again where no job is in the queue."""
        if self.kills < KILLS and (trial := self.got_on()) is not None:
            time.sleep(self.chance.uniform(0, EPOCH_SECONDS / 2))
            self.hit(cluster, trial)
        elif self.launching is not None:
            if (code := self.launching.poll()) is not None:
                assert code == 0, self.told()
                self.launching = None
        elif in_queue is not None and self.example.name not in in_queue and not self.is_done():
            self.begin()

    def hit(self, cluster: Cluster, trial: str) -> None:
        lease = leases.read(self.results / self.example.name / trial)
        if lease is None or not lease.started:
            return
        how = HOW[self.kills]
        if how in ("requeue", "scancel"):
            words = ("scontrol", "requeue") if how == "requeue" else ("scancel",)
            cluster.command(*words, lease.job, check=False)
        elif how == "worker" or self.example.name == "torch_loop":
            kill(lease.pid)
        else:
            victims = list(self.programs(lease.pid))[:1]
            if not victims:
                return
            kill(victims[0])
        self.kills += 1
        self.hits += 1
        self.seen[trial] = self.begun()[trial]


@pytest.fixture(scope="module")
def drills(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, SlurmDrill]:
    """Each done, and killed."""
    folder = tmp_path_factory.mktemp("foreign")
    library = built_kill_points(folder)
    found = {}
    for example in EXAMPLES:
        at = folder / example.name
        at.mkdir()
        found[example.name] = SlurmDrill(example, at, library, epochs=LONG)
    for drill in found.values():
        drill.begin()
    until, asked = time.monotonic() + 540, 0.0
    while left := [one for one in found.values() if one.launching or not one.is_done()]:
        assert time.monotonic() < until, "".join(one.told() for one in left)
        in_queue = None
        if time.monotonic() - asked > ASK_SECONDS:
            asked = time.monotonic()
            in_queue = cluster.command("squeue", "--noheader", "--format=%j").split()
        for drill in left:
            drill.step(cluster, in_queue)
        time.sleep(0.01)
    return found


@pytest.mark.parametrize("name", NAMED)
def test_killed_as_jobs_they_lose_nothing(drills: dict[str, SlurmDrill], name: str) -> None:
    drill = drills[name]
    assert len(drill.done()) == TRIALS
    assert drill.kills == KILLS
    assert drill.happened() == set(drill.example.points)
    assert TRIALS * LONG <= drill.executed <= drill.most
