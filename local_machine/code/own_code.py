"""Running a person's own code inside of ours: what goes wrong is an InputError that says where."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from local_machine.errors import InputError, in_words

T = TypeVar("T")

PARSERS = (
    "argparse",
    "optparse",
    "click",
    "typer",
    "fire",
    "absl",
    "docopt",
    "tyro",
    "jsonargparse",
)
"""Libraries that end a program whose options they do not know."""
TRACEBACK = "fix that code; --debug shows the whole traceback"


def module_name(path: Path) -> str:
    """Under which a definition file is in sys.modules."""
    return f"definition_of_{path.stem}"


@contextlib.contextmanager
def siblings(path: Path) -> Iterator[None]:
    """Modules beside the definition are found as those beside a script are, though never in the
    place of Python's own; afterwards behind all others, for what it imports later."""
    folder = str(path.resolve().parent)
    packages = (
        place
        for place, entry in enumerate(sys.path)
        if entry.endswith(("site-packages", "dist-packages"))
    )
    sys.path.insert(next(packages, len(sys.path)), folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # it has changed the list itself
            sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)


def guarded(act: Callable[[], T], where: Callable[[BaseException], str], what: str) -> T:
    """What code of a definition returns. Raises InputError, which begins with `where`, for whatever
    else comes of it, sys.exit included; and KeyboardInterrupt, where that is Ctrl-C's own."""
    try:
        return act()
    except BaseException as error:
        if type(error) is KeyboardInterrupt:
            raise
        if hasattr(error, "what") and hasattr(error, "help"):  # ours, or the slurm package's
            raise InputError(f"{where(error)}: {error.what}", error.help) from None
        if isinstance(error, SystemExit) and (parser := _parser_in(error)) is not None:
            raise InputError(
                f"{where(error)}: it reads a command line by {parser} when it is imported, and "
                "that one is the launch's",
                'put what reads its options under `if __name__ == "__main__":`, or into the task',
            ) from error
        raise InputError(f"{where(error)}: {what}{_said(error)}", _advice(error)) from error


def _parser_in(error: BaseException) -> str | None:
    """The library that was reading options when it ended the program; None where none was."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package in PARSERS:
            return package
    return None


def _said(error: BaseException) -> str:
    try:
        return in_words(error)
    except BaseException:
        return f"{type(error).__name__}: it cannot say why"


def _advice(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return (
            f"install what has the module {error.name.partition('.')[0]} for {sys.executable}, or "
            "correct the import; --debug shows the whole traceback"
        )
    return TRACEBACK


def line_of(error: BaseException, path: Path) -> str:
    """`:LINE`, the last line of the definition that the error passed through."""
    if isinstance(error, SyntaxError):
        return f":{error.lineno}" if error.lineno else ""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return f":{lines[-1]}" if lines else ""
