"""Muon (Jordan et al. 2024): momentum whose matrices are made orthogonal before they are applied.

Each matrix's update is its momentum (Nesterov's) with all singular values near 1, found by five
steps of a Newton-Schulz iteration, with the coefficients that its authors published. A kernel of a
convolution counts as the matrix (out, in * height * width). Updates are scaled to the size of
AdamW's, so that one learning rate and one decoupled decay serve these and the parameters that AdamW
updates here: the first and the last weight, norms and biases (Liu et al. 2025, "Muon is Scalable
for LLM Training").

torch.optim.Muon has the same update for two-dimensional parameters. It takes no kernels, and reads
a learning rate that lies on the device back to the host, which no CUDA graph can hold.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS = 5
# Root mean square of AdamW's updates, as Liu et al. found it.
_RMS = 0.2
_BETAS = (0.9, 0.95)

_adamw_step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


class Muon(torch.optim.AdamW):
    """Muon for the groups that say `is_muon`, AdamW for the others."""

    def __init__(self, groups: list[dict[str, Any]], lr: float, momentum: float) -> None:
        super().__init__(groups, lr=lr, betas=_BETAS, fused=True)
        self._momentum = momentum

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group.get("is_muon")]
        try:
            _adamw_step(self)
        finally:
            self.param_groups = groups
        for group in groups:
            if group.get("is_muon"):
                self._update(group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        # AdamW's looks for its own states in all parameters.
        torch.optim.Optimizer.__setstate__(self, state)

    def _update(self, group: dict[str, Any]) -> None:
        by_shape: dict[torch.Size, list[Tensor]] = {}
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            by_shape.setdefault(parameter.shape, []).append(parameter)
        # Matrices of one shape at once, since alone they do not fill a GPU.
        for parameters in by_shape.values():
            gradients = [one.grad for one in parameters if one.grad is not None]
            momenta = [self._momentum_of(parameter) for parameter in parameters]
            torch._foreach_lerp_(momenta, gradients, 1 - self._momentum)
            ahead = torch._foreach_lerp(gradients, momenta, self._momentum)
            # Channels last, as kernels lie in memory: the order of columns changes nothing.
            moved = torch.stack([one.movedim(1, -1) for one in ahead])
            matrices = moved.flatten(2)
            scale = _RMS * math.sqrt(max(matrices.shape[1:]))
            # A tensor where a graph holds the step.
            rate = group["lr"]
            updates = orthogonal(matrices).mul_(rate * scale).view(moved.shape).movedim(-1, 2)
            torch._foreach_mul_(parameters, 1 - rate * group["weight_decay"])
            torch._foreach_sub_(parameters, list(updates.unbind()))

    def _momentum_of(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"]
        return momentum


def orthogonal(matrices: Tensor) -> Tensor:
    """Each of the float32 matrices (N, rows, columns) with its singular values brought to between
    0.7 and 1.2. In bf16 on a GPU, as published; in fp32 on a CPU, which may emulate bf16."""
    a, b, c = _COEFFICIENTS
    wide = matrices.mT if matrices.shape[1] > matrices.shape[2] else matrices
    x = wide.to(torch.bfloat16 if matrices.is_cuda else torch.float32)
    # No singular value is larger than the norm.
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(_STEPS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.mT if wide is not matrices else x).float()
