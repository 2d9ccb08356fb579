"""Share: how many workers train on one GPU at once, as asked for or as a short trial tells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from local_machine import processes
from local_machine.devices import cores_here, visible_gpus
from local_machine.errors import InputError
from local_machine.json_files import read_json, write_sealed_json
from local_machine.private_folder import cache_file
from slurm import environment as environments
from slurm.environment import Child
from sweeps.spec.sweep import Trial, by_task
from sweeps.task import Task

# NVIDIA's MPS serves at most 48 clients a GPU.
MOST = 48
# What `auto` tries at most, and by how much one more worker must raise the pace of all together.
MOST_TRIED, GAIN = 8, 1.1
# Memory grows a bit in evaluation, and other programs want some.
MEMORY = 0.9
CORES_A_WORKER = 2
SECONDS = 300

PerGpu = int | Literal["auto"] | None


def parse(word: str | None) -> PerGpu:
    """What --per-gpu says. Raises InputError for anything but a number or `auto`."""
    if word is None or word == "auto":
        return "auto" if word else None
    if not word.isdecimal() or not 1 <= int(word) <= MOST:
        raise InputError(f"--per-gpu {word}", f"give a number from 1 to {MOST}, or auto")
    return int(word)


def at_once(workers: int | None, per_gpu: PerGpu) -> int:
    """Worker processes on this machine; one without a GPU counts as a GPU.

    `auto` is by cores without a GPU, and one a GPU until it has been measured.
    """
    gpus = len(visible_gpus())
    if per_gpu is None:
        return workers or gpus or 1
    if per_gpu == "auto":
        per_gpu = 1 if gpus else max(1, cores_here() // CORES_A_WORKER)
    room = per_gpu * (gpus or 1)
    return min(workers or room, room)


def settled(per_gpu: PerGpu, trials: Iterable[Trial]) -> PerGpu:
    """`auto` as a number, by the largest of the trials, measured or from the cache. Raises
    InputError where their task cannot be measured."""
    if per_gpu != "auto":
        return per_gpu
    gpus = visible_gpus()
    if not gpus:
        count = at_once(None, per_gpu)
        _say(f"{count} here: no GPU, and a worker for every {CORES_A_WORKER} cores")
        return count
    task, trial = _largest(trials)
    path = _file(gpus[0], task.shape(trial.config))
    try:
        known = read_json(path)["per_gpu"]
    except (OSError, InputError, LookupError, TypeError):
        known = None
    if type(known) is int and 1 <= known <= MOST_TRIED:
        _say(f"{known}, as measured before ({path})")
        return known
    count = _measure(trial, gpus)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_sealed_json(path, {"schema_version": 1, "per_gpu": count})
    except OSError as error:
        _say(f"measured again next time: {error}")
    _say(f"{count}")
    return count


def _largest(trials: Iterable[Trial]) -> tuple[Task, Trial]:
    """Of each shape one, and of those the one that takes the most memory."""
    found: list[tuple[float, Task, Trial]] = []
    for task, group in by_task(trials):
        if type(task).rehearse is Task.rehearse:
            raise InputError(
                f"--per-gpu auto: {task.name} cannot be measured", "give a number: --per-gpu 2"
            )
        shapes = {json.dumps(task.shape(one.config)): one for one in group}
        found += [(task.memory(one.config), task, one) for one in shapes.values()]
    _, task, trial = max(found, key=lambda one: one[0])
    return task, trial


def _measure(trial: Trial, gpus: list[str]) -> int:
    """Copies on the first GPU, one more each time, until that no longer pays or fits."""
    best, chosen = 0.0, 1
    for copies in range(1, MOST_TRIED + 1):
        found = _paces(trial, copies, gpus)
        if found is None:
            _say(f"{copies} at once: not possible")
            break
        pace = sum(one["images_per_second"] for one in found)
        used = max(one["used_bytes"] for one in found)
        total = found[0]["total_bytes"]
        _say(f"{copies} at once: {pace:.0f} images/s, {used / total:.0%} of the memory")
        if (copies > 1 and pace < GAIN * best) or used > MEMORY * total:
            break
        best, chosen = pace, copies
        if used * (copies + 1) / copies > MEMORY * total:
            break
    return chosen


def _paces(trial: Trial, copies: int, gpus: list[str]) -> list[dict[str, float]] | None:
    """What so many copies say that train at the same time; None where one of them fails."""
    threads = max(1, cores_here() // (copies * len(gpus)))
    passed = environments.built(Child.WORKER)
    environment = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", **passed}
    environment["CUDA_VISIBLE_DEVICES"] = gpus[0]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        asked = {"task": trial.task.model_dump(), "values": dict(trial.values)}
        json.dump(asked, file)
        file.flush()
        running = [
            processes.start(
                [sys.executable, "-m", "sweeps.execution.gpu.throughput_probe", file.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                text=True,
            )
            for _ in range(copies)
        ]
        try:
            for process in running:
                assert process.stdout is not None
                if process.stdout.readline() != "ready\n":
                    return None
            for process in running:
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
            answers = [process.communicate(timeout=SECONDS)[0] for process in running]
            return [json.loads(answer) for answer in answers]
        except (OSError, ValueError, subprocess.TimeoutExpired):
            return None
        finally:
            for process in running:
                if process.poll() is None:
                    process.kill()
                process.communicate()


def _file(gpu: str, shape: list[Any]) -> Path:
    """Of its own for each device, shape, version of torch, and way to share."""
    from local_machine.devices import device_here

    mps = "CUDA_MPS_PIPE_DIRECTORY" in os.environ
    key = [device_here(1), metadata.version("torch"), *shape, mps]
    return cache_file("share", key)


def _say(what: str) -> None:
    print(f"workers a GPU: {what}", file=sys.stderr, flush=True)
