"""The moving average of a network's weights (Polyak and Juditsky 1992), which is what is evaluated.

average <- d * average + (1 - d) * weights after every step, with d = min(decay, (1 + t) / (10 + t))
after t steps, so that the first weights, which are noise, are soon forgotten. BatchNorm's running
statistics are averaged alike.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Ema:
    """`model` is the averaged network. Never waits for the device."""

    def __init__(self, source: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(source).requires_grad_(False)
        self._decay = decay
        self._steps = torch.zeros((), device=next(source.parameters()).device)
        pairs = zip(self.model.state_dict().values(), source.state_dict().values(), strict=True)
        # Counts of batches are copied by nobody: nothing reads them where momentum is given.
        floating = [(mine, other) for mine, other in pairs if mine.is_floating_point()]
        self._mine = [mine for mine, _ in floating]
        self._source = [other for _, other in floating]

    @torch.no_grad()
    def update(self) -> None:
        """After an optimizer step."""
        decay = ((1 + self._steps) / (10 + self._steps)).clamp_(max=self._decay)
        change = torch._foreach_sub(self._source, self._mine)
        torch._foreach_mul_(change, 1 - decay)
        torch._foreach_add_(self._mine, change)
        self._steps += 1

    def tensors(self) -> list[Tensor]:
        """All that `update` changes, in place."""
        return [*self._mine, self._steps]

    def state_dict(self) -> dict[str, Tensor]:
        return {**self.model.state_dict(), "steps": self._steps}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.model.load_state_dict({k: v for k, v in state.items() if k != "steps"})
        self._steps.copy_(state["steps"])
