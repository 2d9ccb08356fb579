"""Studies: the rule of choice, and a tiny study on digits, whole, killed, cut, and changed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sweeps.study.__main__
from analysis.cifar10.task import load
from analysis.data.study import Study
from analysis.sections.choices import choices as chosen_section
from local_machine.devices import device_here
from local_machine.errors import InputError, run_command
from local_machine.json_files import write_json
from slurm.site import Resources, Site
from sweeps.cli.options import ScaleName, Seeds
from sweeps.execution.request import LaunchRequest
from sweeps.spec import catalogue
from sweeps.spec.backend_name import BackendName
from sweeps.spec.expand import expand, trial_at
from sweeps.spec.scale import Scale
from sweeps.spec.sweep import Search, Sweep
from sweeps.state.progress import Progress
from sweeps.state.trial_store import Standing, State
from sweeps.study import stages as study_stages
from sweeps.study.runner import StudyRunner
from sweeps.study.selection import Candidate, choose
from sweeps.study.stages import SoFar
from trainer.config import TrainConfig
from trainer.perf import device_peaks
from trainer.perf.device_peaks import DevicePeaks
from trainer.recipes import reported
from trial_records import tables as trial_tables
from trial_records import trial_files

# In one process, for its one study is what takes time.
pytestmark = pytest.mark.usefixtures("forked")

ROOT = Path(__file__).parent.parent
TEST_COLUMNS = ("test_accuracy", "test_loss", "top_1", "top_3", "top_5")
TINY = """
from sweeps import Search, Stage, Study, Sweep, grid, log_uniform
from trainer.recipes import reported

base = reported("resnet18").override({
    "data.name": "digits", "data.train_limit": 200, "data.test_limit": 100, "model.width": 0.125,
    "epochs": 1, "batch_size": 64, "precision": "fp32",
})

def sizes(so_far):
    return Sweep(base=base, space=grid({"batch_size": SIZES}))

def decay(so_far):
    return Search(
        base=base.override(so_far["sizes"]), trials=2, pruner="none",
        space={"optimizer.weight_decay": log_uniform(1e-5, 1e-2)},
        start=[{"optimizer.weight_decay": 1e-3}],
    )

def last(so_far):
    return Sweep(base=base.override({**so_far["sizes"], **so_far["decay"]}),
                 space=grid({"augment.cutout": CUTOUT}))

study = Study(
    Stage("sizes", sizes, reported={"batch_size": 64}),
    Stage("decay", decay, reported={"optimizer.weight_decay": 1e-3}),
    Stage("last", last),
)
"""


def definition(folder: Path, sizes: str = "[32, 64]", cutout: str = "[0]") -> Path:
    path = folder / "tiny.py"
    path.write_text(TINY.replace("SIZES", sizes).replace("CUTOUT", cutout))
    return path


def words(folder: Path, *more: object) -> list[str]:
    return [
        str(folder / "tiny.py"), "--results", str(folder / "results"), "--on", "local",
        *map(str, more),
    ]  # fmt: skip


def command(*given: object) -> int:
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as end:
            run_command(sweeps.study.__main__.app, [str(word) for word in given])
    finally:
        signal.signal(signal.SIGTERM, before)
    return int(end.value.code or 0)


def choices(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "results" / "tiny" / "choices.json").read_text()))


def runs(folder: Path) -> dict[str, bytes]:
    """The run.parquet of every trial."""
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob(trial_files.RUN)
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    definition(folder)
    assert command(*words(folder)) == 0
    return folder


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    return tmp_path


# --- the rule ---------------------------------------------------------------------------------


def candidate(size: int, accuracies: tuple[float, ...], cost: float) -> Candidate:
    return Candidate({"batch_size": size}, (), accuracies, 500, cost)


@st.composite
def some(draw: st.DrawFn) -> list[Candidate]:
    sizes = draw(st.lists(st.integers(2, 99), min_size=1, max_size=8, unique=True))
    accuracies = st.lists(st.floats(0, 1), min_size=1, max_size=4)
    # Few costs, so that ties are frequent.
    return [
        candidate(size, tuple(draw(accuracies)), draw(st.sampled_from((1.0, 2.0, 3.0))))
        for size in sizes
    ]


@given(some(), st.randoms())
def test_the_rule(candidates: list[Candidate], shuffler: random.Random) -> None:
    def level(accuracy: float) -> float:
        return round(accuracy, 12)

    choice = choose(candidates)
    assert level(choice.best.mean) == max(level(one.mean) for one in candidates)
    bar = level(choice.best.mean - choice.best.standard_error[0])
    assert level(choice.chosen.mean) >= bar
    for other in candidates:
        assert (other in choice.near) == (level(other.mean) >= bar)
        if other in choice.near:
            key = (choice.chosen.cost, -level(choice.chosen.mean), choice.chosen.name)
            assert key <= (other.cost, -level(other.mean), other.name)
    shuffled = list(candidates)
    shuffler.shuffle(shuffled)
    assert choose(shuffled).chosen == choice.chosen


def test_equal_counts_are_equal_whatever_the_last_bit_says() -> None:
    """Of both 858 of 1,500 images are right, so that the name decides."""
    first, second = (
        candidate(128, (0.442, 0.612, 0.662), 1),
        candidate(64, (0.518, 0.536, 0.662), 1),
    )
    assert first.mean < second.mean
    assert choose([first, second]).chosen is choose([second, first]).chosen is first


def test_the_cheaper_wins_within_one_error_and_not_beyond() -> None:
    # 500 images at 0.9: 0.0134.
    dear, near, far = (candidate(1, (0.900,), 9), candidate(2, (0.890,), 3),
                       candidate(3, (0.880,), 1))  # fmt: skip
    assert choose([dear, near, far]).chosen is near
    assert choose([dear, far]).chosen is dear
    assert dear.standard_error[1] == "validation images"
    assert candidate(1, (0.5, 0.9), 1).standard_error == (pytest.approx(0.2), "seeds")


# --- a whole study ----------------------------------------------------------------------------


@pytest.mark.long
def test_choices_say_what_was_chosen_from_what(whole: Path) -> None:
    found = choices(whole)
    assert found["schema_version"] == 1
    assert (found["study"], found["scale"], found["overrides"]) == ("tiny", "full", {})
    assert "validation" in found["rule"]
    sizes, decay = found["stages"]
    assert (sizes["stage"], sizes["kind"], decay["kind"]) == ("sizes", "sweep", "search")
    assert len(sizes["candidates"]) == len(decay["candidates"]) == 2
    assert sizes["chosen"] in [one["point"] for one in sizes["candidates"]]
    for entry in (sizes, decay):
        for one in entry["candidates"]:
            (name,) = one["trials"]
            folder = whole / "results" / entry["stage"] / name
            run = pq.read_table(folder / trial_files.RUN).to_pylist()[0]
            assert one["val_accuracies"] == [run["val_accuracy"]]
            # One epoch of the images.
            assert one["cost"] == run["train_images"] * (run["flops_per_image"] or 1)


def test_later_stages_take_what_was_chosen(whole: Path) -> None:
    sizes, decay = choices(whole)["stages"]
    (last,) = (whole / "results" / "last").glob(f"*/{trial_files.RUN}")
    config = TrainConfig.from_file(last.parent / trial_files.CONFIG)
    assert config.batch_size == sizes["chosen"]["batch_size"]
    assert config.optimizer.weight_decay == decay["chosen"]["optimizer.weight_decay"]


def test_the_report_has_every_stage(whole: Path) -> None:
    report = (whole / "results" / "tiny" / "report" / "report.md").read_text()
    for name in ("sizes", "decay", "last"):
        assert name in report
    assert "## What was chosen" in report


@pytest.mark.long
def test_a_report_shows_the_choices_that_the_records_bear_out(copied: Path) -> None:
    path = copied / "results" / "tiny" / "choices.json"
    found = choices(copied)

    def shown() -> tuple[Study, list[str]]:
        study = load(copied / "results", [])
        tables = [table for part in chosen_section(study).parts for table in part.tables]
        return study, [stage for table in tables for stage in table.frame["stage"]]

    study, stages = shown()
    assert stages == ["sizes", "decay"]
    assert not study.problems
    (part,) = chosen_section(study).parts
    assert part.notes[0] == f"The rule: {found['rule']}."
    assert ["sizes" in part.notes[1], "decay" in part.notes[2], len(part.notes)] == [True, True, 3]
    assert all("with 1 seed a point it is not known" in note for note in part.notes[1:])
    first = part.tables[0].frame.iloc[0]
    assert first["chosen"] == f"batch_size {found['stages'][0]['chosen']['batch_size']}"
    assert first["validation"] == found["stages"][0]["mean_val_accuracy"]

    found["stages"][0]["candidates"][0]["val_accuracies"] = [0.1234]
    path.write_text(json.dumps(found))
    study, stages = shown()
    assert stages == []
    assert "it was changed since it was written" in study.problems[0].what

    del found["sha256"]
    path.write_text(json.dumps(found))
    study, stages = shown()
    assert stages == ["decay"]
    assert "sizes was chosen with " in study.problems[0].what
    assert "12.34 %, which its records do not say" in study.problems[0].what

    found["stages"][1]["kind"] = "dice"
    path.write_text(json.dumps(found))
    study, stages = shown()
    assert stages == []
    assert f"{path} does not say what was chosen: stages.1.kind" in study.problems[0].what
    path.write_text("{")
    assert f"{path} is damaged" in shown()[0].problems[0].what


def test_choices_read_nothing_of_the_test_images(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor do they follow from it: they are the same where it is poisoned, or is not there."""
    before = choices(copied)
    for number, path in enumerate(sorted((copied / "results").rglob(trial_files.RUN))):
        # Without the digests, which cover these columns too.
        table = pq.read_table(path).drop_columns([trial_tables.OF_ROW])
        table = table.replace_schema_metadata({b"schema_version": b"1"})
        for column in TEST_COLUMNS:
            place = table.column_names.index(column)
            table = table.remove_column(place)
            if number % 2:
                field = pq.read_schema(path).field(column)
                table = table.add_column(place, field, [[1.0 - number / 100]])
        pq.write_table(table, path)
        (path.parent / trial_files.PREDICTIONS).unlink()
    asked: list[set[str]] = []
    original = trial_tables.read_run

    def watched(folder: Path, fingerprint: str, columns: Any = None) -> dict[str, Any]:
        if columns is not None:
            asked.append(set(columns))
        return original(folder, fingerprint, columns)

    monkeypatch.setattr(trial_tables, "read_run", watched)
    (copied / "results" / "tiny" / "choices.json").unlink()
    assert command(*words(copied, "--until", "decay")) == 0
    assert choices(copied) == before
    assert len(asked) == 4
    assert all(one.isdisjoint({*TEST_COLUMNS, "test_images"}) for one in asked)


@pytest.mark.long
def test_again_runs_nothing_and_chooses_the_same(copied: Path) -> None:
    before, trials = choices(copied), runs(copied)
    assert command(*words(copied, "--until", "last")) == 0
    assert (choices(copied), runs(copied)) == (before, trials)


@pytest.mark.long
def test_a_changed_definition_runs_only_what_it_changes(copied: Path) -> None:
    before = runs(copied)
    definition(copied, cutout="[0, 8]")
    assert command(*words(copied)) == 0
    after = runs(copied)
    assert before.items() <= after.items()
    (new,) = after.keys() - before.keys()
    assert "results/last/cutout8" in new


def test_another_choice_before_it_is_another_search(copied: Path) -> None:
    """Where `sweeps.search` would ask a person what to do with the old journal."""
    chosen = choices(copied)["stages"][0]["chosen"]["batch_size"]
    definition(copied, sizes=str([96 - chosen]))
    before = runs(copied)
    assert command(*words(copied, "--until", "decay")) == 0
    assert choices(copied)["stages"][0]["chosen"] == {"batch_size": 96 - chosen}
    new = runs(copied).keys() - before.keys()
    assert len(new) == 2
    assert all("results/decay/" in one for one in new)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_killed_and_restarted_it_chooses_the_same(whole: Path, tmp_path: Path) -> None:
    definition(tmp_path)
    given = [sys.executable, "-m", "sweeps.study", *words(tmp_path, "--until", "last")]
    for trials in (1, 3):
        with subprocess.Popen(given, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + 90
            while len(runs(tmp_path)) < trials:
                assert time.monotonic() < deadline, "waited too long"
                assert process.poll() is None
                time.sleep(0.02)
            os.kill(process.pid, signal.SIGKILL)
    assert subprocess.run(given, cwd=ROOT, check=False).returncode == 0
    assert choices(tmp_path)["stages"] == choices(whole)["stages"]
    assert runs(tmp_path).keys() == runs(whole).keys()


# --- parts of it ------------------------------------------------------------------------------


@pytest.mark.long
def test_from_takes_the_choices_that_were_made(copied: Path) -> None:
    """By hand another one is written down, and counts."""
    found = choices(copied)
    found["stages"][1]["chosen"] = {"optimizer.weight_decay": 5e-3}
    del found["sha256"]
    write_json(copied / "results" / "tiny" / "choices.json", found)
    before = runs(copied)
    assert command(*words(copied, "--from", "last", "--until", "last")) == 0
    (new,) = runs(copied).keys() - before.keys()
    config = TrainConfig.from_file((copied / new).parent / trial_files.CONFIG)
    assert config.optimizer.weight_decay == 5e-3


def test_from_without_choices_or_with_others_is_refused(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*words(copied, "--from", "decay", "--set", "seed=7")) == 2
    assert "chosen from other trials" in capsys.readouterr().err
    path = copied / "results" / "tiny" / "choices.json"
    path.write_text("{}")
    assert command(*words(copied, "--from", "decay")) == 2
    assert "does not say" in capsys.readouterr().err
    path.unlink()
    assert command(*words(copied, "--from", "decay")) == 2
    assert "there is no" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--from", "lst"], "did you mean 'last'"),
        (["--from", "last", "--until", "sizes"], "comes after"),
        (["--json"], "--json without --dry-run"),
        (["--set", "batch_size=8"], "stage sizes: --set batch_size=8: the sweep varies"),
        (["--set", "augment.cutout=8"], "stage last: --set augment.cutout=8"),
        (["--on", "debug"], "--on local --workers 1"),
    ],
)
def test_errors_come_before_the_first_trial(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], said: str
) -> None:
    definition(tmp_path)
    assert command(*words(tmp_path, *given)) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_a_dry_run_touches_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEPS_CACHE", str(tmp_path / "cache"))
    device_peaks.store(DevicePeaks(device_here(1), 1e11, 5e10, 1e9, 1e-5))
    definition(tmp_path)
    assert command(*words(tmp_path, "--dry-run", "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema_version"] == 1
    assert [one["count"] for one in found["stages"]] == [2, 2, 1]
    assert found["stages"][0]["assumed"] == {"batch_size": 64}
    assert found["predicted_gpu_hours"] > 0
    assert not (tmp_path / "results").exists()


@pytest.mark.long
def test_a_dry_run_prices_equal_trials_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of cifar10 as reported, where WRN-28-10 is assumed to be chosen."""
    assert command("cifar10", "--dry-run", "--json", "--results", tmp_path / "results") == 0
    stages = {one["stage"]: one for one in json.loads(capsys.readouterr().out)["stages"]}
    assert stages["final"]["shared"] == 0
    assert stages["wrn_final"]["shared"] == stages["wrn_final"]["count"] == 5
    assert stages["wrn_final"]["predicted_gpu_hours"] == 0
    # The reported cell of the grid, with an ablation's switch as reported.
    assert stages["mixup"]["shared"] == 3


def test_a_dry_run_knows_what_was_chosen(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*words(whole, "--dry-run", "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["stages"][1]["chosen"] == choices(whole)["stages"][1]["chosen"]
    assert [one["done"] for one in found["stages"]] == [2, 2, 1]
    assert found["predicted_gpu_hours"] == 0


# --- trials that fail -------------------------------------------------------------------------


def failed(progress: list[Progress], cause: str) -> list[Progress]:
    """The first trial as one that failed, the others as they are."""
    failure = trial_files.Failure(cause, f"{cause}: something", "", [], 1, 0.0, "here")
    standing = Standing(progress[0].trial, State.FAILED, failure=failure)
    return [Progress(standing), *progress[1:]]


def runner_of(folder: Path) -> StudyRunner:
    name, study = study_stages.find_study(str(folder / "tiny.py"))
    request = LaunchRequest(BackendName.LOCAL, Site(), Resources())
    return StudyRunner(name, study, folder / "results", ScaleName.FULL, [], None, request, {})


def test_a_diverged_point_is_out_and_told(whole: Path) -> None:
    a_study = runner_of(whole)
    run = a_study.run_of(a_study.study.stages[0], {})
    progress = failed(run.progress(), "NONFINITE")
    said = a_study.choose(run, progress)
    assert a_study.chosen["sizes"] == progress[1].trial.point
    assert f"out: {progress[0].trial.name}, NONFINITE: " in said
    (out,) = a_study.entries["sizes"]["left_out"]
    assert out["trial"] == progress[0].trial.name
    with pytest.raises(InputError, match="no point has a value of val_accuracy") as error:
        a_study.choose(run, progress[:1])
    assert error.value.exit_code == 1


def test_after_another_failure_nothing_is_chosen(whole: Path) -> None:
    a_study = runner_of(whole)
    run = a_study.run_of(a_study.study.stages[0], {})
    with pytest.raises(InputError, match="stage sizes: no choice with 1 of 2 trials") as error:
        a_study.choose(run, failed(run.progress(), "OUT_OF_MEMORY"))
    assert "OUT_OF_MEMORY: something" in error.value.what
    assert "python -m sweeps.status sizes --failures" in error.value.help
    assert (error.value.exit_code, a_study.chosen) == (1, {})


def test_a_search_chooses_among_the_others(whole: Path) -> None:
    a_study = runner_of(whole)
    a_study.choose(first := a_study.run_of(a_study.study.stages[0], {}), first.progress())
    run = a_study.run_of(a_study.study.stages[1], a_study.chosen)
    progress = failed(run.progress(), "OUT_OF_MEMORY")
    a_study.choose(run, progress)
    assert a_study.chosen["decay"] == progress[1].trial.point


# --- definitions ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", catalogue.names("study"))
@pytest.mark.parametrize("scale", list(Scale))
def test_every_stage_of_every_study_can_be_made(name: str, scale: Scale) -> None:
    _, study = study_stages.find_study(name)
    chosen: dict[str, Any] = {}
    for one in study.stages:
        one.made(SoFar(scale, chosen))
        if one.reported:
            chosen[one.name] = one.reported


@pytest.mark.parametrize("scale", list(Scale))
@pytest.mark.parametrize(("seeds", "settings"), [(None, {}), (20, {}), (1, {"seed": "7"})])
def test_the_final_seeds_of_cifar10_chose_nothing(
    scale: Scale, seeds: int | None, settings: dict[str, str]
) -> None:
    _, study = study_stages.find_study("cifar10")
    so_far = SoFar(scale, {one.name: one.reported for one in study.stages})
    judged, before = {"final", "wrn_final"}, study.stages[: study.index("final")]

    def trained(one: study_stages.Stage) -> list[TrainConfig]:
        made = one.made(so_far)
        if isinstance(made, Search):
            return [trial_at(made, made.start[0], scale, settings).config]
        point = replace(made, space=made.space[:1])
        trials = expand(point, scale=scale, overrides=settings, seeds=seeds)
        return [trial.config for trial in trials]

    final = [config for one in study.stages if one.name in judged for config in trained(one)]
    assert len(final) == (2 * seeds if seeds else so_far.at(full=10, cpu=4, smoke=6))
    chose = {config.seed for one in before for config in trained(one)}
    assert chose.isdisjoint(config.seed for config in final)
    (most,) = (option.max for option in get_args(Seeds)[1:])
    assert max(chose) - min(chose) < most <= min(config.seed for config in final) - min(chose)


def test_wrn_is_trained_whatever_was_chosen_and_once_where_it_was() -> None:
    """By fingerprint; at full scale, the recipe that the reported diagnostics are of."""
    _, study = study_stages.find_study("cifar10")
    chosen: dict[str, Any] = {one.name: one.reported for one in study.stages}

    def trials(name: str, model: str) -> list[TrainConfig]:
        so_far = SoFar(Scale.FULL, {**chosen, "architectures": {"model.name": model}})
        made = study.stages[study.index(name)].made(so_far)
        assert isinstance(made, Sweep)
        return [trial.config for trial in expand(made)]

    wrn = trials("wrn_final", "resnet34")
    assert wrn == trials("final", "wrn_28_10") == trials("wrn_final", "wrn_28_10")
    assert {one.model.name for one in trials("final", "resnet34")} == {"resnet34"}
    seed = {"seed": wrn[0].seed, "batch_size": 256}
    assert wrn[0] == reported("wrn_28_10").override(seed)


def test_a_study_that_cannot_be_is_an_input_error(tmp_path: Path) -> None:
    path = definition(tmp_path)
    text = path.read_text()
    with pytest.raises(InputError, match="no study is called 'cifar1'") as error:
        study_stages.find_study("cifar1")
    assert "'cifar10'" in error.value.help
    for old, new, what in (
        ('Stage("last", last)', 'Stage("sizes", last)', "two stages"),
        ('Stage("last", last)', 'Stage("tiny", last)', "the study's name"),
        ('Stage("last", last)', 'Stage("a/b", last)', "not a valid name for a stage"),
    ):
        path.write_text(text.replace(old, new))
        with pytest.raises(InputError, match=what):
            study_stages.find_study(str(path))
    path.write_text(text.replace('so_far["sizes"]', 'so_far["size"]'))
    _, study = study_stages.find_study(str(path))
    with pytest.raises(InputError, match="stage decay: no stage before it"):
        study.stages[1].made(SoFar(Scale.FULL, {"sizes": {"batch_size": 32}}))
    bad = study_stages.Stage("sizes", study.stages[0].make, reported={"epochs": 1})
    with pytest.raises(InputError, match="cannot choose epochs"):
        bad.made(SoFar(Scale.FULL, {}))
