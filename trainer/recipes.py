"""Recipes: named configurations, as functions and values.

`reported(model)` is the protocol of the reference study for that architecture, `strong(model)` what
is known to go beyond it in as many epochs. `vit_trained` is a recipe under which the ViT learns,
`vit_strong` the same with stronger augmentation; `muon(model)` has another optimizer.
"""

from __future__ import annotations

from trainer.config import (
    AugmentConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
)

ARCHITECTURES = ("resnet18", "resnet34", "resnet50", "wrn_28_10", "dla34", "vit")


def reported(model: str = "resnet18") -> TrainConfig:
    """The reported protocol: SGD 0.1, momentum 0.9, cosine over 100 epochs, batch 256, label
    smoothing 0.1, weight decay 1e-3, cutout 12; WRN-28-10 alone has weight decay 5e-4, cutout 16
    and dropout 0.3.
    """
    if model.startswith("wrn"):
        return TrainConfig(
            model=ModelConfig(name=model, dropout=0.3),
            augment=AugmentConfig(cutout=16),
            optimizer=OptimizerConfig(weight_decay=5e-4),
        )
    return TrainConfig(model=ModelConfig(name=model))


def vit_trained() -> TrainConfig:
    """A ViT that learns: AdamW at 1e-3 with decoupled decay on matrices only, ten epochs of
    warm-up, learning rate moved every step, patch 4. The reported run (SGD at 0.1, no warm-up)
    did not train.
    """
    return TrainConfig(
        model=ModelConfig(name="vit", patch=4, dropout=0.1),
        optimizer=OptimizerConfig(
            name="adamw", lr=1e-3, weight_decay=0.05, decay_norms_and_biases=False
        ),
        schedule=ScheduleConfig(every="step", warmup_epochs=10),
    )


def strong(model: str = "resnet18") -> TrainConfig:
    """The reported protocol and, at no extra epochs: Nesterov's momentum (Sutskever et al. 2013),
    no decay of norms and biases and five epochs of warm-up (Goyal et al. 2017; He et al. 2019),
    a learning rate that moves every step, evaluation of a moving average of the weights (Polyak
    and Juditsky 1992) and TrivialAugment (Mueller and Hutter 2021). The ViT: `vit_strong`.
    """
    if model == "vit":
        return vit_strong()
    return reported(model).override(
        {
            "optimizer.nesterov": True,
            "optimizer.decay_norms_and_biases": False,
            "optimizer.ema_decay": 0.999,
            "schedule.every": "step",
            "schedule.warmup_epochs": 5,
            "augment.trivial_augment": True,
        }
    )


def muon(model: str = "resnet18") -> TrainConfig:
    """The reported protocol with Muon (Jordan et al. 2024) for SGD: its momentum, AdamW's learning
    rate, decoupled decay on matrices only, and a learning rate that moves every step.
    """
    return reported(model).override(
        {
            "optimizer.name": "muon",
            "optimizer.lr": 1e-3,
            "optimizer.momentum": 0.95,
            "optimizer.weight_decay": 0.1,
            "optimizer.decay_norms_and_biases": False,
            "schedule.every": "step",
        }
    )


def vit_strong() -> TrainConfig:
    """`vit_trained`, augmented as DeiT is (Touvron et al. 2021): MixUp 0.8 or CutMix 1.0 on every
    image, no dropout, a moving average of the weights; with TrivialAugment in the place of
    RandAugment. No cutout, since CutMix hides a part of the image already (Yun et al. 2019).
    """
    return vit_trained().override(
        {
            "model.dropout": 0.0,
            "optimizer.ema_decay": 0.999,
            "augment.cutout": 0,
            "augment.mixup": 0.8,
            "augment.cutmix": 1.0,
            "augment.trivial_augment": True,
        }
    )
