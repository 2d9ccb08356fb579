"""One training in a process of its own, ours or a peer's: when its first step was done, and how
fast the later ones were.

So no contender warms up, slows down or reconfigures another one, and each starts as it would from
a shell. loops.py is what the process runs.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from images import Images

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Contender:
    kind: str
    """ours, torch (its import alone), pytorch-cifar, wide or timm."""
    checkout: str = ""
    model: str = "resnet18"
    batch: int = 128
    width: float = 1.0
    steps: int = 0
    """Steps to be timed once warm; 0: stop after the first."""
    options: tuple[str, ...] = ()
    """KEY=VALUE of our configuration; of a peer channels_last, bf16, compile."""
    loader: str = ""
    """A checkout of cifar10-airbench whose loader feeds pytorch-cifar."""


@dataclass(frozen=True)
class Sample:
    first_step: float
    """Seconds from the start of the process to the end of the first optimizer step."""
    rate: float
    """Images/s once warm; 0 where it stopped after the first step."""


def measure(contender: Contender, images: Images, compiled: Path | None = None) -> Sample:
    """Run it once. What it compiles is kept in `compiled`, or thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "sample.json"
        task = json.dumps(dataclasses.asdict(contender))
        paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
        cache = {"TORCHINDUCTOR_CACHE_DIR": str(compiled or Path(folder) / "compiled")}
        started = time.time()
        done = subprocess.run(
            [
                sys.executable,
                Path(__file__).with_name("loops.py"),
                result,
                images.root,
                images.arrays,
                task,
            ],
            cwd=folder,
            env={**os.environ, **cache, "PYTHONPATH": os.pathsep.join(paths)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if not result.exists():
            sys.exit(f"error: {contender} failed\n{done.stderr[-4000:]}")
        if contender.kind == "ours":
            # Ours says nothing there unless it falls back, as where it cannot compile.
            print(done.stderr, end="", file=sys.stderr)
        found = json.loads(result.read_text())
    return Sample(found["first_step"] - started, found["rate"])


def on_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def synchronize() -> None:
    if on_cuda():
        import torch

        torch.cuda.synchronize()
