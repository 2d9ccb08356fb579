"""How a command meets its surroundings: what it prints, what can go wrong, how it ends.

Progress is best effort: the work never ends because nobody can read of it. What is printed on
stdout is data: a command that only shows ends where its reader has gone, one that works goes on.
Nothing that a terminal would obey is passed on from a file's or another program's words.

It imports next to nothing of the project, so that it can say what is wrong with anything.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any, NoReturn, TextIO, TypeVar, cast

from local_machine import clock, signals
from local_machine.installed import extras, import_owner

EXIT_DONE = 0
EXIT_FLAGGED = 1
EXIT_USAGE = 2
EXIT_IO = 3


class _Told(int):
    """The exit code of a command that has said why. Typer makes a plain 130 of Ctrl-C, silently."""


EXIT_INTERRUPTED = _Told(130)

# How argv begins where one program runs all commands: `sweeps launch` (sweeps/__main__.py).
TYPED = ("sweeps ", "python -m sweeps ")
# Longer errors hold somebody's whole file.
LONGEST_LINE = 4000
SAY_SECONDS = 2.0

_T = TypeVar("_T")

AGAIN = "then run the same command again: it goes on from where it stopped"
_FULL = f"free some space (`df -h`, `df -i`, `quota -s`), {AGAIN}"
_RIGHTS = "choose a folder that you may write (--results DIR, --out DIR), or correct its rights"
_MEMORY = f"free some memory, or raise the limit (`ulimit -v`, a job's --mem), {AGAIN}"
_PROCESSES = f"end some processes, or raise the limit (`ulimit -u`), {AGAIN}"
_FILES = f"close some files, or raise the limit (`ulimit -n`), {AGAIN}"
_PATHS = "give the path of a file or folder as it is: no loop of links, no name over 255 bytes"
_HELP_BY_ERRNO = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: _FULL,
    errno.EROFS: _RIGHTS,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.ENOMEM: _MEMORY,
    errno.EAGAIN: _PROCESSES,
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.ENAMETOOLONG: _PATHS,
    errno.ELOOP: _PATHS,
    errno.ENOENT: "give a path that exists, and that nothing else removes meanwhile",
}
_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_NO_MEMORY = re.compile(r"not enough memory|out of memory|n.t allocate memory", re.IGNORECASE)


def printable(text: str, keep: str = "\n\t") -> str:
    """The text with nothing in it that a terminal would obey: escape sequences and other control
    characters are spelled out, as in \\x1b; those in `keep`, line breaks and tabs, stay."""
    rest = text
    for char in keep:
        rest = rest.replace(char, "")
    if rest.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode()
        for char in text.encode(errors="backslashreplace").decode()
    )


def one_line(text: str) -> str:
    """The text on one line of bounded length: no name in it can look like the next line."""
    line = printable(" ".join(text.split("\n")))
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} ..."


def print_error(what: str, help: str) -> None:
    print(f"error: {one_line(what)}\nhelp: {one_line(help)}", file=sys.stderr, flush=True)


def counted(items: Iterable[_T], of: int, words: str) -> Iterator[_T]:
    """The items; every two seconds stderr says how many of them are done, as in `words`, which has
    {} for both numbers: "read {} of {} trials"."""
    said = clock.monotonic()
    for done, item in enumerate(items):
        if clock.monotonic() - said > SAY_SECONDS:
            said = clock.monotonic()
            print(words.format(f"{done:,}", f"{of:,}"), file=sys.stderr, flush=True)
        yield item


class OutputLostError(BaseException):
    """What a command shows cannot be written. No Exception, so that nothing between eats it."""


class Output:
    """stdout or stderr: what is written is made printable, and a failing write is remembered.

    After one, everything goes to /dev/null, and so does what child processes write there. Where
    `ends`, it raises OutputLostError.
    """

    def __init__(self, stream: TextIO, *, ends: bool = False) -> None:
        self.stream = stream
        self.ends = ends
        self.lost: Exception | None = None
        if hasattr(stream, "reconfigure"):
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors="backslashreplace")  # what an ASCII locale cannot say

    def write(self, text: str, keep: str = "\n\t") -> int:
        self._try(lambda: self.stream.write(printable(text, keep)))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._try(self.stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def _try(self, act: Callable[[], object]) -> None:
        if self.lost is not None:
            return
        try:
            act()
        except (OSError, ValueError) as error:  # ValueError: it was closed
            self.lost = error
            # What is buffered is written once more when Python ends.
            with contextlib.suppress(OSError, ValueError):
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, self.stream.fileno())
                os.close(nothing)
                self.stream.flush()
            if self.ends:
                raise OutputLostError from None


class _Drawn:
    """An Output for rich, whose own escape sequences pass."""

    def __init__(self, output: Output) -> None:
        self.output = output

    def write(self, text: str) -> int:
        return self.output.write(text, keep="\n\t\r\x1b")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.output, name)


def drawn_on(stream: TextIO | Output) -> TextIO:
    """The stream for rich to draw on. The texts that it draws have to be made printable before."""
    return cast(TextIO, _Drawn(stream)) if isinstance(stream, Output) else stream


def quiet_while_importing() -> None:
    """Have Ctrl-C end `python -m` without a traceback until `run_command` takes it over."""
    at_start = sys.argv[:1] == ["-m"]  # so it is while Python looks for the module
    if at_start and signals.handler_of(signal.SIGINT) is signal.default_int_handler:
        signals.handle(signal.SIGINT, signal.SIG_DFL)


def run_command(
    app: Callable[..., object], argv: list[str] | None = None, *, shows: bool = False
) -> NoReturn:
    """Run a Typer app and leave the process with the exit code that the contract gives.

    Whatever goes wrong becomes an `error:` and a `help:` line, also a bug, which is not a reason to
    fill the screen of a person who did not write it; with `--debug` on the command line the
    traceback is shown instead. Where stdout cannot be written, a command that `shows` ends: quietly
    where the reader has gone, with 3 where a disk is full. One that works goes on, says so once,
    and ends with what became of the work; with 3 where that was to be said in JSON.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    # What stands behind `--` is another program's.
    own = words[: words.index("--")] if "--" in words else words
    debug = "--debug" in own
    words = [word for word in own if word != "--debug"] + words[len(own) :]
    shows = shows or "--dry-run" in own or "--help" in own
    with _surroundings(shows, drawn="--help" in own) as out:
        try:
            _check_words(words)
            _check_owner()
            # Else --help would name the module that is run.
            named = {"prog_name": sys.argv[0]} if sys.argv[0].startswith(TYPED) else {}
            code = app(args=words, standalone_mode=False, **named)
            if type(code) is int and code == EXIT_INTERRUPTED:
                code = _report(KeyboardInterrupt())
            out.flush()
        except OutputLostError:
            code = EXIT_DONE
        except SystemExit as end:
            if isinstance(code := end.code, str):
                code = _report(OSError(code))
        except BaseException as error:
            if debug:
                sys.excepthook = _show_traceback  # typer has put its own there
                raise
            code = _report(error)
        code = code if isinstance(code, int) else EXIT_DONE
        if out.lost is not None:
            code = _without_output(out.lost, code, shows, "--json" in own)
    sys.exit(code)


@contextlib.contextmanager
def _surroundings(shows: bool, drawn: bool) -> Iterator[Output]:
    """stdout and stderr as Outputs, and a closed terminal as an interruption, for one command."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # Else the first file that is opened becomes stdout, and is written into.
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    out, err = (
        Output(stream or open(os.devnull, "w"), ends=ends)  # noqa: PTH123, SIM115
        for stream, ends in ((sys.stdout, shows), (sys.stderr, False))
    )
    # Typer draws its help by escape sequences, and nobody else's words are in it.
    sys.stdout, sys.stderr = drawn_on(out) if drawn else cast(TextIO, out), cast(TextIO, err)
    # nohup has it ignored.
    hears = _in_main_thread() and signals.handler_of(signal.SIGHUP) is signal.SIG_DFL
    if hears:
        signals.handle(signal.SIGHUP, _interrupt)
    if _in_main_thread() and signals.handler_of(signal.SIGINT) is signal.SIG_DFL:
        signals.handle(signal.SIGINT, signal.default_int_handler)
    try:
        yield out
    finally:
        out.ends = False
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = before
        if hears:
            signals.handle(signal.SIGHUP, signal.SIG_DFL)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _interrupt(number: int, _: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt(signal.Signals(number).name)


def _show_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    words = printable("".join(traceback.format_exception(kind, error, trace)))
    with contextlib.suppress(OSError, ValueError):
        print(words, end="", file=sys.stderr, flush=True)


def _without_output(lost: Exception, code: int, shows: bool, as_json: bool) -> int:
    """The exit code where stdout could not be written."""
    why = getattr(lost, "strerror", None) or str(lost)
    gone = isinstance(lost, BrokenPipeError)
    if gone and shows:
        return EXIT_DONE
    if shows:
        print_error(f"cannot write to stdout: {why}", _FULL)
        return EXIT_IO
    print(f"warning: cannot write to stdout: {why}; the work was done all the same",
          file=sys.stderr, flush=True)  # fmt: skip
    return EXIT_IO if as_json and not gone and code in (EXIT_DONE, EXIT_FLAGGED) else code


def _check_words(words: Iterable[str]) -> None:
    """Raises UnicodeError for words that are not UTF-8, which no record could hold, and ValueError
    for one with a NUL in it, which no path can."""
    for word in words:
        word.encode()
        if "\0" in word:
            raise ValueError("embedded null character")


class _ForeignPackageError(Exception):
    """Another distribution's package lies in place of ours."""

    exit_code = EXIT_USAGE

    def __init__(self, what: str, help: str) -> None:
        super().__init__(what, help)
        self.what, self.help = what, help


def _check_owner() -> None:
    """Raises _ForeignPackageError; warns where it may be that another package is imported."""
    if (problem := import_owner.problem()) is not None:
        raise _ForeignPackageError(*problem)
    if (warning := import_owner.warning()) is not None:
        print(f"warning: {one_line(warning)}", file=sys.stderr, flush=True)


def _report(error: BaseException) -> int:
    """Say what went wrong; the exit code."""
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        print("interrupted", file=sys.stderr, flush=True)
        return EXIT_INTERRUPTED
    what, todo, code = explained(error) or (
        f"{type(error).__name__}: {error}",
        "this is a bug: run the same command with --debug for the traceback to report",
        EXIT_IO,
    )
    print_error(what, todo)
    return code


def explained(error: BaseException) -> tuple[str, str, int] | None:
    """What is wrong, what to do, and the exit code, where it is the input or the machine; None for
    what can only be a bug."""
    # Both packages' own errors.
    if hasattr(error, "what") and hasattr(error, "help") and hasattr(error, "exit_code"):
        return str(error.what), str(error.help), int(error.exit_code)
    # Typer carries its own copy of click, whose usage errors have no public base class to name.
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        what = error.format_message().strip().rstrip(".")
        return what, "--help lists the options and arguments", EXIT_USAGE
    said = str(error)
    if type(error).__name__ in ("MemoryError", "OutOfMemoryError", "ArrowMemoryError") or (
        isinstance(error, (RuntimeError, OSError)) and _NO_MEMORY.search(said)
    ):
        return "not enough memory", _MEMORY, EXIT_IO
    if isinstance(error, OSError):
        return _explained_os_error(error)
    if isinstance(error, RuntimeError) and "start new thread" in said:
        return "this machine starts no further thread", _PROCESSES, EXIT_IO
    if isinstance(error, RuntimeError) and said.startswith("Symlink loop"):  # of Path.resolve
        return said, _PATHS, EXIT_IO
    if isinstance(error, ImportError):
        return _explained_import(error)
    if isinstance(error, RecursionError):
        return "something is nested too deeply", "look for a definition or file that is", EXIT_IO
    if isinstance(error, UnicodeError):
        return f"a name or text is not UTF-8: {said}", "write it in UTF-8", EXIT_USAGE
    if isinstance(error, ValueError) and "embedded null" in said:
        return "a name or path holds a NUL", "leave it out: no file can be named so", EXIT_USAGE
    # Of subprocess, which is not imported for this.
    if type(error).__name__ in ("CalledProcessError", "TimeoutExpired", "BrokenProcessPool"):
        return f"a child process failed: {said}", "look at what it said, then try again", EXIT_IO
    return None


def _explained_import(error: ImportError) -> tuple[str, str, int]:
    name = (error.name or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and (install := extras.command(name)) is not None:
        return f"this needs the module {name}, which is not installed here", install, EXIT_USAGE
    todo = (
        "a library is missing or damaged: in a checkout run `make setup` again, else "
        f"`pip install --force-reinstall {extras.DISTRIBUTION}`"
    )
    return f"cannot import {error.name or 'a library'}: {error}", todo, EXIT_IO


def _explained_os_error(error: OSError) -> tuple[str, str, int]:
    number = error.errno or 0
    reason = error.strerror or str(error) or type(error).__name__
    path = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
    verb = "write" if number in _WRITING else "use"
    what = f"cannot {verb} {path}: {reason}" if path else reason
    if number in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST) and path:
        return what, f"move it away: {shlex.join(['mv', path, f'{path}.damaged'])}", EXIT_IO
    todo = _HELP_BY_ERRNO.get(number, "see what this machine says of it (`dmesg`), then try again")
    return what, todo, EXIT_IO
