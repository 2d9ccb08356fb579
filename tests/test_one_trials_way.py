"""One trial's way on Slurm, from the command to the training program, by a trace of both processes.

What a reader follows is the call stack: at each step of a trial, the files of ours whose functions
are on it. Slurm's commands alone are stand-ins; the job's script is run as it was sent.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DEFINITION = """
from sweeps import Sweep
from trainer.recipes import reported

base = reported("resnet18").override({
    "data.name": "digits", "data.train_limit": 100, "data.test_limit": 100, "model.width": 0.0625,
    "epochs": 1, "batch_size": 50, "precision": "fp32",
})
sweep = Sweep(base=base)
"""
# Of a step, the function at whose first line the trial takes it.
STEPS = {
    "planned": ("plan_store.py", "write_plan"),
    "leased": ("lease.py", "take"),
    "sent": ("send.py", "send"),
    "taken over": ("lease.py", "install"),
    "trained": ("train.py", "train"),
}
TRACER = """
import json, runpy, sys
ROOT, STEPS, out, module = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], sys.argv[4]
OURS = ("local_machine/", "trial_records/", "trainer/", "sweeps/", "slurm/")
stacks = {}
def profile(frame, event, _):
    code = frame.f_code
    if event != "call" or not code.co_filename.startswith(ROOT):
        return
    for step, (file, function) in STEPS.items():
        if code.co_name == function and code.co_filename.endswith("/" + file):
            stack = []
            while frame is not None:
                name = frame.f_code.co_filename.removeprefix(ROOT + "/")
                if name.startswith(OURS):
                    stack.append(name)
                # What is under a command's main reads the command line.
                frame = None if frame.f_code.co_name == "main" else frame.f_back
            stacks.setdefault(step, stack[::-1])
            with open(out, "w") as written:
                json.dump(stacks, written)
sys.argv[:] = [module, *sys.argv[5:]]
sys.setprofile(profile)
runpy.run_module(module, run_name="__main__")
"""
STAND_INS = {
    "sbatch": 'cp "$1" "$FAKES/script"; echo Submitted batch job 9',
    "squeue": "",
    "sacct": "",
    "scontrol": "",
    # The job starts at once, on one rank.
    "srun": "",
}


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """By step, the files on the stack, outermost first."""
    folder = tmp_path_factory.mktemp("way")
    (folder / "one.py").write_text(DEFINITION)
    for name, body in STAND_INS.items():
        path = folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "FAKES": str(folder),
        "SLURM_CONF": str(folder / "slurm.conf"),
    }
    (folder / "slurm.conf").write_text("")

    def traced(out: str, module: str, *words: str, **variables: str) -> dict[str, list[str]]:
        tracer = [sys.executable, "-c", TRACER, str(ROOT), json.dumps(STEPS), str(folder / out)]
        done = subprocess.run(
            [*tracer, module, *words], cwd=folder, capture_output=True, text=True,
            env={**environment, "PYTHONPATH": str(ROOT), **variables},
        )  # fmt: skip
        assert (folder / out).exists(), done.stderr
        found: dict[str, list[str]] = json.loads((folder / out).read_text())
        return found

    launching = traced("launching", "sweeps.launch", "one.py", "--on", "slurm", "--detach")
    script = (folder / "script").read_text()
    words = script[script.index("{", script.index("sweeps.execution.job_entry")) :]
    words = words[: words.index("}") + 1]
    job = {"SLURM_JOB_ID": "9", "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_LOCALID": "0"}
    return launching | traced("job", "sweeps.execution.job_entry", words, **job)


@pytest.mark.long
def test_every_step_was_seen(stacks: dict[str, list[str]]) -> None:
    assert list(stacks) == list(STEPS)


def test_a_trial_enters_at_most_fourteen_files_before_it_is_trained(
    stacks: dict[str, list[str]],
) -> None:
    entered = dict.fromkeys(itertools.chain.from_iterable(stacks.values()))
    ground = ("trial_records/", "local_machine/")
    above = [name for name in entered if not name.startswith(ground)]
    assert len(above) <= 14, above


@pytest.mark.parametrize("step", STEPS)
def test_no_step_returns_to_a_file_that_it_has_left(
    stacks: dict[str, list[str]], step: str
) -> None:
    files = [name for name, _ in itertools.groupby(stacks[step])]
    assert len(files) == len(set(files)), files
