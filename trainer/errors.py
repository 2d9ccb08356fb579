"""Errors that a person can act on, and how a command ends with them.

An InputError says what is wrong and where, and what to type next. A command wrapped by
`run_command` prints it as two lines on stderr and exits with its code; a traceback is shown only
with `--debug`.
"""

from __future__ import annotations

import difflib
import errno
import gc
import os
import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

EXIT_DONE = 0
EXIT_FLAGGED = 1
EXIT_USAGE = 2
EXIT_IO = 3
EXIT_INTERRUPTED = 130

# What a full, read-only or forbidden disk answers: the machine's trouble, not a trial's.
STORAGE_ERRNOS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG}
)


# What a folder answers where a file should be, and a file where a folder should.
WRONG_KIND_ERRNOS = frozenset({errno.EISDIR, errno.ENOTDIR, errno.EEXIST})


class InputError(Exception):
    """What is wrong, where, and what to type next.

    `exit_code` is 2 for usage and configuration, 3 for Slurm and I/O.
    """

    def __init__(self, what: str, help: str, *, exit_code: int = EXIT_USAGE) -> None:
        super().__init__(what, help)
        self.what = what
        self.help = help
        self.exit_code = exit_code

    def __str__(self) -> str:
        return f"{self.what}\n{self.help}"

    def __reduce__(self) -> tuple[Callable[..., InputError], tuple[str, str, int]]:
        return _rebuild, (self.what, self.help, self.exit_code)


def _rebuild(what: str, help: str, exit_code: int) -> InputError:
    return InputError(what, help, exit_code=exit_code)


def storage_error(error: OSError) -> InputError | None:
    """The error to show for a disk that is full or may not be written; None for any other error."""
    if error.errno not in STORAGE_ERRNOS:
        return None
    where = f" {error.filename}" if error.filename else ""
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        todo = "free some space (`df -h`, `quota -s`), then run the same command again: it resumes"
    else:
        todo = "choose a folder that you may use (--results DIR, --out DIR), or correct its rights"
    # The error of a file that may not be read does not differ from that of one that may not be
    # written.
    unsure = error.errno in (errno.EACCES, errno.EPERM, errno.EIO)
    what = "cannot read or write" if unsure else "cannot write"
    return InputError(f"{what}{where}: {reason}", todo, exit_code=EXIT_IO)


def move_away(path: Path, word: str = "damaged") -> str:
    """The command that moves `path` out of the way, for a help line."""
    return shlex.join(["mv", str(path), f"{path}.{word}"])


def printable(text: str) -> str:
    """The text with nothing in it that a terminal would obey: escape sequences and other control
    characters are spelled out, as in \\x1b; line breaks and tabs stay."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in text.encode(errors="backslashreplace").decode()
    )


def nearest(word: str, choices: Iterable[str]) -> str:
    """A sentence for a help line: the closest of `choices` where one is close, else all of them."""
    names = sorted(choices)
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(name) for name in close) + "?"
    return "choose one of: " + ", ".join(names)


def print_error(what: str, help: str) -> None:
    print(f"error: {what}\nhelp: {help}", file=sys.stderr, flush=True)


def seldom_collect() -> None:
    """Look for cyclic garbage seldom: for a command that holds thousands of trials until it ends.

    By default, Python looks through all of them again and again while they are made, for half of
    the time that making them takes.
    """
    gc.set_threshold(200_000, 50, 50)


def run_command(app: Callable[..., object], argv: list[str] | None = None) -> None:
    """Run a Typer app and leave the process with the exit code that the contract gives.

    Usage errors, InputErrors and a full disk become `error:` and `help:`; anything else does so
    too, since a bug is no reason to fill the screen of a person who did not write it. With
    `--debug` on the command line the traceback is shown instead.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        _check_text(words)
        code = app(args=words, standalone_mode=False)
    except BrokenPipeError:
        # `... | head` closed our stdout: point it at nothing so that Python's exit stays silent.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_DONE)
    except Exception as error:
        if debug:
            raise
        sys.exit(_report(error))
    sys.exit(code if isinstance(code, int) else EXIT_DONE)


def _check_text(words: Iterable[str]) -> None:
    """Raises InputError for words that are no UTF-8, which no record could hold."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{word!a} is not UTF-8", "give the file or folder a name in UTF-8"
            ) from None


def _report(error: Exception) -> int:
    # InputError, and the error of the slurm package, which this one may not import.
    if hasattr(error, "what") and hasattr(error, "help") and hasattr(error, "exit_code"):
        print_error(error.what, error.help)
        return int(error.exit_code)
    if isinstance(error, OSError) and (storage := storage_error(error)) is not None:
        print_error(storage.what, storage.help)
        return storage.exit_code
    if isinstance(error, OSError) and error.errno in WRONG_KIND_ERRNOS and error.filename:
        path = Path(os.fsdecode(error.filename))
        print_error(f"cannot use {path}: {error.strerror}", f"move it away: {move_away(path)}")
        return EXIT_IO
    # Typer carries its own copy of click, whose usage errors have no public base class to name.
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        print_error(
            error.format_message().strip().rstrip("."), "--help lists the options and arguments"
        )
        return EXIT_USAGE
    if type(error).__name__ == "Abort":
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    print_error(
        f"{type(error).__name__}: {error}",
        "this is a bug: run the same command with --debug for the traceback to report",
    )
    return EXIT_IO
