"""Other people's trainers, run from their checkouts, and the images that they and we train on.

Nothing of theirs is kept here: a checkout is a path, and its own modules are imported from there.
Where torchvision's CIFAR10 would be asked for it gets `Cifar`, which does what that class does (an
image from a uint8 array, through PIL, through the transforms), over the images that we train on.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import io
import os
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

# Our names for the models that pytorch-cifar has too.
PYTORCH_CIFAR = {
    "resnet18": "ResNet18",
    "resnet34": "ResNet34",
    "resnet50": "ResNet50",
    "dla34": "DLA",
}


class Cifar:
    """torchvision.datasets.CIFAR10's twin over the arrays of images.py in `folder`."""

    def __init__(
        self,
        folder: Path,
        root: str = "",
        train: bool = True,
        download: bool = False,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        part = "train" if train else "test"
        self.images = np.load(folder / f"{part}_images.npy")
        self.targets = np.load(folder / f"{part}_labels.npy").tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = Image.fromarray(self.images[index])
        return (self.transform(image) if self.transform else image), self.targets[index]


def module(path: Path) -> Any:
    """The module in a file of a checkout, whose folder it may import from."""
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.exists():
        sys.exit(f"error: there is no {path}\nhelp: give the folder of the peer's checkout")
    found = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = found
    spec.loader.exec_module(found)
    return found


def pytorch_cifar(
    checkout: Path, arrays: Path, model: str, batch: int = 128, width: float = 1.0
) -> dict[str, Any]:
    """What main.py of kuangliu/pytorch-cifar defines, `train` and `test` among it.

    The script is executed as shipped but for the loop over epochs at its end, the line that names
    the model (which its users edit), the training batch, and CIFAR10.
    """
    path = checkout / "main.py"
    text = path.read_text() if path.exists() else ""
    edits = {
        "\nnet = SimpleDLA()": f"\nnet = narrow({PYTORCH_CIFAR[model]}(), {width})",
        "batch_size=128": f"batch_size={batch}",
    }
    for old, new in edits.items():
        if text.count(old) != 1:
            sys.exit(f"error: {path} is not pytorch-cifar's main.py\nhelp: --peer CHECKOUT")
        text = text.replace(old, new)
    script = ast.parse(text, str(path))
    assert isinstance(script.body.pop(), ast.For), "main.py ends with its loop over epochs"
    replace_cifar(arrays)
    # Its progress bar asks `stty` for the terminal's size, and fails where there is no terminal.
    vars(os)["popen"] = lambda *_: io.StringIO("24 80")
    sys.path.insert(0, str(checkout))
    sys.argv = ["main.py"]
    names: dict[str, Any] = {"__name__": "main", "narrow": narrow}
    exec(compile(script, str(path), "exec"), names)
    return names


def narrow(net: Any, width: float) -> Any:
    """pytorch-cifar's ResNet-18 with all its channels times `width`; the net itself at 1."""
    if width == 1:
        return net
    if type(net).__name__ != "ResNet" or len(net.layer1) != 2:
        sys.exit("error: of pytorch-cifar's models only resnet18 is narrowed here")
    block, channels = type(net.layer1[0]), int(64 * width)
    net.in_planes = channels
    net.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=False)
    net.bn1 = nn.BatchNorm2d(channels)
    for level in range(4):
        layer = net._make_layer(block, channels << level, 2, 2 if level else 1)
        setattr(net, f"layer{level + 1}", layer)
    net.linear = nn.Linear(channels << 3, 10)
    return net


class Tuned(nn.Module):
    """A peer's network with what its users add by hand: channels_last, bf16, compile."""

    def __init__(self, net: nn.Module, options: Sequence[str]) -> None:
        super().__init__()
        # torch.compile does not see through DataParallel, which does nothing on one GPU.
        net = net.module if isinstance(net, nn.DataParallel) else net
        self.channels_last, self.bf16 = "channels_last" in options, "bf16" in options
        if self.channels_last:
            net = net.to(memory_format=torch.channels_last)
        self.net = torch.compile(net) if "compile" in options else net

    def forward(self, images: Tensor) -> Tensor:
        images = images.float()  # airbench's loader gives halves
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            logits: Tensor = self.net(images)
        return logits.float()


def airbench_loader(checkout: Path, arrays: Path, batch: int) -> Any:
    """cifar10-airbench's own loader with airbench96's augmentation (flip, translate 4, cutout 12)
    on the GPU, or else on the CPU, through the argument that it has for the device."""
    airbench = module(checkout / "legacy" / "airbench96.py")
    device = 0 if torch.cuda.is_available() else "cpu"
    aug = airbench.hyp["aug"]
    return airbench.CifarLoader(str(arrays), batch_size=batch, aug=aug, gpu=device)


def wide(checkout: Path, arrays: Path) -> Any:
    """train.py of xternalz/WideResNet-pytorch, whose `main` is then run as shipped.

    It writes to TensorBoard only if told to, and needs no logger here. It knows only CUDA: on a
    CPU its calls of .cuda() do nothing.
    """
    if importlib.util.find_spec("tensorboard_logger") is None:
        logger = types.ModuleType("tensorboard_logger")
        vars(logger).update(configure=None, log_value=None)
        sys.modules["tensorboard_logger"] = logger
    if not torch.cuda.is_available():
        for kind in (Tensor, nn.Module):
            setattr(kind, "cuda", lambda self, *_, **__: self)  # noqa: B010
    replace_cifar(arrays)
    return module(checkout / "train.py")


def replace_cifar(arrays: Path) -> None:
    torchvision.datasets.CIFAR10 = functools.partial(Cifar, arrays)
