"""Labels: a data set without its images, and the arrays that data sets are made of."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]


class Labels(NamedTuple):
    """A data set without its images."""

    train: Indices
    test: Indices
    classes: tuple[str, ...]
    """Names by label; the labels' numbers where the files have no names."""
    val: int = 0
    """So many of the training images, the last ones, are the data set's own validation images; 0
    where it has none and they are split off."""
