"""What another user may not look into is shown as that, and keeps nothing else from being shown."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import rich.live  # noqa: F401 - before there is nobody who may
import typer.rich_utils  # noqa: F401

import sweeps.cancel
import sweeps.cli.table
import sweeps.execution.worker
import sweeps.launch
import sweeps.launching.dispatch
import sweeps.logs
import sweeps.retry
import sweeps.status
from analysis.cifar10.task import load
from local_machine.errors import run_command
from sweeps.spec.expand import expand
from sweeps.spec.sweep import Sweep
from sweeps.state.plan import Plan
from sweeps.state.trial_store import TrialStore
from trainer.config import TrainConfig

NOBODY = 65534

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")


@pytest.fixture
def results() -> Iterator[Path]:
    """Two sweeps that everybody can read, where everybody can come; pytest's own folder is not."""
    folder = Path(tempfile.mkdtemp(prefix="unreadable-"))
    folder.chmod(0o755)
    try:
        for sweep, seed in (("one", 1), ("two", 2)):
            trials = expand(Sweep(base=TrainConfig().override({"seed": seed})))
            store = TrialStore(folder / "results", sweep)
            store.write_plan(Plan(sweep, trials, "full", {}, [], "command"))
            (store.folder / trials[0].name).mkdir()
        yield folder / "results"
    finally:
        shutil.rmtree(folder)


class Said(NamedTuple):
    code: int
    out: str
    err: str


def nobody(module: Any, *words: object) -> Said:
    """What a command says to a user who owns nothing. In a fork: Python itself may lie where only
    root can read it."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.stdout, sys.stderr = open(1, "w"), open(2, "w")  # noqa: SIM115
            os.environ |= {"HOME": "/nonexistent", "XDG_CONFIG_HOME": "/nonexistent"}
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            code = 99
            try:
                run_command(module.app, [str(word) for word in words])
            except SystemExit as end:
                code = int(end.code or 0)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        said = Said(code, out.read(), err.read())
    assert said.code != 99
    for words in ("Traceback", "this is a bug", "cannot write", "no sweep 'one'"):
        assert words not in said.out + said.err
    return said


@pytest.mark.parametrize("hidden", ["one", "one/plans", "one/plans/*.json"])
def test_a_sweep_that_cannot_be_read_is_named(results: Path, hidden: str) -> None:
    for path in results.glob(hidden):
        path.chmod(0)
    everything = nobody(sweeps.status, "--results", results)
    assert everything.code == 1
    assert f"warning: cannot read {results}/one" in everything.err
    assert "two" in everything.out
    for words in (
        (sweeps.status, "one"),
        (sweeps.retry, "one", "--on", "local"),
        (sweeps.logs, "one", "resnet"),
    ):
        alone = nobody(*words, "--results", results)
        assert alone.code == 3, alone.err
        assert f"error: cannot read {results}/one" in alone.err
        assert "Permission denied" in alone.err
    cancelled = nobody(sweeps.cancel, "one", "--results", results)
    assert cancelled.code == 1
    assert f"cannot read {results}/one" in cancelled.err


def test_a_trial_that_cannot_be_read_is_named_in_its_row(results: Path) -> None:
    (trial,) = TrialStore(results, "one").plans()[0].trials
    (results / "one" / trial.name).chmod(0)
    said = nobody(sweeps.status, "one", "--results", results)
    assert said.code == 1
    assert "unknown" in said.out
    assert "cannot read" in said.out


@pytest.mark.parametrize("hidden", [".", ".."])
def test_results_that_cannot_be_read_are_not_called_empty(results: Path, hidden: str) -> None:
    (results / hidden).resolve().chmod(0)
    for words in ((sweeps.status,), (sweeps.status, "one"), (sweeps.retry, "one", "--on", "local")):
        said = nobody(*words, "--results", results)
        assert said.code in (2, 3), said.err
        assert str(results) in said.err
        assert "is not readable" in said.err or "cannot read" in said.err


def test_a_report_is_of_what_can_be_read_and_names_the_rest(results: Path) -> None:
    (results / "one").chmod(0)
    said = nobody(_Load, results)
    assert said.out == "two\n"
    assert said.err == f"cannot read {results}/one/plans: Permission denied\n"


class _Load:
    """What a report begins with, as if it were a command: its figures take libraries that nobody
    can import."""

    @staticmethod
    def app(args: list[str], standalone_mode: bool) -> None:
        study = load(Path(args[0]), [])
        print(*(sweep.name for sweep in study.sweeps), sep="\n")
        print(*(problem.what for problem in study.problems), sep="\n", file=sys.stderr)


def test_a_launch_into_what_cannot_be_read_says_that(results: Path) -> None:
    config = results.parent / "one.json"
    config.write_text(TrainConfig().override({"data.name": "digits"}).to_json())
    (results / "one").chmod(0)
    said = nobody(sweeps.launch, config, "--results", results, "--dry-run", "--on", "local")
    assert said.code == 3
    assert f"error: cannot read {results}/one" in said.err
