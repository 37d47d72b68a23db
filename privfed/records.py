"""Records held in memory as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Records:
    """Labelled images in memory.

    Attributes:
        images: float32, shape (n, channels, height, width), values in [-1, 1].
        labels: int64, shape (n,).
    """

    images: torch.Tensor
    labels: torch.Tensor

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                "expected images (n, channels, height, width) and labels (n,), "
                f"got images={tuple(self.images.shape)} and labels={tuple(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    def to(self, device: str) -> Records:
        """The same records on `device`."""
        return Records(self.images.to(device), self.labels.to(device))

    def take(self, index: torch.Tensor) -> Records:
        """The records at `index` (integers or a boolean mask), as copies."""
        return Records(self.images[index], self.labels[index])


def concatenate(parts: list[Records]) -> Records:
    """All records of `parts`, in order."""
    return Records(torch.cat([p.images for p in parts]), torch.cat([p.labels for p in parts]))
