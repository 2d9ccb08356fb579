"""What a command says when its trials have ended or are left alone, and its exit code."""

from __future__ import annotations

import json
import shlex
import sys

from local_machine.errors import EXIT_DONE, EXIT_FLAGGED, EXIT_INTERRUPTED
from sweeps.code.other_code import in_words, trained_by_other
from sweeps.state import lease as leases
from sweeps.state.elsewhere import way_out
from sweeps.state.progress import Progress, counts, lost_alike, summary, why_lost
from sweeps.state.trial_store import TrialStore


def ended(store: TrialStore, progress: list[Progress], as_json: bool, *, unfinished: bool) -> int:
    """Say how the trials stand. `unfinished`: that some never ran, or that others run them, is no
    failure of this command."""
    print(f"{store.sweep}: {summary(progress)}", file=sys.stderr)
    show(store, progress, as_json)
    failed = [one for one in progress if one.state == "failed"]
    if failed:
        print(
            f"{len(failed)} failed: {_command(store, 'status')} --failures says why, "
            f"{_command(store, 'retry')} tries them again",
            file=sys.stderr,
        )
    without = [
        one for one in progress if one.state == "done" and one.best is None and not one.problem
    ]
    if without and (metric := without[0].metric) is not None:
        print(
            f"warning: {len(without)} done without a finite value of {metric}, the objective: "
            f"{_command(store, 'logs')} {without[0].trial.name} shows what was logged",
            file=sys.stderr,
        )
    for alike in lost_alike(progress):
        print(f"{why_lost(alike)}; {_command(store, 'logs')} {alike[0].trial.name}",
              file=sys.stderr)  # fmt: skip
    for one in progress:
        if one.problem is not None:
            print(f"warning: {one.problem}", file=sys.stderr)
    silent = _tell_elsewhere(store, progress)
    fine = ("done", "pending", "queued", "running") if unfinished else ("done",)
    bad = [one for one in progress if one.state not in fine or one.problem is not None]
    return EXIT_FLAGGED if bad or silent else EXIT_DONE


def tell_of_other_code(store: TrialStore, progress: list[Progress]) -> None:
    """Say of how many that are done the code was another one."""
    if count := len(trained_by_other(progress)):
        print(
            f"{in_words(count)}: {_command(store, 'status')} --stale shows which, and launch "
            "--stale trains them again",
            file=sys.stderr,
            flush=True,
        )


def _tell_elsewhere(store: TrialStore, progress: list[Progress]) -> bool:
    """Say which trials other machines hold; whether nothing was heard of any of them for a while,
    by the file server's own clock."""
    by_host: dict[str, list[Progress]] = {}
    for one in progress:
        lease = one.standing.lease
        if one.state == "running" and lease is not None and lease.is_elsewhere:
            by_host.setdefault(lease.host, []).append(one)
    any_silent = False
    for host, ones in by_host.items():
        quiet = [leases.silence(store.folder_of(one.trial)) or 0.0 for one in ones]
        silent = min(quiet) > leases.SILENT_SECONDS
        any_silent |= silent
        names = ", ".join(one.trial.name for one in ones)
        since = leases.since(max((one.standing.heard or 0.0 for one in ones), default=None))
        print(f"{len(ones)} held on {host}{since if silent else ''}: {names}", file=sys.stderr)
        if silent:
            print(way_out(store.folder.parent, store.sweep, host), file=sys.stderr)
    return any_silent


def show(store: TrialStore, progress: list[Progress], as_json: bool) -> None:
    """What the command has to say on stdout: the folder, or every trial as JSON."""
    store.summaries.save()
    if not as_json:
        print(store.folder)
        return
    trials = [one.to_json() for one in progress]
    value = {"schema_version": 1, "trials": trials, "counts": counts(progress)}
    print(json.dumps(value))


def left(store: TrialStore, progress: list[Progress], as_json: bool) -> int:
    """Of a launch that returns while its trials run."""
    print(f"launched; watch: {_command(store, 'status')} --watch", file=sys.stderr)
    show(store, progress, as_json)
    return EXIT_DONE


def interrupted(store: TrialStore, goes_on: bool) -> int:
    print(
        f"the jobs go on; watch: {_command(store, 'status')} --watch, "
        f"cancel: {_command(store, 'cancel')} --yes"
        if goes_on
        else f"interrupted: {store.sweep} gave its trials back; the same command goes on from "
        "where it stopped",
        file=sys.stderr,
    )
    return EXIT_INTERRUPTED


def _command(store: TrialStore, name: str) -> str:
    results = shlex.quote(str(store.folder.parent))
    return f"python -m sweeps.{name} {store.sweep} --results {results}"
