"""Errors of this package that a person can act on."""

from __future__ import annotations

from collections.abc import Callable

from slurm.terminal import EXIT_INTERRUPTED, EXIT_USAGE, run_command
from slurm.terminal import EXIT_IO as EXIT_SLURM

__all__ = ["EXIT_INTERRUPTED", "EXIT_SLURM", "EXIT_USAGE", "SlurmError", "run_command"]


class SlurmError(Exception):
    """What is wrong, where, and what to type next: the shape of `trial_records.errors.InputError`.

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
