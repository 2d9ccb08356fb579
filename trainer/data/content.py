"""The hash of a data set's content: which images there are, and how they are labelled."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from trainer.data.labels import Images, Indices
from trainer.data.pixels import digest


def content_sha256(
    train_images: Images, train_labels: Indices, test_images: Images, test_labels: Indices
) -> str:
    """Of a whole data set: what its training and test images are and how they are labelled, in any
    order, since files and downloads have orders of their own.

    The SHA-256 of each image (its label, height, width and channels as 64-bit little-endian
    integers, then its bytes), sorted within each part; the SHA-256 of their number and of them, the
    training images first, a data set's own validation images among them.
    """
    return sha256_of(
        [
            digest(label, image.shape[0], image.shape[1], image.tobytes())
            for image, label in zip(images, labels, strict=True)
        ]
        for images, labels in ((train_images, train_labels), (test_images, test_labels))
    )


def sha256_of(parts: Iterable[list[bytes]]) -> str:
    """Of the digests of each part's images, which it sorts."""
    whole = hashlib.sha256()
    for digests in parts:
        whole.update(np.array(len(digests), "<i8").tobytes())
        digests.sort()
        for one in digests:
            whole.update(one)
    return whole.hexdigest()
