"""What a job runs that a launch has sent: its words say which sweep, a note which trials.

    srun python -m sweeps.execution.job_entry '{"kind": "trial", "folder": ..., "submission": ...}'

Words and notes are data, checked like anything typed. A job of version 0.1 that still waits runs
submitit's pickle of `sweeps.execution.slurm_job.TrialJob` instead.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from local_machine.errors import (
    EXIT_FLAGGED,
    EXIT_IO,
    InputError,
    SlurmError,
    move_away,
    print_error,
    storage_error,
)
from local_machine.json_files import read_json, write_json
from sweeps.execution.slurm_job import TrialJob, WorkerJob
from sweeps.state.plan import LOGS


@dataclass(frozen=True)
class SentTrial:
    """One trial a job, which the note names by the task's number."""

    folder: str
    """The sweep's folder."""
    plan: str
    submission: str
    launch: float


KINDS: dict[str, type[SentTrial] | type[WorkerJob]] = {"trial": SentTrial, "workers": WorkerJob}


class Note(BaseModel):
    """`logs/.TOKEN.json`: the trials of a submission by the tasks of its array, and the jobs' ids
    once sbatch has told them."""

    model_config = ConfigDict(strict=True)
    schema_version: int
    trials: list[str]
    jobs: list[str] = []


def words(what: SentTrial | WorkerJob) -> tuple[str, ...]:
    """The words for `python -m sweeps.execution.job_entry`."""
    kind = next(name for name, one in KINDS.items() if isinstance(what, one))
    return (json.dumps({"kind": kind, **asdict(what)}),)


def note_of(folder: Path, submission: str) -> Path:
    return folder / LOGS / f".{submission}.json"


def write_note(
    folder: Path, submission: str, trials: Sequence[str], jobs: Sequence[str] = ()
) -> None:
    """Raises OSError."""
    path = note_of(folder, submission)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"schema_version": 1, "trials": list(trials), "jobs": list(jobs)})


def forget_note(folder: Path, submission: str) -> None:
    note_of(folder, submission).unlink(missing_ok=True)


def read_note(path: Path) -> Note:
    """Raises InputError where the note is damaged, FileNotFoundError where there is none."""
    values = read_json(path)
    try:
        return Note.model_validate(values)
    except ValidationError as error:
        raise InputError(
            f"{path} is not a note of what was sent: {error.errors()[0]['msg']}",
            f"move it away: {move_away(path)}",
            exit_code=EXIT_IO,
        ) from None


def run(text: str) -> None:
    """Run what the words say. Raises InputError where they or the note cannot be read."""
    values = json.loads(text)
    kind = KINDS[values.pop("kind")]
    what = TypeAdapter(kind).validate_python(values)
    if isinstance(what, WorkerJob):
        what()
        return
    task = int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))
    path = note_of(Path(what.folder), what.submission)
    try:
        trial = read_note(path).trials[task]
    except (FileNotFoundError, IndexError):
        raise InputError(
            f"{path} does not say which trial task {task} is to run",
            "launch the sweep again; see that every node sees this folder",
            exit_code=EXIT_IO,
        ) from None
    TrialJob(what.folder, what.plan, trial, what.submission, task, what.launch)()


def main(text: str) -> None:
    """The same as a process, which ends with the exit code that says how it went."""
    from sweeps.run.ends import LostTrialError

    try:
        run(text)
    except (InputError, SlurmError) as error:
        print_error(error.what, error.help)
        sys.exit(error.exit_code)
    except OSError as error:
        if (storage := storage_error(error)) is None:
            raise
        print_error(storage.what, storage.help)
        sys.exit(storage.exit_code)
    except LostTrialError:
        print_error("another attempt holds the trial by now", "nothing: this one wrote no more")
        sys.exit(EXIT_FLAGGED)


if __name__ == "__main__":
    main(sys.argv[1])
