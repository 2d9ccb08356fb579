"""A real Slurm on this machine, by hand: up, status, down.

python -m slurm.dev_cluster up --nodes 2 --gpus-per-node 2
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from local_machine import clock
from local_machine.errors import SlurmError, run_command
from slurm.dev_cluster.cluster import DEFAULT_FOLDER, _say, boot, find, shut

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="A real Slurm on this machine, to develop and test against.",
)
Folder = Annotated[Path, typer.Option("--dir", help="The cluster's folder.")]


@app.command()
def up(
    folder: Folder = DEFAULT_FOLDER,
    nodes: Annotated[int | None, typer.Option(min=1, help="Default: 4.")] = None,
    gpus_per_node: Annotated[int | None, typer.Option(min=0, help="Default: 2.")] = None,
    cpus_per_node: Annotated[int | None, typer.Option(min=1, help="Default: 2.")] = None,
    max_array_size: Annotated[int | None, typer.Option(min=2, help="Default: 1001.")] = None,
    grace_seconds: Annotated[
        int | None, typer.Option(min=0, help="From preemption to its end. Default: 20.")
    ] = None,
    preempt_warning: Annotated[
        bool | None, typer.Option(help="Signal a job that is preempted. Default: yes.")
    ] = None,
    enforce_limits: Annotated[
        bool | None, typer.Option(help="Refuse what an association forbids. Default: no.")
    ] = None,
) -> None:
    """Boot a cluster, or find it running, and print what to export: eval "$(... up)"."""
    given = {
        "nodes": nodes,
        "gpus_per_node": gpus_per_node,
        "cpus_per_node": cpus_per_node,
        "max_array_size": max_array_size,
        "grace_seconds": grace_seconds,
        "preempt_warning": preempt_warning,
        "enforce_limits": enforce_limits,
    }
    start = clock.monotonic()
    cluster, was_running = boot(folder, **{k: v for k, v in given.items() if v is not None})
    took = "already running" if was_running else f"up in {clock.monotonic() - start:.1f} s"
    _say(f"{took}: {cluster.shape}, in {cluster.folder}")
    print(cluster.export, end="")


@app.command()
def status(folder: Folder = DEFAULT_FOLDER) -> int:
    """Show which daemons live, and sinfo; exit with 1 where one is dead."""
    cluster = find(folder)
    if cluster is None:
        raise SlurmError(f"no cluster in {folder}", "python -m slurm.dev_cluster up")
    for name, daemon in cluster.daemons.items():
        pid = daemon.pid()
        print(f"{name:<12}{'dead' if pid is None else f'alive, pid {pid}'}")
    if cluster.pid("slurmctld") is not None:
        print(cluster.command("sinfo"), end="")
    return 0 if cluster.alive else 1


@app.command()
def down(folder: Folder = DEFAULT_FOLDER) -> None:
    """End the cluster and its jobs, and remove its files."""
    if shut(folder):
        _say(f"down: {folder}" + (" (files of others stay)" if folder.exists() else ""))
    else:
        _say(f"no cluster in {folder}")


if __name__ == "__main__":
    run_command(app)
