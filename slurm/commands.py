"""Running Slurm's commands: cancel, requeue, describe, and its configuration."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from local_machine import processes
from local_machine.errors import SlurmError
from slurm import environment
from slurm.environment import Child

SECONDS = 30.0
"""How long a command of Slurm may take."""
# fmt: on
CONFIGURATIONS = (Path("/etc/slurm/slurm.conf"), Path("/run/slurm/conf/slurm.conf"))
"""Where Slurm looks for its configuration, and where it keeps one that it was sent."""
MANY = 1000
"""Ids on one command line; a single word of it may have 128 KiB."""

ID = re.compile(r"(\d+)(?:_\d+|\+\d+)?", re.ASCII)


def cancel(ids: Iterable[str], *, timeout: float = SECONDS) -> None:
    """Cancel jobs, tasks or whole arrays; those that have ended already are not an error. However
    many tasks of an array there are, Slurm's controller is asked once for all of them.

    Raises SlurmError as Queue does.
    """
    wanted = list(dict.fromkeys(ids))
    for one in wanted:
        _check_id(one)
    for batch in _batches(_by_array(wanted)):
        done = run_slurm(["scancel", *batch], timeout)
        words = [line for line in done.stderr.splitlines() if line.strip()]
        ended = ("Invalid job id", "already completing or completed")
        if done.returncode and not (
            words and all(any(word in line for word in ended) for line in words)
        ):
            raise _failed("scancel", done)


def requeue(id: str, *, timeout: float = SECONDS) -> None:
    """Put a job back into the queue. Raises SlurmError as Queue does, and where it is unknown."""
    _check_id(id)
    done = run_slurm(["scontrol", "requeue", id], timeout)
    if done.returncode:
        raise _failed("scontrol", done)


def describe(id: str, *, name: str, comment: str, timeout: float = SECONDS) -> None:
    """Give a job, or one task of an array, a name and a comment of its own.

    Raises SlurmError where Slurm refuses.
    """
    _check_id(id)
    command = ["scontrol", "update", f"JobId={id}", f"JobName={name}", f"Comment={comment}"]
    done = run_slurm(command, timeout)
    if done.returncode:
        raise _failed("scontrol update", done)


def config(*, timeout: float = SECONDS) -> dict[str, str]:
    """Slurm's configuration, such as MaxArraySize, PreemptMode, JobRequeue, SLURM_VERSION.

    Values are Slurm's own text; "" where it has none. Raises SlurmError as Queue does.
    """
    done = run_slurm(["scontrol", "show", "config"], timeout)
    if done.returncode:
        raise _failed("scontrol", done)
    pairs = (line.partition("=") for line in done.stdout.splitlines() if "=" in line)
    settings: dict[str, str] = {}
    for key, _, value in pairs:
        # The sections on plugins come last and must not hide Slurm's own settings.
        settings.setdefault(key.strip(), "" if value.strip() == "(null)" else value.strip())
    if "SLURM_VERSION" not in settings:
        raise _garbage("scontrol", (done.stdout.splitlines() or [""])[0])
    return settings


def available() -> bool:
    """Whether jobs can be submitted from here: sbatch is installed and knows of a cluster."""
    configured = "SLURM_CONF" in os.environ or any(path.exists() for path in CONFIGURATIONS)
    return configured and shutil.which("sbatch") is not None


class _MissingError(SlurmError):
    """The command is not on the PATH."""


def _batches(ids: list[str]) -> Iterator[list[str]]:
    return (ids[at : at + MANY] for at in range(0, len(ids), MANY))


def _by_array(ids: list[str]) -> list[str]:
    """The ids, with several tasks of an array as one: 12_[0,3-7]."""
    tasks: dict[str, set[int]] = {}
    for one in ids:
        base, _, task = one.partition("_")
        tasks.setdefault(base if task else one, set()).update([int(task)] if task else [])
    found = []
    for base, numbers in tasks.items():
        if base in ids:
            found.append(base)  # the whole array, or a job that is none
        elif len(numbers) == 1:
            found.append(f"{base}_{min(numbers)}")
        else:
            found.append(f"{base}_[{_ranges_of(sorted(numbers))}]")
    return found


def _ranges_of(numbers: list[int]) -> str:
    """Rising numbers as Slurm writes them: 0,3-7."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, one)) for one in runs)


def _check_id(id: str) -> None:
    if not ID.fullmatch(id):
        raise SlurmError(
            f"{id!r} is not a valid job id", "a job id is 123, or 123_4 for a task of an array"
        )


def run_slurm(
    command: list[str], timeout: float = SECONDS, child: Child = Child.SLURM
) -> subprocess.CompletedProcess[str]:
    """A command of Slurm, in an environment that changes nothing of what it does or prints.

    Raises SlurmError where it is missing, cannot be run or gives no answer.
    """
    try:
        process = processes.start(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment.built(child),
            process_group=0,
        )
    except FileNotFoundError:
        raise _MissingError(
            f"no Slurm here: {command[0]} is not on the PATH",
            "load the cluster's Slurm, or try one on this machine: python -m slurm.dev_cluster up",
        ) from None
    except OSError as error:
        raise SlurmError(
            f"{command[0]} cannot be run: {error.strerror}", "see what `which` says it is"
        ) from None
    try:
        out, err = process.communicate(timeout=timeout)
    except BaseException as error:
        # The whole group: a cluster's wrapper around the command has children that hold our pipes.
        # It may have ended by itself just now: that must not take the interruption's place.
        with contextlib.suppress(ProcessLookupError):
            processes.signal_group(process.pid, signal.SIGKILL)
        process.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        raise SlurmError(
            f"{command[0]} gave no answer in {timeout:g} s",
            "the controller may be busy or away (scontrol ping): try again in a minute",
        ) from None
    # Not by Popen, which would also change the line breaks inside of names.
    texts = (raw.decode("utf-8", "backslashreplace") for raw in (out, err))
    return subprocess.CompletedProcess(command, process.returncode, *texts)


def _failed(command: str, done: subprocess.CompletedProcess[str]) -> SlurmError:
    words = _plain(done.stderr or done.stdout) or "it said nothing"
    if "configuration source" in words:
        advice = "export SLURM_CONF=FILE, the slurm.conf of the cluster"
    else:
        advice = f"these are Slurm's words; try `{command}` by hand, or again in a minute"
    return SlurmError(f"{command} ended with {done.returncode}: {words}", advice)


def _garbage(command: str, line: str) -> SlurmError:
    return SlurmError(
        f"{command} printed a line that is not an answer: {_plain(line)!r}",
        f"try `{command}` by hand: a wrapper around it may print words of its own",
    )


def _plain(text: str) -> str:
    """One short line for an error: the last words, which say why, and nothing that a terminal
    obeys."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    line = "; ".join([line for line in lines if line][-3:])
    return "".join(char if char.isprintable() else "?" for char in line)[:300]
