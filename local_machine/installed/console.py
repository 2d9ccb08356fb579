"""Where the program `sweeps` begins: in a package that no other distribution has.

It can so say when another distribution's package `sweeps` lies in place of ours, whatever that does
when it is imported.
"""

from __future__ import annotations

import importlib
import sys
from typing import NoReturn

from local_machine.installed import import_owner

_EXIT_USAGE = 2


def main() -> NoReturn:
    if (problem := import_owner.problem()) is not None:
        what, todo = problem
        print(f"error: {what}\nhelp: {todo}", file=sys.stderr)
        sys.exit(_EXIT_USAGE)
    # By its name: nothing of this package imports sweeps/.
    importlib.import_module("sweeps.__main__").main()
    raise AssertionError("a command leaves with an exit code")
