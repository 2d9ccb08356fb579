"""The classifier that every network ends in."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Head(nn.Linear):
    """(B, features) to logits (B, classes), in fp32 also under bf16 autocast.

    bf16 has eight bits of precision, in which many logits would tie.
    """

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float())
