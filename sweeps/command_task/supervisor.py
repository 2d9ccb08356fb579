"""Supervisor: runs a program to its end, or to a save where the attempt is asked to stop.

On several ranks each has a supervisor; they agree on what happens, so that one rank's end is acted
on by all.
"""

from __future__ import annotations

import json
import logging
import shlex
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any

from local_machine import clock
from local_machine.errors import InputError
from sweeps.command_task.command import TERM_SECONDS
from sweeps.command_task.program import Program
from sweeps.run.handle import Run
from trial_records.plan import PlannedCommand

log = logging.getLogger("sweeps.command_task")

# The exit code that says: stopped, run me again (EX_TEMPFAIL).
AGAIN = 75
# How often a supervisor looks; of several ranks, since each look is a talk between them.
_LOOK_SECONDS, _RANKS_LOOK_SECONDS = 0.1, 0.5


class End(Enum):
    DONE = auto()
    STOPPED = auto()
    """Asked to stop, by a warning or a person; it is to be run again later."""
    AGAIN = auto()
    """Stopped by itself; it is to be run again."""
    DIED = auto()
    """Killed by SIGKILL, and not by its supervisor; it is to be run again, too."""


class ProgramFailedError(InputError):
    """A program ended in a way that is not one of `End`."""

    def __init__(self, what: str, tail: list[str], trial: Path) -> None:
        super().__init__(what, f"see its output: {logs_command(trial)}")
        self.tail = tail
        """The last lines that it printed."""


@dataclass
class Supervisor:
    """Of one rank."""

    run: Run
    command: PlannedCommand
    collect: Callable[[], None]
    """Takes over what the program wrote of its metrics; called often."""
    _asked_at: float | None = None
    _sent: list[str] = field(default_factory=list)

    def see_through(self, program: Program | None, is_complete: Callable[[], bool]) -> End:
        """Until the programs of all ranks have ended; None on a rank that has none of its own.
        `is_complete` is asked then, on rank 0: whether the program did all that it was to do.

        Raises ProgramFailedError, LostTrialError, OSError, and InputError where the ranks lose
        each other; nothing of the program runs any more then.
        """
        try:
            codes = self._watch(program)
        finally:
            if program is not None:
                program.kill()
        if program is not None and program.killed:
            log.warning("killed %d processes that the program left behind", program.killed)
        is_first = self.run.ranks.rank == 0
        tail = [] if program is None else program.tail
        mine = {"sent": self._sent, "last": _last_of(tail)}
        told = self._agreed({**mine, "complete": is_complete() if is_first else False})
        return self._judged(codes, told, tail)

    def _watch(self, program: Program | None) -> list[int]:
        """Until all have ended; their exit codes."""
        seconds = _LOOK_SECONDS if self.run.ranks.world == 1 else _RANKS_LOOK_SECONDS
        ending_at = None
        while True:
            mine = 0 if program is None else program.poll()
            codes = self._agreed({"code": mine})["code"]
            if all(code is not None for code in codes):
                return codes
            self.collect()
            if self._asked_at is None and self.run.should_stop():
                self._asked_at = clock.monotonic()
                log.info("asking the program to stop: SIG%s", self.command.stop_signal)
                self._send(program, self.command.stop_signal)
            # A rank that failed, or stopped by itself, leaves the others waiting for it.
            if ending_at is None and any(codes):
                ending_at = clock.monotonic()
            if (since := self._asked_at or ending_at) is not None:
                self._press(program, clock.monotonic() - since)
            clock.sleep(seconds)

    def _press(self, program: Program | None, seconds: float) -> None:
        """What follows when it was to end so many seconds ago."""
        if program is None or program.poll() is not None:
            return
        for name, after in (("TERM", 0.0), ("KILL", TERM_SECONDS)):
            if name not in self._sent and seconds > self.command.grace + after:
                log.warning("the program has not ended: sending SIG%s", name)
                self._send(program, name)

    def _send(self, program: Program | None, name: str) -> None:
        self._sent.append(name)
        if program is not None:
            program.send(signal.Signals[f"SIG{name}"])

    def _agreed(self, mine: Mapping[str, Any]) -> dict[str, list[Any]]:
        """What each rank says, by name."""

        def act(given: list[bytes]) -> dict[str, list[Any]]:
            told = [json.loads(one) for one in given]
            return {name: [one[name] for one in told] for name in told[0]}

        return self.run.ranks.agree("command", json.dumps(mine).encode(), act)

    def _judged(self, codes: list[int], told: Mapping[str, list[Any]], tail: list[str]) -> End:
        """By what all ranks know, so that they judge alike."""
        if self._asked_at is not None:
            # It may have come to its own end just then.
            return End.DONE if not any(codes) and told["complete"][0] else End.STOPPED
        # A rank that was made to end, since another had, says nothing by how it ended.
        own = {rank: code for rank, code in enumerate(codes) if not told["sent"][rank]}
        if all(code in (0, AGAIN) for code in own.values()):
            return End.AGAIN if AGAIN in codes else End.DONE
        if -signal.SIGKILL in own.values():
            log.warning("the program was killed by SIGKILL")
            return End.DIED
        rank, code = next((rank, code) for rank, code in own.items() if code not in (0, AGAIN))
        said = _said(rank, code, len(codes), told["last"][rank])
        raise ProgramFailedError(said, tail, self.run.attempt.trial)


def logs_command(trial: Path) -> str:
    """What prints the output of a trial of this sweep. It is the same for all trials, which fail
    alike."""
    sweep = trial.parent
    words = f"python -m sweeps.logs {shlex.quote(sweep.name)} TRIAL"
    is_usual = sweep.parent.resolve() == Path("results").resolve()
    return words if is_usual else f"{words} --results {shlex.quote(str(sweep.parent))}"


def _last_of(tail: list[str]) -> str:
    return next((line.strip() for line in reversed(tail) if line.strip()), "")


def _said(rank: int, code: int, ranks: int, last: str) -> str:
    who = "the program" if ranks == 1 else f"the program of rank {rank}"
    how = f"ended with exit code {code}"
    if code < 0:
        how = f"was ended by {signal.Signals(-code).name}"
    return f"{who} {how}" + (f": {last}" if last else ", and printed nothing")
