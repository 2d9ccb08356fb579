"""ProgramAttempt: one attempt at a trial that is a command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from local_machine import clock
from local_machine.code import snapshot
from local_machine.errors import InputError
from local_machine.files import matching
from sweeps.command_task import leftovers
from sweeps.command_task.command import OWN_FOLDER
from sweeps.command_task.metrics import output_bound
from sweeps.command_task.metrics.collector import Collector
from sweeps.command_task.metrics.kinds import source_of
from sweeps.command_task.metrics.output_pattern import OUTPUT_FILE
from sweeps.command_task.metrics.source import Source
from sweeps.command_task.program import Program
from sweeps.command_task.rank_environment import DONE_FILE, RankEnvironment
from sweeps.command_task.supervisor import AGAIN, End, ProgramFailedError, Supervisor, logs_command
from sweeps.run.ends import StoppedError
from sweeps.run.handle import Run
from trial_records.plan import PlannedCommand
from trial_records.trial_files import FILES

MAX_AGAIN = 3
"""How often in a row a program may ask to be run again without having written a row."""
# How often what was read is committed.
_COMMIT_SECONDS = 2.0


class ProgramAttempt:
    """Of one rank."""

    def __init__(self, command: PlannedCommand, run: Run) -> None:
        self._command, self._run = command, run
        self._is_first = run.ranks.rank == 0
        # A program may change its working directory, and that of a snapshot is another each time.
        self._folder = run.attempt.trial.resolve() / FILES
        self._source: Source
        self._collector: Collector | None = None
        self._again = 0
        self._is_behind = self._goes_on = False
        # The first row is committed at once: by it an attempt has got on.
        self._committed_at = -_COMMIT_SECONDS
        self._program: Program | None = None
        self._read_bytes = 0  # of its output, as it was committed last

    def begin(self, words: Callable[[Mapping[str, Any], bool], list[str]], seed: Any) -> None:
        """Make ready; `words` gives the command's words, of what the attempt has of its own and of
        whether it goes on from a checkpoint. Raises StoppedError, InputError, OSError."""
        run = self._run
        self._words, self._seed = words, seed
        self._place = RankEnvironment.here(run.ranks.rank, run.ranks.world)
        state = run.load() or {"read": {}, "again": 0}
        self._again = state["again"]
        is_settled = True
        if self._is_first:
            self._folder.mkdir(exist_ok=True)
            is_settled = leftovers.settle(run.attempt.trial, self._folder, run.is_asked_to_stop)
        elif self._place.local_rank == 0:
            leftovers.kill_here(self._folder)
        told = run.ranks.agree("command", b"", lambda _: {"is_settled": is_settled})
        if not told["is_settled"]:
            raise StoppedError
        self._source = source_of(
            self._command.metrics, self._folder, state["read"], self._command.step
        )
        if self._is_first:
            self._collector = Collector(run, self._source, self._command.step)

    def until_complete(self, budget: Any, metric: str) -> None:
        """Run the program, as often as it asks for. Raises ProgramFailedError, InputError, OSError;
        StoppedError where it is to go on later, LostTrialError."""
        trial, token, rank = self._run.attempt.trial, self._run.attempt.token, self._run.ranks.rank
        leftovers.begin(trial, token, rank)
        try:
            while (end := self._run_once(budget)) is not End.DONE:
                if self._again >= MAX_AGAIN:
                    raise _not_getting_on(end, self._again)
        finally:
            leftovers.end(trial, token, rank)
        if self._collector is not None:
            self._collector.end()
            if self._source.output is not None:
                output_bound.shorten(self._source.output)
            logs = logs_command(trial)
            _refuse_without(
                metric, self._collector, self._source.missing(), logs, self._written_beside()
            )
            if self._command.predictions is not None:
                # numpy and pyarrow take a quarter of a second.
                from sweeps.command_task import predicted_file

                predicted_file.tell(self._run, self._folder / self._command.predictions)

    def _run_once(self, budget: Any) -> End:
        """Raises as `until_complete` does."""
        self._program = program = self._start()
        rows = self._count()
        supervisor = Supervisor(self._run, self._command, self._collect)
        try:
            end = supervisor.see_through(program, lambda: self._is_complete(budget))
        except ProgramFailedError as error:
            if said := snapshot.missing_by(error.tail, self._directory()):
                error.help = f"{said}; {error.help}"
            if self._goes_on and self._count() == rows:
                error.help += (
                    f"; it was to go on from {self._command.checkpoint} in its folder, and wrote "
                    "no row: if a kill left that file damaged, remove it, "
                    "then python -m sweeps.retry"
                )
            raise
        if end is End.STOPPED:
            raise StoppedError
        if self._is_first and end is not End.DONE:
            self._again = 0 if self._count() > rows else self._again + 1
            self._commit()
        told = self._run.ranks.agree("command", b"", lambda _: {"again": self._again})
        self._again = told["again"]
        return end

    def _start(self) -> Program | None:
        """None on a rank that has no program of its own."""
        # Each start has a port of its own, on which nothing of the one before it waits.
        meeting = self._run.ranks.agree(
            "command", b"", lambda _: self._place.meeting() | {"goes_on": self._has_checkpoint()}
        )
        processes = self._command.processes
        if processes == "per_node" and self._place.local_rank:
            return None
        self._goes_on = meeting["goes_on"]
        words = self._words(self._place.placeholders(self._folder, meeting), self._goes_on)
        has_ranks = processes == "per_rank" or (processes == "auto" and self._place.world > 1)
        variables = self._place.variables(
            self._folder, self._run.attempt.trial, self._seed, meeting, per_rank=has_ranks
        )
        output = self._source.output if self._is_first else None
        return Program(words, variables, self._directory(), output)

    def _directory(self) -> Path:
        """Where the program works; one of the project is the snapshot's, where there is one."""
        if self._command.directory == OWN_FOLDER:
            return self._folder
        given = Path(self._command.directory or ".")
        own = snapshot.found(given) if given.is_absolute() else given
        return own if own.is_dir() else given

    def _written_beside(self) -> str:
        """Its metrics, where they lie in the folder in which it works instead of in its own."""
        name, directory = self._command.metrics, self._directory()
        if not isinstance(name, str) or ":" in name or directory == self._folder:
            return ""
        return name if any(matching(directory, name)) else ""

    def _has_checkpoint(self) -> bool:
        return bool(
            self._command.checkpoint and any(matching(self._folder, self._command.checkpoint))
        )

    def _count(self) -> int:
        return 0 if self._collector is None else len(self._collector.rows)

    def _collect(self) -> None:
        if self._collector is None:
            return
        self._is_behind |= self._collector.poll()
        self._is_behind |= self._output_bytes() - self._read_bytes > output_bound.KEPT_BYTES
        if self._is_behind and clock.monotonic() - self._committed_at >= _COMMIT_SECONDS:
            self._commit()

    def _commit(self) -> None:
        self._run.files.sync_log()
        state = {"read": self._source.position(), "again": self._again}
        self._run.files.commit(state, mark=self._run.files.mark(), plain=True)
        self._is_behind, self._committed_at = False, clock.monotonic()
        self._read_bytes = self._output_bytes()
        if self._source.output is not None and self._program is not None:
            read = min(self._read_bytes, self._program.followed)
            output_bound.give_back(self._source.output, read)

    def _output_bytes(self) -> int:
        """How much was read of the file that the program prints into; 0 without one."""
        read: list[int] = self._source.position().get(OUTPUT_FILE, [0])
        return read[0]

    def _is_complete(self, budget: Any) -> bool:
        """Whether the program says that it did all: by a file, or by its last row."""
        assert self._collector is not None
        self._collector.poll()
        self._commit()
        done = self._command.done
        if (self._folder / DONE_FILE).exists() or (done and any(matching(self._folder, done))):
            return True
        if isinstance(budget, bool) or not isinstance(budget, int | float):
            return False
        rows = self._collector.rows
        name = "epoch" if any("epoch" in row for row in rows) else "step"
        steps = [row[name] for row in rows if name in row]
        # Counted from 0 or from 1.
        return bool(steps) and max(steps) >= budget - (1 if min(steps) == 0 else 0)


def _not_getting_on(end: End, times: int) -> InputError:
    if end is End.DIED:
        return InputError(
            f"the program was killed by SIGKILL {times} times, and wrote no row of its metrics in "
            "between",
            "the kernel kills what takes too much memory: dmesg tells; ask for more of it, or make "
            "the batch smaller",
        )
    return InputError(
        f"the program ended {times} times with exit code {AGAIN}, which asks to be run again, and "
        "wrote no row of its metrics in between",
        "have it go on from what it saved in its folder",
    )


def _refuse_without(
    metric: str, collector: Collector, missing: str, logs: str, beside: str
) -> None:
    """Raises InputError where no row has the objective's metric: a program that did nothing, or
    wrote it elsewhere, is not done."""
    names = sorted(collector.names)
    if metric in names:
        return
    if not names:
        raise InputError(
            f"the program ended with exit code 0, and nothing was read of its metrics: {missing}",
            f"{beside} is in the folder in which the program works, which all trials share: have "
            "it write into {folder}, or $SWEEPS_FOLDER"
            if beside
            else f"see its output ({logs}), and what `metrics` says of where it writes",
        )
    raise InputError(
        f"the program ended, and no row of its metrics has {metric!r}",
        f"name one that it has in the objective: {', '.join(names[:20])}",
    )
