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
from local_machine.secrets import masked_words

log = logging.getLogger("trainer")

_PACKAGE = Path(__file__).resolve().parents[1] / "trainer"
# What runs a trial. A change elsewhere, in the report or in a document, is none of this code.
_RUNS_A_TRIAL = ("trainer", "sweeps", "slurm", "trial_records", "local_machine")
_GIT_SECONDS = 10
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


def begin(code: Path = _PACKAGE) -> Look:
    """Look at the code of this process, once: to be called as soon as it starts. `code` is the
    package or the file that trains; the attempts that begin from now on are by it."""
    global _last
    _last = _look(code)
    return _last


@functools.cache
def _look(code: Path) -> Look:
    return Look(code)


class Look:
    """One look at the code, in a thread, so that no process waits for it to start."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._code: dict[str, Any] = dict.fromkeys(("git_commit", "git_dirty", "code_sha256"))
        self._thread = threading.Thread(target=self._look, name="origin", daemon=True)
        self._thread.start()
        # In a forked child the thread would not exist, and never end.
        os.register_at_fork(before=self._thread.join)

    def _look(self) -> None:
        self._code["code_sha256"] = hash_of(self._place)
        self._code["git_commit"], self._code["git_dirty"] = checkout(self._place)

    @property
    def code(self) -> dict[str, Any]:
        """`code_sha256`, `git_commit` and `git_dirty`; None is what cannot be told."""
        self._thread.join()
        return dict(self._code)


def hash_of(package: Path) -> str | None:
    """SHA-256 over the paths and contents of a package's source files, or of a file alone, the same
    wherever it lies.

    None where they cannot be read, as in a zip file.
    """
    digest = hashlib.sha256()
    files = {path.relative_to(package).as_posix(): path for path in package.rglob("*.py")}
    if _is_one_file(package):
        files = {package.name: package}
    try:
        for name in sorted(files):
            content = files[name].read_bytes()
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
    except OSError as error:
        log.warning("the code has no hash: %s", error)
        return None
    return digest.hexdigest() if files else None


def _is_one_file(place: Path) -> bool:
    """A module, or the script or program that a command runs."""
    return place.suffix == ".py" or place.is_file()


def checkout(package: Path) -> tuple[str | None, bool | None]:
    """The commit that a package, or a file, is checked out at, and whether what runs a trial
    differs from it, new files included; None and None where git does not track the package.

    An installed copy may lie inside of an unrelated repository, whose commit says nothing of it.
    """
    top = next((one for one in package.parents if (one / ".git").exists()), None)
    if top is None:
        return None, None
    names = _RUNS_A_TRIAL if package.name == _RUNS_A_TRIAL[0] else (package.name,)
    places = [str((package.parent / name).relative_to(top)) for name in names]
    file = places[0] if _is_one_file(package) else f"{places[0]}/__init__.py"
    try:
        if not _git(top, package, "ls-files", "--", file):
            return None, None
        status = _git(
            top, package, "status", "--porcelain=v2", "--branch", "--untracked-files=all", "--",
            *places, ":(exclude,glob)**/__pycache__/**",
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        log.warning("git does not tell the commit of the code: %s", said.partition("\n")[0])
        return None, None
    lines = status.splitlines()
    told = [line.removeprefix("# branch.oid ") for line in lines if line.startswith("# branch.oid")]
    commit = next((one for one in told if one != "(initial)"), None)
    return commit, any(not line.startswith("#") for line in lines)


def _git(top: Path, package: Path, *words: str) -> str:
    """git's answer about the repository at `top`. Raises OSError and SubprocessError."""
    # Variables such as GIT_DIR, set in a hook or by an editor, would turn it to another one.
    environment = {key: text for key, text in os.environ.items() if not key.startswith("GIT_")}
    # Workers beside each other would wait for the lock of the index.
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    settings = ["-c", "core.fsmonitor=false"]
    # git refuses another user's repository, whose settings can run programs. Where it is of the
    # owner of the code, that code already runs.
    if (top / ".git").stat().st_uid == package.stat().st_uid:
        settings += ["-c", f"safe.directory={top}"]
    done = processes.run(
        ["git", "-C", str(top), *settings, *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_GIT_SECONDS,
        check=True,
    )
    return done.stdout
