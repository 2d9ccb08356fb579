"""Send jobs to Slurm, through submitit: what runs in them is a module, never a pickle.

submitit would have the job unpickle a file from the folder of the logs, which colleagues may be
able to write. What it writes goes to a private folder instead, and is gone once sbatch has it.
Of submitit, nothing is used but `SlurmExecutor` and what its documentation says of it. An array is
one submission: that it is one is among the options of its script.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from submitit import SlurmExecutor

from local_machine.errors import EXIT_USAGE, SlurmError
from local_machine.files import matching
from slurm import environment
from slurm.commands import run_slurm
from slurm.environment import Child
from slurm.job_parameters import submitit_parameters
from slurm.site import Resources, Site


@dataclass(frozen=True)
class Batch:
    """Jobs that differ in their number alone: an array, or a single one."""

    site: Site
    resources: Resources
    name: str
    comment: str
    logs: Path
    """The folder, on a filesystem that the nodes share, where each rank's JOB_RANK_log.out goes."""
    module: str
    words: tuple[str, ...] = ()
    """Every rank runs `python -m MODULE WORDS...`; submitit's own words follow, to be ignored."""
    tasks: int = 1
    start: tuple[str, ...] = ()
    """What stands before the words of `python`: a program that starts it again with them."""

    def script(self) -> str:
        """The sbatch script, as `send` sends it. Raises SlurmError as `_executor` does."""
        with tempfile.TemporaryDirectory(prefix="sweeps-") as private:
            executor = self._executor(Path(private))
            # submitit has no word for its script alone. It writes it before it looks for sbatch,
            # which nobody finds in an empty folder.
            with environment.within(Child.JOB, PATH=private), suppress(FileNotFoundError):
                executor.submit(_nothing)
            (file,) = matching(Path(private), "*.sh")
            # Its folder, of which a job reads nothing, has another name each time.
            return file.read_text().replace(private, shlex.quote(os.fspath(self.logs)))

    def send(self) -> list[str]:
        """The ids, one a job. Raises SlurmError in Slurm's own words."""
        self.logs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="sweeps-") as private:
            executor = self._executor(Path(private))
            try:
                with environment.within(Child.JOB):
                    sent = executor.submit(_nothing)
            # What submitit raises where sbatch fails, or answers otherwise, are RuntimeErrors.
            except (RuntimeError, subprocess.SubprocessError) as error:
                raise self._refused(str(error)) from None
        if self.tasks == 1:
            return [sent.job_id]
        return [f"{sent.job_id}_{task}" for task in range(self.tasks)]

    def refusal(self) -> SlurmError | None:
        """Why Slurm would not take them, as `sbatch --test-only` says; it sends nothing.

        Raises SlurmError where Slurm does not answer.
        """
        with tempfile.NamedTemporaryFile("w", prefix="sweeps-", suffix=".sh") as file:
            file.write(self.script())
            file.flush()
            done = run_slurm(["sbatch", "--test-only", file.name], child=Child.JOB)
        return self._refused(done.stderr) if done.returncode else None

    def _refused(self, said: str) -> SlurmError:
        found = _WORDS.findall(said)
        words = "; ".join(dict.fromkeys(found)) or said.strip()
        return SlurmError(
            f"Slurm refused the jobs: {words}",
            f"fix site {self.site.name!r} (--site NAME|FILE), then try again: none of these jobs "
            "was sent",
        )

    def _executor(self, folder: Path) -> SlurmExecutor:
        """With its scripts and pickles in `folder`. Raises SlurmError for what a script cannot say,
        such as a line break in a path."""
        # submitit goes on with words of its own behind the interpreter.
        words = shlex.join((*self.start, "-u", "-m", self.module, *self.words))
        executor = SlurmExecutor(folder, python=f"{self.site.interpreter} {words}")
        parameters = submitit_parameters(
            self.site, self.resources, name=self.name, comment=self.comment, tasks=self.tasks
        )
        logs = log_pattern(self.logs, array=self.tasks > 1)
        # The last one counts, of two of the same option.
        parameters["srun_args"].append(f"--output={logs}")
        parameters["additional_parameters"]["output"] = logs.replace("%t", "0")
        executor.update_parameters(**parameters)
        return executor


_WORDS = re.compile(r"(?:error|allocation failure): (?:Batch job submission failed: )?(.+)")


def log_pattern(folder: Path, *, array: bool) -> str:
    """Slurm's --output for logs in this folder. Raises SlurmError where it cannot be said."""
    text = os.fspath(folder)
    if not text.isprintable() or "\\" in text:
        raise SlurmError(
            f"the jobs' logs cannot go to {text!a}: Slurm takes no backslash, line break or other "
            "control character in a path",
            "give a results folder of another name: --results DIR",
            exit_code=EXIT_USAGE,
        )
    return f"{text.replace('%', '%%')}/{'%A_%a' if array else '%j'}_%t_log.out"


def _nothing() -> None:
    """What submitit pickles in the place of a job."""
