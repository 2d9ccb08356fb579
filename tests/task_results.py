"""A results folder of a task that is not the project's, with made-up figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local_machine.json_files import write_json, write_sealed_json
from trial_records import tables
from trial_records.config import content_of, fingerprint_of
from trial_records.metrics import configured, measured, whose
from trial_records.trial_files import CONFIG, EPOCHS, Failure

TASK = "mine"
Values = Mapping[str, Any]


def trials(rates: tuple[float, ...] = (0.1, 0.01), seeds: int = 3) -> list[dict[str, Any]]:
    """The trials of a plan, as it stores them."""
    found = []
    for rate in rates:
        for seed in range(seeds):
            values = {"lr": rate, "net": {"depth": 2}, "seed": seed, "test_accuracy": "a text"}
            fingerprint = fingerprint_of(content_of(values, TASK))
            name = f"lr{rate}-seed{seed}-{fingerprint[:8]}"
            found.append(
                {"name": name, "fingerprint": fingerprint, "point": {"lr": rate}, "config": values}
            )
    return found


def write_plan(
    results: Path, planned: list[dict[str, Any]], sweep: str = "mine", **task: Any
) -> None:
    plan = {
        "schema_version": 2,
        "task": {
            "name": TASK, "reference": "mine.py:task", "budget": "steps", "seed": "seed",
            "metric": "loss", "direction": "minimize", "reduction": "best", **task,
        },
        "id": "00000001",
        "scale": "full",
        "overrides": {},
        "axes": ["lr"],
        "seeds": [0, 1, 2],
        "created": "2026-01-01T00:00:00+00:00",
        "command": f"python -m sweeps.launch {sweep}",
        "trials": planned,
    }  # fmt: skip
    (results / sweep / "plans").mkdir(parents=True, exist_ok=True)
    write_sealed_json(results / sweep / "plans" / "00000001.json", plan)


def begin(folder: Path, trial: Values, losses: list[float], metric: str = "loss") -> str:
    """What it logged: the rows' digest."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CONFIG, content_of(trial["config"], TASK))
    rows = [{"step": 10 * n, metric: loss, "note": "a text"} for n, loss in enumerate(losses)]
    return tables.write_rows(folder / EPOCHS, rows, whose(folder, trial["fingerprint"], TASK))


def finish(
    folder: Path, trial: Values, losses: list[float], metric: str = "loss", **changes: Any
) -> None:
    digest = begin(folder, trial, losses, metric)
    rows = [{"step": 10 * n, metric: loss} for n, loss in enumerate(losses)]
    tables.write_run(
        folder,
        whose(folder, trial["fingerprint"], TASK)
        | {"status": "done", "seed": trial["config"]["seed"], "seconds": 2.0, "device": "cpu"}
        | configured(trial["config"])
        | measured(rows, {"test": 0.5}, metric, "minimize", "best")
        | {tables.DIGESTS[EPOCHS]: digest, "finished_at": "2026-01-01T01:00:00+00:00"}
        | changes,
    )


def write_results(results: Path, sweep: str = "mine") -> list[dict[str, Any]]:
    """Six trials: five are done, and one failed after its first rows."""
    planned = trials()
    write_plan(results, planned, sweep)
    for number, trial in enumerate(planned[:-1]):
        finish(results / sweep / trial["name"], trial, [2.0, 1.0 + 0.1 * number, float("nan")])
    last = results / sweep / planned[-1]["name"]
    begin(last, planned[-1], [3.0])
    Failure("ERROR", "it broke", "", [], 1, 0.0, "host").write(last)
    return planned
