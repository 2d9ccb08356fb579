"""TrainConfig: everything that decides what one trial computes, and its identity.

Frozen and strict: an unknown key, a wrong type or a value out of range is an InputError that
names the field and the nearest right one. Imports no torch, so that commands start at once.
"""

from __future__ import annotations

import functools
import json
import re
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from local_machine.errors import InputError, nearest
from local_machine.files import read_file
from trainer.models.registry import MODELS, WRN_NAME
from trial_records.config import _leaves, as_before, fingerprint_of, flat_of

SCHEMA_VERSION = 1

# Wider or deeper than any that was published; beyond, a slip of the finger would fill the memory.
WRN_MAX_DEPTH = 1000
WRN_MAX_WIDTH = 64

# -0.0 equals 0.0 but prints otherwise, which would give one configuration two fingerprints.
Real = Annotated[float, Field(allow_inf_nan=False), AfterValidator(lambda value: value + 0.0)]
# Stored in int64 columns.
Integer = Annotated[int, Field(lt=2**63)]
Fraction = Annotated[Real, Field(ge=0.0, le=1.0)]
NonNegative = Annotated[Real, Field(ge=0.0)]
Positive = Annotated[Real, Field(gt=0.0)]
Milestones = tuple[Annotated[Real, Field(gt=0.0, lt=1.0)], ...]


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True
    )


class DataConfig(_Section):
    name: Literal["cifar10", "digits"] = "cifar10"
    """The data set: cifar10, or scikit-learn's digits brought to 32x32 RGB (needs no download)."""
    root: Annotated[str, Field(min_length=1)] | None = None
    """A folder of Parquet files or of class folders; none: the cache, downloaded into at need."""
    val_fraction: Annotated[Real, Field(gt=0.0, lt=1.0)] = 0.1
    """The part of the training images held out for validation, the same for every class."""
    split_seed: Annotated[Integer, Field(ge=0)] = 42
    """Seed of the split into training and validation images; not the trial's own seed."""
    train_limit: Annotated[Integer, Field(ge=100)] | None = None
    """Keep at most so many training images, before the split, balanced over classes; none: all."""
    test_limit: Annotated[Integer, Field(ge=100)] | None = None
    """Keep at most so many test images, balanced over classes; none: all."""


class AugmentConfig(_Section):
    crop_padding: Annotated[int, Field(ge=0, le=16)] = 4
    """Black pixels added on each side before a random crop of the original size; 0: no crop."""
    flip: Fraction = 0.5
    """Probability of a horizontal flip."""
    cutout: Annotated[int, Field(ge=0, le=32)] = 12
    """Side of the square set to the mean colour, in pixels, clipped at the borders; 0: none."""
    mixup: NonNegative = 0.0
    """MixUp's alpha: weights are drawn from Beta(alpha, alpha) for each sample; 0: none."""
    cutmix: NonNegative = 0.0
    """CutMix's alpha, drawn alike; with MixUp too, each takes half of the samples. 0: none."""
    trivial_augment: bool = False
    """TrivialAugment: one operation of random strength on each image, before crop and flip."""


class ModelConfig(_Section):
    name: str = "resnet18"
    """An architecture of the table MODELS, or wrn_DEPTH_WIDTH with any depth 6n + 4."""
    stem: Literal["cifar", "imagenet"] = "cifar"
    """First layers: 3x3 at full resolution, or ImageNet's, which shrink the image by 4 or more."""
    width: Annotated[Real, Field(gt=0.0, le=4.0)] = 1.0
    """Multiplies every channel count; below 1 gives the architecture's small sibling."""
    dropout: Annotated[Real, Field(ge=0.0, lt=1.0)] = 0.0
    """Dropout inside the residual blocks of a WRN and in a ViT; the others have none."""
    patch: Literal[2, 4, 8, 16] = 4
    """Side of a ViT's patches, in pixels."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.name not in MODELS and not WRN_NAME.fullmatch(self.name):
            raise ValueError(f"unknown architecture {self.name!r}: {nearest(self.name, MODELS)}")
        if wrn := WRN_NAME.fullmatch(self.name):
            depth, widen = int(wrn[1]), int(wrn[2])
            if not 10 <= depth <= WRN_MAX_DEPTH or (depth - 4) % 6:
                raise ValueError(
                    f"a WRN's depth is 6n + 4 (10, 16, 22, 28, 40, ... to {WRN_MAX_DEPTH}), "
                    f"not {depth}"
                )
            if not 1 <= widen <= WRN_MAX_WIDTH:
                raise ValueError(f"a WRN is 1 to {WRN_MAX_WIDTH} times as wide, not {widen}")
        if self.stem == "imagenet" and not self.name.startswith(("resnet", "dla")):
            raise ValueError(f"stem=imagenet is for the ResNets and DLA-34, not {self.name}")
        if self.dropout and not self.name.startswith(("wrn", "vit")):
            raise ValueError(f"{self.name} has no dropout: set model.dropout=0")
        return self


class OptimizerConfig(_Section):
    name: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum, or AdamW (Loshchilov and Hutter 2019)."""
    lr: Positive = 0.1
    """Peak learning rate."""
    momentum: Annotated[Real, Field(ge=0.0, lt=1.0)] = 0.9
    """SGD's momentum; AdamW's first beta."""
    nesterov: bool = False
    """Nesterov's form of the momentum (SGD)."""
    weight_decay: NonNegative = 1e-3
    """L2 added to the gradient (SGD), or decoupled decay (AdamW)."""
    decay_norms_and_biases: bool = True
    """Whether weight decay also acts on biases and normalisation parameters."""
    ema_decay: Annotated[Real, Field(ge=0.0, lt=1.0)] = 0.0
    """Per step, of the moving average of the weights, which is then what is evaluated; 0: none."""


class ScheduleConfig(_Section):
    name: Literal["cosine", "step", "multi_step", "constant"] = "cosine"
    """How the learning rate falls after the warm-up."""
    every: Literal["epoch", "step"] = "epoch"
    """Whether the learning rate moves once an epoch or at every optimizer step."""
    warmup_epochs: Annotated[Integer, Field(ge=0)] = 0
    """Epochs of linear warm-up."""
    step_fraction: Annotated[Real, Field(gt=0.0, le=1.0)] = 0.3
    """step: multiply by gamma after every such part of the epochs."""
    milestones: Milestones = (0.3, 0.6, 0.8)
    """multi_step: multiply by gamma at these parts of the epochs, rising."""
    gamma: Annotated[Real, Field(gt=0.0, lt=1.0)] = 0.2
    """step and multi_step: the factor."""

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones must rise, not {self.milestones}")
        return self


class EarlyStoppingConfig(_Section):
    patience: Annotated[Integer, Field(ge=0)] = 15
    """Stop after so many epochs in a row without improvement of validation accuracy; 0: never."""
    min_delta: Fraction = 0.001
    """The least gain in validation accuracy that counts as improvement."""


class TrainConfig(_Section):
    """One trial's configuration. Equal configurations have equal fingerprints, and only those."""

    schema_version: Literal[1] = 1
    """Version of this schema."""
    seed: Annotated[Integer, Field(ge=0)] = 42
    """Seed of initialisation, order, augmentation and dropout."""
    epochs: Annotated[Integer, Field(ge=1)] = 100
    """Passes over the training images."""
    batch_size: Annotated[Integer, Field(ge=2)] = 256
    """Images in one optimizer step, over all ranks together."""
    label_smoothing: Annotated[Real, Field(ge=0.0, lt=1.0)] = 0.1
    """Label smoothing of the training loss."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of the forward pass; auto: bf16 where the device has it, recorded in the run."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether the training step is compiled; auto: on a GPU that can, recorded in the run."""
    deterministic: bool = False
    """Whether a GPU is kept to kernels that give the same bits in every run, at a cost."""
    data: DataConfig = DataConfig()
    """Images and their split."""
    augment: AugmentConfig = AugmentConfig()
    """Augmentation of the training images."""
    model: ModelConfig = ModelConfig()
    """Architecture."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Optimizer."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Learning rate over time."""
    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()
    """Early stopping on validation accuracy."""

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Self:
        if self.schedule.warmup_epochs >= self.epochs:
            raise ValueError(
                f"schedule.warmup_epochs={self.schedule.warmup_epochs} must be less than "
                f"epochs={self.epochs}"
            )
        return self

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "configuration") -> Self:
        """Parse what `to_json` wrote. Raises InputError that names `where` and the field."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise _input_error(error, where) from None

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Raises InputError where the file is missing, unreadable or no configuration."""
        try:
            return cls.from_json(read_file(path), where=str(path))
        except FileNotFoundError as error:
            raise InputError(
                f"cannot read {path}: {error.strerror}", "give the path of a config.json"
            ) from None
        except InputError as error:
            raise InputError(error.what, error.help) from None

    def to_json(self) -> str:
        return json.dumps(self.model_dump(mode="json"), indent=2, allow_nan=False) + "\n"

    def override(self, changes: Mapping[str, Any]) -> Self:
        """A copy with dotted keys changed: `{"optimizer.weight_decay": 5e-4}`.

        A string is parsed by the field's type (`"5e-4"`, `"true"`, `"none"`, `"0.3,0.6"`); any
        other value must already have it. Raises InputError for an unknown key or a bad value.
        """
        values = self.model_dump(mode="json")
        for key, value in changes.items():
            section, field = _locate(key)
            parsed = _parse(key, value, field) if isinstance(value, str) else value
            target = values
            for part in section:
                target = target[part]
            target[key.rpartition(".")[2]] = parsed
        try:
            text = json.dumps(values, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(
                f"override {', '.join(map(str, changes))}: {error}",
                f"give texts, true or false, finite numbers, None, or lists of them; {_HELP_KEYS}",
            ) from None
        return self.from_json(text, where="override " + ", ".join(map(str, changes)))

    def model_copy(self, **how: Any) -> Self:
        """As pydantic's, which would take the fingerprint along."""
        copied = super().model_copy(**how)
        copied.__dict__.pop("fingerprint", None)
        return copied

    def flat(self) -> dict[str, Any]:
        """Every leaf by its dotted name, tuples as the text that `override` parses."""
        return dict(_leaves(self.model_dump(mode="json")))

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON, 64 hex digits.

        See `fingerprint_of`.
        """
        return fingerprint_of(self.model_dump(mode="json"))


def is_of(values: Mapping[str, Any], fingerprint: str) -> bool:
    """Whether the stored values of a configuration are those that the fingerprint names; also where
    another tool wrote them anew and made 0 of 0.0."""
    if fingerprint_of(values) == fingerprint:
        return True
    try:
        made = TrainConfig.from_json(json.dumps(values))
    except InputError:
        return False
    return made.fingerprint == fingerprint and made.flat() == flat_of(as_before(values))


_HELP_FIELDS = "change one of the fields named, as in --set schedule.warmup_epochs=0"
_HELP_KEYS = "keys are dotted field names, as in --set optimizer.weight_decay=5e-4"


@functools.cache
def field_types() -> dict[str, Any]:
    """The annotation of every leaf field by its dotted name, constraints included."""

    def walk(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, Any]]:
        for name, info in section.model_fields.items():
            kind = info.annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from walk(kind, f"{prefix}{name}.")
            else:
                yield prefix + name, Annotated[kind, *info.metadata] if info.metadata else kind

    return dict(walk(TrainConfig, ""))


def _locate(key: str) -> tuple[list[str], Any]:
    types = {name: kind for name, kind in field_types().items() if name != "schema_version"}
    if key not in types:
        section = [name for name in types if name.startswith(f"{key}.")]
        if section:
            raise InputError(f"{key} is a section, not a field", nearest(key + ".", section))
        raise InputError(f"unknown field {key!r}", _nearest_field(key, types))
    return key.split(".")[:-1], types[key]


def _nearest_field(key: str, names: Mapping[str, Any]) -> str:
    """Closest by the whole dotted name, or by the last part alone (`weight_decay`, `lr`)."""
    same_leaf = [name for name in names if name.rpartition(".")[2] == key.rpartition(".")[2]]
    return f"did you mean {same_leaf[0]!r}?" if same_leaf else nearest(key, names)


def _parse(key: str, text: str, kind: Any) -> Any:
    """The JSON value that `text` stands for in a field of type `kind`."""
    bare = typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind
    options = typing.get_args(bare)
    if text.lower() in ("none", "null") and type(None) in options:
        return None
    if typing.get_origin(bare) is tuple:
        parts = [part for part in text.strip("()[] ").split(",") if part.strip()]
        return [_parse(key, part.strip(), options[0]) for part in parts]
    integers = typing.get_origin(bare) is Literal and all(isinstance(o, int) for o in options)
    try:
        return TypeAdapter[Any](int if integers else kind).validate_strings(text)
    except ValidationError as error:
        raise InputError(
            f"{key}={text}: {_sentence(error.errors()[0])}",
            f"{key}: {describe(key)}",
        ) from None


def describe(key: str) -> str:
    """The field's own sentence."""
    section: Any = TrainConfig
    *path, leaf = key.split(".")
    for part in path:
        section = section.model_fields[part].annotation
    return section.model_fields[leaf].description or ""


def _sentence(problem: Any) -> str:
    message = re.sub(r"^Value error, ", "", problem["msg"])
    return message[0].lower() + message[1:] if message[:2].istitle() else message


def _input_error(error: ValidationError, where: str) -> InputError:
    problem = error.errors()[0]
    path = [str(part) for part in problem["loc"]]
    name = ".".join(path)
    if problem["type"] == "json_invalid":
        return InputError(f"{where} is not JSON: {_sentence(problem)}", "write it anew or mend it")
    if problem["type"] == "extra_forbidden":
        return InputError(f"{where}: unknown field {name!r}", _nearest_field(name, field_types()))
    given = problem["input"]
    shown = f"={given!r}" if isinstance(given, (str, int, float, bool)) else ""
    # A key inside a tuple or a union ends in an index or a type's name: describe its field.
    field = next(
        (
            ".".join(path[:n])
            for n in range(len(path), 0, -1)
            if ".".join(path[:n]) in field_types()
        ),
        None,
    )
    if field:
        help_line = f"{field}: {describe(field)}"
    else:
        # A rule between fields has no one field to describe: its sentence names them.
        help_line = _HELP_FIELDS if problem["type"] == "value_error" else _HELP_KEYS
    return InputError(
        f"{where}: {name}{shown}: {_sentence(problem)}".replace(": :", ":"), help_line
    )
