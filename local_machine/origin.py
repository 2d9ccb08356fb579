"""The origin of an attempt: the code, the machine, the job and the command that it comes from.

It is looked up once per process, when the process starts: what is committed, edited or checked out
while a trial trains is not what trains. Imports no torch.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import logging
import os
import platform
import runpy
import shlex
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local_machine import processes
from local_machine.code import git, imports, packages, snapshot
from local_machine.files import matching
from local_machine.secrets import masked_words

log = logging.getLogger("trainer")

PACKAGE = Path(__file__).resolve().parents[1] / "trainer"
# What runs a trial. A change elsewhere, in the report or in a document, is none of this code.
_RUNS_A_TRIAL = ("trainer", "sweeps", "slurm", "trial_records", "local_machine")
_KEYS = ("git_commit", "git_dirty", "code_sha256", "snapshot_sha256", "packages_sha256")
_last: Look | None = None


def now() -> str:
    """UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def attempt(**known: Any) -> dict[str, Any]:
    """What an attempt that begins now in this process says of itself: an entry of run.parquet's
    `attempts`. `known` is what the caller knows of it, or knows better."""
    return {
        "started_at": now(),
        "host": processes.host_name(),
        "slurm_job_id": os.environ.get("SLURM_JOB_ID"),
        "command": command(),
        **(_last or begin()).code,
        "torch_version": torch_version(),
        "python_version": platform.python_version(),
        **known,
    }


@functools.cache
def torch_version() -> str | None:
    """As torch says it, `2.9.0+cu130`, whether or not it is imported; None without it.

    What its installer recorded may lack the build: attempts would seem to differ by when their
    programs imported it.
    """
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).with_name("version.py")
    return str(runpy.run_path(str(file))["__version__"])


def command() -> str:
    """The command line of this process, with every secret masked."""
    return shlex.join(masked_words([Path(sys.executable).name, *sys.orig_argv[1:]]))


def begin(code: Path = PACKAGE, *more: Path) -> Look:
    """Look at the code of this process, once: to be called as soon as it starts. `code` is the
    package or the file that trains, with `more` that it runs; the attempts that begin from now on
    are by it."""
    global _last
    _last = _look(code, *more)
    return _last


def begin_once() -> None:
    """Where the process has not begun."""
    if _last is None:
        begin()


@functools.cache
def _look(*places: Path) -> Look:
    return Look(*places)


class Look:
    """One look at the code, in a thread, so that no process waits for it to start."""

    def __init__(self, place: Path, *more: Path) -> None:
        self._place, self._more = place, more
        self._code: dict[str, Any] = dict.fromkeys(_KEYS)
        self._thread = threading.Thread(target=self._look, name="origin", daemon=True)
        self._thread.start()
        # In a forked child the thread would not exist, and never end.
        os.register_at_fork(before=self._thread.join)

    def _look(self) -> None:
        self._code["code_sha256"] = hash_of(self._place, *self._more)
        self._code["packages_sha256"] = packages.digest()
        copy = snapshot.here()
        self._code["snapshot_sha256"] = None if copy is None else copy.sha256
        if copy is not None and self._place.is_relative_to(copy.tree):
            commit, dirty = copy.git_commit, copy.differs(_what_runs(self._place))
        else:
            commit, dirty = checkout(self._place)
        self._code["git_commit"], self._code["git_dirty"] = commit, dirty

    @property
    def code(self) -> dict[str, Any]:
        """What `_KEYS` names; None is what cannot be told."""
        self._thread.join()
        return dict(self._code)


def hash_of(package: Path, *more: Path) -> str | None:
    """SHA-256 over the paths and contents of a package's source files, or of a file and of what it
    imports of its project, the same wherever it lies; of several places, over their hashes.

    None where they cannot be read, as in a zip file.
    """
    if more:
        each = [hash_of(one) for one in (package, *more)]
        told = [one for one in each if one is not None]
        return hashlib.sha256(" ".join(told).encode()).hexdigest() if told == each else None
    digest = hashlib.sha256()
    files = {path.relative_to(package).as_posix(): path for path in matching(package, "**/*.py")}
    if _is_file(package):
        folder = package.parent
        files = {Path(os.path.relpath(one, folder)).as_posix(): one for one in _imported(package)}
    try:
        for name in sorted(files):
            content = files[name].read_bytes()
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
    except OSError as error:
        log.warning("the code has no hash: %s", error)
        return None
    return digest.hexdigest() if files else None


def _is_file(package: Path) -> bool:
    """Whether it is a file of any kind, also one that is gone, and not a package."""
    return package.suffix == ".py" or package.is_file()


def _what_runs(package: Path) -> list[Path]:
    """The places whose files run a trial of the package, or of the file."""
    if _is_file(package):
        return _imported(package)
    names = _RUNS_A_TRIAL if package.name == _RUNS_A_TRIAL[0] else (package.name,)
    return [package.parent / name for name in names]


def _imported(file: Path) -> list[Path]:
    """A file and what it imports of its project."""
    copy = snapshot.here()
    if copy is not None and file.is_relative_to(copy.tree):
        outside = copy.tree / snapshot.OUTSIDE
        return imports.closure(file, outside if file.is_relative_to(outside) else copy.tree)
    return imports.closure(file, git.top_of(file.parent) or file.parent)


def checkout(package: Path) -> tuple[str | None, bool | None]:
    """The commit that a package, or a file, is checked out at, and whether what runs a trial
    differs from it, new files included; None and None where git does not track the package.

    An installed copy may lie inside of an unrelated repository, whose commit says nothing of it.
    """
    top = git.top_of(package.parent)
    if top is None:
        return None, None
    places = [str(one.relative_to(top)) for one in _what_runs(package)]
    own = package if _is_file(package) else package / "__init__.py"
    file = str(own.relative_to(top))
    try:
        if not git.answer(top, package, "ls-files", "--", file):
            return None, None
        status = git.answer(
            top, package, "status", "--porcelain=v2", "--branch", "--untracked-files=all", "--",
            *places, ":(exclude,glob)**/__pycache__/**",
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("git does not tell the commit of the code: %s", git.said(error))
        return None, None
    lines = status.decode(errors="replace").splitlines()
    told = [line.removeprefix("# branch.oid ") for line in lines if line.startswith("# branch.oid")]
    commit = next((one for one in told if one != "(initial)"), None)
    return commit, any(not line.startswith("#") for line in lines)
