"""What this cluster or machine allows, and what would go wrong on it.

python -m sweeps.doctor [--site NAME|FILE] [--results DIR] [--data FOLDER] [--no-job] [--json]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from local_machine import processes
from local_machine.errors import EXIT_DONE, EXIT_FLAGGED, run_command
from sweeps.cli.options import Results

if TYPE_CHECKING:
    from slurm.site import Site
    from sweeps.doctor.check import Check

SECONDS = 120
ASK_TORCH = """
import json, torch
print(json.dumps([torch.__version__, torch.version.cuda, torch.cuda.device_count()]))
"""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    site: Annotated[
        str, typer.Option("--site", metavar="NAME|FILE", help="The cluster: a site file (.toml).")
    ] = "default",
    results: Results = Path("results"),
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Look at a data folder, too: what data.root would name."
        ),
    ] = None,
    no_job: Annotated[
        bool, typer.Option("--no-job", help="Slurm: send no test job (a minute, one GPU).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Look at Slurm, the results folder and a node, and say what would go wrong.

    Exit code 1 where something would; warnings alone end with 0.
    """
    from slurm.site import find_site
    from sweeps.doctor.check import State

    seen = []
    for check in checks(find_site(site), results, data, job=not no_job):
        seen.append(check)
        if not as_json:
            print(line(check), flush=True)
    if as_json:
        found = [
            {"name": one.name, "state": str(one.state), "found": one.found, "todo": one.todo}
            for one in seen
        ]
        print(json.dumps({"schema_version": 1, "checks": found}, indent=2))
    count = {state: sum(one.state is state for one in seen) for state in State}
    print(", ".join(f"{count[state]} {state}" for state in State), file=sys.stderr)
    return EXIT_FLAGGED if count[State.FAILURE] else EXIT_DONE


def line(check: Check) -> str:
    """One line; what a terminal would obey in another program's words is not passed on."""
    text = f"{check.state:<8} {check.name:<16} {check.found}"
    text += f"; to do: {check.todo}" if check.todo else ""
    return "".join(char if char.isprintable() else "?" for char in text)


def checks(site: Site, results: Path, data: Path | None = None, *, job: bool) -> Iterator[Check]:
    """Everything, one after another; `job` says whether a test job may be sent."""
    from slurm.commands import available
    from sweeps.doctor import filesystem
    from sweeps.doctor.check import ok

    slurm = available()
    answers = False
    if slurm:
        for check in cluster(site):
            answers = answers or (check.name == "slurm" and check.state == "ok")
            yield check
    else:
        yield ok("slurm", "none here (no sbatch, or no SLURM_CONF): trials run on this machine")
        yield from machine()
    yield from filesystem.checks(results, shared=slurm)
    yield cache(shared=slurm)
    if data is not None:
        yield images(data)
    if answers and job:
        yield from node(site, results)


def cluster(site: Site) -> Iterator[Check]:
    """What Slurm allows; one failure where it does not answer."""
    from local_machine.errors import SlurmError
    from sweeps.doctor.check import failure
    from sweeps.doctor.slurm_limits import Limits

    try:
        limits = Limits.read()
    except SlurmError as error:
        yield failure("slurm", error.what, error.help)
        return
    yield from limits.checks(site)
    yield limits.accounting()


def node(site: Site, results: Path) -> Iterator[Check]:
    """What a node sees, by a job of a minute."""
    from sweeps.doctor import filesystem, node_probe

    try:
        with filesystem.scratch(results) as folder:
            yield from node_probe.run(site, folder, say=lambda words: print(words, file=sys.stderr))
    except OSError as error:
        from sweeps.doctor.check import warning

        yield warning(
            "test job", f"its folder cannot be used: {error.strerror or error}",
            "correct the results folder (--results DIR), then ask again",
        )  # fmt: skip


def machine() -> Iterator[Check]:
    """GPUs, torch and bf16 of this machine."""
    from sweeps.doctor.check import failure, ok, warning

    names = gpus()
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    limited = "" if chosen is None else f"; CUDA_VISIBLE_DEVICES={chosen}"
    if names:
        yield ok("GPUs", ", ".join(names) + limited)
    else:
        todo = "use --scale smoke here: at full scale a sweep would train for days on the CPU"
        yield warning("GPUs", f"none that NVIDIA's driver shows{limited}", todo)
    if (install := missing_torch()) is not None:
        yield ok("torch", f"not installed; what needs it: {install}")
        return
    try:
        done = processes.run(
            [sys.executable, "-c", ASK_TORCH], capture_output=True, text=True, timeout=SECONDS,
            check=True,
        )  # fmt: skip
        version, cuda, count = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1:]
        yield failure("torch", f"cannot be imported: {' '.join(said)}", "install it again")
    else:
        found = f"{version}, {f'CUDA {cuda}' if cuda else 'no CUDA'}, sees {count} GPUs"
        if names and not count and chosen is None:
            yield failure("torch", found, "install a torch built for this machine's driver")
        else:
            yield ok("torch", found)
    yield ok("bf16", bf16())


def missing_torch() -> str | None:
    """What installs torch, which functions and commands need not; None where it is installed."""
    from local_machine.installed import extras

    return None if extras.missing("torch") is None else extras.command("torch")


def gpus() -> list[str]:
    """The names that NVIDIA's driver gives; [] for none."""
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        return [str(pynvml.nvmlDeviceGetName(handle)) for handle in handles]
    except pynvml.NVMLError:
        return []


def bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What precision=auto comes to on the CPU, by the words that trainer.perf.precision looks
    for."""
    try:
        words = set(cpuinfo.read_text().split())
    except OSError:
        words = set()
    if has := sorted(words & {"avx512_bf16", "amx_bf16", "bf16"}):
        return f"the CPU has it ({', '.join(has)}): precision=auto trains in bf16"
    return "the CPU would emulate it: precision=auto trains in fp32 there"


def cache(*, shared: bool) -> Check:
    """Whether decoded images can be kept, in a folder that the nodes see as well."""
    from sweeps.doctor import filesystem
    from sweeps.doctor.check import State, failure, ok, warning

    folder = cache_folder()
    try:
        with filesystem.scratch(folder) as path:
            locked = filesystem.lock(path)
    except OSError as error:
        found = f"{folder} cannot be written: {error.strerror or error}"
        return failure("data cache", found, "export SWEEPS_CACHE=FOLDER, with 200 MB of room")
    if locked.state is not State.OK:
        found = f"{folder}: flock {locked.found}"
        return failure("data cache", found, "export SWEEPS_CACHE=FOLDER, on another filesystem")
    kind = filesystem.kind(filesystem.nearest(folder), shared=shared)
    if kind.state is State.OK:
        return ok("data cache", f"{folder} may be written, and locked")
    todo = "export SWEEPS_CACHE=FOLDER, on a filesystem that every node sees"
    return warning("data cache", f"{folder} on {kind.found}", todo)


def images(root: Path) -> Check:
    """Whether trials can be made of a folder's images, by what a launch looks at."""
    from local_machine.errors import InputError
    from sweeps.doctor.check import failure, ok
    from sweeps.spec.task_loader import load
    from trial_records.plan import FIRST_TASK

    try:
        return ok("data", f"{root}: {load(FIRST_TASK).describe_data(root)}")
    except InputError as error:
        return failure("data", error.what, error.help)


def cache_folder() -> Path:
    """Where a task keeps what it decoded."""
    if own := os.environ.get("SWEEPS_CACHE"):
        return Path(own)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "sweeps"


if __name__ == "__main__":
    run_command(app)
