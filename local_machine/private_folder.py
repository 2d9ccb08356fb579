"""Folders that nobody but this user can write: for what is run when it is read back.

torch's compiler keeps pickles and libraries, by default in a folder of /tmp whose name everybody
can guess, and runs what it finds there, whoever made it.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import hashlib
import json
import os
import platform
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from local_machine.errors import EXIT_IO, InputError

COMPILED = "TORCHINDUCTOR_CACHE_DIR"
CODE_CACHES = (COMPILED, "TRITON_CACHE_DIR")
"""The variables by which torch's compiler and Triton are told where to keep code."""
_NOT_CHOSEN = "SWEEPS_CODE_CACHES"
"""The folders that we chose, not the user: a child, which may be on another machine or outlive us,
chooses its own."""


def cache_home() -> Path:
    """Where this user's caches are: SWEEPS_CACHE, or ~/.cache/sweeps. It may be shared with a
    group, since what is read from it is data: arrays without pickles, and JSON.

    Raises InputError where there is no home folder.
    """
    if own := os.environ.get("SWEEPS_CACHE"):
        return Path(own).expanduser().resolve()
    return _home_cache()


def cache_file(kind: str, key: Sequence[Any]) -> Path:
    """A small JSON file of the cache, of its own for each key; JSON can hold the key. Touches
    nothing."""
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    return cache_home() / f"{kind}-{digest}.json"


def _home_cache() -> Path:
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sweeps"
    except RuntimeError:
        raise InputError(
            "this user has no home folder to keep a cache in", "export SWEEPS_CACHE=FOLDER"
        ) from None


@functools.cache
def use_private_caches() -> None:
    """Have code that is compiled kept where nobody else can write; before torch's compiler is used.

    Raises InputError where a folder that the user chose is not private.
    """
    ours = os.environ.get(_NOT_CHOSEN, "").split(os.pathsep)
    chosen = {
        name: Path(os.environ[name]).expanduser().resolve()
        for name in CODE_CACHES
        if os.environ.get(name, "") not in ("", *ours)
    }
    for name, folder in chosen.items():
        if problem := _make_private(folder):
            raise InputError(
                f"{name}={folder}: {problem}, and what is in it would be run as you",
                f"unset {name}, or name a folder of your own: chmod 700 FOLDER",
                exit_code=EXIT_IO,
            )
    home = chosen.get(COMPILED) or _code_cache()
    own = {COMPILED: home, "TRITON_CACHE_DIR": home / "triton"}
    os.environ |= {name: str(chosen.get(name, own[name])) for name in CODE_CACHES}
    os.environ[_NOT_CHOSEN] = os.pathsep.join(
        str(own[name]) for name in CODE_CACHES if name not in chosen
    )


def _code_cache() -> Path:
    """A private folder for this kind of processor, since what is compiled may fit no other."""
    problems = []
    for chosen in (cache_home, _home_cache):
        try:
            home = chosen()
            _keep_mode(home)
        except (InputError, OSError) as error:
            problems.append(error.what if isinstance(error, InputError) else str(error))
            continue
        folder = home / "code" / _processor()
        problem = _make_private(folder) or _without_locks(folder)
        if problem is None:
            return folder
        problems.append(problem)
    folder = Path(tempfile.mkdtemp(prefix="sweeps-code-"))
    atexit.register(_remove, folder, os.getpid())
    print(
        "note: what this process compiles is not kept, there is no private folder for it: "
        + "; ".join(dict.fromkeys(problems)),
        file=sys.stderr,
        flush=True,
    )
    return folder


def _keep_mode(home: Path) -> None:
    """Make the caches' folder as the umask says, since a group may share it; that in the user's
    home is nobody else's to write. Raises OSError."""
    home.mkdir(parents=True, exist_ok=True)
    mode = home.stat().st_mode
    if home == _home_cache() and home.stat().st_uid == os.geteuid() and mode & 0o022:
        home.chmod(stat.S_IMODE(mode) & ~0o022)


def _remove(folder: Path, pid: int) -> None:
    if os.getpid() == pid:  # not in a fork, which ends earlier
        shutil.rmtree(folder, ignore_errors=True)


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith(("flags", "Features")):
                return hashlib.sha256(line.encode()).hexdigest()[:8]
    return platform.machine() or "any"


def _make_private(folder: Path) -> str | None:
    """Make the folder, for this user alone; or why it is not private.

    Whoever may write one of the folders above it could put another in its place.
    """
    try:
        folder = folder.parent.resolve() / folder.name
        missing = [one for one in (folder, *folder.parents) if not os.path.lexists(one)]
        for one in reversed(missing):
            with contextlib.suppress(FileExistsError):
                one.mkdir(mode=0o700)
        for one, is_last in _upwards(folder):
            if problem := _opened_to(one, is_last=is_last):
                return problem
        if not os.access(folder, os.W_OK | os.X_OK):
            return "it may not be written"
    except (OSError, RuntimeError) as error:
        return getattr(error, "strerror", None) or str(error)
    return None


def _upwards(folder: Path) -> Iterator[tuple[Path, bool]]:
    yield folder, True
    for one in folder.parents:
        yield one, False


def _opened_to(folder: Path, *, is_last: bool) -> str | None:
    """To whom the folder is open, if to anybody but this user and root."""
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode):
        return f"{folder} is not a folder"
    user = os.geteuid()
    if facts.st_uid != user and (is_last or facts.st_uid != 0):
        return f"{folder} belongs to another user (number {facts.st_uid})"
    if not is_last and facts.st_mode & stat.S_ISVTX:
        return None  # only the owner of what is in it may rename that
    others = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if others == stat.S_IWGRP and facts.st_gid == user == facts.st_uid:
        return None  # a group of this user alone, as Linux distributions give them
    return f"others may write {folder}" if others else None


def _without_locks(folder: Path) -> str | None:
    """Why torch's compiler could not lock a file there, as on some network filesystems."""
    try:
        with (folder / ".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except OSError as error:
        return f"files cannot be locked: {error.strerror}"
    return None
