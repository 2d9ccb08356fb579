"""Definitions, their expansion, scales."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_machine.errors import InputError
from sweeps.spec import find as definitions
from sweeps.spec.expand import expand
from sweeps.spec.find import find
from sweeps.spec.grid import grid
from sweeps.spec.scale import Scale
from sweeps.spec.sweep import Sweep, Trial
from sweeps.state.trial_store import TrialStore
from trainer.config import TrainConfig
from trainer.optim.schedule import lr_at
from trainer.recipes import reported
from trial_records import trial_files
from trial_records.names import is_name


@pytest.mark.parametrize("name", definitions.names())
@pytest.mark.parametrize("scale", Scale)
def test_every_definition_expands(name: str, scale: Scale) -> None:
    found, sweep = find(name)
    trials = expand(sweep, scale=scale, seeds=2)
    assert found == name
    assert len(trials) == 2 * len(sweep.space)
    assert len({trial.config.fingerprint for trial in trials}) == len(trials)
    assert len({trial.name for trial in trials}) == len(trials)
    for trial in trials:
        assert is_name(trial.name)
        assert trial.name.endswith(trial.config.fingerprint[:8])


def test_the_study_has_its_sweeps() -> None:
    assert {
        "grid_bs_epoch",
        "architectures",
        "weight_decay",
        "mixup",
        "cutout",
        "schedules",
        "wrn_final",
    } <= set(definitions.names())


def test_no_two_definitions_have_one_name() -> None:
    files = [path.stem for path in definitions.DEFINITIONS.rglob("[!_]*.py")]
    assert len(files) == len(set(files))
    assert set(files) == {*definitions.names(), *definitions.names("search")}


def test_the_grid_is_the_reported_one() -> None:
    trials = expand(find("grid_bs_epoch")[1])
    assert [(t.config.batch_size, t.config.epochs) for t in trials] == [
        (batch, epochs) for batch in (64, 128, 256) for epochs in (25, 50, 100)
    ]
    for trial in trials:
        point = {"batch_size": trial.config.batch_size, "epochs": trial.config.epochs}
        assert trial.config == reported("dla34").override(point)


def test_presets_follow_the_architecture() -> None:
    by_name = {t.config.model.name: t.config for t in expand(find("architectures")[1])}
    assert list(by_name) == ["resnet18", "resnet34", "resnet50", "wrn_28_10", "dla34", "vit"]
    wrn = by_name.pop("wrn_28_10")
    assert (wrn.optimizer.weight_decay, wrn.augment.cutout, wrn.model.dropout) == (5e-4, 16, 0.3)
    for config in by_name.values():
        assert (config.optimizer.weight_decay, config.augment.cutout) == (1e-3, 12)
        assert config.model.dropout == 0


@given(
    st.lists(st.integers(2, 512), min_size=1, max_size=4, unique=True),
    st.lists(st.integers(1, 300), min_size=1, max_size=4, unique=True),
    st.integers(1, 3),
    st.sampled_from(Scale),
)
@settings(max_examples=60)
def test_expansion_laws(batches: list[int], epochs: list[int], seeds: int, scale: Scale) -> None:
    sweep = Sweep(base=reported("dla34"), space=grid({"batch_size": batches, "epochs": epochs}))
    trials = expand(sweep, scale=scale, seeds=seeds)
    assert len(trials) == len(batches) * len(epochs) * seeds
    assert len({trial.config.fingerprint for trial in trials}) == len(trials)
    assert trials == expand(sweep, scale=scale, seeds=seeds)
    for trial in trials:
        assert trial.config.batch_size == trial.point["batch_size"]
        if scale is Scale.FULL:
            assert trial.config.epochs == trial.point["epochs"]
    # More epochs stay more epochs at any scale.
    order = {trial.point["epochs"]: trial.config.epochs for trial in trials}
    ranked = [order[count] for count in sorted(order)]
    assert ranked == sorted(set(ranked))


def test_overrides_win_over_point_and_scale() -> None:
    sweep = Sweep(base=reported("resnet18"))
    (trial,) = expand(sweep, scale=Scale.SMOKE, overrides={"model.width": "0.5", "epochs": "3"})
    assert (trial.config.model.width, trial.config.epochs) == (0.5, 3)


def test_seeds_count_up_from_the_configurations_own() -> None:
    sweep = Sweep(base=reported().override({"seed": 7}), seeds=2)
    assert [trial.config.seed for trial in expand(sweep)] == [7, 8]
    assert [trial.config.seed for trial in expand(sweep, seeds=3)] == [7, 8, 9]


def test_smoke_keeps_a_smaller_limit() -> None:
    base = reported("resnet18").override({"data.train_limit": 500, "data.test_limit": 100})
    (trial,) = expand(Sweep(base=base), scale=Scale.SMOKE)
    assert (trial.config.data.train_limit, trial.config.data.test_limit) == (500, 100)


def test_fewer_epochs_at_smoke_scale_need_no_other_warm_up() -> None:
    _, sweep = find("vit_recipe")
    for trial in expand(sweep, scale=Scale.SMOKE, overrides={"epochs": "3"}):
        assert trial.config.epochs == 3


def test_warm_up_shrinks_with_the_epochs() -> None:
    base = reported().override({"schedule.warmup_epochs": 10, "epochs": 11})
    (trial,) = expand(Sweep(base=base), scale=Scale.SMOKE)
    assert trial.config.schedule.warmup_epochs < trial.config.epochs


def test_cpu_scale_has_all_images_and_lets_early_stopping_and_the_schedules_act() -> None:
    (smoke,) = expand(Sweep(base=reported()), scale=Scale.SMOKE)
    assert smoke.config.early_stopping == reported().early_stopping
    for name in ("grid_bs_epoch", "architectures", "early_stopping", "schedules"):
        for trial in expand(find(name)[1], scale=Scale.CPU):
            config = trial.config
            assert (config.data.train_limit, config.data.test_limit) == (None, None)
            assert config.early_stopping.patience < config.epochs
            assert bool(config.early_stopping.patience) == (
                trial.point.get("early_stopping.patience") != 0
            )
            if config.schedule.name in ("step", "multi_step"):
                rates = [lr_at(config, epoch) for epoch in range(config.epochs)]
                cuts = sum(later < rate for rate, later in pairwise(rates))
                assert cuts >= 2
    # The widest network is narrowed most.
    widths = {
        trial.config.model.name: trial.config.model.width
        for trial in expand(find("architectures")[1], scale=Scale.CPU)
    }
    assert widths.pop("wrn_28_10") < min(widths.values())


def test_cpu_scale_keeps_a_smaller_limit_and_a_patience_that_can_act() -> None:
    base = reported().override({"data.train_limit": 500, "epochs": 1, "seed": 3})
    (trial,) = expand(Sweep(base=base), scale=Scale.CPU)
    assert trial.config.data.train_limit == 500
    short = expand(Sweep(base=base.override({"epochs": 4, "early_stopping.patience": 99})),
                   scale=Scale.CPU)  # fmt: skip
    assert 0 < short[0].config.early_stopping.patience < short[0].config.epochs


BAD = {
    "raises": ("sweep = 1 / 0", r":1: ZeroDivisionError"),
    "syntax": ("def f(:", r":1: SyntaxError"),
    "nothing": ("x = 1", "no `sweep`"),
    "other": ("sweep = 5", "a `sweep` that is a int"),
    "exits": ("sweep = 5\nraise SystemExit(3)", "SystemExit"),
    "empty": (
        "from sweeps import grid\nsweep = grid({'epochs': []})",
        r":2: an empty grid: axis 'epochs'",
    ),
    "base": ("from sweeps import Sweep\nsweep = Sweep(base={})", "base is a dict"),
    "seeds": (
        "from sweeps import Sweep\nfrom trainer.recipes import reported\n"
        "sweep = Sweep(base=reported(), seeds='3')",
        "seeds is '3'",
    ),
    "space": (
        "from sweeps import Sweep\nfrom trainer.recipes import reported\n"
        "sweep = Sweep(base=reported(), space=5)",
        "space is 5",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_definition_is_an_input_error(tmp_path: Path, name: str) -> None:
    source, message = BAD[name]
    path = tmp_path / f"{name}.py"
    path.write_text(source)
    with pytest.raises(InputError, match=message):
        find(str(path))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (({"epoch": 3},), "at epoch=3: unknown field 'epoch'"),
        (({"epochs": "x"},), "at epochs=x: epochs=x"),
        (({"epochs": 3}, {"epochs": 3}), "the same trial twice"),
        ((), "an empty grid"),
    ],
)
def test_a_bad_space_is_an_input_error(space: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        expand(Sweep(base=reported(), space=space))


def test_a_base_that_fails_names_the_point() -> None:
    def base(point: Any) -> TrainConfig:
        return reported(point["model"])

    with pytest.raises(InputError, match="at epochs=3: base fails with KeyError"):
        expand(Sweep(base=base, space=grid({"epochs": [3]})))


def test_setting_a_swept_axis_says_so() -> None:
    with pytest.raises(InputError, match="--set epochs=5: the sweep varies epochs"):
        expand(find("grid_bs_epoch")[1], overrides={"epochs": "5"})


def test_an_offset_counts_from_whatever_seed_is_given() -> None:
    sweep = Sweep(base=reported(), seeds=2, seed_offset=1000)
    assert [trial.config.seed for trial in expand(sweep)] == [1042, 1043]
    assert [trial.config.seed for trial in expand(sweep, seeds=3)] == [1042, 1043, 1044]
    (trial,) = expand(sweep, seeds=1, overrides={"seed": "7"})
    assert trial.config.seed == 1007
    (plain,) = expand(Sweep(base=reported()), overrides={"seed": "1007"})
    assert trial == plain
    with pytest.raises(InputError, match="seed_offset is -1"):
        Sweep(base=reported(), seed_offset=-1)


def test_a_seed_and_seeds_exclude_each_other() -> None:
    with pytest.raises(InputError, match="same trial 3 times"):
        expand(Sweep(base=reported()), overrides={"seed": "5"}, seeds=3)


@pytest.mark.parametrize("name", ["grid_bs_epohc", "grid-bs-epoch", "wieght_decay"])
def test_a_misspelt_name_is_answered_with_the_near_one(name: str) -> None:
    with pytest.raises(InputError) as caught:
        find(name)
    assert caught.value.exit_code == 2
    assert "did you mean" in caught.value.help


@pytest.mark.parametrize("name", ["../etc", "a/b", "", "-x", "a b", "$(x)"])
def test_a_name_cannot_leave_the_folder(name: str) -> None:
    with pytest.raises(InputError):
        find(name)


def test_a_trial_keeps_its_folder_when_the_definition_gains_an_axis(tmp_path: Path) -> None:
    (trial,) = expand(Sweep(base=reported()))
    folder = tmp_path / "sweep" / trial.name
    folder.mkdir(parents=True)
    (folder / trial_files.CONFIG).write_text(trial.config.to_json())
    longer = Trial.of(f"dropout0-{trial.name}", trial.point, trial.config)
    other = Trial.of("other-00000000", trial.point, trial.config.override({"seed": 1}))
    assert TrialStore(tmp_path, "sweep").settle_names([longer, other]) == [trial, other]
