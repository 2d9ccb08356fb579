"""How many short trials a second, beside a job a trial?

    eval "$(python -m slurm.dev_cluster up)"
    python benchmarks/packing.py [--trials 256] [--peer-trials 256] [--workers 2]
    python -m slurm.dev_cluster down

Ours is `launch --workers N`: N jobs, each of which takes trial after trial. The peer is submitit as
its manual has it, `executor.map_array` with one job a trial, whose function imports torch and
torchvision and works half a second. Both from the command to the last result on the disk, one after
the other on the same empty cluster; each job asks for one core and one GPU.

Ours trains: 5 steps of a small ResNet on the digits, with its evaluation, checkpoint and records,
which takes a second trial of one process the CPU time that is printed. The peer multiplies matrices
for half a second of its process's CPU time, no more: no data, no records. That favours the peer.

Fewer trials than 256 weigh a worker's start more, which favours the peer, too; the peer's pace does
not hang on their number. So it may be measured on fewer: --peer-trials.

Last measured on two processors of an AMD EPYC, nothing else running, torch 2.14.1, Slurm 22.05.8,
--trials 256 --peer-trials 28 --workers 2: ours 3.91 trials/s, the peer 0.34: 11.6 x. With others on
the machine it was 2.77 and 0.29: 9.7 x.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rounds import machine

ROOT = Path(__file__).resolve().parent.parent
WORK_SECONDS = 0.5
DEFINITION = """
from sweeps import Sweep, grid
from trainer.recipes import reported

base = reported("resnet18").override({{
    "data.name": "digits", "data.train_limit": 150, "data.test_limit": 100, "model.width": 0.125,
    "epochs": 1, "batch_size": 32, "early_stopping.patience": 0,
}})
sweep = Sweep(base=base, space=grid({{"seed": list(range({trials}))}}))
"""
CALIBRATE = """
import sys, time
from pathlib import Path
from sweeps.spec.expand import expand; from sweeps import find
from trainer.alone import train_alone as train
for trial in expand(find(sys.argv[1])[1]):
    began = time.process_time()
    train(trial.config, Path(sys.argv[2], trial.name))
    print(time.process_time() - began)
"""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def work() -> float:
    """The peer's trial; when it ended."""
    import torch
    import torchvision  # noqa: F401 - as a training script does

    torch.set_num_threads(1)
    matrix, began = torch.rand(256, 256), time.process_time()
    while time.process_time() - began < WORK_SECONDS:
        matrix @ matrix
    return time.time()


def ours(folder: Path, trials: int, workers: int) -> float:
    """Trials a second."""
    definition = _define(folder, trials)
    words = ("--on", "slurm", "--site", "dev_cluster", "--workers", str(workers))
    results = folder / "results"
    began = time.time()
    subprocess.run(
        [sys.executable, "-m", "sweeps.launch", definition, *words, "--results", results],
        cwd=ROOT, env={**os.environ, **ONE_THREAD}, stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    ends = [path.stat().st_mtime for path in results.glob("*/*/run.parquet")]
    assert len(ends) == trials
    return trials / (max(ends) - began)


def peer(folder: Path, trials: int) -> float:
    """Trials a second."""
    import submitit

    executor = submitit.AutoExecutor(folder)
    executor.update_parameters(
        timeout_min=5, cpus_per_task=1, mem_gb=1, slurm_partition="gpu", slurm_gres="gpu:1",
        slurm_array_parallelism=trials,
    )  # fmt: skip
    began = time.time()
    jobs = executor.map_array(_numbered, range(trials))
    return trials / (max(job.result() for job in jobs) - began)


def _numbered(_: int) -> float:
    return work()


def cpu_seconds(folder: Path) -> float:
    """What ours takes a process's second trial."""
    done = subprocess.run(
        [sys.executable, "-c", CALIBRATE, _define(folder, 2), folder],
        cwd=ROOT, env={**os.environ, **ONE_THREAD}, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout.split()[-1])


def _define(folder: Path, trials: int) -> Path:
    path = folder / "packed.py"
    path.write_text(DEFINITION.format(trials=trials))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=256)
    parser.add_argument("--peer-trials", type=int, default=256, help="256 take ten minutes")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if "SLURM_CONF" not in os.environ:
        sys.exit('error: no cluster\nhelp: eval "$(python -m slurm.dev_cluster up)"')
    # The jobs import this file by its name.
    os.environ["PYTHONPATH"] = f"{ROOT}:{Path(__file__).parent}"
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds = cpu_seconds(folder)
        print(
            f"a trial of ours: {seconds:.2f} s of CPU; of the peer: {WORK_SECONDS:.2f} s",
            flush=True,
        )
        mine = ours(folder, options.trials, options.workers)
        print(
            f"ours, {options.trials} trials by {options.workers} workers: {mine:.2f} trials/s",
            flush=True,
        )
        theirs = peer(folder / "peer", options.peer_trials)
    print(
        f"submitit's map_array, {options.peer_trials} jobs: {theirs:.2f} trials/s\n"
        f"ours is {mine / theirs:.1f} x the peer"
    )


if __name__ == "__main__":
    import packing  # by name, so that its function's pickle does not say __main__

    packing.main()
