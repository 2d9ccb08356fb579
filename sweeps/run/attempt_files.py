"""AttemptFiles: the files of an attempt, as rank 0 resumes, commits and ends it."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_machine import clock, origin
from local_machine.devices import device_here
from local_machine.errors import EXIT_IO, InputError
from local_machine.files import matching, read_file, set_aside, sync, write_atomic
from sweeps.run import attempt_folder, checkpoint_file
from sweeps.run.attempt import Attempt, Watcher
from sweeps.run.attempt_folder import guarded
from sweeps.run.checkpoint_file import DamagedCheckpointError, Saved
from sweeps.run.ends import LostTrialError
from sweeps.run.random_states import State
from trial_records import log
from trial_records.config import is_of
from trial_records.log import LogWriter, Mark, Values
from trial_records.trial_files import (
    CHECKPOINT,
    CONFIG,
    EPOCHS,
    FILES,
    LOG,
    PREDICTIONS,
    RUN,
    parse_values,
)

if TYPE_CHECKING:
    import pyarrow as pa

_logger = logging.getLogger("sweeps.run")

# How the names of the folders begin that `run.checkpoint` fills; a number follows.
_FOLDER = ".saved-"
# What a task wrote by itself lies in a folder of its own, here and in the trial's folder, so that
# it takes no name of ours.
_OWN = FILES


class AttemptFiles:
    """The private folder of an attempt that holds its trial."""

    def __init__(self, attempt: Attempt, watch: Watcher) -> None:
        self._attempt, self._watch = attempt, watch
        self._began = clock.monotonic()
        self._files: Path | None = None
        self._log: LogWriter | None = None

    def open(self) -> Path:
        """The folder, with what the attempts before left there.

        Raises InputError where the trial's folder is another trial's, LostTrialError where a later
        attempt has taken over this one's, OSError.
        """
        if self._files is None:
            see_config(self._attempt.trial, self._attempt.fingerprint, self._attempt.config)
            files = attempt_folder.take_over(self._attempt.trial, self._attempt.token)
            if (self._attempt.trial / RUN).exists():
                # Its holder before us finished it while we came.
                raise LostTrialError
            settle(self._attempt.trial, files, self._attempt.config)
            self._files = files
        return self._files

    def own_folder(self) -> Path:
        """Where the task may write what it likes."""
        files = self.open()
        with guarded(files):
            (files / _OWN).mkdir(exist_ok=True)
        return files / _OWN

    # From where it goes on

    def resume(self) -> Saved | None:
        """What was saved last, with the log cut to what it commits; None to start over, with an
        empty log. What is damaged is set aside. Raises as `open` does."""
        if self._log is not None:
            raise InputError("run.load was called after run.log or run.save", "call it before them")
        files = self.open()
        self._adopt_old_checkpoint(files)
        saved, begin = None, b""
        try:
            saved = checkpoint_file.read(files / CHECKPOINT, self._attempt.fingerprint)
            if saved is not None:
                begin = self._committed(files, saved)
        except DamagedCheckpointError as error:
            saved = None
            self._set_aside(files, error)
        self._begin_log(files, begin)
        self._remove_folders(files, "" if saved is None else saved.folder)
        return saved

    def _adopt_old_checkpoint(self, files: Path) -> None:
        """Version 0.1's lies in the trial's folder; so does that of an attempt that was killed
        while it put its records there."""
        trial = self._attempt.trial
        if (files / CHECKPOINT).exists() or not (trial / CHECKPOINT).exists():
            return
        self._watch.look()
        with guarded(files):
            for old in (*matching(trial, f"{_FOLDER}*"), trial / CHECKPOINT):
                os.rename(old, files / old.name)  # noqa: PTH104

    def _committed(self, files: Path, saved: Saved) -> bytes:
        """Raises DamagedCheckpointError where the log or the folder is not what it committed."""
        try:
            content = read_file(files / LOG)
        except FileNotFoundError:
            content = b""
        begin = log.committed(content, saved.log)
        if begin is None:
            raise DamagedCheckpointError(f"{LOG} does not hold the rows that it commits")
        if saved.folder and not (files / saved.folder).is_dir():
            raise DamagedCheckpointError(f"its folder {saved.folder} is gone")
        return begin

    def _set_aside(self, files: Path, error: DamagedCheckpointError) -> None:
        self._watch.look()
        path = files / CHECKPOINT
        with guarded(files):
            aside = set_aside(path, "damaged", self._attempt.trial)
        _logger.warning("%s is damaged (%s): kept as %s, the trial starts over", path, error, aside)

    def _begin_log(self, files: Path, begin: bytes, began: float | None = None) -> LogWriter:
        self._watch.look()
        with guarded(files):
            facts = origin.attempt(**self._attempt.facts, device=device_here(1))
            self._log = LogWriter(
                files / LOG, begin, self._attempt.number, self._attempt.token, facts, began
            )
        return self._log

    def _writer(self) -> LogWriter:
        if self._log is not None:
            return self._log
        files = self.open()
        if (files / CHECKPOINT).exists() or (self._attempt.trial / CHECKPOINT).exists():
            raise InputError(
                "the trial was saved before, and its task did not load that",
                "call run.load() before run.log() and run.save(), on every rank",
            )
        return self._begin_log(files, b"", self._began)

    def rows(self) -> list[Values]:
        """All that was logged, a row for each step."""
        return log.values_of(log.rows(self._content()))

    def attempts(self) -> list[dict[str, Any]]:
        """What each attempt that added to it says of itself, this one last, with its seconds."""
        writer = self._writer()  # a task may do nothing but return
        found = log.attempts(self._content())
        return [*found[:-1], {**found[-1], "seconds": writer.seconds}]

    def _content(self) -> bytes:
        if self._log is None:
            return b""
        files, mark = self.open(), self._log.mark()
        with guarded(files):
            begin = log.committed(read_file(files / LOG), mark)
        if begin is None:
            raise InputError(
                f"{files / LOG} does not hold what was written to it",
                "see to the disk, then launch again: it goes on from the last save that is whole",
                exit_code=EXIT_IO,
            )
        return begin

    # What it adds

    def append(self, values: Values) -> None:
        self._writer().append("row", values)

    def rewind(self, step: Values) -> None:
        """The program went back to this step: rows of later ones count no more."""
        self._writer().append("rewind", step)

    def mark(self) -> Mark:
        return self._writer().mark()

    def sync_log(self) -> None:
        self._writer().sync()

    def commit(
        self,
        state: Any,
        *,
        mark: Mark,
        generators: tuple[State, ...] = (),
        folder: str = "",
        plain: bool = False,
    ) -> None:
        """Commit the state and the log up to the mark, which is on the disk; `folder` is a part
        that `begin_part` gave; `plain`: the state is JSON's. Raises LostTrialError, OSError."""
        files, number = self.open(), self._attempt.number
        self._watch.look()
        with guarded(files):
            if folder:
                part, folder = files / folder, folder.removesuffix(".part")
                os.rename(part, files / folder)  # noqa: PTH104
            saved = Saved(state, self._attempt.fingerprint, number, mark, generators, folder)
            checkpoint_file.write(files / CHECKPOINT, saved, plain=plain)
        assert self._log is not None
        self._log.saved(mark)
        self._remove_folders(files, folder)

    def begin_part(self) -> Path:
        """An empty folder, for `commit`."""
        files = self.open()
        taken = {one.name.removesuffix(".part") for one in matching(files, f"{_FOLDER}*")}
        names = (f"{_FOLDER}{number}" for number in itertools.count(1))
        part = files / f"{next(name for name in names if name not in taken)}.part"
        with guarded(files):
            part.mkdir()
        return part

    @staticmethod
    def sync_all(folder: Path) -> None:
        """What lies in the folder is on the disk. Raises OSError."""
        for path in (*matching(folder, "**/*"), folder):
            if path.is_file() or path.is_dir():
                sync(path)

    @staticmethod
    def _remove_folders(files: Path, kept: str) -> None:
        for path in matching(files, f"{_FOLDER}*"):
            if path.name != kept and path.is_dir():
                shutil.rmtree(path, ignore_errors=True)

    def write_predictions(self, table: pa.Table) -> str:
        """In place of those that were there; the digest of their values, by which run.parquet knows
        them. Raises as `open` does."""
        from trial_records import tables

        path = self.open() / PREDICTIONS
        with guarded(path.parent):
            return tables.write_table(path, table, table.schema, self._attempt.whose)

    # How it ends

    def publish(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The trial is done: move its records to its folder, run.parquet last, and remove the
        attempt's; the row of run.parquet. Raises LostTrialError, OSError."""
        # pyarrow takes a quarter of a second.
        from trial_records import tables

        files = self.open()
        rows = self.rows()
        self._watch.look()
        with guarded(files):
            whose = self._attempt.whose
            digest = tables.write_rows(files / EPOCHS, rows, whose)
            row = tables.write_run(files, {**whose, **record, tables.DIGESTS[EPOCHS]: digest})
            with contextlib.suppress(OSError):
                (files / _OWN).rmdir()  # where nothing is in it
            ours = {CHECKPOINT, EPOCHS, RUN, _OWN}
            if row[tables.DIGESTS[PREDICTIONS]] is not None:  # else an attempt before left them
                ours.add(PREDICTIONS)
            there = {one.name for one in files.iterdir()}
            names = there & ours | {name for name in there if name.startswith(_FOLDER)}
        self._watch.look()
        attempt_folder.publish(files, self._attempt.trial, names)
        self.close()
        attempt_folder.remove(self._attempt.trial, self._attempt.token)
        return row

    def end(self, *, is_over: bool) -> None:
        """The trial is not done: it failed or was pruned, or else goes on later. Where it is over,
        epochs.parquet has the rows that are committed. Raises LostTrialError, OSError."""
        if self._files is None:
            return
        has_rows = False
        if is_over and self._log is not None:
            self._watch.look()
            has_rows = self._show_committed(self._files)
        self.close()
        # What is not committed is worth something only to a person who asks why it failed.
        if not has_rows and not (self._files / CHECKPOINT).exists():
            shutil.rmtree(self._files, ignore_errors=True)
            self._files = None

    def _show_committed(self, files: Path) -> bool:
        """Whether there are any rows, committed or not."""
        from trial_records import tables

        with guarded(files):
            found = log.rows(read_file(files / LOG))
            if rows := [one.values for one in found if one.committed]:
                tables.write_rows(files / EPOCHS, rows, self._attempt.whose)
                attempt_folder.publish(files, self._attempt.trial, [EPOCHS])
        return bool(found)

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None


def see_config(trial: Path, fingerprint: str, config: str) -> None:
    """Make the trial's folder, or see that it is not another trial's, by its config.json.

    Raises InputError where it is, or where it cannot be made; OSError.
    """
    try:
        trial.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(
            f"cannot make the folder {trial}: {error.strerror}", "give a folder, or a new name"
        ) from None
    path = trial / CONFIG
    if not path.exists():
        return
    stored = parse_values(path, read_file(path))
    # As another version wrote it, it may be the same all the same.
    if stored != json.loads(config) and not is_of(stored, fingerprint):
        raise InputError(
            f"{trial} holds another trial: its {CONFIG} differs from the one given",
            "give a folder of its own to each trial",
            exit_code=EXIT_IO,
        )


def settle(trial: Path, files: Path, config: str) -> None:
    """See to the trial's folder itself, once what attempts left was taken over. Raises OSError,
    LostTrialError."""
    # Of a writer of version 0.1 that was killed.
    for name in (CHECKPOINT, CONFIG, EPOCHS, PREDICTIONS, RUN):
        for part in matching(trial, f".{name}.*.part"):
            part.unlink(missing_ok=True)
    if not (trial / CONFIG).exists():
        with guarded(files):
            write_atomic(files / CONFIG, lambda file: file.write(config.encode()))
        attempt_folder.publish(files, trial, [CONFIG])
