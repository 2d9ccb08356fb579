"""What a study costs on a CPU, and the time budgets that pay it part by part."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from test_study import command, definition, runs, words

from local_machine.devices import device_here, threads_of
from local_machine.errors import InputError
from slurm.site import Resources, Site
from sweeps.execution.request import LaunchRequest
from sweeps.spec.backend_name import BackendName
from sweeps.study.time_budget import TimeBudget
from trainer.perf import device_peaks
from trainer.perf.device_peaks import DevicePeaks

pytestmark = pytest.mark.usefixtures("forked")

# Of one core that multiplies bf16, such that the roofline gives what one was measured to do.
CORE_PEAKS = DevicePeaks("", 1.5e11, 7.5e10, 2e10, 1e-5)


@pytest.mark.long
def test_at_cpu_scale_cifar10_takes_a_day_of_one_core_at_most(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a device of these figures, with which the roofline gives what such a core was measured to
    do in training: CORE_PEAKS."""
    monkeypatch.setenv("SWEEPS_CACHE", str(tmp_path / "cache"))
    device_peaks.store(replace(CORE_PEAKS, device=device_here(1)))
    asked = ["cifar10", "--scale", "cpu", "--dry-run", "--on", "local", "--set", "precision=bf16"]
    assert command(*asked, "--json", "--results", tmp_path / "results") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["predicted_on"] == [device_here(1)]
    assert 1 < found["predicted_core_hours"] <= 24
    threads = threads_of(device_here(1)) or 0
    assert found["predicted_core_hours"] == pytest.approx(threads * found["predicted_gpu_hours"])
    # One seed chooses, three compare, others judge.
    counts = {one["stage"]: one["count"] for one in found["stages"]}
    assert (counts["grid_bs_epoch"], counts["final"]) == (9, 3)

    assert command(*asked, "--results", tmp_path / "results") == 0
    told = capsys.readouterr()
    assert "core-hours" in told.out.splitlines()[1]
    assert f"at most about {found['predicted_core_hours']:.3g} core-hours on " in told.err


@pytest.mark.long
def test_stop_after_ends_a_sitting_and_the_same_command_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its hours are over before a worker has started."""
    definition(tmp_path)
    assert command(*words(tmp_path, "--stop-after", "1e-6")) == 130
    told = capsys.readouterr()
    assert "left: 5 trials of 3 stages (sizes, decay, last), " in told.err
    assert "go on: " in told.err.splitlines()[-1]
    assert not told.out
    assert runs(tmp_path) == {}
    assert command(*words(tmp_path, "--stop-after", "10", "--until", "sizes")) == 0
    assert len(runs(tmp_path)) == 2


def test_stop_after_is_of_this_machine() -> None:
    request = LaunchRequest(BackendName.SLURM, Site(), Resources())
    with pytest.raises(InputError, match="--stop-after counts the hours of this machine") as error:
        TimeBudget.of(1.0, request)
    assert "--until STAGE" in error.value.help
    # Four workers share the cores that one would have.
    here = replace(request, backend=BackendName.LOCAL)
    assert TimeBudget.of(1.0, replace(here, workers=4)).devices >= TimeBudget.of(1.0, here).devices
