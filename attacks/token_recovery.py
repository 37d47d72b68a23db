"""Words of a client's text, from how the input weights of its LSTM moved.

The movement of those weights is a sum, over steps of training and tokens, of outer products whose right
factors are the word vectors that went in, so its rows lie in their span. Petrov et al., "DAGER: exact
gradient inversion for large language models" (arXiv 2405.15586, section 4), hold the vocabulary against the
span of a transformer's first gradients; the same argument holds here, and of an update as of one
gradient. The table of word vectors is public. Momentum keeps the span; weight decay does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks._inversion import check_positive
from attacks._span import rounding, span_of
from attacks._updates import Movement, movements, rebuilt_each, recovered_labels
from attacks.interface import Known, Reconstruction
from privfed.nets import NetSpec, head_names
from privfed.randomness import Stream
from privfed.release import View

INPUT_WEIGHTS = "0.weight_ih"
ROUNDING = 10.0
"""Times the error of storing weights: a word is named only by directions well above it."""


@dataclass(frozen=True, slots=True)
class TokenRecovery:
    """Name the words whose vectors lie in the span of a client's movement.

    Words are those of the attacker's own text. One counts as used if so little of its vector lies outside the
    span. Their order is not told, nor how often each occurs, nor which sentence it is from: a record has
    one word a place, the surest first, and is to be compared as a bag of words. Where they do not fit
    into one record there are several, all with the likeliest label of a lone one. The objective of a
    record is the largest share outside.

    It stops where the words of a client fill the space: as many different ones as a vector has numbers.

    Attributes:
        rounds: first updates of each client that are read.
        outside: share of a vector's length outside the span, below which a word counts as used.
    """

    rounds: int = 1
    outside: float = 0.05

    def __post_init__(self) -> None:
        check_positive(self, "rounds", "outside")

    def reconstruct(self, view: View, known: Known, stream: Stream) -> Reconstruction | None:
        """Bags of words of each client and round; None without updates of an LSTM, or text of one's own."""
        found = movements(view, self.rounds, whole=False)
        if found is None or found[0].family != "lstm":
            return None
        spec, moves = found
        moves = [m for m in moves if INPUT_WEIGHTS in m.start]
        words = vocabulary(known, spec.channels)
        if not moves or not len(words):
            return None
        labels = [_label(spec, m, known) for m in moves]
        parts = [self._bags(spec, m, words, label) for m, label in zip(moves, labels, strict=True)]
        return rebuilt_each(moves, spec.input_shape, parts, len(words) * len(moves), False)

    def _bags(
        self, spec: NetSpec, move: Movement, words: Tensor, label: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Records, labels and objectives of one movement."""
        outside = spanned(move, words)
        order = outside.argsort(stable=True)[: int((outside < self.outside).sum())]
        count = -(-len(order) // spec.size)
        inputs = words.new_zeros(count * spec.size, spec.channels)
        inputs[: len(order)] = words[order]
        worst = (
            torch.stack([outside[part].max() for part in order.split(spec.size)]) if count else outside[:0]
        )
        return inputs.reshape(count, *spec.input_shape), torch.full((count,), label), worst


def vocabulary(known: Known, dimension: int) -> Tensor:
    """Different word vectors in the attacker's text, padding apart, shape (words, dimension)."""
    texts = [
        r.inputs.flatten(0, -2)
        for r in (known.public, known.population)
        if r.inputs.ndim == 3 and r.inputs.shape[-1] == dimension
    ]
    found = torch.cat(texts).unique(dim=0) if texts else torch.empty(0, dimension)
    return found[found.any(1)]


def spanned(move: Movement, words: Tensor) -> Tensor:
    """Share of each word vector's length outside the span of a movement, in [0, 1], shape (words,).

    Lower = more likely among the client's words. All 1 where nothing moved, or where the movement spans the
    whole space and so says nothing.
    """
    span = span_of(move.moved(INPUT_WEIGHTS), ROUNDING * rounding(move.trained[INPUT_WEIGHTS]))
    if not span.tells or not len(words):
        return torch.ones(len(words), dtype=torch.float64)
    vectors = words.double()
    outside: Tensor = (vectors @ span.outside.T).norm(dim=1) / vectors.norm(dim=1)
    return outside.clamp(0, 1)


def _label(spec: NetSpec, move: Movement, known: Known) -> int:
    """The likeliest of a lone record; -1 where no head came."""
    headless = head_names(spec)[1] not in move.start
    return -1 if headless else int(recovered_labels(spec, [move], known, 1, 1.0))
