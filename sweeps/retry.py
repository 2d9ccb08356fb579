"""Try the failed and lost trials of a sweep again.

python -m sweeps.retry NAME [--fresh]
python -m sweeps.retry NAME --host-gone HOST     # take back what a machine that is gone held
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from local_machine.errors import EXIT_DONE, EXIT_FLAGGED, run_command
from local_machine.files import set_aside
from sweeps.cli.options import Gpus, Minutes, Nodes, On, PerGpuWord, Results, SiteName, Workers
from sweeps.spec.backend_name import BackendName

app = typer.Typer(add_completion=False)


@app.command()
def main(
    name: Annotated[str, typer.Argument(help="The sweep.")],
    on: On = BackendName.AUTO,
    workers: Workers = None,
    per_gpu: PerGpuWord = None,
    site: SiteName = "default",
    nodes: Nodes = None,
    gpus_per_node: Gpus = None,
    minutes: Minutes = None,
    results: Results = Path("results"),
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="From epoch 0; the checkpoints are kept under another name."),
    ] = False,
    host_gone: Annotated[
        str | None,
        typer.Option(
            "--host-gone",
            metavar="HOST",
            help="Say that this machine is gone for good: what it holds of the sweep is lost.",
        ),
    ] = None,
) -> int:
    """Run the failed and lost trials again, from their checkpoints."""
    from slurm.site import Resources
    from sweeps.execution import dispatch
    from sweeps.execution.gpu import sharing
    from sweeps.state import elsewhere
    from sweeps.state.liveness import Liveness
    from sweeps.state.trial_store import State, resolve
    from trial_records import trial_files

    where = dispatch.place(on)
    shared = dispatch.check_share(sharing.parse(per_gpu), where)
    if host_gone is not None:
        # A study has no trials of its own, and so no plans.
        is_sweep = elsewhere.take_back(host_gone, results, name, Liveness.here())
        if not is_sweep:
            return EXIT_DONE
    ledger = resolve(results, name)
    cluster = dispatch.cluster(site, Resources(), nodes, gpus_per_node, minutes)
    plans, problems = ledger.readable_plans()
    if problems and not plans:
        raise problems[0]
    for problem in problems:
        print(f"warning: {problem.what}\nhelp: {problem.help}", file=sys.stderr, flush=True)
    if fresh:
        for plan in plans:
            for trial in plan.trials:
                if ledger.standing(trial).state in (State.FAILED, State.LOST):
                    checkpoint = ledger.folder_of(trial) / trial_files.CHECKPOINT
                    if checkpoint.exists():
                        set_aside(checkpoint, "before-retry")
    code = dispatch.run(ledger, plans, {}, where, cluster, workers, shared, retry=True)
    return max(code, EXIT_FLAGGED if problems else EXIT_DONE)


if __name__ == "__main__":
    run_command(app)
