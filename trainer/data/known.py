"""The data sets that are known by what is in them: CIFAR-10, and scikit-learn's digits.

Whether images are CIFAR-10's is never asked of a name: a folder can be called anything. It follows
from the hash of the whole data set (`trainer.data.datasets.content_sha256`).
"""

from __future__ import annotations

from dataclasses import dataclass

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class KnownData:
    name: str
    """As in data.name."""
    sha256: str
    """Of the content of the whole data set, whatever the configuration leaves of it."""
    classes: tuple[str, ...]
    """Names by label."""
    train_images: int
    """Before any limit and the split into training and validation images."""
    test_images: int


CIFAR10 = KnownData(
    "cifar10",
    "ee5ac21f81e7eab0ac5d777b1f8abeff7776647afe6f62a6079b1563638af96a",
    (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
    50_000,
    10_000,
)
# Over all pixels of the 50,000 training images. The often seen std 0.2023 0.1994 0.2010 is a
# mistake: the mean over images of each image's own deviation.
CIFAR10_MEAN: Channels = (0.4914, 0.4822, 0.4465)
CIFAR10_STD: Channels = (0.2470, 0.2435, 0.2616)

DIGITS = KnownData(
    "digits",
    "370ad16c4f6ee1b10544b5beab5f1e250e36ed6ccbfb552ce065cdd9da0f5198",
    tuple(map(str, range(10))),
    1_438,
    359,
)

KNOWN = {known.name: known for known in (CIFAR10, DIGITS)}
