"""Slurm's commands as our code calls them: squeue, sacct, scancel, scontrol, and sbatch by
`slurm.send.Batch`. They print what the real ones print."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from typing import Any
from unittest import mock

from local_machine import clock
from local_machine.errors import SlurmError
from simulation.cluster import KEPT_SECONDS, NAME, Cluster, Job
from simulation.machine import edges
from slurm import commands, queue, send
from slurm.queue import SACCT_COLUMNS, SQUEUE_COLUMNS
from sweeps.execution import request
from sweeps.state import liveness

OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")


class Commands:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def run(self, command: list[str], timeout: float = 30.0, child: Any = None) -> Any:
        """As `slurm.commands.run_slurm`."""
        del child
        self._asks(command[0], timeout)
        known = {
            "squeue": self._squeue,
            "sacct": self._sacct,
            "scancel": self._scancel,
            "scontrol": self._scontrol,
        }
        code, out, err = known[command[0]](command[1:])
        return subprocess.CompletedProcess(command, code, out, err)

    def _asks(self, word: str, timeout: float) -> None:
        """Wait for the controller. Raises SlurmError where it does not answer."""
        clock.sleep(0.2)
        if self._cluster.away > self._cluster.now:
            clock.sleep(timeout)
            raise SlurmError(f"{word} gave no answer in {timeout:g} s", "try again in a minute")

    def _squeue(self, words: list[str]) -> tuple[int, str, str]:
        form = words[words.index("--Format") + 1]
        separator = form.split(",")[0].removeprefix(f"{SQUEUE_COLUMNS[0]}:0")
        jobs = [job for job in self._cluster.jobs if not job.forgotten and self._is_shown(job)]
        if "--jobs" in words:
            bases = words[words.index("--jobs") + 1].split(",")
            jobs = [job for job in jobs if job.base in bases]
            if not jobs:
                return 1, "", "slurm_load_jobs error: Invalid job id specified"
        rows = []
        for job in jobs:
            limit = int(job.seconds) // 60
            row = {
                "JobArrayID": job.id,
                "State": job.state,
                "Reason": "None",
                "exit_code": str(job.code),
                "RestartCnt": str(job.restarts),
                "NodeList": job.host.name if job.host else "",
                "StartTime": _time(job.start),
                "EndTime": _time(job.end),
                "TimeLimit": f"{limit}:00",
                "Name": job.name,
                "Comment": job.comment,
                "SubmitTime": _time(job.submitted),
            }
            rows.append("".join(row[name] + separator for name in SQUEUE_COLUMNS) + "\n")
        return 0, "".join(rows), ""

    def _is_shown(self, job: Job) -> bool:
        ended = job.state in OVER and job.end is not None
        return not ended or self._cluster.now - (job.end or 0.0) < KEPT_SECONDS

    def _sacct(self, words: list[str]) -> tuple[int, str, str]:
        if self._cluster.accounts == "off":
            return 1, "", "Slurm accounting storage is disabled"
        separator = words[words.index("--delimiter") + 1]
        bases = words[words.index("--jobs") + 1].split(",")
        until = self._cluster.now - (20.0 if self._cluster.accounts == "late" else 0.0)
        rows = []
        for job in self._cluster.jobs:
            past = [one for one in job.history if one[0] <= until]
            if job.base not in bases or not past:
                continue
            _, state, code = past[-1]
            state = "RUNNING" if state == "COMPLETING" else state
            row = {
                "JobID": job.id,
                "State": f"{state} by 0" if state == "CANCELLED" else state,
                "ExitCode": f"{code >> 8}:{code & 0x7F}",
                "UID": str(os.getuid()),
                "NodeList": job.host.name if job.host else "None assigned",
                "Start": _time(job.start),
                "End": _time(job.end),
                "TimelimitRaw": str(int(job.seconds) // 60),
                "JobName": job.name,
                "Comment": "",
            }
            rows.append("".join(row[name] + separator for name in SACCT_COLUMNS) + "\n")
        return 0, "".join(rows), ""

    def _scancel(self, words: list[str]) -> tuple[int, str, str]:
        said = ""
        for one in words:
            found = [job for each in _ids_of(one) for job in self._cluster.find(each)]
            for job in found:
                self._cluster.cancel(job)
            said += "" if found else f"scancel: error: Invalid job id {one}\n"
        return int(bool(said)), "", said

    def _scontrol(self, words: list[str]) -> tuple[int, str, str]:
        if words[:2] == ["show", "config"]:
            return 0, f"ClusterName = {NAME}\nSLURM_VERSION = 25.05.0\n", ""
        if words[0] == "requeue":
            done = [self._cluster.requeue(job) for job in self._cluster.find(words[1])]
            refused = "Requested operation is presently disabled"
            return (0, "", "") if any(done) else (1, "", refused)
        if words[0] == "update":
            values = dict(re.findall(r"(\w+)=(.*)", "\n".join(words[1:])))
            for job in self._cluster.find(values["JobId"]):
                job.name, job.comment = values["JobName"], values["Comment"]
            return 0, "", ""
        raise AssertionError(words)

    def send(self, batch: send.Batch) -> list[str]:
        """As `slurm.send.Batch.send`."""
        batch.logs.mkdir(parents=True, exist_ok=True)
        self._asks("sbatch", 30.0)
        minutes = batch.resources.minutes or batch.site.minutes
        words = (batch.module, *batch.words)
        made = self._cluster.submit(batch.name, batch.comment, words, batch.tasks, 60.0 * minutes)
        # Slurm has taken them, and this process may not come to hear of it.
        self._cluster.scheduler.call("sbatch answered")
        return [job.id for job in made]


def _time(moment: float | None) -> str:
    return "Unknown" if moment is None else str(int(edges.START + moment))


@contextlib.contextmanager
def in_place(cluster: Cluster | None) -> Iterator[None]:
    """The cluster in the place of Slurm; None: there is none."""
    with contextlib.ExitStack() as stack:

        def put(where: Any, **what: Any) -> None:
            for name, value in what.items():
                stack.enter_context(mock.patch.object(where, name, value))

        put(commands, available=lambda: cluster is not None)
        put(liveness, available=lambda: cluster is not None)
        put(request.commands, available=lambda: cluster is not None)
        if cluster is not None:
            ours = Commands(cluster)
            put(commands, run_slurm=ours.run)
            put(queue, run_slurm=ours.run)
            put(send.Batch, send=lambda batch: ours.send(batch), script=lambda batch: "")
        yield


def _ids_of(word: str) -> list[str]:
    """Of 12_[0,3-7] each task's."""
    base, _, tasks = word.partition("_[")
    if not tasks:
        return [word]
    runs = (run.split("-") for run in tasks.rstrip("]").split(","))
    return [f"{base}_{n}" for run in runs for n in range(int(run[0]), int(run[-1]) + 1)]
