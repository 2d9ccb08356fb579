"""Errors of this package that a person can act on, and how its commands end with them."""

from __future__ import annotations

import sys
from collections.abc import Callable

EXIT_USAGE = 2
EXIT_SLURM = 3
EXIT_INTERRUPTED = 130


class SlurmError(Exception):
    """What is wrong, where, and what to type next: the shape of `trainer.errors.InputError`.

    `exit_code` is 3 for Slurm and I/O, 2 for usage.
    """

    def __init__(self, what: str, help: str, *, exit_code: int = EXIT_SLURM) -> None:
        super().__init__(what, help)
        self.what = what
        self.help = help
        self.exit_code = exit_code

    def __str__(self) -> str:
        return f"{self.what}\n{self.help}"

    def __reduce__(self) -> tuple[Callable[..., SlurmError], tuple[str, str, int]]:
        return _rebuild, (self.what, self.help, self.exit_code)


def _rebuild(what: str, help: str, exit_code: int) -> SlurmError:
    return SlurmError(what, help, exit_code=exit_code)


def run_command(app: Callable[..., object]) -> None:
    """Run a Typer app on the command line and leave the process with the code that it ends with.

    Errors become an `error:` and a `help:` line on stderr; with `--debug`, a traceback.
    """
    words = [word for word in sys.argv[1:] if word != "--debug"]
    try:
        code = app(args=words, standalone_mode=False)
    except Exception as error:
        if "--debug" in sys.argv[1:]:
            raise
        sys.exit(_report(error))
    if code == EXIT_INTERRUPTED:  # what Typer makes of Ctrl-C
        print("interrupted", file=sys.stderr)
    sys.exit(code if isinstance(code, int) else 0)


def _report(error: Exception) -> int:
    shown = error if isinstance(error, SlurmError) else _as_slurm_error(error)
    print(f"error: {shown.what}\nhelp: {shown.help}", file=sys.stderr, flush=True)
    return shown.exit_code


def _as_slurm_error(error: Exception) -> SlurmError:
    # Typer carries its own copy of click, whose usage errors have no public base class to name.
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        return SlurmError(
            error.format_message().strip().rstrip("."),
            "--help lists the options and arguments",
            exit_code=EXIT_USAGE,
        )
    if isinstance(error, OSError):
        return SlurmError(str(error), "mend its rights or its space, or choose another folder")
    return SlurmError(
        f"{type(error).__name__}: {error}",
        "this is a bug: run the same command with --debug for the traceback to report",
    )
