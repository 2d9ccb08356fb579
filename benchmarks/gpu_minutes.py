"""What is one GPU to do with the minutes that it has? A list by value, each item under 8 minutes.

    python benchmarks/gpu_minutes.py --list
    python benchmarks/gpu_minutes.py --run resnets wrn --out OUT [--minutes 9]
        [--set data.root=data/cifar10] [--pytorch-cifar CHECKOUT]
    python benchmarks/gpu_minutes.py --run --out OUT        # all that is left, in this order
    python benchmarks/gpu_minutes.py --merge OUT            # into results/DEVICE, and its report

--run needs neither a network nor git: it trains items one after another, stops in time, and packs
what is finished into OUT, at most 60 MB. A later call with the same --work goes on where it
stopped; on another machine it goes on from what results/DEVICE has. --merge runs wherever the
repository is, and commits nothing. --list ends with the wheels to bring to a machine that has torch
alone.

On a CPU, to see that it works:

    python benchmarks/gpu_minutes.py --run resnets wrn --out OUT --work WORK --results RESULTS
        --scale smoke --set data.name=digits
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from gpu import merging, packs
from gpu.items import BY_NAME, ITEMS, ROOT, Item, LeftOutError, Place, Trials, shown

from local_machine import processes
from local_machine.devices import device_here
from local_machine.errors import EXIT_DONE, EXIT_FLAGGED, InputError, nearest, print_error
from local_machine.json_files import read_json, write_sealed_json

# Of the time that is left, for packing.
PACKING_SECONDS = 20.0
# How long what was asked to stop may take, a checkpoint included.
STOP_SECONDS = 45.0
# What --run imports, without torch, numpy, pandas, pyarrow, scikit-learn and Pillow, which come
# with any machine that trains.
WHEELS = (
    "annotated-doc", "annotated-types", "click", "cloudpickle", "markdown-it-py", "mdurl",
    "nvidia-ml-py", "pydantic", "pydantic-core", "pygments", "rich", "shellingham", "submitit",
    "typer", "typing-extensions", "typing-inspection",
)  # fmt: skip


def show_items() -> None:
    print(f"{'item':12} {'minutes':>7} {'in all':>7}  what it shows")
    total = 0.0
    for item in ITEMS:
        total += item.minutes
        print(f"{item.name:12} {item.minutes:7.1f} {total:7.1f}  {item.proves}")
    print(f"\nminutes on one H100, predicted; on a machine without these packages:\n{wheels()}")


def wheels() -> str:
    """The commands that bring the packages that are missing beside torch."""
    lock = (ROOT / "requirements.lock").read_text()
    pinned = [re.search(rf"^{name}==\S+", lock, re.MULTILINE) for name in WHEELS]
    names = " ".join(found[0] for found in pinned if found)
    return (
        "  here:  python -m pip download --no-deps --only-binary=:all: --python-version 3.12 "
        "--implementation cp --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 "
        f"--dest wheels {names}\n"
        "  there: python -m pip install --no-index --no-deps --target site wheels/*.whl && "
        "export PYTHONPATH=$PWD:$PWD/site"
    )


# --- running -----------------------------------------------------------------------------


def run(items: Sequence[Item], place: Place, out: Path, minutes: float, known: Path) -> int:
    """Run what is left of the items and pack it; EXIT_FLAGGED where an item failed."""
    deadline = time.monotonic() + 60 * minutes - PACKING_SECONDS
    _bring(known, place.results)
    flag, has_begun = EXIT_DONE, False
    for item in items:
        left = deadline - time.monotonic()
        if left <= 0 or (has_begun and left < 60 * item.minutes):
            _say(f"{item.name}: for another call, {max(0.0, left) / 60:.1f} minutes are left")
            continue
        if item.is_benchmark and any(
            (folder / packs.SPEED / f"{item.name}.txt").exists() for folder in (place.work, known)
        ):
            _say(f"{item.name}: done before")
            continue
        try:
            commands = item.commands(place)
        except LeftOutError as reason:
            _say(f"{item.name}: left out, {reason}")
            continue
        has_begun = True
        begun = time.monotonic()
        _say(f"{item.name}: about {item.minutes:g} minutes")
        code = _run(item, commands, place, deadline)
        took = (time.monotonic() - begun) / 60
        if code == EXIT_DONE:
            _note(place, item.name, took)
        flag = max(flag, EXIT_DONE if code in (EXIT_DONE, None) else EXIT_FLAGGED)
        word = {EXIT_DONE: "done", None: "stopped, goes on in another call"}
        _say(f"{item.name}: {word.get(code, f'failed with {code}')} after {took:.1f} minutes")
        # After each item, so that whatever ends this call leaves a pack.
        _pack(place, out, known)
    if not has_begun:
        _pack(place, out, known)
    print(out)
    return flag


def _run(
    item: Item, commands: Sequence[Sequence[str]], place: Place, deadline: float
) -> int | None:
    """The exit code of an item's commands; None where they were stopped."""
    log = place.work / packs.SPEED / f"{item.name}.txt"
    if not item.is_benchmark:
        log = place.work / "logs" / log.name
    log.parent.mkdir(parents=True, exist_ok=True)
    part = log.with_name(f"{log.name}.part")
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    with part.open("w") as file:
        for words in commands:
            print(f"$ {shown(words)}", file=file, flush=True)
            process = processes.start(
                list(words), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                cwd=ROOT, env=environment,
            )  # fmt: skip
            code = _ended(process, deadline)
            if code != EXIT_DONE:
                _say(_tail(part))
                return code
    part.replace(log)
    return EXIT_DONE


def _ended(process: processes.Process[bytes], deadline: float) -> int | None:
    try:
        return process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        # As Ctrl-C: a launch has its workers save and give their trials back.
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return None
    except BaseException:
        process.send_signal(signal.SIGINT)
        process.wait()
        raise


def _bring(known: Path, results: Path) -> None:
    """What results/DEVICE has already, so that no machine trains it again."""
    for trial in packs.trials(known):
        place = results / trial.relative_to(known)
        if packs.is_whole(trial) and not place.exists():
            for path in trial.iterdir():
                if path.name in packs.RECORDS:
                    merging.copy(path, place / path.name)
            for plan in trial.parent.glob("plans/*.json"):
                merging.copy(plan, results / plan.relative_to(known))


def _note(place: Place, name: str, minutes: float) -> None:
    write_sealed_json(_notes_file(place), {**_minutes(place), name: round(minutes, 2)})


def _minutes(place: Place) -> dict[str, float]:
    with contextlib.suppress(FileNotFoundError):
        return dict(read_json(_notes_file(place)))
    return {}


def _notes_file(place: Place) -> Path:
    return place.work / "minutes.json"


def _pack(place: Place, out: Path, known: Path) -> None:
    weights = [one.work.sweep for one in ITEMS if isinstance(one.work, Trials) and one.work.weights]
    minutes = {name: value for name, value in _minutes(place).items() if name in BY_NAME}
    notes = {"device": device_here(1), "torch": metadata.version("torch"), "minutes": minutes}
    for trial in packs.pack(place.work, out, known, weights, notes):
        _say(f"the weights of {trial} do not fit any more; call again with --out elsewhere")


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-15:])


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


# --- merging -----------------------------------------------------------------------------


def merge(folder: Path, into: Path) -> int:
    """Merge a pack and render the report; its exit code."""
    target, weighted = merging.merge(folder, into)
    merging.decode(weighted)
    words = [sys.executable, "-m", "analysis.report", "--results", str(target)]
    return processes.run(words, cwd=Path.cwd(), check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="show the items")
    what.add_argument("--run", nargs="*", metavar="ITEM", help="run these; none: all, in order")
    what.add_argument("--merge", type=Path, metavar="DIR", help="a pack that --run left")
    parser.add_argument("--out", type=Path, help="where --run puts the pack")
    parser.add_argument("--minutes", type=float, default=9.0, help="that --run has; default 9")
    work, results = ROOT / "build" / "gpu_minutes", ROOT / "results"
    parser.add_argument("--work", type=Path, default=work, help="where results stay between calls")
    parser.add_argument(
        "--results", type=Path, default=results, metavar="DIR",
        help="whose folder of the device has what is done; default results",
    )  # fmt: skip
    parser.add_argument("--scale", choices=("full", "smoke"), default="full")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--on", choices=("local", "debug"), default="local")
    parser.add_argument("--per-gpu", metavar="K|auto", help="trials at once, for all items")
    parser.add_argument("--pytorch-cifar", type=Path, metavar="CHECKOUT", help="of the peer")
    options = parser.parse_args()
    if options.list:
        show_items()
        return EXIT_DONE
    if options.merge is not None:
        return merge(options.merge, options.results)
    if options.out is None:
        raise InputError("--run without --out", "say where the pack goes: --out DIR")
    for name in options.run:
        if name not in BY_NAME:
            raise InputError(f"no item is called {name!r}", nearest(name, BY_NAME))
    from sweeps.cli.options import parse_settings

    place = Place(
        options.work.resolve(), options.scale, parse_settings(options.set), options.on,
        options.per_gpu, options.pytorch_cifar and options.pytorch_cifar.resolve(),
    )  # fmt: skip
    known = options.results.resolve() / merging.folder_of(device_here(1))
    items = [BY_NAME[name] for name in options.run] or list(ITEMS)
    return run(items, place, options.out.resolve(), options.minutes, known)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        print_error(error.what, error.help)
        sys.exit(error.exit_code)
