"""TrainConfig: everything that decides what one trial computes, and its identity.

Frozen and strict: an unknown key, a wrong type or a value out of range is an InputError that
names the field and the nearest right one. Imports no torch, so that commands start at once.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from local_machine.code.references import whole
from local_machine.errors import InputError, nearest
from trainer.models.registry import MODELS, TIMM, WRN_NAME, is_own
from trial_records.config import Configuration, Section, declare
from trial_records.metrics import NAMED, STEPS
from trial_records.plan import FIRST_TASK

SCHEMA_VERSION = 1

# Wider or deeper than any that was published; beyond, a slip of the finger would fill the memory.
WRN_MAX_DEPTH = 1000
WRN_MAX_WIDTH = 64

CROSS_ENTROPY = "cross_entropy"
OPTIMIZERS = ("sgd", "adamw", "muon")
# What each epoch is logged with, and so no metric of a person's own may be called.
LOGGED = (
    "lr", "train_loss", "train_accuracy", "val_loss", "val_loss_smoothed", "val_accuracy",
    "seconds", "images_per_second",
)  # fmt: skip

# -0.0 equals 0.0 but prints otherwise, which would give one configuration two fingerprints.
Real = Annotated[float, Field(allow_inf_nan=False), AfterValidator(lambda value: value + 0.0)]
# Stored in int64 columns.
Integer = Annotated[int, Field(lt=2**63)]
Fraction = Annotated[Real, Field(ge=0.0, le=1.0)]
NonNegative = Annotated[Real, Field(ge=0.0)]
Positive = Annotated[Real, Field(gt=0.0)]


def _whole(name: str) -> str:
    """A file by its whole path, so that it is the same from any working directory."""
    if not is_own(name) or name.startswith(TIMM):
        return name
    try:
        return whole(name)
    except InputError as error:
        raise ValueError(f"{error.what}; {error.help}") from None


# Of our own by its name, or a reference to a person's.
Named = Annotated[str, AfterValidator(_whole)]
Milestones = tuple[Annotated[Real, Field(gt=0.0, lt=1.0)], ...]


class DataConfig(Section):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")] = "cifar10"
    """The data set: cifar10, scikit-learn's digits (no download), or your name for data.root's."""
    root: Annotated[str, Field(min_length=1)] | None = None
    """A folder of class folders or of Parquet files; none: the cache, downloaded into at need."""
    size: Annotated[int, Field(ge=8, le=1024)] | None = None
    """Side to which images are resized, their centre cropped, in pixels; none: all as they are."""
    image_column: Annotated[str, Field(min_length=1)] | None = None
    """Parquet's column of images; none: image or img."""
    label_column: Annotated[str, Field(min_length=1)] | None = None
    """Parquet's column of labels; none: label, labels or fine_label."""
    val_fraction: Annotated[Real, Field(gt=0.0, lt=1.0)] = 0.1
    """The part of the training images held out for validation, the same for every class."""
    split_seed: Annotated[Integer, Field(ge=0)] = 42
    """Seed of the split into training and validation images; not the trial's own seed."""
    train_limit: Annotated[Integer, Field(ge=100)] | None = None
    """Keep at most so many training images, before the split, balanced over classes; none: all."""
    test_limit: Annotated[Integer, Field(ge=100)] | None = None
    """Keep at most so many test images, balanced over classes; none: all."""

    @model_validator(mode="after")
    def _has_images(self) -> Self:
        if self.root is not None:
            return self
        if self.name not in ("cifar10", "digits"):
            raise ValueError(
                f"{self.name} is a name for images of your own: say where they are, "
                f"data.root=FOLDER, or choose cifar10 or digits"
            )
        for field in ("size", "image_column", "label_column"):
            if (value := getattr(self, field)) is not None:
                raise ValueError(f"{field}={value} is for images of your own: data.root=FOLDER")
        return self


class AugmentConfig(Section):
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
    first_size: Literal[16, 24, 32] = 32
    """Progressive resizing: the images' side at first, which grows by 8 pixels to 32; 32: none."""


class ModelConfig(Section):
    name: Named = "resnet18"
    """An architecture of MODELS, wrn_DEPTH_WIDTH, FILE.py:NAME or MODULE:NAME, or timm:NAME."""
    stem: Literal["cifar", "imagenet"] = "cifar"
    """First layers: 3x3 at full resolution, or ImageNet's, which shrink the image by 4 or more."""
    width: Annotated[Real, Field(gt=0.0, le=4.0)] = 1.0
    """Multiplies every channel count; below 1 gives the architecture's small sibling."""
    dropout: Annotated[Real, Field(ge=0.0, lt=1.0)] = 0.0
    """Dropout inside the residual blocks of a WRN and in a ViT; the others have none."""
    patch: Literal[2, 4, 8, 16] = 4
    """Side of a ViT's patches, in pixels."""

    @property
    def is_own(self) -> bool:
        """Whether it is a person's own network, or one of timm."""
        return is_own(self.name)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.is_own:
            for field in ("stem", "width", "dropout", "patch"):
                value, plain = getattr(self, field), type(self).model_fields[field].default
                if value != plain:
                    raise ValueError(
                        f"model.{field}={value} is for this project's networks, not for "
                        f"{self.name}: leave it at {plain}, and change the network's own code"
                    )
            if self.name == TIMM:
                raise ValueError("timm: names no network of timm: write timm:resnet18")
            return self
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


class OptimizerConfig(Section):
    name: Named = "sgd"
    """SGD, AdamW (Loshchilov and Hutter 2019), Muon (Jordan et al. 2024), or FILE.py:NAME."""
    lr: Positive = 0.1
    """Peak learning rate."""
    momentum: Annotated[Real, Field(ge=0.0, lt=1.0)] = 0.9
    """SGD's and Muon's momentum; AdamW's first beta."""
    nesterov: bool = False
    """Nesterov's form of the momentum (SGD)."""
    weight_decay: NonNegative = 1e-3
    """L2 added to the gradient (SGD), or decoupled decay (AdamW, Muon)."""
    decay_norms_and_biases: bool = True
    """Whether weight decay also acts on biases and normalisation parameters."""
    ema_decay: Annotated[Real, Field(ge=0.0, lt=1.0)] = 0.0
    """Per step, of the moving average of the weights, which is then what is evaluated; 0: none."""

    @field_validator("name", mode="after")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in OPTIMIZERS and (not is_own(name) or name.startswith(TIMM)):
            raise ValueError(
                "input should be 'sgd', 'adamw' or 'muon', or name your own code, FILE.py:NAME"
            )
        return name


class ScheduleConfig(Section):
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


class EarlyStoppingConfig(Section):
    patience: Annotated[Integer, Field(ge=0)] = 15
    """Stop after so many epochs in a row without improvement of validation accuracy; 0: never."""
    min_delta: Fraction = 0.001
    """The least gain in validation accuracy that counts as improvement."""


class TrainConfig(Configuration):
    """One trial's configuration. Equal configurations have equal fingerprints, and only those."""

    TASK: ClassVar[str] = FIRST_TASK.reference
    """What trains it, for whoever sweeps it."""
    HELP_KEYS: ClassVar[str] = (
        "keys are dotted field names, as in --set optimizer.weight_decay=5e-4"
    )
    HELP_FIELDS: ClassVar[str] = (
        "change one of the fields named, as in --set schedule.warmup_epochs=0"
    )

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
    loss: Named = CROSS_ENTROPY
    """What is trained on: cross_entropy, or a function of your own, FILE.py:NAME or MODULE:NAME."""
    metrics: tuple[Named, ...] = ()
    """Functions of your own that judge each epoch on the validation images, as FILE.py:NAME."""
    hard_fraction: Annotated[Real, Field(gt=0.0, le=1.0)] = 1.0
    """Part of each batch that is trained on, the hardest for a narrow network beside; 1: all."""
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

    @property
    def own(self) -> dict[str, str]:
        """The references to a person's own code, by what they are for."""
        fields = {
            "model.name": self.model.name,
            "loss": self.loss,
            "optimizer.name": self.optimizer.name,
            **{f"metrics: {one}": one for one in self.metrics},
        }
        return {what: one for what, one in fields.items() if is_own(one)}

    def trained_on(self, images: int) -> int:
        """Of so many images of a batch on one rank, how many `hard_fraction` leaves, rounded up."""
        # In floats 0.1 * 30 is more than 3.
        return min(images, math.ceil(round(self.hard_fraction * images, 6)))

    @field_validator("loss", mode="after")
    @classmethod
    def _is_a_loss(cls, loss: str) -> str:
        if loss != CROSS_ENTROPY and (not is_own(loss) or loss.startswith(TIMM)):
            raise ValueError("input should be 'cross_entropy', or name your own code, FILE.py:NAME")
        return loss

    @field_validator("metrics", mode="after")
    @classmethod
    def _have_names(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        names = [one.rpartition(":")[2] for one in metrics]
        for one, name in zip(metrics, names, strict=True):
            if not is_own(one) or one.startswith(TIMM):
                raise ValueError(f"{one!r} is not a reference to code: write FILE.py:NAME")
            if name.lower() in (*NAMED, *STEPS, *LOGGED):
                raise ValueError(
                    f"{one}: the column {name!r} of the results has that name: rename the function"
                )
            if names.count(name) > 1:
                raise ValueError(f"two metrics are called {name!r}: rename one of the functions")
        return metrics

    @model_validator(mode="after")
    def _chooses_by_a_narrow_network(self) -> Self:
        if self.model.is_own and self.hard_fraction < 1:
            raise ValueError(
                f"hard_fraction={self.hard_fraction:g} needs a narrower network to choose by, "
                f"which nobody can make of {self.model.name}: hard_fraction=1"
            )
        return self

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Self:
        if self.schedule.warmup_epochs >= self.epochs:
            raise ValueError(
                f"schedule.warmup_epochs={self.schedule.warmup_epochs} must be less than "
                f"epochs={self.epochs}"
            )
        return self

    @model_validator(mode="after")
    def _takes_small_images(self) -> Self:
        if self.augment.first_size < 32:
            for what, is_it in (
                ("a ViT", self.model.name == "vit"),
                ("stem=imagenet", self.model.stem == "imagenet"),
            ):
                if is_it:
                    raise ValueError(f"{what} takes images of 32 pixels: augment.first_size=32")
        return self


declare(TrainConfig)
field_types, describe = TrainConfig.field_types, TrainConfig.describe
