"""What every test, and every process that one starts, finds in its environment."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from drill import Drill, Whole

    from slurm.dev_cluster.cluster import Cluster

# pytest-xdist already runs a worker a core. Before anything imports torch, which reads it once.
os.environ["OMP_NUM_THREADS"] = "1"
# Its compiler would start processes, each of which imports torch.
os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
# A cluster that the shell happens to know is not the tests' to use: they boot their own.
os.environ.pop("SLURM_CONF", None)
# Nor are its caches and sites: what a test needs of them it says. One folder for all workers, which
# inherit it, since decoding the digits and counting costs takes seconds.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _own = tempfile.mkdtemp(prefix="sweeps-tests-")
    os.environ["SWEEPS_CACHE"] = f"{_own}/cache"
    os.environ["XDG_CONFIG_HOME"] = f"{_own}/config"
    atexit.register(shutil.rmtree, _own, ignore_errors=True)
# A copy of this whole repository for each launch: what tests it, and the drills, ask for it.
os.environ.setdefault("SWEEPS_SNAPSHOT_MB", "0")
# A test's time says more of what else runs on the machine than of the code.
settings.register_profile("sweeps", deadline=None)
settings.load_profile("sweeps")
# Whoever starts pytest in the background of a shell has it ignored, and every child inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What was imported by now stays: each trial that is trained here looks for garbage first."""
    gc.freeze()


@pytest.fixture(scope="module")
def no_images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whatever data are decoded on this machine, they are not those of these made-up trials."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEPS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="module")
def figures_drawn_once() -> Iterator[None]:
    """A file's reports mostly have the same figures, which take most of their time: each is drawn
    once. What is drawn in another process is drawn there."""
    if "analysis.figures.memory" not in sys.modules:
        yield
        return
    from analysis.figures.memory import Memory

    with Memory().recalled():
        yield


@pytest.fixture(scope="module")
def forked() -> Iterator[None]:
    """For a whole file: its programs have torch when they start."""
    from forked import forking

    with forking():
        yield


@pytest.fixture
def unforked(monkeypatch: pytest.MonkeyPatch) -> None:
    """But not this test's, whose subject is the process itself or its command line."""
    import forked

    from local_machine import processes

    monkeypatch.setattr(subprocess, "Popen", forked.Forked.__base__)
    monkeypatch.setattr(processes, "start", forked.Forked.__base__)


# For the tests on a real Slurm. They import what they need late: most tests need none of it.


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    from drill import running

    with running(tmp_path_factory.mktemp("c"), cpus_per_node=4, grace_seconds=10) as one:
        yield one


@pytest.fixture
def cluster(booted: Cluster) -> Iterator[Cluster]:
    """With nothing in its queue, whatever became of the test before."""
    from drill import empty

    yield booted
    booted.command("scancel", "--user=root", check=False)
    empty(booted)


@pytest.fixture(scope="module")
def whole(booted: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """What the three trials come to where nobody disturbs them."""
    del booted  # its data
    from drill import ROOT, THREE
    from outcome import outcome

    folder = tmp_path_factory.mktemp("whole")
    definition = folder / "drill.py"
    definition.write_text(THREE)
    words = (str(definition), "--results", str(folder / "results"), "--on", "debug")
    subprocess.run([sys.executable, "-m", "sweeps.launch", *words], cwd=ROOT, check=True)
    return outcome(folder / "results")


@pytest.fixture
def drill(cluster: Cluster, tmp_path: Path) -> Drill:
    from drill import Drill

    return Drill(tmp_path)


@pytest.fixture
def three(cluster: Cluster, tmp_path: Path) -> Drill:
    from drill import THREE, Drill

    return Drill(tmp_path, THREE)
