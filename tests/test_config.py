"""TrainConfig: its JSON, its identity, overriding it, and what bad input answers."""

from __future__ import annotations

import functools
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from local_machine.errors import EXIT_USAGE, InputError
from trainer.config import SCHEMA_VERSION, OptimizerConfig, TrainConfig, describe, field_types
from trainer.recipes import ARCHITECTURES, reported, strong, vit_strong, vit_trained
from trial_records.config import ADDED, flat_of

BASE = TrainConfig()
FIELDS = [name for name in field_types() if name != "schema_version"]

# Changing a default, a field or the canonical form gives every trial a new identity: finished
# trials would run again. Change this literal only where that is meant.
DLA34 = "815efe8d4d53eb9d1f7d3d2a5cccf9ed40dda67f0fb2ca521feebca9982ef9b0"

# One other value for each field, and what else must be set for it to be valid.
OTHER: dict[str, Any] = {
    "seed": 43,
    "epochs": 99,
    "batch_size": 128,
    "label_smoothing": 0.0,
    "loss": "torch.nn.functional:cross_entropy",
    "metrics": ["torch:numel"],
    "hard_fraction": 0.5,
    "precision": "fp32",
    "compile": "off",
    "deterministic": True,
    "data.name": "digits",
    "data.root": "/data/cifar10",
    "data.size": 64,
    "data.image_column": "picture",
    "data.label_column": "kind",
    "data.val_fraction": 0.2,
    "data.split_seed": 43,
    "data.train_limit": 1000,
    "data.test_limit": 1000,
    "augment.crop_padding": 0,
    "augment.flip": 0.0,
    "augment.cutout": 16,
    "augment.mixup": 0.2,
    "augment.cutmix": 1.0,
    "augment.trivial_augment": True,
    "augment.first_size": 16,
    "model.name": "resnet34",
    "model.stem": "imagenet",
    "model.width": 0.5,
    "model.dropout": 0.3,
    "model.patch": 8,
    "optimizer.name": "adamw",
    "optimizer.lr": 0.05,
    "optimizer.momentum": 0.8,
    "optimizer.nesterov": True,
    "optimizer.weight_decay": 5e-4,
    "optimizer.decay_norms_and_biases": False,
    "optimizer.ema_decay": 0.999,
    "schedule.name": "step",
    "schedule.every": "step",
    "schedule.warmup_epochs": 5,
    "schedule.step_fraction": 0.5,
    "schedule.milestones": [0.5, 0.75],
    "schedule.gamma": 0.1,
    "early_stopping.patience": 0,
    "early_stopping.min_delta": 0.0,
}
BESIDE = {
    "model.dropout": {"model.name": "vit"},
    "data.size": {"data.root": "/data"},
    "data.image_column": {"data.root": "/data"},
    "data.label_column": {"data.root": "/data"},
}


def reals(low: float, high: float, **more: Any) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, **more)


def wholes(low: int, high: int = 2**63 - 1) -> st.SearchStrategy[int]:
    return st.integers(low, high)


below_one = reals(0.0, 1.0, exclude_max=True)
inside = reals(0.0, 1.0, exclude_min=True, exclude_max=True)
text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "seed": wholes(0),
    "epochs": wholes(10),
    "batch_size": wholes(2),
    "label_smoothing": below_one,
    "loss": st.sampled_from(["cross_entropy", "torch.nn.functional:cross_entropy"]),
    "metrics": st.sampled_from([[], ["torch:numel"], ["a.b:c", "/d/e.py:f"]]),
    "hard_fraction": reals(0.0, 1.0, exclude_min=True),
    "precision": st.sampled_from(["auto", "bf16", "fp32"]),
    "compile": st.sampled_from(["auto", "on", "off"]),
    "deterministic": st.booleans(),
    "data.name": st.sampled_from(["cifar10", "digits"]),
    # none and null are how a missing root is written in an override.
    "data.root": st.none() | text.filter(lambda word: word.lower() not in ("none", "null")),
    # For images of one's own alone.
    "data.size": st.none(),
    "data.image_column": st.none(),
    "data.label_column": st.none(),
    "data.val_fraction": inside,
    "data.split_seed": wholes(0),
    "data.train_limit": st.none() | wholes(100),
    "data.test_limit": st.none() | wholes(100),
    "augment.crop_padding": wholes(0, 16),
    "augment.flip": reals(0.0, 1.0) | st.just(-0.0),
    "augment.cutout": wholes(0, 32),
    "augment.mixup": reals(0.0, 1e6) | st.just(-0.0),
    "augment.cutmix": reals(0.0, 1e6) | st.just(-0.0),
    "augment.trivial_augment": st.booleans(),
    "augment.first_size": st.just(32),
    "model.name": st.sampled_from(["vit", "wrn_28_10", "wrn_40_2"]),
    "model.stem": st.just("cifar"),
    "model.width": reals(0.0, 4.0, exclude_min=True),
    "model.dropout": below_one,
    "model.patch": st.sampled_from([2, 4, 8, 16]),
    "optimizer.name": st.sampled_from(["sgd", "adamw", "muon"]),
    "optimizer.lr": reals(0.0, 1e300, exclude_min=True),
    "optimizer.momentum": below_one,
    "optimizer.nesterov": st.booleans(),
    "optimizer.weight_decay": reals(0.0, 1e300) | st.just(-0.0),
    "optimizer.decay_norms_and_biases": st.booleans(),
    "optimizer.ema_decay": below_one,
    "schedule.name": st.sampled_from(["cosine", "step", "multi_step", "constant"]),
    "schedule.every": st.sampled_from(["epoch", "step"]),
    "schedule.warmup_epochs": wholes(0, 9),
    "schedule.step_fraction": reals(0.0, 1.0, exclude_min=True),
    "schedule.milestones": st.lists(inside, max_size=4, unique=True).map(sorted),
    "schedule.gamma": inside,
    "early_stopping.patience": wholes(0),
    "early_stopping.min_delta": reals(0.0, 1.0),
}

changes = st.fixed_dictionaries(VALUES)
configs = changes.map(BASE.override)


def shuffled(value: Any, order: random.Random) -> Any:
    if not isinstance(value, dict):
        return value
    keys = list(value)
    order.shuffle(keys)
    return {key: shuffled(value[key], order) for key in keys}


def refused(act: Callable[[], object]) -> InputError:
    with pytest.raises(InputError) as caught:
        act()
    assert caught.value.exit_code == EXIT_USAGE
    return caught.value


def test_the_tables_of_this_file_have_every_field() -> None:
    assert list(OTHER) == FIELDS
    assert list(VALUES) == FIELDS


@given(configs)
def test_json_there_and_back(config: TrainConfig) -> None:
    again = TrainConfig.from_json(config.to_json())
    assert again == config
    assert again.to_json() == config.to_json()
    assert again.fingerprint == config.fingerprint


@given(configs, st.randoms(use_true_random=False))
def test_field_order_is_no_part_of_the_identity(config: TrainConfig, order: random.Random) -> None:
    mixed = json.dumps(shuffled(json.loads(config.to_json()), order))
    assert TrainConfig.from_json(mixed).fingerprint == config.fingerprint


@given(changes, changes, st.sets(st.sampled_from(FIELDS)))
def test_fingerprints_are_equal_where_configurations_are(
    first: dict[str, Any], second: dict[str, Any], taken: set[str]
) -> None:
    one = BASE.override(first)
    other = BASE.override(first | {name: second[name] for name in taken})
    assert (one.fingerprint == other.fingerprint) == (one == other)
    assert (one.flat() == other.flat()) == (one == other)


@given(changes)
def test_every_value_can_be_typed(values: dict[str, Any]) -> None:
    config = BASE.override(values)
    flat = config.flat()
    assert list(flat) == ["schema_version", *FIELDS]
    typed = {
        name: None if value is None else str(value)
        for name, value in flat.items()
        if name != "schema_version"
    }
    assert BASE.override(typed) == config


@pytest.mark.parametrize("name", FIELDS)
def test_a_changed_field_changes_the_fingerprint(name: str) -> None:
    before = BASE.override(BESIDE.get(name, {}))
    after = before.override({name: OTHER[name]})
    assert after != before
    assert after.fingerprint != before.fingerprint
    assert before.override({name: before.flat()[name]}).fingerprint == before.fingerprint


def test_golden_fingerprint() -> None:
    assert reported("dla34").fingerprint == DLA34


@pytest.mark.parametrize("name", ADDED)
def test_a_field_that_was_added_leaves_the_trials_before_it_what_they_were(name: str) -> None:
    as_stored = flat_of({name: ADDED[name]})[name]
    assert BASE.flat()[name] == as_stored  # a default that changes makes another trial
    text = json.loads(BASE.to_json())
    *path, leaf = name.split(".")
    section = text[path[0]] if path else text
    del section[leaf]
    assert TrainConfig.from_json(json.dumps(text)).fingerprint == BASE.fingerprint


def test_fingerprint_is_the_same_in_every_process() -> None:
    program = (
        "import sys; from trainer.recipes import reported, vit_trained\n"
        "print(reported('dla34').fingerprint, vit_trained().fingerprint)\n"
        "assert 'torch' not in sys.modules"
    )
    expected = f"{reported('dla34').fingerprint} {vit_trained().fingerprint}\n"
    for seed in ("0", "1", "4242"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
        )
        assert (done.stdout, done.stderr) == (expected, "")


def test_recipes_are_different_valid_trials() -> None:
    recipes = [recipe(name) for recipe in (reported, strong) for name in ARCHITECTURES]
    recipes.append(vit_trained())
    assert strong("vit") == vit_strong()
    assert len({config.fingerprint for config in recipes}) == len(recipes)
    for config in recipes:
        assert TrainConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize("zero", [-0.0, "-0.0", "-0", 0, 0.0, "0"])
def test_zero_has_one_fingerprint(zero: Any) -> None:
    config = BASE.override({"optimizer.weight_decay": zero})
    text = (
        BASE.override({"optimizer.weight_decay": 0.0})
        .to_json()
        .replace('"weight_decay": 0.0', f'"weight_decay": {zero}')
    )
    assert (
        config
        == TrainConfig.from_json(text)
        == TrainConfig(optimizer=OptimizerConfig(weight_decay=-0.0))
    )
    assert config.fingerprint == TrainConfig.from_json(text).fingerprint
    assert "-0" not in config.to_json()


def test_an_integer_is_the_real_that_it_equals() -> None:
    one = TrainConfig.from_json('{"optimizer": {"lr": 1}}')
    assert one.fingerprint == TrainConfig.from_json('{"optimizer": {"lr": 1.0}}').fingerprint
    assert one == TrainConfig(optimizer=OptimizerConfig(lr=1)) == BASE.override({"optimizer.lr": 1})
    assert type(one.optimizer.lr) is float


def test_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        BASE.seed = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        BASE.optimizer.lr = 1.0  # type: ignore[misc]
    before = BASE.fingerprint
    BASE.override({"optimizer.lr": 0.2})
    assert BASE.fingerprint == before


@pytest.mark.parametrize("name", ["schema_version", *FIELDS])
def test_every_field_has_a_sentence(name: str) -> None:
    assert describe(name).endswith(".")


@pytest.mark.parametrize(
    ("content", "what", "help"),
    [
        ('{"sede": 1}', "unknown field 'sede'", "'seed'"),
        ('{"optimizer": {"weight_decy": 1}}', "'optimizer.weight_decy'", "optimizer.weight_decay"),
        ('{"optimiser": {"lr": 0.1}}', "unknown field 'optimiser'", "optimizer."),
        ('{"weight_decay": 0.1}', "'weight_decay'", "'optimizer.weight_decay'"),
        ('{"seed": "1"}', "seed='1': input should be a valid integer", "seed: Seed of"),
        ('{"seed": 1.0}', "seed=1.0: input should be a valid integer", "seed: Seed of"),
        ('{"seed": true}', "seed=True: input should be a valid integer", "seed: Seed of"),
        ('{"seed": null}', "seed: input should be a valid integer", "seed: Seed of"),
        ('{"seed": -1}', "seed=-1: input should be greater than or equal to 0", "seed: "),
        ('{"seed": 9223372036854775808}', "should be less than 9223372036854775808", "seed: "),
        ('{"data": {"split_seed": 9223372036854775808}}', "should be less than", "split"),
        ('{"optimizer": {"lr": "0.1"}}', "optimizer.lr='0.1'", "optimizer.lr: Peak"),
        ('{"optimizer": {"lr": 0}}', "should be greater than 0", "optimizer.lr: Peak"),
        ('{"optimizer": {"lr": NaN}}', "should be a finite number", "optimizer.lr: Peak"),
        ('{"optimizer": {"lr": 1e999}}', "should be a finite number", "optimizer.lr: Peak"),
        ('{"optimizer": {"nesterov": 1}}', "should be a valid boolean", "Nesterov"),
        ('{"optimizer": {"name": "SGD"}}', "'sgd', 'adamw' or 'muon'", "optimizer.name: "),
        ('{"optimizer": 3}', "optimizer=3: input should be an object", "dotted"),
        ('{"model": {"patch": 3}}', "should be 2, 4, 8 or 16", "model.patch: "),
        ('{"model": {"name": "resnet19"}}', "unknown architecture 'resnet19'", "fields named"),
        ('{"model": {"name": "wrn_27_10"}}', "6n + 4", "fields named"),
        ('{"model": {"name": "wrn_1006_10"}}', "to 1000", "fields named"),
        ('{"model": {"name": "wrn_28_65"}}', "times as wide", "fields named"),
        ('{"model": {"name": "vit", "stem": "imagenet"}}', "stem=imagenet is for", "fields named"),
        ('{"model": {"dropout": 0.1}}', "resnet18 has no dropout", "fields named"),
        ('{"schedule": {"milestones": [0.5, 0.5]}}', "milestones must rise", "fields named"),
        ('{"schedule": {"milestones": [0.5, 2]}}', "milestones.1=2", "schedule.milestones: "),
        ('{"schedule": {"warmup_epochs": 100}}', "must be less than epochs=100", "fields named"),
        ('{"data": {"train_limit": 99}}', "data.train_limit=99", "data.train_limit: Keep"),
        ('{"schema_version": 2}', "schema_version=2: input should be 1", "Version"),
        ("[]", "input should be an object", "dotted"),
        ('{"augment": {"first_size": 20}}', "should be 16, 24 or 32", "augment.first_size: "),
        (
            '{"augment": {"first_size": 16}, "model": {"name": "vit"}}', "32 pixels",
            "fields named",
        ),
        ("", "is not JSON", "fix it"),
        ('{"seed": 1', "is not JSON", "fix it"),
        ("[" * 10_000, "is not JSON", "fix it"),
        (b"\xff\xfe\x00", "is not JSON", "fix it"),
        (b'{"data": {"root": "\xff"}}', "is not JSON", "fix it"),
    ],
)  # fmt: skip
def test_bad_files_are_refused(tmp_path: Path, content: str | bytes, what: str, help: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    error = refused(lambda: TrainConfig.from_file(path))
    assert what in error.what and str(path) in error.what
    assert help in error.help
    assert "\n" not in error.what + error.help


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.json", tmp_path, Path(sys.executable, "config.json")):
        error = refused(functools.partial(TrainConfig.from_file, path))
        assert f"cannot read {path}" in error.what


@pytest.mark.parametrize(
    ("name", "typed", "value"),
    [
        ("optimizer.weight_decay", "5e-4", 5e-4),
        ("optimizer.weight_decay", "1", 1.0),
        ("epochs", "20", 20),
        ("optimizer.nesterov", "true", True),
        ("optimizer.nesterov", "False", False),
        ("data.train_limit", "none", None),
        ("data.train_limit", "null", None),
        ("data.train_limit", "500", 500),
        ("data.root", "none", None),
        ("data.root", "/data/a,b", "/data/a,b"),
        ("schedule.milestones", "0.3,0.6", (0.3, 0.6)),
        ("schedule.milestones", "(0.3, 0.6,)", (0.3, 0.6)),
        ("schedule.milestones", "[0.5]", (0.5,)),
        ("schedule.milestones", "", ()),
        ("schedule.name", "step", "step"),
        ("model.patch", "8", 8),
    ],
)  # fmt: skip
def test_overrides_are_parsed_by_type(name: str, typed: str, value: Any) -> None:
    config = BASE.override({name: typed})
    found = config
    for part in name.split("."):
        found = getattr(found, part)
    assert found == value and type(found) is type(value)
    as_value = list(value) if isinstance(value, tuple) else value
    assert BASE.override({name: as_value}) == config


@pytest.mark.parametrize(
    ("change", "what", "help"),
    [
        ({"optimizer.weight_decy": "1"}, "'optimizer.weight_decy'", "'optimizer.weight_decay'"),
        ({"lr": "1"}, "unknown field 'lr'", "did you mean 'optimizer.lr'?"),
        ({"optimizer": "1"}, "optimizer is a section", "optimizer.lr"),
        ({"schema_version": 1}, "unknown field 'schema_version'", "schedule"),
        ({"epochs": "1e2"}, "epochs=1e2: input should be a valid integer", "epochs: Passes"),
        ({"epochs": "none"}, "epochs=none", "epochs: Passes"),
        ({"epochs": "0"}, "epochs=0: input should be greater", "epochs: Passes"),
        ({"epochs": 2.0}, "epochs=2.0", "epochs: Passes"),
        ({"optimizer.lr": "nan"}, "finite", "Peak"),
        ({"optimizer.lr": float("inf")}, "not JSON compliant", "dotted"),
        ({"optimizer.lr": "fast"}, "optimizer.lr=fast", "Peak"),
        ({"optimizer.lr": [1]}, "optimizer.lr", "Peak"),
        ({"optimizer.nesterov": "maybe"}, "optimizer.nesterov=maybe", "Nesterov"),
        ({"schedule.milestones": "0.3;0.6"}, "schedule.milestones=0.3;0.6", "multi_step"),
        ({"schedule.milestones": "0.6,0.3"}, "milestones must rise", "fields named"),
        ({"model.patch": "3"}, "model.patch=3: input should be 2, 4, 8 or 16", "patches"),
        ({"data.root": "\udcff"}, "data.root", "folder"),
        ({"data.root": ""}, "data.root", "folder"),
        ({"seed": object()}, "not JSON serializable", "dotted"),
        ({"data.train_limit": "99"}, "data.train_limit=99", "Keep"),
    ],
)  # fmt: skip
def test_bad_overrides_are_refused(change: dict[str, Any], what: str, help: str) -> None:
    error = refused(lambda: BASE.override(change))
    assert what in error.what
    assert help in error.help


def test_overrides_are_checked_together() -> None:
    config = BASE.override({"model.dropout": 0.1, "model.name": "vit"})
    assert (config.model.name, config.model.dropout) == ("vit", 0.1)
    short = BASE.override({"schedule.warmup_epochs": "3", "epochs": "4"})
    assert (short.epochs, short.schedule.warmup_epochs) == (4, 3)


def test_schema_version_is_in_the_file() -> None:
    assert json.loads(BASE.to_json())["schema_version"] == SCHEMA_VERSION
