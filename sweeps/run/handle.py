"""Run: what a task is given.

    state = run.load()                     # None, or what was saved last
    run.log(epoch=3, loss=0.2)             # a row, seen by all at once
    run.save({"epoch": 4, ...})            # commits the state and the rows so far, or nothing
    run.should_stop()

A checkpoint names how much of the log it commits, so rows and state cannot disagree, whatever is
killed when; the next attempt drops the rows behind it. On several ranks all of these but `log` are
called by every rank, and rank 0 writes.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from local_machine import clock, origin
from local_machine.errors import EXIT_IO, InputError
from sweeps.run import checkpoint_file, interval, random_states
from sweeps.run.attempt import Attempt, Unwatched, Watcher
from sweeps.run.attempt_files import AttemptFiles
from sweeps.run.background import Writer
from sweeps.run.checkpoint_file import Saved
from sweeps.run.ends import StoppedError
from sweeps.run.ranks import Answer, Ranks
from trial_records import log
from trial_records.log import Mark, Values
from trial_records.trial_files import CHECKPOINT

_log = logging.getLogger("sweeps.run")

_OF_ATTEMPT = (
    "device", "host", "slurm_job_id", "command", "git_commit", "git_dirty",
    "code_sha256", "snapshot_sha256", "packages_sha256", "torch_version", "python_version",
)  # fmt: skip
# How many calls of should_stop apart several ranks ask each other.
AGREE_CALLS = 10


class Run:
    """One attempt at a trial, as its task sees it."""

    def __init__(
        self,
        attempt: Attempt,
        *,
        stop: Callable[[], bool] = lambda: False,
        watch: Watcher | None = None,
        on_row: Callable[[Values], None] | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        """`stop` is asked between steps; `on_row` gets each row as it is logged, on rank 0."""
        self.attempt = attempt
        self.record: dict[str, Any] = {}
        """What run.parquet is to say beside the metrics, by column."""
        self.loaded_rows: list[Values] = []
        """The rows that were committed when `load` was called."""
        self.ranks = ranks or Ranks()
        self._stop, self._watch, self._on_row = stop, watch or Unwatched(), on_row
        self.files = AttemptFiles(attempt, self._watch)
        self._saved: Saved | None = None
        self._is_stopping = False
        self._calls = 0
        self._saved_at = clock.monotonic()
        self._has_warned = False
        self._folder: Path | None = None

    @property
    def folder(self) -> Path:
        """Where the task may write files of its own; they are in `files` of the trial's folder when
        it is done. On the ranks beside 0, known once `load` was called."""
        if self.ranks.rank == 0:
            return self.files.own_folder()
        if self._folder is None:
            raise InputError("run.folder is not known yet", "call run.load() on every rank first")
        return self._folder

    # What a task calls

    def load(self) -> Any:
        """What was saved last, on the CPU; None where nothing was. Restores the random generators:
        call it when all else is made that draws from them, or `restore_generators` then.

        A damaged checkpoint is set aside and the trial starts over. Raises InputError where a rank
        does not see what rank 0 sees; OSError.
        """
        answer = self.ranks.agree("load", b"", self._find)
        problem = b""
        if self.ranks.rank:
            self._folder = self.attempt.trial / answer["folder"]
            self.loaded_rows = answer["rows"]
            problem = self._load_too(answer)
        if self.ranks.world > 1:
            self.ranks.agree("load", problem, _refuse)
        self._saved_at = clock.monotonic()
        self.restore_generators()
        return None if self._saved is None else self._saved.state

    def restore_generators(self) -> None:
        """As they were when the state was saved that `load` gave; nothing where there was none."""
        states = () if self._saved is None else self._saved.generators
        if self.ranks.rank < len(states):
            random_states.restore(states[self.ranks.rank])
        if states and len(states) != self.ranks.world:
            _log.warning(
                "saved on %d ranks, resumed on %d: it computes something else than it would have",
                len(states), self.ranks.world,
            )  # fmt: skip

    def log(self, **metrics: Any) -> None:
        """Add a row of numbers; what is logged for one `epoch` or `step` is one row. It counts once
        `save` was called, or the task returned. Rank 0's counts.

        Raises InputError for what is not a number, and OSError.
        """
        values = log.checked(metrics)
        if self.ranks.rank == 0 and values:
            self._watch.check()
            self.files.append(values)
            if self._on_row is not None:
                self._on_row(values)

    def predict(
        self,
        *,
        labels: Any = None,
        logits: Any = None,
        predicted: Any = None,
        classes: Sequence[object] | None = None,
        targets: Any = None,
        values: Any = None,
    ) -> None:
        """What was predicted of the examples to judge the trial by, for predictions.parquet: labels
        with logits (examples x classes) or with predicted classes, or targets with values; as
        arrays, tensors or lists. The last call before the task returns counts, and rank 0's.

        Labels count from 0, or are among the names of the `classes`. Raises InputError for what
        cannot be that, OSError.
        """
        if self.ranks.rank:
            return
        # It takes a quarter of a second.
        from sweeps.run import predictions

        found = predictions.checked(labels, logits, predicted, classes, targets, values)
        self._watch.check()
        digest = self.files.write_predictions(found.table)
        self.record |= {"predictions_sha256": digest}
        self.record.pop("classes", None)
        if found.classes is not None:
            self.record["classes"] = found.classes

    def save(
        self,
        state: Any,
        *,
        every: float | str | None = None,
        generators: bool = True,
        writer: Writer | None = None,
    ) -> None:
        """Commit the state, and the rows so far; with `every`, such as "5min", only where so much
        time went by since the last. `generators`: with the states of the random generators.
        `writer` does the writing while training goes on; the state is a dict then.

        Raises InputError for a state that could not be loaded, or where not every rank calls it;
        StoppedError, once all is saved, where the attempt was asked to stop; OSError.
        """
        checkpoint_file.refuse_unloadable(state)
        self._save("save", state, every, generators, writer, "")

    @contextlib.contextmanager
    def checkpoint(self, state: Any = None, *, generators: bool = True) -> Iterator[Path]:
        """An empty folder for what each rank saves in its own way; committed, with `state` and the
        rows so far, when the block ends without an error on every rank. Raises as `save` does."""
        checkpoint_file.refuse_unloadable(state)
        answer = self.ranks.agree(
            "checkpoint", b"", lambda _: {"part": self._told(self.files.begin_part())}
        )
        part = self.attempt.trial / answer["part"]
        try:
            yield part
            self.files.sync_all(part)
        except BaseException:
            if self.ranks.world > 1:
                with contextlib.suppress(InputError):
                    self.ranks.agree("checkpoint", b"this rank failed", _refuse)
            raise
        if self.ranks.world > 1:
            self.ranks.agree("checkpoint", b"", _refuse)
        self._save("checkpoint", state, None, generators, None, part.name)

    def load_checkpoint(self) -> Path | None:
        """The folder that `checkpoint` committed last, as `load` found it; None for none."""
        name = "" if self._saved is None else self._saved.folder
        return self.folder.parent / name if name else None

    def should_stop(self) -> bool:
        """Whether the attempt was asked to stop: save, and it ends there. Several ranks ask each
        other at every tenth call only. Raises LostTrialError where the trial is another's now."""
        self._calls += 1
        if self.ranks.world > 1 and (self._calls - 1) % AGREE_CALLS:
            return self._is_stopping
        mine = self.is_asked_to_stop()
        answer = self.ranks.agree("should_stop", bytes([mine]), _any)
        self._is_stopping = answer["stop"]
        return self._is_stopping

    def is_asked_to_stop(self) -> bool:
        """The same without asking other ranks."""
        self._watch.check()
        return self._is_stopping or self._stop()

    # What the worker calls, on rank 0

    def finish(self, outcome: Mapping[str, Any]) -> dict[str, Any]:
        """The task returned: the trial is done, by its records; `outcome` has columns of its
        run.parquet, whose row this is. Raises LostTrialError, OSError."""
        return self.files.publish({"status": "done", **self.record, **outcome})

    def rows(self) -> list[Values]:
        """All that was logged, a row for each step."""
        return self.files.rows()

    def provenance(self) -> dict[str, Any]:
        """The columns of run.parquet that say where the run comes from, of the attempt that
        finishes it; `attempts` has all of them."""
        attempts = self.files.attempts()
        last = attempts[-1]
        return {
            **{name: last.get(name) for name in _OF_ATTEMPT},
            "world_size": self.ranks.world,
            "seconds": sum(one.get("seconds", 0.0) for one in attempts),
            "attempts": json.dumps(attempts),
            "finished_at": origin.now(),
        }

    def end(self, *, is_over: bool = False) -> None:
        """The task did not return; `is_over`: it failed, or is pruned. Raises as `finish` does."""
        self.files.end(is_over=is_over)

    # Behind them

    def _find(self, _: list[bytes]) -> Answer:
        self._saved = self.files.resume()
        self.loaded_rows = self.files.rows()
        found: Answer = {"log": None}
        if self.ranks.world > 1:
            found |= {"folder": self._told(self.files.own_folder()), "rows": self.loaded_rows}
        if self._saved is not None:
            found["log"] = list(self._saved.log)
        return found

    def _told(self, path: Path) -> str:
        """Of a path in the trial's folder, what holds on each node."""
        return str(path.relative_to(self.attempt.trial))

    def _load_too(self, answer: Answer) -> bytes:
        """On the ranks beside 0: what is wrong, in words."""
        if answer["log"] is None:
            return b""
        path = self.folder.parent / CHECKPOINT
        try:
            self._saved = checkpoint_file.read(path, self.attempt.fingerprint)
        except (OSError, checkpoint_file.DamagedCheckpointError) as error:
            return f"rank {self.ranks.rank} cannot read {path}: {error}".encode()
        if self._saved is None or self._saved.log != Mark(*answer["log"]):
            return (
                f"rank {self.ranks.rank} does not see {path}, which rank 0 resumes from"
            ).encode()
        return b""

    def _save(
        self,
        call: str,
        state: Any,
        every: float | str | None,
        generators: bool,
        writer: Writer | None,
        folder: str,
    ) -> None:
        mine = bytes([self.is_asked_to_stop()])
        if generators:
            mine += checkpoint_file.encoded(random_states.capture())

        def act(given: list[bytes]) -> Answer:
            stop = any(one[0] for one in given)
            if stop or every is None or self._is_due(interval.seconds(every)):
                states = tuple(_decoded(one[1:]) for one in given) if generators else ()
                self.files.sync_log()
                commit = partial(
                    self.files.commit, mark=self.files.mark(), generators=states, folder=folder
                )
                if writer is None:
                    commit(state)
                else:
                    writer(state, commit)
                    if stop:
                        writer.wait()
                self._saved_at = clock.monotonic()
            return {"stop": stop}

        if self.ranks.agree(call, mine, act)["stop"]:
            self._is_stopping = True
            raise StoppedError

    def _is_due(self, seconds: float) -> bool:
        if seconds > self.attempt.limit_seconds and not self._has_warned:
            self._has_warned = True
            _log.warning(
                "the job's time limit of %.0f s is shorter than the %.0f s between two saves: it "
                "saves only when it is warned of its end", self.attempt.limit_seconds, seconds,
            )  # fmt: skip
        return clock.monotonic() - self._saved_at >= seconds


def _decoded(content: bytes) -> Any:
    return checkpoint_file.decoded(io.BytesIO(content))


def _any(given: list[bytes]) -> Answer:
    return {"stop": any(one[0] for one in given)}


def _refuse(given: list[bytes]) -> Answer:
    """Raises InputError where a rank tells of a problem."""
    for rank, problem in enumerate(given):
        if problem:
            what = problem.decode()
            raise InputError(
                what if str(rank) in what else f"rank {rank}: {what}",
                "put the results on a filesystem that all nodes share; see that rank's log",
                exit_code=EXIT_IO,
            )
    return {}


def metrics_of(returned: Mapping[str, Any] | None) -> Values:
    """What a task returned, as final metrics. Raises InputError where it is none."""
    if returned is None:
        return {}
    if not isinstance(returned, Mapping):
        raise InputError(
            f"the task returned a {type(returned).__name__}",
            'return final metrics by name, such as {"test_accuracy": 0.9}, or nothing',
        )
    return log.checked(returned)
