"""`sweeps launch ...`: one program for all commands; `python -m sweeps launch ...` is the same.

It loads the module of the command that is typed, and no other.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from pathlib import Path
from typing import NoReturn

from local_machine import signals
from local_machine.errors import EXIT_DONE, EXIT_USAGE, nearest, print_error, run_command
from local_machine.installed.extras import DISTRIBUTION

# The module of each, and what it does in a line.
COMMANDS = {
    "launch": ("sweeps.launch", "run what is left of a sweep, or of a command line, and watch it"),
    "search": ("sweeps.search", "let Optuna choose the values, and prune what lags behind"),
    "study": ("sweeps.study", "go through sweeps and searches that choose for one another"),
    "list": ("sweeps.list", "list the sweeps, searches and studies that have a name"),
    "status": ("sweeps.status", "show how a sweep stands"),
    "logs": ("sweeps.logs", "print what a trial said"),
    "retry": ("sweeps.retry", "run failed and lost trials again"),
    "cancel": ("sweeps.cancel", "stop what is queued and running"),
    "report": ("analysis.report", "write the report of a results folder"),
    "note": ("sweeps.note", "note something about a sweep or a trial"),
    "tag": ("sweeps.tag", "tag a sweep or a trial"),
    "exclude": ("sweeps.exclude", "leave a trial out of comparisons, with a reason"),
    "export": ("analysis.export", "write results for TensorBoard, W&B, MLflow, Trackio or as CSV"),
    "verify": ("sweeps.verify", "run finished trials again, and compare them"),
    "adopt": ("sweeps.adopt", "take runs over that were made elsewhere, for reports"),
    "compact": ("sweeps.compact", "gather finished trials into a few files"),
    "doctor": ("sweeps.doctor", "find what would go wrong on this machine or cluster"),
}
# What a shell sets when it asks how a line may go on; and what has it ask.
_ASKED = "_SWEEPS_COMPLETE"
_COMPLETION = ("--install-completion", "--show-completion")


def main() -> NoReturn:
    """Run the command that is typed, or say which there are."""
    if signals.handler_of(signal.SIGINT) is signal.default_int_handler:
        signals.handle(signal.SIGINT, signal.SIG_DFL)  # until the command takes it over
    is_module = Path(sys.argv[0]).name == "__main__.py"
    program = "python -m sweeps" if is_module else "sweeps"
    word = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if _ASKED in os.environ or word in _COMPLETION:
        from sweeps.cli import completion

        modules = {name: module for name, (module, _) in COMMANDS.items()}
        run_command(lambda args, standalone_mode: completion.run(modules, args), shows=True)
    if word in COMMANDS:
        sys.argv = [f"{program} {word}", *sys.argv[2:]]
        runpy.run_module(COMMANDS[word][0], run_name="__main__")
        sys.exit(EXIT_DONE)
    run_command(lambda args, standalone_mode: _say(program, word), shows=True)


def _say(program: str, word: str) -> int:
    if word in ("--help", "-h", "help"):
        print(f"Usage: {program} COMMAND ...\n\nHyper-parameter sweeps on HPC clusters.\n")
        for name, (_, what) in COMMANDS.items():
            print(f"  {name:8}  {what}")
        print(f"\n{program} COMMAND --help has the options of one; {program} --version.")
        print("Tab completes commands, names and options after: sweeps --install-completion")
        return EXIT_DONE
    if word == "--version":
        print(f"sweeps {_version()}")
        return EXIT_DONE
    print_error(f"{word!r} is not a command of sweeps", nearest(word, COMMANDS))
    return EXIT_USAGE


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "of a checkout that is not installed"


if __name__ == "__main__":
    main()
