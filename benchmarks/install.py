"""What does an installation weigh, without torch and with each extra, and how soon is --help there?

    python benchmarks/install.py [--extras search report] [--keep FOLDER]

pip installs this checkout into an empty environment, from whatever index it is configured for. A
sweep of a plain function is launched there and looked at; then each extra is added. Sizes are what
`du` says of the whole environment, with pip and with what Python has compiled. The time of `--help`
is of the processor, the least of five.

Last measured on x86-64 with Python 3.11, where two other programs ran: 303 MiB for the core, 346
MiB with search; `sweeps launch --help` 0.15 s, `sweeps status --help` 0.13 s.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FUNCTION = """
from sweeps import Sweep, grid, minimize

def train(config, run):
    state = run.load() or {"epoch": 0}
    for epoch in range(state["epoch"], 3):
        run.log(epoch=epoch, loss=config["lr"] / (epoch + 1))
        run.save({"epoch": epoch + 1})

sweep = Sweep(train, base={"lr": 0.1}, space=grid({"lr": [0.1, 0.2]}), objective=minimize("loss"))
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--extras", nargs="*", default=["search"])
    parser.add_argument("--keep", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.keep or Path(temporary)
        # What a build leaves behind stays out of the checkout.
        ours = folder / "checkout"
        skipped = shutil.ignore_patterns(".venv", ".git", "results", "*.egg-info", ".*_cache")
        shutil.copytree(ROOT, ours, ignore=skipped)
        subprocess.run([sys.executable, "-m", "venv", folder / "environment"], check=True)
        install(folder, str(ours))
        use(folder)
        print(f"core: {size(folder)} MiB")
        for command in ("launch", "status", "report"):
            print(f"sweeps {command} --help: {help_seconds(folder, command):.2f} s")
        for extra in chosen.extras:
            install(folder, f"{ours}[{extra}]")
            print(f"with {extra}: {size(folder)} MiB")


def install(folder: Path, what: str) -> None:
    words = [folder / "environment/bin/pip", "install", "--quiet", what]
    subprocess.run(words, check=True)


def size(folder: Path) -> str:
    words = ["du", "-sm", folder / "environment"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[0]


def use(folder: Path) -> None:
    """Launch a function's sweep, look at it, and see that no torch is there."""
    (folder / "mine.py").write_text(FUNCTION)
    for words in (["--help"], ["--version"], ["launch", "mine.py", "--on", "local"],
                  ["status", "mine"]):  # fmt: skip
        done = subprocess.run(
            [folder / "environment/bin/sweeps", *words],
            cwd=folder, env=own(), capture_output=True, text=True,
        )  # fmt: skip
        last = (done.stdout + done.stderr).strip().splitlines()[-1]
        print(f"sweeps {' '.join(words)}: exit code {done.returncode}, {last}")
        assert done.returncode == 0, done.stderr
    torch = [folder / "environment/bin/python", "-c", "import torch"]
    assert subprocess.run(torch, env=own(), stderr=subprocess.DEVNULL).returncode != 0


def own() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def help_seconds(folder: Path, command: str) -> float:
    found = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [folder / "environment/bin/sweeps", command, "--help"],
            cwd=folder, env=own(), stdout=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)


if __name__ == "__main__":
    main()
