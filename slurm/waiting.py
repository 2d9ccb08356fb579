"""Why Slurm lets a job wait, in a person's words: Slurm's own are single words that many meet here
for the first time (its job_reason_codes page)."""

from __future__ import annotations

import re
import time

from local_machine import clock
from slurm.job_state import Job

_REASONS = {
    "BadConstraints": "no node has what `constraint` asks for",
    "BeginTime": "it was put back into the queue, and may start again in some minutes",
    "Cleaning": "it is put back into the queue, once its last attempt is cleaned up",
    "Dependency": "it waits for another job",
    "DependencyNeverSatisfied": "the job that it waits for has failed: cancel it",
    "InvalidAccount": "the account is not valid: correct `account`",
    "InvalidQOS": "the QOS is not valid: correct `qos`",
    "JobArrayTaskLimit": "as many tasks of its array run as `max_running` allows",
    "JobHeldAdmin": "an administrator holds it: ask them",
    "JobHeldUser": "you hold it: scontrol release {id}",
    "Licenses": "it waits for a licence",
    "MaxMemPerLimit": "it asks for more memory than a core may have: lower `mem_gb_per_gpu`",
    "NodeDown": "a node that it needs is down",
    "PartitionConfig": "it asks for what its partition does not have: see `sweeps doctor`",
    "PartitionDown": "its partition takes jobs, and starts none: ask an administrator",
    "PartitionInactive": "its partition is closed: choose another `partition`",
    "PartitionNodeLimit": "it asks for more nodes than its partition allows: lower --nodes",
    "PartitionTimeLimit": "it asks for more time than its partition allows: lower `minutes`",
    "Priority": "jobs of a higher priority go first",
    "Prolog": "its node is made ready",
    "ReqNodeNotAvail": "a node that it needs is down, drained or reserved",
    "Reservation": "its reservation has not begun",
    "Resources": "it is among the next, and waits for free nodes",
}
# "QOSMaxJobsPerUserLimit", "AssocGrpGRESMinutes", "MaxJobsPerAccount": dozens, each with its name.
_LIMIT = re.compile(r"(QOS|Assoc|(?:Max|Grp)(?=\w*(?:Limit|PerAccount|PerUser)))(\w+)")
_HELD_AFTER = re.compile(r"(?i)launch.failed.requeued.held|job.requeued.in.held.state")


def why(job: Job) -> str:
    """Why the job waits and when Slurm expects to start it; empty where Slurm says neither. A word
    that is not known here is shown as it is."""
    # "ReqNodeNotAvail, UnavailableNodes:n[1-4]"
    word, _, more = job.reason.partition(",")
    said = _of(word.strip(), job.id)
    if said:
        said += f" ({job.reason})" if said != word.strip() else f",{more}" * bool(more)
    if job.start is not None and job.start > clock.now():
        start = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.start))
        said = f"{said}, expected {start}".removeprefix(", ")
    return said


def _of(word: str, job: str) -> str:
    if word in _REASONS:
        return _REASONS[word].format(id=job)
    if _HELD_AFTER.match(word):
        return f"its node could not start it, and Slurm holds it: scontrol release {job}"
    if match := _LIMIT.fullmatch(word):
        of = "of the QOS (`qos`)" if match[1] == "QOS" else "of your account (`account`)"
        return f"a limit {of} is reached"
    return word
