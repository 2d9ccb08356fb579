"""Recipes: named configurations, as functions and values.

`reported(model)` is the protocol of the reference study for that architecture. `vit_trained` is a
recipe under which the ViT learns.
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
