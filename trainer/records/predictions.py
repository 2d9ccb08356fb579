"""The rows of predictions.parquet."""

from __future__ import annotations

from typing import Any

import torch

from trainer.data.datasets import Dataset


def predictions(data: Dataset, logits: torch.Tensor) -> list[dict[str, Any]]:
    """A row for each test image; `logits` (n, classes) are of them, in order."""
    return [
        {"index": index, "label": label, "logits": values}
        for index, label, values in zip(
            data.test_index.tolist(), data.test_labels.tolist(), logits.tolist(), strict=True
        )
    ]
