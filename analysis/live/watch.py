"""Watching a results folder: the report is made again whenever something changes there."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.cifar10.task import load
from analysis.data.files_read import FilesRead
from analysis.data.progress import OPEN
from analysis.data.study import Study
from analysis.figures.memory import Memory
from analysis.live.changes import Stamp, stamps
from analysis.live.server import LOOPBACK, Server
from analysis.output.page import Page
from analysis.output.publish import check_out
from analysis.reading.standings import Standings
from analysis.whole_report import Written, build, tell
from local_machine import clock
from local_machine.errors import InputError, SlurmError, storage_error
from local_machine.processes import host

LOOK_SECONDS = 0.5
# Of the time that a look takes, at least so many times as much passes before the next one.
_REST = 9.0
# What could not be read or written is tried again after so long.
RETRY_SECONDS = 10.0
# A served page is on disk once nothing has changed for so long, or since so long: writing all files
# would hold up the page.
QUIET_SECONDS = 3.0
BUSY_SECONDS = 60.0
# So many looks in a row must find all over: a study starts one sweep after another.
_OVER_LOOKS = 10


def watch(names: Sequence[str], results: Path, out: Path, port: int | None) -> Written:
    """Write the report again whenever results change, until every trial is over; where it is served
    on a port, 0 for any that is free, until Ctrl-C.

    The first report raises what `analysis.write_report` raises. What goes wrong later is said, and
    leaves the report as it is.
    """
    check_out(out)
    server = None if port is None else Server(port, out)
    watched = Watch(list(dict.fromkeys(names)), results, out, server)
    tell(f"reading {results}")
    watched.make()
    if server is not None:
        print(server.url, flush=True)
        tell(f"from another machine: ssh -L {server.port}:{LOOPBACK}:{server.port} {host()}")
    else:
        watched.write()
        print(out / "report.html", flush=True)
    over = 0
    while server is not None or over < _OVER_LOOKS:
        began = clock.monotonic()
        watched.look()
        rest = max(LOOK_SECONDS, _REST * watched.look_seconds)
        clock.sleep(max(0.05, began + rest - clock.monotonic()))
        over = over + 1 if watched.is_over else 0
        if over == _OVER_LOOKS:
            tell("every trial is over, and the report has them all")
    return Written(out / "report.html", [watched.study])


class Watch:
    """Makes the report again and again. `server` gets each page before the disk does."""

    study: Study
    look_seconds = 0.0

    def __init__(self, names: list[str], results: Path, out: Path, server: Server | None) -> None:
        self._names, self._results, self._out = names, results, out
        self._server = server
        self._standings, self._memory, self._files = Standings(), Memory(), FilesRead()
        self._seen: tuple[dict[str, Stamp], list[str]] | None = None
        self._unwritten: Page | None = None
        self._tried_at = self._changed_at = clock.monotonic()
        self._said: set[str] = set()

    def look(self) -> None:
        """Make and write the report again, where something changed."""
        began = clock.monotonic()
        try:
            seen = stamps(self._results), self._standings.told()
            self.look_seconds = clock.monotonic() - began
            changed = seen != self._seen and (self._seen is not None or self._may_try)
            if changed:
                self.make()
                self._changed_at = clock.monotonic()  # how long that took does not count as quiet
            if self._unwritten is not None and self._is_time_to_write(changed):
                self.write()
        except (InputError, SlurmError) as error:
            self._fail(error.what)
        except OSError as error:
            known = storage_error(error)
            self._fail(known.what if known else f"{error.filename}: {error.strerror}")

    def make(self) -> None:
        """Read, draw, and show it to those who look at the served page."""
        files = stamps(self._results)  # before reading: what changes meanwhile is read again
        self._seen = None
        with self._memory.recalled(), self._files.recalled():
            self.study = load(self._results, self._names, self._standings)
            page = build(self.study)
            if self._server is not None:
                self._server.publish(page.html())
        self._memory.forget_unused()
        self._seen = files, self._standings.told()
        self._unwritten = page
        for problem in self.study.problems:
            self._say(f"warning: {problem.what}")

    def write(self) -> None:
        self._tried_at = clock.monotonic()
        if self._unwritten is not None:
            with self._memory.recalled():
                self._unwritten.write(self._out)
            self._unwritten = None
            self._said -= {one for one in self._said if one.endswith(_STAYS)}

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to come, and the report has it all."""
        if self._seen is None or self._unwritten is not None:
            return False
        if any(plan.runs["state"].isin(OPEN).any() for plan in self.study.plans):
            return False
        return not self._standings.is_driven(self._results)

    @property
    def _may_try(self) -> bool:
        return clock.monotonic() - self._tried_at >= RETRY_SECONDS

    def _is_time_to_write(self, changed: bool) -> bool:
        if self._server is None:
            return changed or self._may_try
        now = clock.monotonic()
        quiet = now - self._changed_at >= QUIET_SECONDS and self._may_try
        return quiet or now - self._tried_at >= BUSY_SECONDS

    def _fail(self, what: str) -> None:
        self._tried_at = clock.monotonic()
        self._say(f"warning: {what}{_STAYS}")

    def _say(self, what: str) -> None:
        """Once, until it has gone well again."""
        if what not in self._said:
            tell(what)
            sys.stderr.flush()
        self._said.add(what)


_STAYS = "; the report stays as it is"
