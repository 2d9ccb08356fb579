"""What submitit is told of a job: its site's facts and its resources, as options of sbatch."""

from __future__ import annotations

import os
import shlex
from typing import Any

from local_machine.errors import EXIT_USAGE, SlurmError
from slurm.environment import NEEDED
from slurm.site import Resources, Site
from slurm.site_checks import has_control


def submitit_parameters(
    site: Site, resources: Resources, *, name: str, comment: str, tasks: int = 1
) -> dict[str, Any]:
    """What submitit.SlurmExecutor.update_parameters takes for such a job on such a site, or for an
    array of so many tasks.

    The executor's interpreter is not among them: construct it with python=site.interpreter.

    Raises SlurmError for a name or comment that is empty, or has control characters or backslashes
    (sbatch drops these from its #SBATCH lines, quoted or not), and where the warning would come
    before the job starts.
    """
    minutes = resources.minutes or site.minutes
    _check(site, minutes, {"job name": name, "comment": comment})
    parameters: dict[str, Any] = {
        "job_name": name,
        "comment": comment,
        "nodes": resources.nodes,
        "ntasks_per_node": resources.gpus_per_node,
        "time": minutes,
        "signal_delay_s": site.signal_seconds,
        "stderr_to_stdout": True,
        # One rank's end is the attempt's: the others would wait for it without a word.
        "srun_args": ["--kill-on-bad-exit=1"],
        # submitit's own default, "submitit", is refused where keys are enforced.
        "wckey": None,
        "setup": [
            *_exports(site),
            *site.setup,
            *(f"export {key}={shlex.quote(value)}" for key, value in site.environment.items()),
        ],
        # submitit sets open-mode=append, so that a requeued job goes on in its log.
        "additional_parameters": {"requeue": True, **site.slurm},
    }
    if tasks > 1:
        at_once = min(tasks, site.max_running or site.max_array_size)
        parameters["additional_parameters"]["array"] = f"0-{tasks - 1}%{at_once}"
    for key in ("partition", "account", "qos", "constraint", "nodelist", "exclude"):
        if value := getattr(site, key):
            parameters[key] = value
    return parameters | _hardware(site, resources, parameters["srun_args"])


def _check(site: Site, minutes: int, texts: dict[str, str]) -> None:
    for what, text in texts.items():
        if not text or has_control(text) or "\\" in text:
            raise SlurmError(
                f"the {what} is {text!r}",
                "give one line of plain text: no line breaks, control characters or backslashes",
                exit_code=EXIT_USAGE,
            )
    if site.signal_seconds >= minutes * 60:
        raise SlurmError(
            f"site {site.name!r}: signal_seconds is {site.signal_seconds}, and the job has "
            f"{minutes} min",
            "give the job more minutes, or the site a shorter warning",
            exit_code=EXIT_USAGE,
        )


def _hardware(site: Site, resources: Resources, srun: list[str]) -> dict[str, Any]:
    """GPUs, cores and memory; what srun has to be told again is added to its words."""
    asked: dict[str, Any] = {}
    gpus = ":".join(filter(None, (site.gpu_type, str(resources.gpus_per_node))))
    if site.gpu_request == "gres":
        asked["gres"] = f"gpu:{gpus}"
    elif site.gpu_request == "gpus_per_node":
        asked["gpus_per_node"] = gpus
    if cpus := resources.cpus_per_gpu or site.cpus_per_gpu:
        asked["cpus_per_task"] = cpus
        # From 22.05 on srun no longer takes it from the job.
        srun.append(f"--cpus-per-task={cpus}")
    if memory := resources.mem_gb_per_gpu or site.mem_gb_per_gpu:
        asked["mem"] = f"{memory * resources.gpus_per_node}GB"
    return asked


def _exports(site: Site) -> list[str]:
    """What bash does first where the site says which variables a job gets: srun would pass on as
    little as sbatch, and a job needs some of ours."""
    if "export" not in site.slurm:
        return []
    needed = [(name, os.environ[name]) for name in NEEDED if name in os.environ]
    return [
        "unset SLURM_EXPORT_ENV",
        *(f"export {name}={shlex.quote(text)}" for name, text in needed),
    ]
