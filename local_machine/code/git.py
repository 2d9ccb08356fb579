"""git, asked about a repository: never another one than is meant, and never changed by it."""

from __future__ import annotations

import os
from pathlib import Path

from local_machine import processes

SECONDS = 10


def top_of(place: Path) -> Path | None:
    """The folder of the repository, or of the submodule, that a file or a folder lies in; None
    where it lies in none."""
    return next((one for one in (place, *place.parents) if (one / ".git").exists()), None)


def answer(top: Path, owned: Path, *words: str, given: bytes = b"") -> bytes:
    """What git says of the repository at `top`, in which `owned` lies; `given` is its input.

    Raises OSError and subprocess.SubprocessError.
    """
    # Variables such as GIT_DIR, set in a hook or by an editor, would turn it to another one.
    environment = {key: text for key, text in os.environ.items() if not key.startswith("GIT_")}
    # Workers beside each other would wait for the lock of the index.
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    settings = ["-c", "core.fsmonitor=false"]
    # git refuses another user's repository, whose settings can run programs. Where it is of the
    # owner of the code, that code already runs.
    if (top / ".git").stat().st_uid == owned.stat().st_uid:
        settings += ["-c", f"safe.directory={top}"]
    done = processes.run(
        ["git", "-C", str(top), *settings, *words],
        env=environment,
        capture_output=True,
        timeout=SECONDS,
        check=True,
        input=given,
    )
    return done.stdout


def said(error: Exception) -> str:
    """Why git did not answer, in a line of its own words."""
    words = getattr(error, "stderr", None) or str(error).encode(errors="replace")
    return words.decode(errors="replace").partition("\n")[0]
