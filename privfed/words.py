"""Word embeddings learnt from the public shard alone.

Positive pointwise mutual information of words that stand near one another, factorised by a truncated
singular value decomposition: Levy, Goldberg and Dagan, "Improving distributional similarity with
lessons learned from word embeddings" (TACL 3, 2015), with their context smoothing (.75) and square
roots of the singular values. Plays the role of GloVe, which a private word never shaped either.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from privfed.randomness import Stream
from privfed.records import Records

WINDOW = 8
"""Words on each side that count as near."""
SMOOTHING = 0.75
"""Exponent on the frequency of contexts, which keeps rare ones from looking informative."""


def fit_words(tokens: Tensor, vocabulary: int, dimension: int, stream: Stream) -> Tensor:
    """Vectors of the words of public text; words with similar neighbours come near one another.

    A row has length sqrt(dimension), so that a coordinate is of size 1 (root mean square), as nets
    like their inputs. Padding, words that public text lacks and words without a neighbour are
    zero: of the private vocabulary the table holds nothing but how large it is, and a word's vector does
    not depend on that either.

    Args:
        tokens: public sentences, token numbers with 0 for padding, int64, shape (n, tokens).
        vocabulary: number of token numbers, padding included.
        dimension: of the vectors.
        stream: randomness of the decomposition.

    Returns:
        float32, shape (vocabulary, dimension).

    Raises:
        ValueError: if a token is outside the vocabulary, or the text has too few words.
    """
    _check(tokens, vocabulary)
    seen, numbers = np.unique(tokens.numpy(), return_inverse=True)
    words = int((seen > 0).sum())
    if not 1 <= dimension <= words:
        raise ValueError(
            f"expected 1 <= dimension <= {words}, the different words of the public text, "
            f"got dimension={dimension}"
        )
    # Numbers among the words seen, padding first, whether or not there is any.
    numbers = numbers.reshape(tokens.shape) + int(seen[0] > 0)
    vectors = _factorise(_mutual_information(numbers, words), dimension, stream)
    table = np.zeros((vocabulary, dimension), dtype=np.float32)
    table[seen[seen > 0]] = vectors
    return torch.from_numpy(table)


def embed(records: Records, table: Tensor) -> Records:
    """Sentences as vectors: each token number replaced by its row of `table`.

    Args:
        records: token numbers, int64, shape (n, tokens), with labels.
        table: float32, shape (vocabulary, dimension).

    Returns:
        Records with inputs of shape (n, tokens, dimension), float32.

    Raises:
        ValueError: if the inputs are no token numbers of this table.
    """
    _check(records.inputs, len(table))
    return Records(table.float()[records.inputs], records.labels)


def _check(tokens: Tensor, vocabulary: int) -> None:
    if tokens.dtype != torch.int64 or tokens.ndim != 2 or not tokens.numel():
        raise ValueError(
            "expected token numbers, int64 of shape (n, tokens), "
            f"got tokens={tokens.dtype} of shape {tuple(tokens.shape)}"
        )
    low, high = (int(v) for v in tokens.aminmax())
    if low < 0 or high >= vocabulary:
        raise ValueError(
            f"expected token numbers in 0..{vocabulary - 1}, the vocabulary, got tokens={low}..{high}"
        )


def _mutual_information(numbers: NDArray[np.int64], words: int) -> Any:
    """Positive pointwise mutual information of words 1..`words`, sparse, shape (words, words)."""
    from scipy import sparse

    left, right = [], []
    for distance in range(1, min(WINDOW, numbers.shape[1] - 1) + 1):
        one, other = numbers[:, :-distance].ravel(), numbers[:, distance:].ravel()
        both = (one > 0) & (other > 0)
        left += [one[both] - 1, other[both] - 1]
        right += [other[both] - 1, one[both] - 1]
    empty = [np.zeros(0, dtype=np.int64)]
    pairs = (np.concatenate(left or empty), np.concatenate(right or empty))
    counts = sparse.coo_matrix((np.ones(len(pairs[0])), pairs), shape=(words, words)).tocsr().tocoo()
    total = np.asarray(counts.sum(axis=1)).ravel()
    context = total**SMOOTHING
    share = context / max(context.sum(), 1.0)
    information = np.log(counts.data / (total[counts.row] * share[counts.col]))
    return sparse.csr_matrix((np.maximum(information, 0), (counts.row, counts.col)), shape=(words, words))


def _factorise(information: Any, dimension: int, stream: Stream) -> NDArray[np.float32]:
    from sklearn.decomposition import TruncatedSVD

    if not information.nnz:
        return np.zeros((information.shape[0], dimension), dtype=np.float32)
    model = TruncatedSVD(dimension, n_iter=7, random_state=stream.integer() % 2**32)
    vectors = model.fit_transform(information)
    vectors /= np.sqrt(np.maximum(model.singular_values_, 1e-12))
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled = np.divide(vectors * np.sqrt(dimension), length, out=np.zeros_like(vectors), where=length > 1e-9)
    return cast(NDArray[np.float32], scaled.astype(np.float32))
