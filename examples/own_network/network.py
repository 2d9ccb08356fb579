"""A small MLP-Mixer (Tolstikhin et al. 2021, https://arxiv.org/abs/2105.01601), and a metric."""

import torch
from torch import Tensor, nn


class Mixer(nn.Module):
    """Patches of 4 x 4 pixels are mixed with each other, then their channels."""

    cam_layer = None  # it has no map of the image that Grad-CAM could show

    def __init__(self, num_classes: int, image_size: int, width: int = 32, depth: int = 2) -> None:
        super().__init__()
        patches = (image_size // 4) ** 2
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.blocks = nn.ModuleList(_block(patches, width) for _ in range(depth))
        self.head = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, S, S) to logits (N, classes)."""
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        for block in self.blocks:
            tokens = tokens + block["between"](tokens.transpose(1, 2)).transpose(1, 2)
            tokens = tokens + block["within"](tokens)
        return self.head(tokens.mean(1))


def _block(patches: int, width: int) -> nn.ModuleDict:
    def mlp(size: int) -> nn.Sequential:
        return nn.Sequential(
            nn.LayerNorm(size), nn.Linear(size, 2 * size), nn.GELU(), nn.Linear(2 * size, size)
        )

    return nn.ModuleDict({"between": mlp(patches), "within": mlp(width)})


def deep(num_classes: int, image_size: int) -> Mixer:
    return Mixer(num_classes, image_size, depth=4)


def worst_recall(logits: Tensor, targets: Tensor) -> float:
    """The recall of the class that is recognised worst."""
    right = logits.argmax(1) == targets
    return min(right[targets == one].float().mean().item() for one in torch.unique(targets))
