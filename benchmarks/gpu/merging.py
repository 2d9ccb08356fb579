"""Merging: what came back in a pack, brought into results/DEVICE, with one plan a sweep."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpu import packs
from gpu.items import BY_NAME
from local_machine.errors import InputError
from local_machine.files import read_file, write_atomic
from sweeps.state.plan import Plan
from sweeps.state.plan_store import PlanStore
from trial_records import trial_files
from trial_records.names import is_name

# A device's folder is named by its kind, not by how it is built in.
_BUILD = re.compile(
    r"\b(NVIDIA|AMD|Intel(\(R\))?|Tesla|\d+ ?GB|HBM\d\w*|PCIe|SXM\d?|NVL|processor|\d+ threads)\b",
    re.IGNORECASE,
)
_README = "Made by `benchmarks/gpu_minutes.py"


def folder_of(device: str) -> str:
    """`NVIDIA H100 80GB HBM3` to `h100`."""
    words = re.findall(r"[a-z0-9]+", _BUILD.sub(" ", device).replace("(R)", " ").lower())
    return "-".join(words) or "device"


def merge(folder: Path, into: Path) -> tuple[Path, list[Path]]:
    """Merge a pack into the device's folder under `into`; that folder, and the trials that have
    weights now. A record that is there already stays, but for one that was put together later.

    Raises InputError where the pack is damaged.
    """
    with tempfile.TemporaryDirectory() as name:
        found = Path(name)
        notes = packs.unpack(folder, found)
        target = into / folder_of(notes["device"])
        weighted = [
            one for trial in packs.trials(found) if (one := _trial(trial, target)) is not None
        ]
        sweeps = {plan.parents[1].name for plan in found.glob("*/plans/*.json")}
        for plan in found.glob("*/plans/*.json"):
            copy(plan, target / plan.relative_to(found))
        for text in (found / packs.SPEED).glob("*.txt"):
            copy(text, target / packs.SPEED / text.name)
    for sweep in sorted(filter(is_name, sweeps)):
        _plan_of_all(PlanStore(target, sweep))
    _describe(target, notes)
    return target, weighted


def _trial(trial: Path, target: Path) -> Path | None:
    """Merge one trial; its folder, where it has weights now."""
    place = target / trial.parent.name / trial.name
    run = place / trial_files.RUN
    if packs.is_whole(place) and read_file(run) != read_file(trial / trial_files.RUN):
        print(f"{place} is there already and stays", file=sys.stderr)
        return None
    # run.parquet last: without it the others are not read.
    for name in packs.RECORDS:
        copy(trial / name, place / name)
    if not (trial / packs.WEIGHTS).exists():
        return None
    content = read_file(trial / packs.WEIGHTS)
    packs.grow(content, place / trial_files.CHECKPOINT, packs.fingerprint_in(trial))
    return place


def copy(path: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    content = read_file(path)
    write_atomic(place, lambda file: file.write(content))


def _plan_of_all(store: PlanStore) -> None:
    """One plan that holds the trials of all whose scale, overrides and axes are the same: an item
    trains a part of a sweep."""
    groups: dict[Any, list[Plan]] = {}
    for plan in store.plans():
        if plan.search is None:
            key = (plan.scale, tuple(sorted(plan.overrides.items())), tuple(plan.axes))
            groups.setdefault(key, []).append(plan)
    for plans in groups.values():
        trials = {trial.fingerprint: trial for plan in plans for trial in plan.trials}
        whole = replace(plans[-1], trials=list(trials.values()))
        store.write_plan(whole)
        for plan in plans:
            if plan.id != whole.id:
                (store.folder / "plans" / f"{plan.id}.json").unlink()


def _describe(target: Path, notes: Mapping[str, Any]) -> None:
    """README.md of the folder: which items, and how long. Beside one that somebody has written by
    hand it is gpu_minutes.md."""
    path = target / "README.md"
    if path.exists() and _README not in path.read_text():
        path = target / "gpu_minutes.md"
    rows = dict(_rows(path))
    for name, minutes in notes["minutes"].items():
        rows[name] = f"| `{name}` | {BY_NAME[name].proves} | {minutes:.1f} | {notes['torch']} |"
    lines = [
        f"# {notes['device']}",
        "",
        f"{_README} --merge`. Each row is an item of that script, with the minutes that it took,",
        "its start and compiling included. `speed/` has what the benchmarks printed.",
        "",
        "| item | what it shows | minutes | torch |",
        "|---|---|---:|---|",
        *(rows[name] for name in sorted(rows, key=list(BY_NAME).index)),
        "",
        f"    python -m analysis.report --results {target}",
        "",
        "draws the report. There are no weights here.",
        "",
    ]
    write_atomic(path, lambda file: file.write("\n".join(lines).encode()))


def _rows(path: Path) -> Iterable[tuple[str, str]]:
    """The items of a README that this script has written."""
    text = path.read_text() if path.exists() else ""
    return [
        (found[1], line)
        for line in text.splitlines()
        if (found := re.match(r"\| `(\w+)` ", line)) and found[1] in BY_NAME
    ]


def decode(trials: Iterable[Path]) -> None:
    """Decode the images of the trials that have weights, which the report then explains."""
    from trainer.config import TrainConfig
    from trainer.data import datasets

    for trial in trials:
        try:
            datasets.prepare(TrainConfig.from_file(trial / trial_files.CONFIG).data)
        except InputError as error:
            print(f"warning: no Grad-CAM: {error.what}\nhelp: {error.help}", file=sys.stderr)
