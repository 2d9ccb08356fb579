"""The price of a sweep: what past runs tell of it, what the roofline adds, and the budget."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sweeps.launch
import sweeps.status
from local_machine.devices import device_here
from local_machine.errors import InputError, run_command
from sweeps.cost.estimate import CostEstimate, estimate_cost
from sweeps.cost.past_runs import past_runs
from sweeps.cost.tally import tally
from sweeps.spec.backend_name import BackendName
from sweeps.spec.sweep import Trial
from sweeps.state.progress import Progress, look
from sweeps.state.trial_store import TrialStore
from trainer.config import TrainConfig
from trainer.perf import device_peaks
from trainer.perf.cost_model import TrainerCosts
from trainer.perf.device_peaks import DevicePeaks
from trainer.perf.past_run import PastRun
from trial_records import tables, trial_files

ROOT = Path(__file__).parent.parent
SMALL = TrainConfig().override(
    {"model.width": 0.125, "precision": "fp32", "epochs": 10, "data.train_limit": 2000}
)
HERE = device_here(1)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SWEEPS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return tmp_path / "cache"


def finish(results: Path, config: TrainConfig, rate: float, **more: Any) -> Path:
    """A finished run of the configuration, at so many images a second."""
    folder = results / "past" / f"a-{config.fingerprint[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    row: dict[str, Any] = dict.fromkeys(tables.run_schema().names) | config.flat()
    row |= {
        "fingerprint": config.fingerprint, "status": "done", "images_per_second": rate,
        "device": HERE, "world_size": 1, "precision_used": "fp32", "step_used": "eager",
        "train_images": 1800, "val_images": 200,
    }  # fmt: skip
    tables.write_table(folder / trial_files.RUN, [row | more], tables.run_schema())
    return folder / trial_files.RUN


def progress(results: Path, configs: Iterable[TrainConfig]) -> list[Progress]:
    trials = [Trial.of(f"t-{one.fingerprint[:8]}", {}, one) for one in configs]
    return look(TrialStore(results, "new"), trials, {})


def predicted(
    results: Path, *configs: TrainConfig, where: BackendName = BackendName.DEBUG
) -> CostEstimate:
    return estimate_cost(results, progress(results, configs), where)


def command(module: Any, *words: object) -> int:
    with pytest.raises(SystemExit) as end:
        run_command(module.app, [str(word) for word in words])
    return int(end.value.code or 0)


@pytest.mark.long
@pytest.mark.parametrize("threads", [None, "1"])
def test_the_device_is_named_as_runs_name_it(
    threads: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    monkeypatch.delenv("OMP_NUM_THREADS")
    if threads is not None:
        environment["OMP_NUM_THREADS"] = threads
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    code = "import torch; from trainer.perf.device import device_name as n"
    code += "; print(n(torch.device('cpu')))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == device_here(1)


def test_a_run_alike_tells_the_price_and_nothing_else_is_asked(tmp_path: Path) -> None:
    finish(tmp_path, SMALL, 500.0)
    finish(tmp_path, SMALL.override({"seed": 7}), 300.0)
    finish(tmp_path, SMALL.override({"seed": 8}), 310.0)
    # Neither another device's run nor one in other arithmetic.
    finish(tmp_path, SMALL.override({"seed": 9}), 9e9, device="another")
    finish(tmp_path, SMALL.override({"seed": 10}), 9e9, precision_used="bf16")
    finish(tmp_path, SMALL.override({"seed": 11, "batch_size": 32}), 9e9)
    code = f"""
import sys; sys.path.insert(0, {str(ROOT / "tests")!r})
from test_cost_estimate import *
p = predicted(Path({str(tmp_path)!r}), SMALL.override({{"optimizer.lr": 0.2}}))
print(p.total, p.sources, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    hours = 10 * (1800 + 200 / 3) / 310 / 3600
    assert done.stdout, done.stderr
    assert float(done.stdout.split()[0]) == pytest.approx(hours)
    assert "['runs alike'] False" in done.stdout


def test_only_epochs_that_are_left_cost(tmp_path: Path) -> None:
    finish(tmp_path, SMALL, 100.0)
    begun, other = SMALL.override({"seed": 1}), SMALL.override({"seed": 2})
    folder = tmp_path / "new" / f"t-{begun.fingerprint[:8]}"
    folder.mkdir(parents=True)
    row = dict.fromkeys(tables.EPOCHS_SCHEMA.names, 0.5)
    rows = [row | {"epoch": epoch, "seconds": 36.0} for epoch in range(4)]
    tables.write_table(folder / trial_files.EPOCHS, rows, tables.EPOCHS_SCHEMA)
    found = predicted(tmp_path, begun, other)
    assert found.hours[0] == pytest.approx(0.6 * (found.hours[1] or 0))
    assert found.total == pytest.approx(1.6 * (found.hours[1] or 0))
    standing = progress(tmp_path, [begun, other])
    # The other one is taken to go as this one does.
    assert tally(standing) == pytest.approx((4 * 0.01, (6 + 10) * 0.01))
    assert tally(progress(tmp_path, [other])) == (0.0, None)
    row = dict.fromkeys(tables.run_schema().names) | begun.flat()
    row |= {"fingerprint": begun.fingerprint, "status": "done"}
    tables.write_table(folder / trial_files.RUN, [row], tables.run_schema())
    assert predicted(tmp_path, begun).total == 0.0
    assert tally(progress(tmp_path, [begun])) == pytest.approx((0.04, 0.0))


def test_the_roofline_carries_a_run_to_another_batch_and_another_model(tmp_path: Path) -> None:
    from trainer.perf.roofline import count

    known = DevicePeaks(HERE, 1e11, 5e10, 1e9, 1e-5)
    device_peaks.store(known)
    finish(tmp_path, SMALL, 100.0)
    other_batch, other_model = (
        SMALL.override({"batch_size": 32}),
        SMALL.override({"model.name": "wrn_10_1", "batch_size": 64}),
    )
    found = predicted(tmp_path, SMALL, other_batch, other_model)
    assert found.sources == ["runs alike", "runs of the model", "runs of other models"]

    def best(config: TrainConfig) -> float:
        batch = config.batch_size
        return count(config.model, "fp32", batch).seconds(known) / batch

    first = found.hours[0]
    assert first is not None
    for config, hours in zip((other_batch, other_model), found.hours[1:], strict=True):
        assert hours == pytest.approx(first * best(config) / best(SMALL))
    # A run of its own model counts for more than those of other models.
    finish(tmp_path, other_model.override({"batch_size": 128}), 1.0)
    slow = predicted(tmp_path, other_model)
    assert slow.sources == ["runs of the model"] and (slow.total or 0) > 10 * (found.hours[2] or 0)


def test_without_peaks_arithmetic_alone_compares(tmp_path: Path) -> None:
    finish(tmp_path, SMALL, 100.0)
    found = predicted(tmp_path, SMALL, SMALL.override({"batch_size": 32}))
    assert found.hours[0] == pytest.approx(found.hours[1])
    assert found.sources[1] == "runs of the model"


def test_nothing_known_is_said_and_peaks_alone_give_the_best(tmp_path: Path) -> None:
    assert predicted(tmp_path, SMALL).total is None
    assert "not known: nothing like them has run yet on" in predicted(tmp_path, SMALL).line()
    device_peaks.store(DevicePeaks(HERE, 1e11, 5e10, 1e9, 1e-5))
    found = predicted(tmp_path, SMALL)
    assert found.sources == ["roofline alone"] and found.total is not None and found.total > 0
    # This machine's device is not that of a job.
    on_slurm = predicted(tmp_path, SMALL, where=BackendName.SLURM)
    assert on_slurm.total is None and "nothing has run here on Slurm" in on_slurm.line()


def test_a_step_that_was_counted_before_is_priced_without_torch(tmp_path: Path) -> None:
    device_peaks.store(DevicePeaks(HERE, 1e11, 5e10, 1e9, 1e-5))
    # A shape of its own, which this process has not counted yet.
    auto = SMALL.override({"precision": "auto", "batch_size": 24})
    counted = predicted(tmp_path, auto)
    assert counted.sources == ["roofline alone"]
    program = (
        "import sys, test_cost_estimate; from pathlib import Path; from trainer.config import "
        "TrainConfig\n"
        "found = test_cost_estimate.predicted(Path(sys.argv[1]), "
        "TrainConfig.from_json(sys.argv[2]))\n"
        "print(found.total, 'torch' in sys.modules)"
    )
    words = [sys.executable, "-c", program, str(tmp_path), auto.to_json()]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    said = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    assert said.stdout.split() == [str(counted.total), "False"]


def test_on_slurm_the_device_is_that_of_the_last_job(tmp_path: Path) -> None:
    path = finish(tmp_path, SMALL, 100.0, device="GPU A", slurm_job_id="1", precision_used="bf16")
    os.utime(path, (1, 1))
    auto = SMALL.override({"precision": "auto"})
    finish(tmp_path, auto, 200.0, device="GPU B", slurm_job_id="2", precision_used="bf16")
    finish(tmp_path, SMALL.override({"seed": 1}), 300.0)
    found = predicted(tmp_path, auto, where=BackendName.SLURM)
    assert found.device == "GPU B" and found.unit == "GPU-hours"
    assert found.total == pytest.approx(10 * (1800 + 200 / 3) / 200 / 3600)


def test_gpu_hours_are_of_all_ranks(tmp_path: Path) -> None:
    """Four ranks with 64 images each: an hour of a trial is four of GPUs."""
    config = SMALL.override({"batch_size": 256})
    finish(tmp_path, config, 4000.0, device="GPU", slurm_job_id="1", world_size=4)
    found = estimate_cost(tmp_path, progress(tmp_path, [config]), BackendName.SLURM, world=4)
    assert found.total == pytest.approx(4 * 10 * (1800 + 200 / 3) / 4000 / 3600)
    assert found.sources == ["runs alike"]


def test_a_damaged_run_and_one_without_a_speed_are_passed_over(tmp_path: Path) -> None:
    finish(tmp_path, SMALL.override({"seed": 1}), math.nan)
    finish(tmp_path, SMALL.override({"seed": 2}), 0.0)
    finish(tmp_path, SMALL.override({"seed": 3}), 5.0).write_bytes(b"PAR1 no more")
    (tmp_path / "past" / "a folder" / trial_files.RUN).mkdir(parents=True)
    assert past_runs(tmp_path, TrainerCosts()) == []
    finish(tmp_path, SMALL, 5.0)
    assert [type(run) for run in past_runs(tmp_path, TrainerCosts())] == [PastRun]


def test_of_many_runs_some_are_read_and_soon(tmp_path: Path) -> None:
    source = finish(tmp_path, SMALL, 100.0)
    for number in range(2000):
        folder = tmp_path / "many" / f"{number}"
        folder.mkdir(parents=True)
        os.link(source, folder / trial_files.RUN)
    start = time.process_time()
    assert len(past_runs(tmp_path, TrainerCosts())) == 300
    assert time.process_time() - start < 2


@given(st.lists(st.one_of(st.none(), st.floats(0, 1e6)), min_size=1), st.floats(0, 1e6))
def test_a_budget_holds_or_is_refused(hours: list[float | None], budget: float) -> None:
    cost = CostEstimate("GPU", hours, [None] * len(hours))
    fits = None not in hours and sum(one or 0.0 for one in hours) <= budget
    if fits:
        cost.check_budget("s", budget)
    else:
        with pytest.raises(InputError, match="--budget-gpu-hours") as refused:
            cost.check_budget("s", budget)
        assert refused.value.exit_code == 2


@pytest.mark.long
def test_the_command_shows_the_price_and_keeps_to_the_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    definition = tmp_path / "new.json"
    definition.write_text(SMALL.to_json())
    results = tmp_path / "results"
    words = (definition, "--results", results, "--on", "debug")
    assert device_peaks.cached(HERE) is None
    assert command(sweeps.launch, *words, "--dry-run") == 0
    said = capsys.readouterr()
    assert said.err.startswith("measuring this machine for estimates, once")
    assert "by roofline alone" in said.err and device_peaks.cached(HERE) is not None
    assert command(sweeps.launch, *words, "--budget-gpu-hours", 1e-6) == 2
    said = capsys.readouterr()
    assert "measuring" not in said.err and "by roofline alone" in said.err
    assert not results.exists()
    finish(results, SMALL.override({"seed": 3}), 1.0)
    assert command(sweeps.launch, *words, "--budget-gpu-hours", 5) == 2
    said = capsys.readouterr().err
    assert "about 5.19 device-hours" in said and "help: allow it: --budget-gpu-hours 6" in said
    assert not (results / "new").exists()
    assert command(sweeps.launch, *words, "--budget-gpu-hours", 5.2, "--dry-run") == 0
    said = capsys.readouterr()
    assert "5.19" in said.out and "about 5.19 device-hours on" in said.err
    assert command(sweeps.launch, *words, "--dry-run", "--json", "--budget-gpu-hours", 1) == 2
    value = json.loads(capsys.readouterr().out)
    (trial,) = value["trials"]
    hours = 10 * (1800 + 200 / 3) / 3600
    assert trial["predicted_gpu_hours"] == value["predicted_gpu_hours"] == pytest.approx(hours)
    assert trial["predicted_from"] == "runs alike" and value["predicted_on"] == HERE
