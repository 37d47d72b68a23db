"""Named random streams: one root seed, independent generators by path, passed as values.

A stream is derived by hashing (root seed, path), so that adding a consumer never shifts the
numbers another one sees, and no code touches a global generator.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch

Name = str | int


@dataclass(frozen=True, slots=True)
class Stream:
    """A place in the tree of random streams under one root seed.

    >>> Stream(0).child("federation", 3) == Stream(0, ("federation", 3))
    True
    >>> Stream(0).child("a").integer() != Stream(0).child("b").integer()
    True
    """

    seed: int
    path: tuple[Name, ...] = ()

    def child(self, *names: Name) -> Stream:
        """The stream named `names` below this one."""
        return Stream(self.seed, self.path + names)

    def integer(self) -> int:
        """A 63-bit seed that only this path has (SHA-256 of seed and path)."""
        text = json.dumps([self.seed, *self.path], separators=(",", ":"))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def numpy(self) -> np.random.Generator:
        """A fresh NumPy generator at the start of this stream."""
        import numpy as np

        return np.random.default_rng(self.integer())

    def torch(self, device: str = "cpu") -> torch.Generator:
        """A fresh torch generator on `device` at the start of this stream."""
        import torch

        return torch.Generator(device=device).manual_seed(self.integer())
