"""The best that was measured of a device, kept in the cache. Imports no torch.

trainer.perf.roofline measures it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from local_machine import json_files
from local_machine.errors import InputError
from local_machine.private_folder import cache_file
from trainer.config import Positive


@dataclass(frozen=True)
class DevicePeaks:
    device: str
    """As `trainer.perf.device.device_name` has it, on a CPU with the number of threads."""
    bf16_flops_per_second: Positive
    """2 a multiply-add, of a large matrix product or convolution, whichever was faster."""
    fp32_flops_per_second: Positive
    bytes_per_second: Positive
    """Read and written, of arrays that no cache holds."""
    seconds_per_op: Positive
    """To start the smallest operation from Python."""
    schema_version: Literal[1] = 1

    def flops_per_second(self, precision: Literal["bf16", "fp32"]) -> float:
        return self.bf16_flops_per_second if precision == "bf16" else self.fp32_flops_per_second

    def or_better(self, other: DevicePeaks) -> DevicePeaks:
        """The better one of each, of two measurements of one device."""
        return DevicePeaks(
            self.device,
            max(self.bf16_flops_per_second, other.bf16_flops_per_second),
            max(self.fp32_flops_per_second, other.fp32_flops_per_second),
            max(self.bytes_per_second, other.bytes_per_second),
            min(self.seconds_per_op, other.seconds_per_op),
        )


def cached(device: str) -> DevicePeaks | None:
    """The peaks of the device of that name, where they were measured with this torch before.

    None where the file is damaged, too.
    """
    try:
        found = TypeAdapter(DevicePeaks).validate_python(json_files.read_json(_file(device)))
    except (OSError, InputError, ValidationError):
        return None
    return found if found.device == device else None


def store(peaks: DevicePeaks) -> None:
    """Raises OSError where the cache cannot be written."""
    path = _file(peaks.device)
    path.parent.mkdir(parents=True, exist_ok=True)
    json_files.write_sealed_json(path, asdict(peaks))


def _file(device: str) -> Path:
    """Of its own for each device and version of torch, so that none overwrites another."""
    return cache_file("peaks", [device, metadata.version("torch")])
