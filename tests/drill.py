"""A sweep on a real Slurm that a test does something to; for the tests that are marked `slurm`.

No drill races a trial: it stops the trial's process in the middle of training, does what it has to,
and lets it go on. So it does not matter how fast the machine is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from outcome import assert_given_back, assert_one_at_a_time, attempts, outcome
from PIL import Image
from saved_trials import epochs_in

from local_machine.errors import SlurmError
from slurm.dev_cluster import cluster as dev_cluster
from slurm.dev_cluster.cluster import Cluster
from slurm.queue import Queue
from sweeps.spec.sweep import Trial
from sweeps.state import lease as leases
from sweeps.state.lease import Lease
from sweeps.state.liveness import Liveness
from sweeps.state.trial_store import Standing, State, TrialStore
from trial_records import trial_files

ROOT = Path(__file__).parent.parent
# Images that nothing needs scikit-learn for, whose import takes as long as half the training.
DEFINITION = """
import os
from sweeps import Sweep, grid
from trainer.recipes import reported

base = reported("wrn_10_1").override({
    "data.root": os.environ["DRILL_DATA"], "model.width": 0.5,
    "epochs": 14, "batch_size": 64, "augment.mixup": 0.2,
})
sweep = Sweep(base=base, space=grid({"optimizer.lr": LR}))
"""
ONE = DEFINITION.replace("LR", "[0.1]")
THREE = DEFINITION.replace("LR", "[0.02, 0.05, 0.1]")
SITE = """
partition = "gpu"
cpus_per_gpu = 1
mem_gb_per_gpu = 1
minutes = 30
query_seconds = 1
signal_seconds = 20
"""

Whole = dict[str, tuple[object, ...]]
"""What `outcome` makes of a results folder."""


@contextlib.contextmanager
def running(folder: Path, **wanted: Any) -> Iterator[Cluster]:
    """A cluster, and the drills' data, which every command in the block finds.

    Skips the test where there can be none.
    """
    try:
        dev_cluster.require(dev_cluster.missing_packages(), os.geteuid())
    except SlurmError as error:
        pytest.skip(f"{error.what}; {error.help}")
    data = folder.with_name(f"{folder.name}-data")
    draw_images(data)
    with dev_cluster.running(folder, **wanted) as one, pytest.MonkeyPatch.context() as patch:
        for name, value in one.environment.items():
            patch.setenv(name, value)
        patch.setenv("DRILL_DATA", str(data))
        patch.delenv("SWEEPS_SNAPSHOT_MB", raising=False)
        patch.setenv("SWEEPS_CACHE", str(data / "cache"))
        yield one


def draw_images(root: Path) -> None:
    """A data set of ten classes in folders, each of its own colour under noise."""
    random = np.random.default_rng(0)
    for part, count in (("train", 24), ("test", 6)):
        for label in range(10):
            folder = root / part / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                image = random.integers(0, 128, (32, 32, 3), np.uint8)
                image[..., label % 3] += 12 * label
                Image.fromarray(image).save(folder / f"{number}.png")


def wait_for(
    condition: Callable[[], Any],
    seconds: float = 120,
    every: float = 0.3,
    told: Callable[[], str] = str,
) -> None:
    """`told` says what a person needs to see who reads that it took too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited too long\n{told()}"
        time.sleep(every)


def empty(cluster: Cluster) -> None:
    """Wait until the queue is: a job ends a little after its trial."""
    wait_for(lambda: not cluster.command("squeue", "--noheader"), 60)


def replaced(command: str, folder: Path, script: str, patch: pytest.MonkeyPatch) -> None:
    """Put a bash script in a command's place on PATH; in it, $real is the command."""
    path = subprocess.run(["which", command], capture_output=True, text=True, check=True)
    fake = folder / "bin" / command
    fake.parent.mkdir(exist_ok=True)
    fake.write_text(f"#!/bin/bash\nreal={path.stdout.strip()}\n{script}\n")
    fake.chmod(0o755)
    patch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")


@dataclass
class Drill:
    """One sweep in a results folder of its own."""

    folder: Path
    definition: str = ONE
    site: str = SITE

    def __post_init__(self) -> None:
        (self.folder / "drill.py").write_text(self.definition)
        (self.folder / "here.toml").write_text(self.site)
        self.results = self.folder / "results"
        self.logs_folder = self.results / "drill" / "logs"
        self.store = TrialStore(self.results, "drill", Liveness(Queue(min_seconds=0.2)))

    # What a user types

    def words(self, command: str, *words: str) -> list[str]:
        name = str(self.folder / "drill.py") if command == "launch" else "drill"
        where = ("--results", str(self.results))
        if command in ("launch", "retry"):
            where += ("--site", str(self.folder / "here.toml"), "--on", "slurm")
        return [sys.executable, "-m", f"sweeps.{command}", name, *where, *words]

    def command(self, command: str, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.words(command, *words), capture_output=True, text=True, cwd=ROOT, timeout=300
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == code, done.stderr
        return done

    def launch(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        return self.command("launch", *words, code=code)

    # How it stands

    @property
    def trials(self) -> list[Trial]:
        return trials_of(self.store)

    def standings(self) -> list[Standing]:
        return self.store.standings(self.trials)

    def standing(self) -> Standing:
        (one,) = self.standings()
        return one

    def epochs(self, trial: Trial | None = None) -> int:
        """How many a trial has behind it; the only one's, where it is not said whose."""
        return epochs_in(self.store.folder_of(trial or self.trials[0]))

    def logs(self) -> list[Path]:
        return list(self.logs_folder.glob("*_log.out"))

    def said(self) -> str:
        return "".join(path.read_text() for path in self.logs())

    def begun(self) -> int:
        """How many attempts have begun, of all trials."""
        return sum(map(len, attempts(self.logs()).values()))

    # What is done to it

    @contextlib.contextmanager
    def held(self, epochs: int = 2) -> Iterator[Lease]:
        with held(self.store, epochs) as lease:
            yield lease

    # What becomes of it

    def waits_for_attempt(self, number: int) -> None:
        """Of all trials together, whoever begins it: requeued jobs do so by themselves."""
        wait_for(lambda: self.begun() >= number, told=self.told)

    def told(self) -> str:
        """What Slurm and the jobs say now."""
        questions = (("squeue", "--long"), ("scontrol", "show", "job"), ("sinfo", "--long", "-N"))
        said = [subprocess.run(one, capture_output=True, text=True).stdout for one in questions]
        said += [f"{one.state} {one.lost}" for one in self.standings()]
        return "\n".join([*said, self.said()])

    def ends_as(self, whole: Whole, attempts: int, most: int | None = None) -> None:
        """Wait for the end, launching again what was lost, and compare.

        One trial takes so many attempts, or up to `most`; the others no more.
        """

        def is_over() -> bool:
            states = [one.state for one in self.standings()]
            assert State.FAILED not in states, [one.failure for one in self.standings()]
            if State.LOST in states and not {State.RUNNING, State.QUEUED} & set(states):
                self.launch("--detach")
            return set(states) == {State.DONE}

        wait_for(is_over, 240)
        found = outcome(self.results)
        assert found == {name: whole[name] for name in found}
        assert found
        assert attempts <= assert_one_at_a_time(self.logs()) <= (most or attempts)
        assert_given_back(self.results)


def trials_of(store: TrialStore) -> list[Trial]:
    return list({one.name: one for plan in store.plans() for one in plan.trials}.values())


@contextlib.contextmanager
def held(store: TrialStore, epochs: int) -> Iterator[Lease]:
    """Stop the process of a trial that has so many epochs behind it; whose lease it is.

    It goes on at the block's end, or where Slurm signals it: Slurm wakes it first.
    """
    found: list[Lease] = []

    def stopped() -> bool:
        for trial in trials_of(store):
            folder = store.folder_of(trial)
            lease = leases.read(folder)
            if lease is None or not lease.started or not lease.is_own_process:
                continue
            if epochs_in(folder) >= epochs:
                os.kill(lease.pid, signal.SIGSTOP)
                assert not (folder / trial_files.RUN).exists(), "it was over already"
                found.append(lease)
                return True
        return False

    wait_for(stopped, every=0.05)
    try:
        yield found[0]
    finally:
        go_on(found[0])


def go_on(lease: Lease) -> None:
    with contextlib.suppress(ProcessLookupError):  # Slurm, or the test, has ended it
        os.kill(lease.pid, signal.SIGCONT)


def variable(pid: int, name: str) -> str:
    """A variable of another process; empty where it has none."""
    words = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    return dict(word.partition("=")[::2] for word in words).get(name, "")


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()
