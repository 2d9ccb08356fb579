"""Hard examples: of each batch only the images that a proxy finds hardest are trained on.

Online hard example mining (Shrivastava et al. 2016), where a narrow network that is trained beside
chooses (selection via proxy, Coleman et al. 2020), as airbench96 does (Jordan, cifar10-airbench,
airbench96_faster.py): the proxy looks at the whole batch, the images of highest loss are those that
the network is trained on, and every fourth batch the proxy itself learns from them. Its learning
rate and decay are the network's. airbench96 trains its proxy to the end first, on the batches that
the network sees later; the choice does not depend on the network, so beside it is the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from trainer import models
from trainer.config import ModelConfig, TrainConfig
from trainer.distributed import Group, parallel
from trainer.optim.optimizers import make_optimizer

# Of the network's own width: a sixteenth of its arithmetic, in the forward pass of every batch.
PROXY_WIDTH = 0.25
# The proxy learns from one batch of so many.
EVERY = 4


class HardExamples:
    """The proxy, and how many images of a batch it chooses."""

    def __init__(self, config: TrainConfig, classes: int, image_size: int, group: Group) -> None:
        """Draws weights from torch's global generator. Raises InputError as building the model
        does."""
        narrow = {"width": config.model.width * PROXY_WIDTH, "dropout": 0.0}
        model = models.build(_changed(config.model, narrow), classes, image_size)
        self._model = model.to(group.device).to(memory_format=torch.channels_last)
        self.optimizer = make_optimizer(self._model, config.optimizer)
        self.network: nn.Module = parallel(self._model, group)
        self.count = config.trained_on

    @staticmethod
    def learns(step: int) -> bool:
        """Whether the proxy learns in this step (from 0) of an epoch."""
        return step % EVERY == 0

    def state_dict(self) -> dict[str, Any]:
        return {"model": self._model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])


def _changed(model: ModelConfig, changes: dict[str, Any]) -> ModelConfig:
    return ModelConfig.model_validate({**model.model_dump(), **changes})
