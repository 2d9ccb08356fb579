"""Sweeps over programs of other people (tests/foreign/), killed at random and where they save.

Each is launched as a person would, from its folder, by two workers on this machine. Five times
something of it is killed by SIGKILL at a random instant, in turn a program, a worker, and the
launch with all its workers, which is launched again then. Besides, it is killed once at each point
of its saving: before the first save, between the file aside and its rename, after the rename, after
the last row, and after its end before run.parquet (tests/foreign/kill_points.c, kill_points.py).
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import kill_points  # noqa: F401 - what is forked needs it, and does not find it any more
import pyarrow.parquet as pq
from outcome import assert_given_back
from test_kill import ROOT, kill

from local_machine.files import matching
from sweeps.state import lease as leases
from trial_records import tables
from trial_records.trial_files import RUN

FOREIGN = Path(__file__).parent / "foreign"
EPOCHS, TRIALS, KILLS = 12, 2, 5
# The longest that a program sleeps in an epoch.
EPOCH_SECONDS = 0.1
IN_FUNCTION = ("went-on:0", "sync:1", "rename:1", "returned:0")
IN_PROGRAM = ("first-row", "aside", "renamed", "last-row")
EXITED = "run:0"
HOW = ("program", "launch", "worker", "program", "worker")
"""What is killed at random, in turn."""


@dataclass(frozen=True)
class Example:
    name: str
    what: str
    """As the table in docs/tasks.md has it."""
    resumes: bool = True
    points: tuple[str, ...] = (*IN_PROGRAM, EXITED)
    step: str = "epoch"
    budget: str = "epochs"

    @property
    def folder(self) -> Path:
        return FOREIGN / self.name

    @property
    def changed(self) -> int:
        """Lines of the program that say of themselves that they were changed."""
        programs = [path for path in self.folder.glob("train.*") if path.is_file()]
        return sum(path.read_text().count("# changed") for path in programs)


EXAMPLES = (
    Example("torch_loop", "PyTorch loop, as a function", points=(*IN_FUNCTION, EXITED)),
    Example("argparse_script", "script with argparse, JSON lines"),
    Example("ddp_script", "DDP script under torchrun's variables, CSV"),
    Example("calls_torchrun", "script that calls torchrun, JSON lines"),
    Example("hydra_app", "Hydra app, CSV"),
    Example("sklearn_script", "scikit-learn, CSV"),
    Example(
        "lightgbm_script", "LightGBM, JSON lines; cannot resume", resumes=False,
        points=("last-row", EXITED), step="step",
        budget="rounds",
    ),
    Example("shell_script", "shell script, read from its output"),
    Example("c_program", "C program, CSV"),
    Example("regression", "regression with numpy, CSV; cannot resume", resumes=False),
)  # fmt: skip
NAMED = {one.name: one for one in EXAMPLES}


def built_kill_points(folder: Path) -> Path:
    """The library that kills a program where it saves."""
    library = folder / "kill_points.so"
    source = FOREIGN / "kill_points.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def copied(example: Example, folder: Path) -> Path:
    """A copy of the example, as a person has it; the C program is compiled."""
    shutil.copytree(example.folder, folder, ignore=shutil.ignore_patterns("__pycache__"))
    if (folder / "train.c").exists():
        subprocess.run(["gcc", "-O2", "-o", "train", "train.c"], cwd=folder, check=True)
    return folder


def children(pid: int) -> list[int]:
    """Without a program such as ps, which would take longer than an epoch."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
    return found


@dataclass
class ForeignDrill:
    """One example, killed until it is done."""

    example: Example
    folder: Path
    library: Path | None = None
    """What kills it where it saves (`built_kill_points`)."""
    epochs: int = EPOCHS

    def __post_init__(self) -> None:
        self.at = copied(self.example, self.folder / self.example.name)
        self.results = self.at / "results"
        self.places = self.folder / "places"
        self.places.mkdir()
        self.chance = random.Random(self.example.name)
        self.kills = self.hits = 0
        self.seen: dict[str, int] = {}

    # What a person types

    def command(self, module: str, *words: str) -> list[str]:
        name = self.example.name
        return [sys.executable, "-m", module, f"{name}.py" if module.endswith("launch") else name,
                "--results", str(self.results), *words]  # fmt: skip

    def launch(self) -> subprocess.Popen[bytes]:
        with (self.folder / "launch.log").open("ab") as log:
            return subprocess.Popen(
                self.command("sweeps.launch", "--on", "local", "--workers", "2", *self.length),
                cwd=self.at, env=self.environment(), stdout=log, stderr=log,
            )  # fmt: skip

    @property
    def length(self) -> list[str]:
        is_usual = self.epochs == EPOCHS
        return [] if is_usual else ["--set", f"{self.example.budget}={self.epochs}"]

    def environment(self) -> dict[str, str]:
        victims = ("program", "worker") if self.example.resumes else ("worker", "worker")
        at = " ".join(
            f"{place} {victims[number % 2]}"
            for number, place in enumerate(self.example.points)
            if place in IN_PROGRAM
        )
        inside = [place for place in self.example.points if place not in IN_PROGRAM]
        return {
            **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
            "LD_PRELOAD": str(self.library), "KILLS": str(self.places), "KILL_AT": at,
            "EPOCHS": str(self.epochs), "DIES_ONCE": str(self.places), "DIES_AT": " ".join(inside),
        }  # fmt: skip

    # What happens to it

    def run(self) -> None:
        """To the end, killing."""
        launch = self.launch()
        try:
            while launch.poll() is None or self.kills < KILLS or launch.returncode:
                if launch.returncode is not None:
                    assert launch.returncode < 0, self.told()
                    launch = self.launch()
                if self.kills < KILLS and (trial := self.got_on()) is not None:
                    time.sleep(self.chance.uniform(0, EPOCH_SECONDS))
                    self.strike(launch, trial)
                time.sleep(0.01)
        finally:
            for pid in [launch.pid, *children(launch.pid)]:
                if launch.poll() is None:
                    kill(pid)
            launch.wait()

    def told(self) -> str:
        logs = matching(self.results, "*/logs/*.log")
        texts = [path.read_text(errors="replace") for path in (self.folder / "launch.log", *logs)]
        return "\n".join(texts)

    def begun(self) -> dict[str, int]:
        """How many epochs each trial has begun, in all its attempts."""
        found: dict[str, int] = {}
        for files in ("files", "attempt-*/files/files"):
            for path in matching(self.results / self.example.name, f"*/{files}/begun.txt"):
                trial = path.relative_to(self.results).parts[1]
                with contextlib.suppress(FileNotFoundError):  # it went to the next attempt
                    found[trial] = found.get(trial, 0) + len(path.read_text().split())
        return found

    def got_on(self) -> str | None:
        """A trial that has begun two epochs since it was hit last, so it saved in between: what
        dies three times without that has failed. The one that has come farthest, since nothing
        can be killed of one that is done."""
        early = [place for place in self.example.points if place not in ("last-row", EXITED)]
        if self.example.resumes and not all((self.places / one).exists() for one in early[:3]):
            return None
        begun = self.begun()
        folder = self.results / self.example.name
        found = [
            trial
            for trial, count in begun.items()
            if count >= self.seen.get(trial, 0) + 2 and not (folder / trial / RUN).exists()
        ]
        return max(found, key=begun.__getitem__, default=None)

    def strike(self, launch: subprocess.Popen[bytes], trial: str) -> None:
        what = HOW[self.kills]
        workers = children(launch.pid)
        holding = {self.trial_of(pid): pid for pid in workers}
        if trial not in holding:
            return
        if what == "launch":
            victims = [launch.pid, *workers]
        elif what == "worker" or self.example.name == "torch_loop":
            victims = [holding[trial]]
        else:
            victims = list(self.programs(holding[trial]))[:1]
        if not victims:
            return
        for pid in victims:
            kill(pid)
        if what == "launch":
            launch.wait()
        self.kills += 1
        self.hits += len(workers) if what == "launch" else 1
        now = self.begun()
        self.seen.update(now if what == "launch" else {trial: now.get(trial, 0)})

    def trial_of(self, worker: int) -> str:
        for path in matching(self.results / self.example.name, "*/claim.json"):
            lease = leases.read(path.parent)
            if lease is not None and lease.pid == worker:
                return path.parent.name
        return ""

    def programs(self, worker: int) -> Iterator[int]:
        """Those that its keeper runs."""
        for keeper in children(worker):
            yield from children(keeper)

    def verified(self) -> subprocess.CompletedProcess[str]:
        """One of its trials, that was killed most often perhaps, run again undisturbed."""
        with (self.folder / "verify.out").open("w+") as said:
            code = subprocess.Popen(
                self.command("sweeps.verify", "--trials", "1"), cwd=self.at, stdout=said,
                stderr=said, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            ).wait()  # fmt: skip
            said.seek(0)
            return subprocess.CompletedProcess([], code, said.read())

    # What came of it

    def happened(self) -> set[str]:
        """The points of its saving at which it was killed."""
        return {path.name for path in self.places.iterdir()}

    @property
    def all_kills(self) -> int:
        return self.kills + len(self.happened())

    @property
    def executed(self) -> int:
        return sum(self.begun().values())

    @property
    def most(self) -> int:
        """The most epochs that may be executed: one for each kill of a trial beside its own; all of
        them where it cannot resume."""
        hits = self.hits + len(self.happened())
        return TRIALS * self.epochs + hits * (1 if self.example.resumes else self.epochs)

    def table_line(self) -> str:
        """Of the table in docs/tasks.md."""
        beside = self.executed - TRIALS * self.epochs
        lost = TRIALS - len(self.done())
        return (
            f"| {self.example.what} | {self.example.changed} | {self.kills} + "
            f"{len(self.happened())} | {lost} | {TRIALS * self.epochs} + {beside} |"
        )

    def done(self) -> list[Path]:
        """The folders of the trials that are done, each once, with all rows."""
        found = []
        for run in sorted((self.results / self.example.name).glob(f"*/{RUN}")):
            row = pq.read_table(run).to_pylist()[0]
            rows = tables.read_epochs(run.parent).to_pylist()
            steps = [one[self.example.step] for one in rows]
            assert steps == list(range(self.epochs)), (run, steps)
            assert row["status"] == "done"
            assert not list(run.parent.glob("attempt-*")) + list(run.parent.glob(".running-*"))
            found.append(run.parent)
        assert_given_back(self.results)
        return found
