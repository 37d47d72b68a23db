"""The span of a movement of weights, and how far vectors lie outside it next to what noise would explain.

A layer's movement is a sum of outer products of errors and of what went into the layer, so its rows
lie in the span of the inputs. With G = sum_t e_t v_t' and inputs that are linearly independent, each v is G'a
for some a; noise E on the movement takes it out of the span that is seen by about E'a: so much is no evidence
against a vector, more is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FLOOR = 2.0  # times the largest singular value of noise alone: a smaller one is no direction


@dataclass(frozen=True, slots=True)
class Span:
    """Directions that a movement shows above its noise.

    Attributes:
        inside: orthonormal rows, shape (rank, d).
        outside: orthonormal rows of the rest, shape (d - rank, d).
        sizes: singular values of `inside`, descending, shape (rank,).
        noise: standard deviation of each entry of the movement.
    """

    inside: Tensor
    outside: Tensor
    sizes: Tensor
    noise: float

    @property
    def tells(self) -> bool:
        """Whether anything lies inside, and anything outside."""
        return bool(len(self.inside) and len(self.outside))


def span_of(moved: Tensor, noise: float) -> Span:
    """The span of the rows of a movement.

    Args:
        moved: shape (m, d).
        noise: standard deviation of each entry, above 0; of rounding at least (`rounding`).
    """
    _, sizes, rows = torch.linalg.svd(moved.double(), full_matrices=True)
    floor = FLOOR * noise * (moved.shape[0] ** 0.5 + moved.shape[1] ** 0.5)
    rank = int((sizes > floor).sum())
    # As many directions as rows: each input may be a mixture, and none need lie outside.
    rest = rows[rank:] if rank < len(sizes) else rows[:0]
    return Span(rows[:rank], rest, sizes[:rank], noise)


def rounding(after: Tensor) -> float:
    """Standard deviation of the error that storing weights in their precision leaves on a movement.

    The error of a number m 2^k, m in [1, 2), is uniform over eps 2^k, so of variance (eps / m)^2 / 12 of its
    square, which for m uniform has the mean eps^2 / 24.
    """
    tiny = torch.finfo(after.dtype)
    return max(tiny.eps * float((after.double().square().mean() / 24).sqrt()), tiny.tiny)


def surprise(span: Span, inside: Tensor, outside: Tensor) -> Tensor:
    """Squared length outside the span over what noise would leave there, shape (...,); lower = rather in it.

    About 1 for a vector of the span, whatever the noise: chi square over its degrees of freedom.

    Args:
        span: one that `tells`.
        inside: squared length of the vectors' coordinates along `span.inside`, each over its singular
            value, shape (...,).
        outside: squared length of those along `span.outside`, shape (...,).
    """
    explained = inside * (span.noise**2 * len(span.outside))
    return outside / explained.clamp_min(torch.finfo(inside.dtype).tiny)
