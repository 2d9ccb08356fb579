"""A probe: a one-minute job on the site that says what a compute node sees.

    srun python -m sweeps.doctor.node_probe FOLDER # what the job runs, which answers into the
    folder

Here and there leave each other word in one scratch folder, so that only a folder that both share
makes the job answer.
"""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from local_machine import clock, processes
from local_machine.errors import SlurmError
from local_machine.files import matching
from local_machine.installed import extras
from local_machine.json_files import read_json, write_json
from slurm.commands import cancel
from slurm.job_state import Job
from slurm.queue import Queue
from slurm.rank_info import Place
from slurm.site import Resources, Site
from slurm.waiting import why
from sweeps.doctor.check import Check, failure, ok, warning

SECONDS = 180
LOOK_SECONDS, ASK_SECONDS = 0.2, 3.0
# How long the answer of a job that ended may be under way between two machines, and how long
# Slurm may take to end one.
LATE_SECONDS, END_SECONDS = 10, 20
SKEW_SECONDS = 5.0
TOKEN, ANSWER = "token.json", "answer.json"
NODES_SEE = "give a results folder that every node sees (--results DIR)"


def leave_answer(folder: Path) -> None:
    """What this node sees, into the folder."""
    answer = {
        "heard": _read(folder, TOKEN),
        "host": processes.host_name(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "gpus": _gpus(),
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        **_node(),
        **_torch(),
    }
    write_json(folder / ANSWER, answer | {"time": clock.now()})


def run(
    site: Site,
    folder: Path,
    *,
    seconds: float = SECONDS,
    say: Callable[[str], object] = lambda words: None,
) -> Iterator[Check]:
    """Send the job with a scratch folder, wait at most so long, and tell what it found.

    The job is ended and gone when this returns, also by an exception.
    """
    token = secrets.token_hex(8)
    write_json(folder / TOKEN, token)
    try:
        number = _send(site, folder)
    except SlurmError as error:
        yield failure("test job", error.what, error.help)
        return
    queue, start = Queue(min_seconds=ASK_SECONDS), clock.now()
    try:
        say(f"sent test job {number}, waiting for it at most {seconds:.0f} s")
        answer, seen, job = _wait(queue, number, folder, seconds)
    finally:
        _end(queue, number)
    if answer is None:
        yield _silence(number, job, folder, seconds)
        return
    where = f"{answer['host']} (node {answer['node']})"
    yield ok("test job", f"job {number} on {where} answered after {seen - start:.0f} s")
    yield from told(answer, site, token, seen)


def told(answer: dict[str, Any], site: Site, token: str, seen: float) -> Iterator[Check]:
    """What an answer says that came at `seen`, in seconds since 1970."""
    if answer["heard"] == token:
        yield ok("results there", "what is written here is read there, and what there, here")
    else:
        yield failure("results there", "the node did not read what was written here", NODES_SEE)
    yield _gpu(answer, site)
    here = platform.python_version()
    found = f"Python {answer['python']} there ({answer['executable']}), {here} here"
    if answer["python"].split(".")[:2] == here.split(".")[:2]:
        yield ok("Python there", found)
    else:
        todo = "have one version in both (`python` in the site): it is checked here, and runs there"
        yield warning("Python there", found, todo)
    yield from _told_torch(answer, site)
    if answer["address"]:
        yield ok("node names", f"{answer['node']} resolves there, to {answer['address']}")
    else:
        found = f"{answer['node']} resolves to nothing there"
        todo = "nothing to do here: ranks take the address that Slurm has. Other programs may hang"
        yield warning("node names", found, todo)
    skew = answer["time"] - seen
    found = f"{skew:+.1f} s from this machine's, the answer's way included"
    if abs(skew) > SKEW_SECONDS:
        todo = "have the clocks set (NTP): leases and checkpoints are told apart by time"
        yield warning("clock there", found, todo)
    else:
        yield ok("clock there", found)


def _told_torch(answer: dict[str, Any], site: Site) -> Iterator[Check]:
    if extras.missing("torch") is not None:
        yield ok("torch there", f"{answer['torch'] or 'not installed'}; not installed here")
    elif answer["torch"] is None:
        todo = f"install the trainer for it, or correct `python` and `setup` in site {site.name!r}"
        yield failure("torch there", f"cannot be imported: {answer['problem']}", todo)
    elif answer["torch"].partition("+")[0] == metadata.version("torch").partition("+")[0]:
        yield ok("torch there", answer["torch"])
    else:
        found = f"{answer['torch']} there, {metadata.version('torch')} here"
        yield warning("torch there", found, "results may differ: have one version in both")


def _gpu(answer: dict[str, Any], site: Site) -> Check:
    gpus, sees = answer["gpus"], answer["cuda"]
    named = f"CUDA_VISIBLE_DEVICES={answer['visible']}" if answer["visible"] else "none assigned"
    found = f"{', '.join(gpus) or 'nvidia-smi shows none'}; {named}; "
    found += f"torch sees {', '.join(sees) or 'none'}"
    if sees or site.gpu_request == "none":
        return ok("GPUs there", found)
    if gpus:
        todo = "install a torch built for the node's driver (nvidia-smi shows its CUDA version)"
        return failure("GPUs there", found, todo)
    todo = f"trials would train on the CPU: see gpu_request and partition of site {site.name!r}"
    return warning("GPUs there", found, todo)


def _send(site: Site, folder: Path) -> str:
    """The job's id. Raises SlurmError in Slurm's own words."""
    from slurm.send import Batch

    # A minute is shorter than the warning that most sites set.
    brief = replace(site, signal_seconds=min(site.signal_seconds, 10))
    batch = Batch(
        brief,
        Resources(minutes=1),
        "doctor",
        "doctor",
        folder.resolve(),
        "sweeps.doctor.node_probe",
        (str(folder.resolve()),),
    )
    return batch.send()[0]


def _wait(
    queue: Queue, number: str, folder: Path, seconds: float
) -> tuple[dict[str, Any] | None, float, Job | None]:
    """The answer, when it was seen, and the job as it was then."""
    deadline, job, over = clock.monotonic() + seconds, None, False
    while True:
        if (answer := _read(folder, ANSWER)) is not None:
            return answer, clock.now(), job
        if clock.monotonic() > deadline:
            return None, 0.0, job
        # A controller that is busy for a moment does not end the job.
        with contextlib.suppress(SlurmError):
            if not over:
                job = queue.jobs([number])[number]
                over = job is None or job.state.is_over
                if over:
                    deadline = min(deadline, clock.monotonic() + LATE_SECONDS)
        clock.sleep(LOOK_SECONDS)


def _end(queue: Queue, number: str) -> None:
    """End the job and wait until it writes nothing more into its folder."""
    deadline = clock.monotonic() + END_SECONDS
    # A job that ends by itself leaves no noise.
    polite = clock.monotonic() + 2
    while clock.monotonic() < deadline:
        # Not the whole loop: a controller that is busy once must not leave the job behind.
        with contextlib.suppress(SlurmError):
            queue.forget()
            job = queue.jobs([number])[number]
            if job is None or job.state.is_over:
                return
            if clock.monotonic() > polite or job.state.is_queued:
                cancel([number])
        clock.sleep(LOOK_SECONDS * 2)


def _silence(number: str, job: Job | None, folder: Path, seconds: float) -> Check:
    """Why no answer came."""
    name = "test job"
    if job is not None and job.state.is_queued:
        return warning(
            name,
            f"job {number} did not start in {seconds:.0f} s and was cancelled: {job.state}, "
            f"{why(job) or 'no reason told'}",
            "do what the reason says, or try again when the queue is shorter",
        )
    if job is not None and not job.state.is_over:
        found = f"job {number} runs on {job.nodes} and did not answer in {seconds:.0f} s"
        return warning(name, f"{found}; it was cancelled", f"a slow start, or {NODES_SEE}")
    found = f"job {number} ended without an answer: {job.state if job else 'gone'}"
    logs = sorted(matching(folder, f"{number}_*.out"))
    lines = logs[0].read_text(errors="replace").splitlines() if logs else []
    if said := [line.strip() for line in lines if line.strip()][-3:]:
        return failure(
            name,
            f"{found}: {' / '.join(said)}",
            "correct `setup` and `python` in the site, or try another node",
        )
    return failure(name, f"{found}, and without a log", f"its node may not see it: {NODES_SEE}")


def _read(folder: Path, name: str) -> Any:
    """What the file says; None where there is none."""
    # Listing asks the server: a bare open may be told for a minute that there is no such file.
    listed = any(path.name == name for path in folder.iterdir())
    return read_json(folder / name) if listed else None


def _node() -> dict[str, str]:
    """This node's name in Slurm and the address that it resolves to, "" for none."""
    name = Place.here().node
    try:
        return {"node": name, "address": socket.gethostbyname(name)}
    except OSError:
        return {"node": name, "address": ""}


def _gpus() -> list[str]:
    """The names that nvidia-smi shows."""
    try:
        done = processes.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _torch() -> dict[str, Any]:
    try:
        import torch
    except Exception as error:  # a library that is missing raises OSError, a bad build anything
        return {"torch": None, "cuda": [], "problem": f"{type(error).__name__}: {error}"[:300]}
    count = torch.cuda.device_count()  # 0 where CUDA does not work
    sees = [torch.cuda.get_device_name(index) for index in range(count)]
    return {"torch": str(torch.__version__), "cuda": sees}


if __name__ == "__main__":
    leave_answer(Path(sys.argv[1]))
