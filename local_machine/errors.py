"""Errors that a person can act on, and how a command ends with them.

An InputError says what is wrong and where, and what to type next. A command wrapped by
`run_command` (terminal.py) prints it as two lines on stderr and exits with its code; a traceback is
shown only with `--debug`.
"""

from __future__ import annotations

import difflib
import errno
import gc
import os
import re
import reprlib
import shlex
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from local_machine.installed import extras
from local_machine.terminal import (
    EXIT_DONE,
    EXIT_FLAGGED,
    EXIT_INTERRUPTED,
    EXIT_IO,
    EXIT_USAGE,
    drawn_on,
    explained,
    print_error,
    printable,
    quiet_while_importing,
    run_command,
)

__all__ = [
    "EXIT_DONE",
    "EXIT_FLAGGED",
    "EXIT_INTERRUPTED",
    "EXIT_IO",
    "EXIT_USAGE",
    "STORAGE_ERRNOS",
    "GuidedError",
    "InputError",
    "SlurmError",
    "drawn_on",
    "explained",
    "folder_named",
    "in_words",
    "move_away",
    "nearest",
    "need",
    "print_error",
    "printable",
    "quiet_while_importing",
    "run_command",
    "seldom_collect",
    "storage_error",
    "without_addresses",
]

# What a full, read-only or forbidden disk answers: the machine's trouble, not a trial's.
STORAGE_ERRNOS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG}
)


_ADDRESS = re.compile(r"\n *For further information visit https://errors\.pydantic\.dev/\S*")


class GuidedError(Exception):
    """What is wrong, where, and what to type next.

    `exit_code` is 2 for usage and configuration, 3 for Slurm and I/O.
    """

    _EXIT_CODE: ClassVar[int]

    def __init__(self, what: str, help: str, *, exit_code: int | None = None) -> None:
        super().__init__(what, help)
        self.what = what
        self.help = help
        self.exit_code = self._EXIT_CODE if exit_code is None else exit_code

    def __str__(self) -> str:
        return f"{self.what}\n{self.help}"


class InputError(GuidedError):
    """What a person or a file gave is wrong."""

    _EXIT_CODE = EXIT_USAGE


class SlurmError(GuidedError):
    """Slurm refused something, or could not do it."""

    _EXIT_CODE = EXIT_IO


def storage_error(error: OSError) -> InputError | None:
    """The error to show for a disk that is full or may not be written; None for any other error."""
    if error.errno not in STORAGE_ERRNOS:
        return None
    what, todo, exit_code = explained(error) or (str(error), "", EXIT_IO)
    return InputError(what, todo, exit_code=exit_code)


def move_away(path: Path, word: str = "damaged") -> str:
    """The command that moves `path` out of the way, for a help line."""
    return shlex.join(["mv", str(path), f"{path}.{word}"])


def folder_named(word: str | Path) -> Path:
    """The folder that a command line names, which may not be there yet: a parser of options.

    Raises InputError for a path where no folder can be: nothing, the root, a file, a link to
    nowhere, too long a name.
    """
    path, another = Path(word), "name another folder (--results DIR, --out DIR); . is this one"
    if not str(word):
        raise InputError("a folder's path is empty", another)
    if os.path.realpath(path) == "/":
        raise InputError(f"{path} is the root of all folders", another)
    what, reason = "cannot write in", "it is not a folder"
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            return path
    except FileNotFoundError:
        if not path.is_symlink():
            return path
        reason = "it is a link to nowhere"
    except OSError as error:
        what, reason = "cannot read", error.strerror or str(error)
    raise InputError(f"{what} {path}: {reason}", another, exit_code=EXIT_IO)


def in_words(error: BaseException) -> str:
    """The error's type and message; of pydantic's, each field with what is wrong with it."""
    kind = type(error).__name__
    if kind != "ValidationError" or not hasattr(error, "title"):
        return f"{kind}: {error}"
    found: list[dict[str, Any]] = error.errors(include_url=False)  # type: ignore[attr-defined]
    each = (
        f"{'.'.join(map(str, one['loc'])) or error.title}={reprlib.repr(one['input'])}: "
        f"{one['msg'][:1].lower()}{one['msg'][1:]}"
        for one in found
    )
    return f"{kind}: {'; '.join(each)}"


def without_addresses(text: str) -> str:
    """A traceback without the addresses of pydantic's web pages."""
    return _ADDRESS.sub("", text)


def nearest(word: str, choices: Iterable[str]) -> str:
    """A sentence for a help line: the closest of `choices` where one is close, else all of them."""
    names = sorted(choices)
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(name) for name in close) + "?"
    return "choose one of: " + ", ".join(names)


def need(needed: str, what: str) -> None:
    """Raises InputError where an extra, or a module of one, is not installed, which `what` needs:
    "a report"."""
    if (module := extras.missing(needed)) is not None:
        raise InputError(
            f"{what} needs the module {module}, which is not installed here",
            f"install it: {extras.command(needed)}",
        )


def seldom_collect() -> None:
    """Look for cyclic garbage seldom: for a command that holds thousands of trials until it ends.

    By default, Python looks through all of them again and again while they are made, for half of
    the time that making them takes.
    """
    gc.set_threshold(200_000, 50, 50)
