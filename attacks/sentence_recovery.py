"""Sentences of a client, word by word in their order, from how its LSTM moved in one step of training.

What goes into an LSTM at a step is the word vector x, the state h that the words before left, and 1 for the
bias; the movement of its weights side by side is a sum of outer products with (x, h, 1), so these lie
in the span of its rows. Before the first word h is 0: each word of the public table can be held against the
span as a first word. The broadcast model then says which state that word leaves, and so on to the end.
Petrov et al., "DAGER: exact gradient inversion for large language models" (arXiv 2405.15586, section 5),
search a decoder's texts in this order; carrying the state of a recurrent net along is our own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from attacks._inversion import check_positive, gradients
from attacks._span import Span, rounding, span_of
from attacks._state_search import apart, searched
from attacks._updates import Movement, lanes, movements, rebuilt_each
from attacks.interface import Known, Reconstruction
from attacks.token_recovery import INPUT_WEIGHTS, spanned, vocabulary
from privfed.nets import NetSpec, Params, head_names
from privfed.randomness import Stream
from privfed.release import View

STATE_WEIGHTS, BIAS = "0.weight_hh", "0.bias_ih"
BOTH_BIASES = (BIAS, "0.bias_hh")
WORD_OUTSIDE = 0.3
"""Share of a word vector outside the span of the input weights' movement above which it was not used."""


@dataclass(frozen=True, slots=True)
class SentenceRecovery:
    """Rebuild sentences by following the states that each word would have left.

    Exact for one full-batch step while the tokens of a client, padding counted, are fewer than numbers in (x,
    h, 1): more than by the word vectors alone, in their order, with words that occur twice, and of
    several sentences. After several steps the state is that of the model halfway, and the span is known to
    `drift` alone. The search keeps the `width` best beginnings of each of 4 `records` first words. The
    objective is the mean over places of log(1 + what lies outside the span over what noise explains);
    of sentences that agree in half of their places only the better is given.

    It says nothing of a client whose inputs fill the space.

    Attributes:
        records: sentences rebuilt of each update.
        rounds: first updates of each client that are read.
        width: beginnings kept of each first word.
        local_steps: recipe assumed of the client: full-batch steps.
        drift: of several steps: noise on each entry of the movement, over its root mean square.
        noise: standard deviation of what is known to have been added to each entry, as by a defence.
    """

    records: int = 1
    rounds: int = 1
    width: int = 8
    local_steps: int = 1
    drift: float = 1e-4
    noise: float = 0.0

    def __post_init__(self) -> None:
        check_positive(self, "records", "rounds", "width", "local_steps", "drift")
        if not self.noise >= 0:
            raise ValueError(f"expected noise >= 0, got noise={self.noise}")

    def reconstruct(self, view: View, known: Known, stream: Stream) -> Reconstruction | None:
        """Up to `records` sentences a client and round; None without updates of an LSTM, or own text."""
        found = movements(view, self.rounds, whole=False)
        if found is None or found[0].family != "lstm":
            return None
        spec, moves = found
        moves = [m for m in moves if {INPUT_WEIGHTS, STATE_WEIGHTS, BIAS} <= set(m.start)]
        words = vocabulary(known, spec.channels)
        if not moves or not len(words):
            return None
        parts, work = [], 0
        for move in moves:
            part, tried = self._one(spec, move, words)
            parts.append(part)
            work += tried
        return rebuilt_each(moves, spec.input_shape, parts, work, False)

    def _one(self, spec: NetSpec, move: Movement, words: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], int]:
        """Sentences, labels and objectives of one movement, and the words that were tried."""
        span = self._span(move)
        if not span.tells:
            empty = words.new_empty(0)
            return (empty.reshape(0, *spec.input_shape), empty.long(), empty), 0
        outside = spanned(move, words)
        used = words[outside < WORD_OUTSIDE] if bool((outside < WORD_OUTSIDE).any()) else words
        options = torch.cat([words.new_zeros(1, spec.channels), used]).double()
        texts, cost, work = searched(
            span, self._model(move), options, spec.size, 4 * self.records, self.width
        )
        chosen = apart(texts, cost, self.records)
        inputs = options[texts[chosen]].to(words.dtype)
        return (inputs, labelled(spec, move, inputs), cost[chosen]), work

    def _span(self, move: Movement) -> Span:
        moved = torch.cat(
            [move.moved(n) for n in (INPUT_WEIGHTS, STATE_WEIGHTS)] + [move.moved(BIAS)[:, None]], 1
        )
        drifted = self.drift * float(moved.double().square().mean().sqrt()) if self.local_steps > 1 else 0.0
        noise = rounding(move.trained[INPUT_WEIGHTS])
        return span_of(moved, (noise**2 + self.noise**2 + drifted**2) ** 0.5)

    def _model(self, move: Movement) -> Params:
        """The LSTM whose states are followed: as sent for one step, halfway for several."""
        at = 0.0 if self.local_steps == 1 else 0.5
        names = (INPUT_WEIGHTS, STATE_WEIGHTS, *BOTH_BIASES)
        return {n: torch.lerp(move.start[n].double(), move.trained[n].double(), at) for n in names}


def labelled(spec: NetSpec, move: Movement, inputs: Tensor) -> Tensor:
    """Labels under which the sentences' gradients together point as the movement does, int64, shape (m,).

    Each first on its own, then in turn with those of the others as they are, twice over. -1 where no
    head was sent, without which there is no loss.
    """
    m, classes = len(inputs), spec.classes
    if not m or set(head_names(spec)) - set(move.start):
        return torch.full((m,), -1)
    one = lanes(spec, [move] * (m * classes), torch.arange(classes).repeat(m)[:, None])
    x = inputs.to(one.start[INPUT_WEIGHTS]).repeat_interleave(classes, 0)[:, None]
    params = {k: v.requires_grad_() for k, v in one.start.items()}
    made = gradients(one, params, (x, one.targets()))
    # A head that was not broadcast did not move, and says nothing.
    told = [k for k, v in move.start.items() if not torch.equal(v, move.trained[k])]
    found = torch.cat([made[k].detach().flatten(1) for k in told], 1).double().view(m, classes, -1)
    moved = torch.cat([move.moved(k).flatten() for k in told]).double()
    labels = F.cosine_similarity(found, moved, dim=-1).argmax(1)
    for i in [*range(m), *range(m)] if m > 1 else []:
        others = found[torch.arange(m), labels].sum(0) - found[i, labels[i]]
        labels[i] = F.cosine_similarity(others + found[i], moved, dim=-1).argmax()
    return labels.cpu()
