"""Schema: any model, dataclass or mapping as a configuration, and what cannot be one."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import functools
import json
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, computed_field, field_validator

from local_machine.errors import EXIT_USAGE, InputError
from trial_records.config import content_of, fingerprint_of, is_of
from trial_records.schema import Schema

TASK = "mine"


class Loss(enum.Enum):
    MSE = "mse"
    L1 = 1


@dataclass(frozen=True)
class Adam:
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)


@dataclass(frozen=True)
class Sgd:
    lr: float = field(default=0.1, metadata={"help": "Step size."})
    nesterov: bool = False


@dataclass
class Tree:
    depth: int = 3
    features: int | float | str = "sqrt"
    """scikit-learn's: 1 is one feature, 1.0 is all of them."""
    name: str = "forest"
    limit: int | None = None
    mode: Literal["fast", "exact", 3, True] = "fast"
    loss: Loss = Loss.MSE
    root: Path | None = None
    since: datetime.date = datetime.date(2024, 2, 29)
    sizes: tuple[int, ...] = (64, 32)
    tags: list[str] = field(default_factory=list)
    weights: dict[str, float] = field(default_factory=dict)
    optimizer: Adam | Sgd = Sgd()
    ema: Sgd | None = None
    leaves: int = field(init=False, default=8)

    def __post_init__(self) -> None:
        if self.depth < 0:
            raise ValueError(f"depth must not be negative, not {self.depth}")
        self.leaves = 2 ** min(self.depth, 60)


class Head(BaseModel):
    model_config = ConfigDict(frozen=True)
    width: Annotated[int, Field(ge=1)] = 8
    dropout: float | None = None


class Net(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)
    lr: float = 0.1
    """Peak learning rate."""
    names: tuple[str, ...] = ()
    steps: int = Field(default=100, alias="max_steps")
    warm: float = 0.0
    head: Head = Head()

    @field_validator("names")
    @classmethod
    def _differ(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError("names must differ")
        return names

    @computed_field  # type: ignore[prop-decorator]
    @property
    def warm_steps(self) -> float:
        return self.warm * self.steps


MAPPING = {
    "lr": 0.1,
    "batch-size": 64,
    "nesterov": True,
    "name": "größe",
    "limit": None,
    "betas": [0.9, 0.999],
    "tags": ["a", "b"],
    "model": {"name": "mlp", "width": 8, "deep": {"root": "data"}},
}
BASES: tuple[Any, ...] = (Tree(), Net(), MAPPING)

reals = st.floats(allow_nan=False, allow_infinity=False)
wholes = st.integers(-(2**63), 2**63 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
# What could be typed for another value is none of a text's business here.
words = texts.filter(lambda text: text.lower() not in ("none", "null"))
keys = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="."), min_size=1,
               max_size=8)  # fmt: skip

sgds = st.builds(Sgd, lr=reals, nesterov=st.booleans())
trees = st.builds(
    Tree,
    depth=st.integers(0, 2**63 - 1),
    features=wholes | reals | words,
    name=texts,
    limit=st.none() | wholes,
    mode=st.sampled_from(["fast", "exact", 3, True]),
    loss=st.sampled_from(Loss),
    root=st.none() | st.just(Path("a,b/c")),
    since=st.dates(),
    sizes=st.lists(wholes, max_size=3).map(tuple),
    tags=st.lists(texts, max_size=3),
    weights=st.dictionaries(keys, reals, max_size=2),
    optimizer=sgds | st.builds(Adam, lr=reals, betas=st.tuples(reals, reals)),
    ema=st.none() | sgds,
)
nets = st.builds(
    Net,
    lr=reals,
    names=st.lists(texts, unique=True, max_size=3).map(tuple),
    max_steps=wholes,
    warm=st.floats(0, 1),
    head=st.builds(Head, width=st.integers(1, 99), dropout=st.none() | reals),
)
leaf = st.one_of(
    st.none(), st.booleans(), wholes, reals, texts, st.lists(reals, max_size=3),
    st.lists(wholes | reals | texts | st.none() | st.booleans(), max_size=3),
)  # fmt: skip
mappings = st.dictionaries(keys, leaf | st.dictionaries(keys, leaf, max_size=3), max_size=5)
configs = trees | nets | mappings


def exactly(value: Any) -> Any:
    """What two values have in common only where they are the same: types count, zeros' signs and
    the order of keys do not."""
    if isinstance(value, BaseModel):
        return type(value), exactly(dict(value))
    if dataclasses.is_dataclass(value):
        return type(value), exactly(vars(value))
    if isinstance(value, Mapping):
        return {key: exactly(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [exactly(one) for one in value]
    return type(value), value + 0.0 if isinstance(value, float) else value


def shuffled(value: Any, order: random.Random) -> Any:
    if not isinstance(value, dict):
        return value
    names = list(value)
    order.shuffle(names)
    return {name: shuffled(value[name], order) for name in names}


def of(config: Any) -> str:
    return fingerprint_of(content_of(Schema.of(config).values(config), TASK))


def refused(act: Callable[[], object]) -> InputError:
    with pytest.raises(InputError) as caught:
        act()
    assert caught.value.exit_code == EXIT_USAGE
    assert "\n" not in caught.value.what + caught.value.help
    return caught.value


@given(configs)
def test_values_there_and_back(config: Any) -> None:
    schema = Schema.of(config)
    values = schema.values(config)
    stored = json.loads(json.dumps(values, allow_nan=False))
    assert exactly(stored) == exactly(values)
    again = schema.parse(stored)
    assert exactly(again) == exactly(config)
    if isinstance(config, dict):  # a worker has nothing else
        assert exactly(Schema.of(stored).parse(stored)) == exactly(config)
    assert schema.values(again) == values


@given(trees, trees, st.sets(st.sampled_from([one.name for one in dataclasses.fields(Tree)[:-1]])))
def test_fingerprints_are_equal_where_dataclasses_are(
    one: Tree, second: Tree, taken: set[str]
) -> None:
    other = dataclasses.replace(one, **{name: getattr(second, name) for name in taken})
    assert (of(one) == of(other)) == (exactly(one) == exactly(other))


@given(nets, nets)
def test_fingerprints_are_equal_where_models_are(one: Net, other: Net) -> None:
    assert (of(one) == of(other)) == (exactly(one) == exactly(other))
    assert of(one) == of(one.model_copy(update={"lr": one.lr}))


numbers = st.sampled_from([0, 0.0, -0.0, 1, 1.0, True, False, "1", None, 2**53, float(2**53)])


@given(st.dictionaries(keys, numbers, max_size=2), st.dictionaries(keys, numbers, max_size=2))
def test_fingerprints_are_equal_where_mappings_are(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    for pair in ((one, other), (one, {**one, **other})):
        assert (of(pair[0]) == of(pair[1])) == (exactly(pair[0]) == exactly(pair[1]))


@given(configs, st.randoms(use_true_random=False))
def test_a_fingerprint_does_not_depend_on_the_order_of_fields(
    config: Any, order: random.Random
) -> None:
    values = shuffled(Schema.of(config).values(config), order)
    assert fingerprint_of(content_of(values, TASK)) == of(config)
    assert is_of(content_of(values, TASK), of(config))
    assert not is_of(content_of(values, "another"), of(config))
    assert not is_of(content_of(values, "trainer"), of(config))


@pytest.mark.parametrize(
    ("zero", "other"),
    [
        ({"a": 0.0}, {"a": -0.0}),
        ({"a": [1.0, 0.0]}, {"a": [1.0, -0.0]}),
        ({"a": {"b": 0.0}}, {"a": {"b": -0.0}}),
        (Adam(lr=0.0), Adam(lr=-0.0)),
        (Net(warm=0.0), Net(warm=-0.0)),
        (Tree(features=0.0), Tree(features=-0.0)),
    ],
)
def test_zero_has_one_fingerprint(zero: Any, other: Any) -> None:
    assert of(zero) == of(other)


def test_golden_fingerprints() -> None:
    """They hold in every version of Python: finished trials would run again."""
    assert of({"lr": 0.1, "name": "größe", "sizes": [1, 2.5]}) == (
        "92d01ba0b7d2cdd8240604f2248dd1eece04e2d39eac903c11b697b9e1296c5b"
    )
    assert of(Tree()) == "8b67b26cb87ac246516697a9d6483372f66e8a21db2b94acc29a1d54d45347ab"


@given(trees)
def test_what_is_typed_is_what_is_flat(tree: Tree) -> None:
    schema = Schema.of(tree)
    values = schema.values(tree)
    flat = schema.flat(values)
    typed = {name: None if value is None else str(value) for name, value in flat.items()}
    if isinstance(tree.features, str):
        del typed["features"]  # the text of a number is typed for the number
    start = dataclasses.replace(
        Tree(), ema=tree.ema, optimizer=tree.optimizer, weights=tree.weights, features=tree.features
    )
    assert exactly(schema.override(start, typed)) == exactly(tree)
    assert schema.override(values, typed) == values  # type: ignore[type-var]


@given(mappings)
def test_what_is_typed_is_what_is_flat_in_a_mapping(config: dict[str, Any]) -> None:
    schema = Schema.of(config)
    flat = schema.flat(schema.values(config))
    changes = {name: value for name, value in flat.items() if isinstance(value, bool | int | float)}
    for typed in (changes, {name: str(value) for name, value in changes.items()}):
        assert exactly(schema.override(config, typed)) == exactly(config)


@pytest.mark.parametrize(
    ("base", "name", "typed", "value"),
    [
        (Tree(), "depth", "20", 20),
        (Tree(), "features", "1", 1),
        (Tree(), "features", "1.0", 1.0),
        (Tree(), "features", "log2", "log2"),
        (Tree(), "limit", "none", None),
        (Tree(), "limit", "5", 5),
        (Tree(), "mode", "exact", "exact"),
        (Tree(), "mode", "3", 3),
        (Tree(), "mode", "true", True),
        (Tree(), "loss", "mse", Loss.MSE),
        (Tree(), "loss", "L1", Loss.L1),
        (Tree(), "root", "a/b,c", Path("a/b,c")),
        (Tree(), "root", "none", None),
        (Tree(), "since", "2025-01-31", datetime.date(2025, 1, 31)),
        (Tree(), "sizes", "1, 2", (1, 2)),
        (Tree(), "sizes", "", ()),
        (Tree(), "tags", "a,b", ["a", "b"]),
        (Tree(), "tags", '["a,b", "none"]', ["a,b", "none"]),
        (Tree(), "weights", '{"a": 1}', {"a": 1.0}),
        (Tree(weights={"a": 0.5}), "weights.a", "2", 2.0),
        (Tree(), "optimizer.lr", "5e-4", 5e-4),
        (Tree(optimizer=Adam()), "optimizer.betas", "0.8,0.9", (0.8, 0.9)),
        (Tree(ema=Sgd()), "ema", "none", None),
        (Tree(ema=Sgd()), "ema.nesterov", "yes", True),
        (Net(), "steps", "7", 7),
        (Net(), "head.dropout", "0.5", 0.5),
        (Net(), "names", "a, b", ("a", "b")),
        (MAPPING, "lr", "1", 1.0),
        (MAPPING, "lr", 1, 1.0),
        (MAPPING, "batch-size", "128", 128),
        (MAPPING, "nesterov", "off", False),
        (MAPPING, "name", "5", "5"),
        (MAPPING, "name", "none", "none"),
        (MAPPING, "limit", "5", 5),
        (MAPPING, "limit", "5e-1", 0.5),
        (MAPPING, "limit", "True", True),
        (MAPPING, "limit", "none", None),
        (MAPPING, "limit", "nan", "nan"),
        (MAPPING, "limit", "[1, 2]", [1, 2]),
        (MAPPING, "limit", "a,b", "a,b"),
        (MAPPING, "betas", "0.5,0.9", [0.5, 0.9]),
        (MAPPING, "model.deep.root", "elsewhere", "elsewhere"),
    ],
)  # fmt: skip
def test_overrides_are_parsed_by_type(base: Any, name: str, typed: Any, value: Any) -> None:
    found = Schema.of(base).override(base, {name: typed})
    for part in name.split("."):
        found = found[part] if isinstance(found, Mapping) else getattr(found, part)
    assert exactly(found) == exactly(value)


@pytest.mark.parametrize(
    ("base", "change", "what", "help"),
    [
        (Tree(), {"dept": 1}, "unknown field 'dept'", "'depth'"),
        (Tree(), {"nesterov": True}, "unknown field 'nesterov'", "'optimizer.nesterov'"),
        (Tree(), {"optimizer.betas": "1,2"}, "unknown field 'optimizer.betas'", "optimizer.lr"),
        (Tree(), {"ema.lr": 1}, "unknown field 'ema.lr'", "'optimizer.lr'"),
        (Tree(), {"leaves": 3}, "unknown field 'leaves'", "did you mean"),
        (Tree(), {"optimizer": "x"}, "optimizer=x", "optimizer"),
        (Tree(), {"depth": "-1"}, "depth must not be negative", "fields named"),
        (Tree(), {"depth": 1.0}, "depth=1.0: input should be a valid integer", "whole number"),
        (Tree(), {"depth": "1e2"}, "depth=1e2: input should be a valid integer", "whole number"),
        (Tree(), {"depth": None}, "depth: input should be a valid integer", "whole number"),
        (Tree(), {"depth": True}, "depth=True: input should be a valid integer", "whole number"),
        (Tree(), {"depth": 2**63}, "more than 64 bits", "text"),
        (Tree(), {"loss": "huber"}, "loss=huber: input should be 'mse' or 1", "loss"),
        (Tree(), {"since": "yesterday"}, "since=yesterday", "since"),
        (Tree(), {"sizes": "1;2"}, "sizes=1;2", "sizes"),
        (Tree(), {"optimizer.lr": "fast"}, "optimizer.lr=fast", "Step size."),
        (Tree(), {"optimizer.lr": math.inf}, "not JSON compliant", "dotted"),
        (Tree(), {"depth": object()}, "not JSON serializable", "dotted"),
        (Tree(optimizer=Adam()), {"optimizer.betas": "1"}, "optimizer", "optimizer"),
        (Net(), {"names": "a,a"}, "names must differ", "names"),
        (Net(), {"max_steps": 3}, "unknown field 'max_steps'", "'steps'"),
        (Net(), {"head": "x"}, "head is a section", "head.width"),
        (Net(), {"head.width": 0}, "head.width=0: input should be greater", "whole number"),
        (MAPPING, {"batch_size": 1}, "unknown field 'batch_size'", "'batch-size'"),
        (MAPPING, {"batch-size": 0.5}, "batch-size=0.5", "whole number"),
        (MAPPING, {"lr": "fast"}, "lr=fast: input should be a valid number", "lr: it is a number"),
        (MAPPING, {"nesterov": 1}, "nesterov=1", "true or false"),
        (MAPPING, {"model": {}}, "model is a section", "model.name"),
        (MAPPING, {"model.nam": "x"}, "unknown field 'model.nam'", "model.name"),
    ],
)  # fmt: skip
def test_bad_overrides_are_refused(base: Any, change: dict[str, Any], what: str, help: str) -> None:
    schema = Schema.of(base)
    error = refused(lambda: schema.values(schema.override(base, change)))
    assert what in error.what
    assert help in error.help


@pytest.mark.parametrize("base", BASES, ids=["dataclass", "model", "mapping"])
def test_unknown_and_missing_values_are_named(base: Any) -> None:
    schema = Schema.of(base)
    values = schema.values(base)
    name = next(iter(values))
    assert (
        "plan: unknown field 'lrr'"
        in refused(lambda: schema.parse(values | {"lrr": 1}, "plan")).what
    )
    assert f"plan: {name}" in refused(lambda: schema.parse(values | {name: {}}, "plan")).what
    if base is MAPPING:
        error = refused(lambda: schema.parse({"lr": 0.1}, "plan"))
        assert "plan: batch-size: field required" in error.what


def test_a_field_has_its_type_and_a_sentence() -> None:
    schema = Schema.of(Net())
    assert list(schema.field_types()) == [
        "lr", "names", "steps", "warm", "head.width", "head.dropout"
    ]  # fmt: skip
    assert schema.describe("lr") == "Peak learning rate."
    assert schema.describe("head.width") == "it is a whole number"
    mapping = Schema.of(MAPPING)
    assert mapping.field_types()["betas"] == list[float]
    assert mapping.describe("name") == "it is a text"


def base_of(kind: Any, value: Any) -> Any:
    return dataclasses.make_dataclass("Base", [("odd", kind), ("lr", float, 0.1)])(value)


class Vector:
    def __eq__(self, other: object) -> bool:
        raise ValueError("which of them?")

    __hash__ = None  # type: ignore[assignment]


class Nearly(float):
    def __repr__(self) -> str:
        raise RuntimeError("no")


@dataclass
class Fails:
    odd: int = 1

    def __post_init__(self) -> None:
        if type(self.odd) is int and self.odd == 2:
            raise KeyError("two")


@dataclass
class Unresolved:
    lr: float = 0.1
    odd: Nowhere = 1  # type: ignore[name-defined]  # noqa: F821


class Left(BaseModel):
    odd: int = Field(default=3, exclude=True)


class Parent(BaseModel):
    odd: Head = Head()


class Wider(Head):
    more: int = 1


@pytest.mark.parametrize(
    ("base", "what"),
    [
        (base_of(Any, Vector()), "odd="),
        (base_of(Any, lambda: 0), "odd="),
        (base_of(Vector, Vector()), "odd: "),
        (base_of(Any, (1, 2)), "odd=(1, 2) would come back as [1, 2]"),
        (base_of(list[float], (1.0,)), "odd=(1.0,) would come back as [1.0]"),
        (base_of(int, True), "odd=True would come back as 1"),
        (base_of(int, 0.5), "odd=0.5: input should be a valid integer"),
        (base_of(int, "1"), "odd='1': input should be a valid integer"),
        (base_of(float, math.nan), "odd=nan: not a finite number"),
        (base_of(float, -math.inf), "odd=-inf: not a finite number"),
        (base_of(int, 2**63), "odd=9223372036854775808: it has more than 64 bits"),
        (base_of(str, "\udcff"), "odd="),
        (base_of(frozenset[str], frozenset("ab")), "odd is a set"),
        (base_of(Any, {1, 2}), "odd="),
        (base_of(dict[str, int], {"a.b": 1}), "odd.'a.b' has a dot in it"),
        (base_of(Literal["a"], "b"), "odd='b': input should be 'a'"),
        (Unresolved(), "Nowhere"),
        (Left(), "odd is left out"),
        (Parent(odd=Wider()), "odd="),
        ({"odd": lambda: 0}, "odd"),
        ({"odd": (1, 2)}, "odd=(1, 2) would come back as [1, 2]"),
        ({"odd": Path("data")}, "would come back as 'data'"),
        ({"odd": datetime.date(2024, 2, 29)}, "would come back as '2024-02-29'"),
        ({"odd": Sgd()}, "odd=Sgd("),
        ({"odd": Loss.MSE}, "odd=<Loss.MSE"),
        ({"odd": {"deep": object()}}, "odd.deep"),
        ({"odd": [{"a": (1,)}]}, "odd.a=(1,) would come back as [1]"),
        ({"odd": math.nan}, "odd=nan"),
        ({"odd": [1, {2}]}, "odd="),
        ({"odd": {1: 2}}, "odd.1 is not a field's name"),
        ({"a.odd": 1}, "'a.odd' has a dot in it"),
        ({"": 1}, "'' is not a field's name"),
        ({"odd\x1b[2J": 1}, r"\x1b"),
        ({"o" * 201: 1}, "has 201 characters"),
        (Tree, "base is the class Tree"),
        (5, "base is a int"),
        ([("lr", 1)], "base is a list"),
    ],
)  # fmt: skip
def test_what_is_no_configuration_is_refused_by_name(base: Any, what: str) -> None:
    error = refused(lambda: Schema.of(base))
    assert what in error.what and "base" in error.what
    assert error.what.isprintable() and error.help


def test_a_class_of_the_persons_own_may_fail_in_any_way() -> None:
    schema = Schema.of(Fails())
    error = refused(lambda: schema.override(Fails(), {"odd": 2}))
    assert "Fails fails with KeyError: 'two'" in error.what


def test_numbers_of_other_libraries_are_numbers() -> None:
    np = pytest.importorskip("numpy")
    assert Schema.of({"lr": np.float64(0.5)}).parse({"lr": 0.5}) == {"lr": 0.5}
    assert "lr" in refused(lambda: Schema.of({"lr": np.int64(5)})).what


def test_a_base_may_give_a_whole_number_for_a_real_one() -> None:
    schema = Schema.of(Adam(lr=1))
    assert of(Adam(lr=1)) == of(Adam(lr=1.0))
    assert exactly(schema.parse({"lr": 1, "betas": [0, 1]})) == exactly(Adam(1.0, (0.0, 1.0)))


def test_fields_may_be_varied_that_the_base_has_not() -> None:
    base = functools.reduce(lambda inner, _: {"in": inner}, range(30), {"x": 1})
    name = "in." * 30 + "x"
    schema = Schema.of(base)
    assert schema.flat(schema.values(schema.override(base, {name: "2"}))) == {name: 2}
