"""Results as a few files of bounded size, which a machine without a network can give back.

A pack is one tar, cut into parts, beside pack.json, which has their digests and is written last. It
holds what finished trials and benchmarks left, but no checkpoint: of the trials whose weights are
wanted it has the selected epoch's. Where a trial was trained under bf16 autocast, the weights that
autocast rounds to bf16 for each product are stored so, which changes none of its logits; all others
stay as they are. Weights that do not fit wait for the next pack.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from local_machine.errors import EXIT_IO, InputError
from local_machine.files import read_file, write_atomic
from local_machine.json_files import read_json, write_sealed_json
from sweeps.run import checkpoint_file
from trial_records import tables, trial_files
from trial_records.config import fingerprint_of
from trial_records.plan import FOLDER as PLANS

INDEX = "pack.json"
MEGABYTE = 10**6
# What one call may bring back, in parts each of which a mail or an upload form takes.
LIMIT, PART = 60 * MEGABYTE, 15 * MEGABYTE
# A tar's header and padding of each file.
_OVERHEAD = 2048

WEIGHTS = "weights.bin"
RECORDS = (trial_files.CONFIG, trial_files.EPOCHS, trial_files.PREDICTIONS, trial_files.RUN)
SPEED = "speed"


def is_whole(trial: Path) -> bool:
    """Whether a trial's folder holds the record of a training that ended here or elsewhere; not
    one that was put together later, which names no host."""
    try:
        row = tables.read_run(trial, fingerprint_in(trial))
        return row["status"] == "done" and row["host"] is not None
    except (FileNotFoundError, InputError):
        return False


def trials(results: Path) -> Iterator[Path]:
    """The folders of finished trials of every sweep."""
    yield from (run.parent for run in sorted(results.glob(f"*/*/{trial_files.RUN}")))


def pack(work: Path, out: Path, known: Path, weights: Iterable[str], notes: Any) -> list[str]:
    """Write a pack of what `work` has and the results `known` do not; the weights that it left out,
    by trial. `weights` are the sweeps whose weights are wanted. Raises InputError, OSError."""
    files: dict[str, Path] = {}
    results = work / "results"
    new = [one for one in trials(results) if not is_whole(known / one.relative_to(results))]
    for trial in new:
        files |= {_place(results, trial / name): trial / name for name in RECORDS}
    for plan in sorted(results.glob(f"*/{PLANS}/*.json")):
        files[_place(results, plan)] = plan
    for path in sorted((work / SPEED).glob("*.txt")):
        if not (known / SPEED / path.name).exists():
            files[f"{SPEED}/{path.name}"] = path
    size = sum(path.stat().st_size + _OVERHEAD for path in files.values())
    left_out = []
    packed_before = work / "packed.json"
    before = _list(packed_before)
    wanted = [trial for trial in new if trial.parent.name in set(weights)]
    # Those that no pack has had come first.
    for trial in sorted(wanted, key=lambda one: _place(results, one) in before):
        path, name = _shrunk(work, trial), _place(results, trial)
        if size + path.stat().st_size + _OVERHEAD > LIMIT:
            left_out.append(name)
            continue
        size += path.stat().st_size + _OVERHEAD
        files[f"{name}/{WEIGHTS}"] = path
        before.append(name)
    _write(out, files, notes)
    write_sealed_json(packed_before, {"trials": sorted(set(before))})
    return left_out


def _list(path: Path) -> list[str]:
    try:
        return list(read_json(path)["trials"])
    except FileNotFoundError:
        return []


def _place(results: Path, path: Path) -> str:
    return str(path.relative_to(results))


def _write(out: Path, files: dict[str, Path], notes: Any) -> None:
    out.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, path in files.items():
            entry = tarfile.TarInfo(name)
            content = read_file(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    content = buffer.getvalue()
    # An index of other parts would be worse than none.
    (out / INDEX).unlink(missing_ok=True)
    for old in out.glob("pack.tar.*"):
        old.unlink()
    parts = []
    for number, start in enumerate(range(0, len(content), PART)):
        part = content[start : start + PART]
        name = f"pack.tar.{number:02}"
        _write_bytes(out / name, part)
        parts.append({"name": name, "sha256": hashlib.sha256(part).hexdigest()})
    write_sealed_json(out / INDEX, {"schema_version": 1, "parts": parts, "notes": notes})


def unpack(folder: Path, into: Path) -> Any:
    """Bring a pack's files under `into`; its notes. Raises InputError where it is damaged or not
    complete."""
    try:
        index = read_json(folder / INDEX)
    except FileNotFoundError:
        raise InputError(
            f"there is no {folder / INDEX}", "give the folder that --out named, brought back whole"
        ) from None
    content = b""
    for part in index["parts"]:
        path = folder / part["name"]
        found = read_file(path) if path.exists() else b""
        if hashlib.sha256(found).hexdigest() != part["sha256"]:
            raise InputError(
                f"{path} is {'damaged' if found else 'missing'}", "copy it again",
                exit_code=EXIT_IO,
            )  # fmt: skip
        content += found
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        # No links, no devices, nothing outside of the folder.
        tar.extractall(into, filter="data")
    return index["notes"]


# --- weights -----------------------------------------------------------------------------


def _shrunk(work: Path, trial: Path) -> Path:
    """A trial's checkpoint as it is packed, made once."""
    path = work / "weights" / trial.parent.name / f"{trial.name}.bin"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        run = tables.read_run(trial, fingerprint_in(trial))
        content = shrink(trial, bf16=run["precision_used"] == "bf16")
        write_atomic(path, lambda file: file.write(content))
    return path


def shrink(trial: Path, *, bf16: bool) -> bytes:
    """A finished trial's checkpoint with smaller weights, compressed: `grow` brings it back.

    Raises InputError where the trial has no checkpoint, DamagedCheckpointError.
    """
    path = trial / trial_files.CHECKPOINT
    saved = checkpoint_file.read(path, fingerprint_in(trial))
    if saved is None:
        raise InputError(f"{path} is missing", "run the item again with another --work")
    if bf16:
        best = {name: _rounded(name, value) for name, value in saved.state["best_weights"].items()}
        saved = replace(saved, state={**saved.state, "best_weights": best})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / trial_files.CHECKPOINT
        checkpoint_file.write(file, saved)
        content = read_file(file)
    # The halves of bf16 numbers apart: signs and exponents, which repeat, and fractions, which
    # do not. 11 of 16 bits are left.
    halves = [zlib.compress(content[start::2]) for start in (0, 1)]
    return len(halves[0]).to_bytes(8, "big") + b"".join(halves)


def grow(content: bytes, path: Path, fingerprint: str) -> None:
    """Write the checkpoint that `shrink` made smaller, all weights in fp32 again. Raises
    DamagedCheckpointError, OSError."""
    cut = 8 + int.from_bytes(content[:8], "big")
    even, odd = zlib.decompress(content[8:cut]), zlib.decompress(content[cut:])
    whole = bytearray(len(even) + len(odd))
    whole[0::2], whole[1::2] = even, odd
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / trial_files.CHECKPOINT
        file.write_bytes(whole)
        saved = checkpoint_file.read(file, fingerprint)
    assert saved is not None
    best = {
        name: value.float() if value.is_floating_point() else value
        for name, value in saved.state["best_weights"].items()
    }
    checkpoint_file.write(path, replace(saved, state={**saved.state, "best_weights": best}))


def _rounded(name: str, value: Any) -> Any:
    """A weight of a product in bf16, as autocast has it; the head, which computes in fp32, and
    every other parameter as it is."""
    import torch

    is_product = value.ndim >= 2 and name.endswith("weight") and not name.startswith("head.")
    return value.to(torch.bfloat16) if is_product else value


def fingerprint_in(trial: Path) -> str:
    return fingerprint_of(trial_files.read_values(trial))


def _write_bytes(path: Path, content: bytes) -> None:
    write_atomic(path, lambda file: file.write(content))
