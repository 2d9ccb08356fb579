"""Optimizers, and which parameters they treat how."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

from local_machine.code import references
from local_machine.errors import InputError
from trainer.config import OptimizerConfig
from trainer.models.registry import is_own
from trainer.optim.muon import Muon


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """All trainable parameters; where norms and biases do not decay, they are a group of their own.
    Under Muon its matrices are the first group, which says so by `"is_muon": True`.

    What decays are the weights of products: parameters called weight with two dimensions or more.
    Muon's are those but the first and the last, which read the image and write the classes
    (Jordan et al. 2024).
    """
    named = list(model.named_parameters())
    weights = [one for name, one in named if one.ndim >= 2 and name.endswith("weight")]
    matrices = weights[1:-1] if config.name == "muon" else []
    own, decaying = {id(one) for one in matrices}, {id(one) for one in weights}
    rest = [one for _, one in named if id(one) not in own]
    decay = config.weight_decay
    groups: list[dict[str, Any]] = []
    if matrices:
        groups.append({"params": matrices, "weight_decay": decay, "is_muon": True})
    if config.decay_norms_and_biases:
        return [*groups, {"params": rest, "weight_decay": decay}]
    return [
        *groups,
        {"params": [one for one in rest if id(one) in decaying], "weight_decay": decay},
        {"params": [one for one in rest if id(one) not in decaying], "weight_decay": 0.0},
    ]


# torch's optimizers import its compiler, a third of a worker's start, to say that it should leave
# their methods alone. We compile no optimizer, so that the methods do as they are. Where another
# version of torch does this otherwise, nothing here has an effect.
for _name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
    _method = inspect.unwrap(getattr(torch.optim.Optimizer, _name))
    vars(_method).setdefault("__dynamo_disable", _method)


class _SGD(torch.optim.SGD):
    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


class _AdamW(torch.optim.AdamW):
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """SGD with L2 decay, or AdamW, fused into one kernel a step on a CPU and on CUDA alike; or
    Muon."""
    groups = parameter_groups(model, config)
    if is_own(config.name):
        return _own(groups, config)
    if config.name == "adamw":
        return _AdamW(groups, lr=config.lr, betas=(config.momentum, 0.999), fused=True)
    if config.name == "muon":
        return Muon(groups, config.lr, config.momentum)
    return _SGD(
        groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, fused=True
    )


def _own(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.Optimizer:
    """A person's own, made by a function or a class of the parameter groups. Of its other
    parameters those called as a field of the section get the field's value, such as lr, momentum
    and weight_decay; `section` gets all of it. The groups have their weight_decay.

    Raises InputError where it cannot be made, and for what is not an optimizer.
    """
    called = f"optimizer.name={config.name}"
    offered = {**config.model_dump(exclude={"name"}), "section": config}
    make = references.load_callable(config.name, called)
    found = references.call(make, (groups,), offered, called)
    if not isinstance(found, torch.optim.Optimizer):
        raise InputError(
            f"{called} returned a {type(found).__name__}, not an optimizer",
            "return a torch.optim.Optimizer of the parameters from it",
        )
    return found
