"""MPS: NVIDIA's daemon that lets several processes compute on one GPU at the same instant.

Without it they take turns. It is started for one launch or job alone, in a private folder, and
stopped with it. (NVIDIA, "Multi-Process Service", the GPU deployment documentation.)
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from local_machine import processes
from local_machine.devices import visible_gpus
from slurm import environment
from slurm.environment import Child

CONTROL = "nvidia-cuda-mps-control"
SECONDS = 30
# That the daemon runs tells nothing: its server starts with the first client, and may fail then.
_CLIENT = """
import ctypes
cuda, context = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p()
assert cuda.cuInit(0) == 0
assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
"""


@contextlib.contextmanager
def running(*, required: bool = False) -> Iterator[None]:
    """The daemon for the visible GPUs, which processes that begin in the block find by themselves.

    Goes on without where it does not start, and says so on stderr; where there is none, only if it
    is `required`. A daemon that the environment names already is used as it is.
    """
    if not visible_gpus() or "CUDA_MPS_PIPE_DIRECTORY" in os.environ:
        yield
        return
    if shutil.which(CONTROL) is None:
        if required:
            _warn(f"{CONTROL} is not on PATH")
        yield
        return
    before = dict(os.environ)
    # Not under TMPDIR: a socket's path has at most 107 bytes.
    folder = tempfile.mkdtemp(prefix="sweeps-mps-", dir="/tmp")
    os.environ["CUDA_MPS_PIPE_DIRECTORY"] = f"{folder}/pipe"
    os.environ["CUDA_MPS_LOG_DIRECTORY"] = f"{folder}/log"
    # The daemon counts its GPUs from 0 again; by these names its clients mean the same ones.
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(_uuids(visible_gpus()))
    try:
        problem = _start(folder)
        if problem is not None:
            _warn(problem)
            _stop()
            _restore(before)
        try:
            yield
        finally:
            if problem is None:
                _stop()
    finally:
        _restore(before)
        shutil.rmtree(folder, ignore_errors=True)


def _start(folder: str) -> str | None:
    """What went wrong, if anything."""
    for name in ("pipe", "log"):
        Path(folder, name).mkdir(mode=0o700)
    for command in ([CONTROL, "-d"], [sys.executable, "-c", _CLIENT]):
        try:
            # The daemon keeps what it inherits: a pipe for its words would never end.
            done = processes.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=SECONDS,
                check=False,
                env=environment.built(Child.WORKER),
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if done.returncode:
            what = f"{CONTROL} -d" if command[0] == CONTROL else "its first client"
            return f"{what} ended with {done.returncode}"
    return None


def _stop() -> None:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        processes.run([CONTROL], input=b"quit\n", timeout=SECONDS, capture_output=True, check=False)


def _restore(before: dict[str, str]) -> None:
    for name in ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY", "CUDA_VISIBLE_DEVICES"):
        os.environ.pop(name, None)
        if name in before:
            os.environ[name] = before[name]


def _uuids(gpus: list[str]) -> list[str]:
    import pynvml

    try:
        pynvml.nvmlInit()
        return [
            str(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(int(gpu))))
            if gpu.isdecimal()
            else gpu
            for gpu in gpus
        ]
    except pynvml.NVMLError:
        return gpus


def _warn(problem: str) -> None:
    print(
        f"warning: no MPS, so workers take turns on a GPU: {problem}", file=sys.stderr, flush=True
    )
