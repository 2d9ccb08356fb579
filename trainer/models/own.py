"""A person's own network, by reference, and any of timm by name.

The builder is a function or a class. It is given those parameters that it declares: `num_classes`
or `classes`, `image_size` or `img_size` (pixels), and `channels`, `in_channels` or `in_chans` (3).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from local_machine.code import references
from local_machine.errors import InputError
from trainer.models.registry import TIMM, check_timm

CHANNELS = 3
_TRIED = 2


def build(name: str, num_classes: int, image_size: int) -> nn.Module:
    """Raises InputError where there is no such code, where it fails, and where it returns no
    network that can be trained."""
    called = f"model.name={name}"
    offered = {
        **dict.fromkeys(("num_classes", "classes"), num_classes),
        **dict.fromkeys(("image_size", "img_size"), image_size),
        **dict.fromkeys(("channels", "in_channels", "in_chans"), CHANNELS),
    }
    if name.startswith(TIMM):
        network = _of_timm(name.removeprefix(TIMM), offered, called)
    else:
        network = references.call(references.load_callable(name, called), (), offered, called)
    if not isinstance(network, nn.Module):
        raise InputError(
            f"{called} returned a {type(network).__name__}, not a network",
            "return a torch.nn.Module from it",
        )
    _check_logits(network, num_classes, image_size, called)
    if not any(one.requires_grad for one in network.parameters()):
        raise InputError(
            f"{called} has no parameter to train", "register its layers as attributes of the module"
        )
    return network


def _of_timm(name: str, offered: dict[str, int], called: str) -> object:
    check_timm(TIMM + name)
    timm = importlib.import_module("timm")
    if not timm.is_model(name):
        raise InputError(
            f"{called}: timm {timm.__version__} has no network {name!r}",
            'see its names: python -c "import timm; print(timm.list_models())"',
        )
    words = {"num_classes": offered["num_classes"], "in_chans": CHANNELS}
    # Transformers are made for one size of image; others have no such parameter.
    cfg = timm.get_pretrained_cfg(name)
    if cfg is not None and cfg.fixed_input_size:
        words["img_size"] = offered["img_size"]
    return references.call(
        lambda: timm.create_model(name, pretrained=False, **words), (), {}, called
    )


def _check_logits(network: nn.Module, classes: int, size: int, called: str) -> None:
    """Raises InputError where the network fails, and where it does not make a row of logits of each
    image. Gives lazy layers their shapes."""
    images = torch.zeros(_TRIED, CHANNELS, size, size)
    network.eval()
    with torch.no_grad():
        what = f"{called} on images of shape {list(images.shape)}"
        logits = references.call(network.forward, (images,), {}, what)
    network.train()
    said = f"a {type(logits).__name__}"
    if isinstance(logits, Tensor):
        if tuple(logits.shape) == (_TRIED, classes):
            return
        said = f"a tensor of shape {list(logits.shape)}"
    raise InputError(
        f"{called} makes {said} of {_TRIED} images of {classes} classes",
        f"return logits of shape [N, {classes}] from its forward: one number a class",
    )


def cam_layer(network: nn.Module, images: Tensor) -> str | None:
    """The layer whose map Grad-CAM looks at: the network's attribute `cam_layer`, where it has one;
    else the last one, in the order of running, whose output is a square map of more than one place,
    (N, C, H, W), as images are square. None where there is none. `network` is in evaluation mode.

    Raises InputError where `cam_layer` names no layer.
    """
    given = getattr(network, "cam_layer", ...)
    if given is None or isinstance(given, str):
        if given is not None and given not in dict(network.named_modules()):
            raise InputError(
                f"cam_layer of the network is {given!r}, and it has no such layer",
                "name one of network.named_modules()",
            )
        return given
    found: list[str] = []
    hooks = [module.register_forward_hook(_noted(name, found)) for name, module in _inner(network)]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return found[-1] if found else None


def _inner(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((name, module) for name, module in network.named_modules() if name)


def _noted(name: str, found: list[str]) -> Callable[[nn.Module, object, object], None]:
    def note(module: nn.Module, inputs: object, output: object) -> None:
        if (
            isinstance(output, Tensor)
            and output.ndim == 4
            and output.shape[2] == output.shape[3] > 1
        ):
            found.append(name)

    return note
