"""A search for sentences whose words and states lie in the span of an LSTM's movement, first word first."""

from __future__ import annotations

import torch
from torch import Tensor

from attacks._span import Span, surprise
from privfed.nets import Params

MARGIN = 3.0
"""A beginning whose cost a place is this much above that of the best is followed no further."""
CANCELLED = 64.0
"""Machine precisions that a squared length loses when it is made of products."""


def searched(
    span: Span, model: Params, options: Tensor, tokens: int, roots: int, width: int
) -> tuple[Tensor, Tensor, int]:
    """Sentences of least cost: the mean over places of log(1 + `surprise`).

    Args:
        span: of the movement of the input weights, the recurrent weights and one bias, side by side.
        model: the LSTM alone, parameters as in `privfed.architectures.lstm`, float64.
        options: what may stand at a place, shape (k, dimension), float64.
        tokens: places of a sentence.
        roots: first words that are followed.
        width: beginnings kept of each.

    Returns:
        Places in `options`, shape (n, tokens), and costs (n,), both best first; and how many words were
        tried.
    """
    sides = (span.inside / span.sizes[:, None], span.outside)
    of_words = [options @ side[:, : options.shape[1]].T for side in sides]
    of_states = [side[:, options.shape[1] :].T for side in sides]
    hidden = options.new_zeros(1, len(of_states[0]) - 1)
    texts, costs, cells = torch.zeros(1, 0, dtype=torch.int64), options.new_zeros(1), hidden
    families, work = torch.zeros(1, dtype=torch.int64), 0
    for place in range(tokens):
        state = torch.cat([hidden, hidden.new_ones(len(hidden), 1)], 1)
        lengths = [sums(state @ one, word) for one, word in zip(of_states, of_words, strict=True)]
        total = costs[:, None] + torch.log1p(surprise(span, *lengths))
        work += total.numel()
        before, word = kept(total, families, roots if place == 0 else width, place == 0)
        near = total[before, word] <= float(total.min()) + MARGIN * (place + 1)
        before, word = before[near], word[near]
        families = torch.arange(len(word)) if place == 0 else families[before]
        texts = torch.cat([texts[before], word[:, None]], 1)
        costs = total[before, word]
        hidden, cells = stepped(model, options[word], hidden[before], cells[before])
    order = costs.argsort(stable=True)
    return texts[order], costs[order] / tokens, work


def sums(left: Tensor, right: Tensor) -> Tensor:
    """Squared length of every sum of two rows, shape (n, k), without what rounding alone would leave.

    Args:
        left: shape (n, d).
        right: shape (k, d).
    """
    parts = left.square().sum(1)[:, None] + right.square().sum(1)
    lost = CANCELLED * torch.finfo(left.dtype).eps * parts
    return torch.addmm(parts, left, right.T, alpha=2).sub(lost).clamp_min(0.0)


def kept(total: Tensor, families: Tensor, most: int, together: bool) -> tuple[Tensor, Tensor]:
    """Rows and columns of the `most` least entries, of all rows or of the rows of each family."""
    groups = (
        [torch.arange(len(total))]
        if together
        else [(families == f).nonzero()[:, 0] for f in families.unique()]
    )
    rows, columns = [], []
    for group in groups:
        own = total[group].flatten()
        best = own.topk(min(most, len(own)), largest=False).indices
        rows.append(group[best // total.shape[1]])
        columns.append(best % total.shape[1])
    return torch.cat(rows), torch.cat(columns)


def stepped(model: Params, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """States after one more word, shapes (n, units) each: one step of `privfed.architectures.lstm.unroll`."""
    bias = model["0.bias_ih"] + model["0.bias_hh"]
    gates = x @ model["0.weight_ih"].T + hidden @ model["0.weight_hh"].T + bias
    enter, forget, candidate, out = gates.chunk(4, -1)
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
    return torch.sigmoid(out) * torch.tanh(cell), cell


def apart(texts: Tensor, costs: Tensor, most: int) -> Tensor:
    """Places of the best sentences of which no two agree in half of their places or more, shape (m,)."""
    chosen: list[int] = []
    for i in costs.argsort(stable=True).tolist():
        alike = (texts[chosen] == texts[i]).double().mean(1) if chosen else costs[:0]
        if not bool((alike >= 0.5).any()):
            chosen.append(i)
        if len(chosen) == most:
            break
    return torch.tensor(chosen, dtype=torch.int64)
