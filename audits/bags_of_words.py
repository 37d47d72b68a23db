"""How alike sentences are whatever the order of their words: the distance that identifies rebuilt text.

Inversion finds the words of a sentence long before their order, on which an LSTM that averages its states
hardly depends. Compared place by place, a sentence with all its words found in another order would count
as unlike as any other, and the leak as none.
"""

from __future__ import annotations

from torch import Tensor

from audits.reconstruction_measures import Floats, l2


def alike(reconstructions: Tensor, candidates: Tensor) -> Floats:
    """Euclidean distance of every pair, shape (m, n): of images, or of sentences' sums of word vectors.

    Args:
        reconstructions: shape (m, ...).
        candidates: shape (n, ...): embedded sentences (n, tokens, dimension) have three axes.

    Raises:
        ValueError: when the shapes differ.
    """
    if reconstructions.shape[1:] == candidates.shape[1:] and candidates.ndim == 3:
        return l2(reconstructions.double().sum(1), candidates.double().sum(1))
    return l2(reconstructions, candidates)
