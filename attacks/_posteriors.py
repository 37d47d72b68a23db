"""What the whole posterior of a classifier says of a record, in float64 from its logits.

Sources: Song and Mittal, "Systematic evaluation of privacy risks of machine learning models" (USENIX
Security 2021), section 4.1 (modified entropy); Banerjee et al., "Exploring alternatives to softmax
function" (arXiv 2011.11538), sections 3.1 and 3.3 (Taylor softmax and its soft margin).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attacks.interface import Candidates, Signals


def entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Entropy of the prediction, -sum_i p_i log p_i, in nats; lower = surer, rightly or not.

    Args:
        logits: shape (..., n, classes), at least two classes.
        labels: not read.

    Returns:
        float64, shape (..., n).
    """
    log_p, _ = log_probabilities(logits)
    return -(log_p.exp() * log_p).sum(-1)


def modified_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mentr(p, y) = -(1 - p_y) log p_y - sum_{i != y} p_i log(1 - p_i), in nats; 0 = sure and right.

    Args:
        logits: shape (..., n, classes), at least two classes.
        labels: int64, shape (n,).

    Returns:
        float64, shape (..., n).
    """
    log_p, log_rest = log_probabilities(logits)
    terms = log_p.exp() * log_rest
    index = labels.expand(log_p.shape[:-1]).unsqueeze(-1)
    own = (log_rest.gather(-1, index).exp() * log_p.gather(-1, index)).squeeze(-1)
    return -own - terms.scatter(-1, index, 0.0).sum(-1)


def minus_log(nats: Tensor) -> Tensor:
    """-log of an entropy, finite at 0 as well: spreads out what lies close to 0; higher = lower entropy."""
    return -nats.clamp_min(torch.finfo(torch.float64).tiny).log()


def correct(logits: Tensor, labels: Tensor) -> Tensor:
    """1 where no label has a higher logit than the record's own, else 0; float64, shape (..., n)."""
    index = labels.expand(logits.shape[:-1]).unsqueeze(-1)
    return (logits.gather(-1, index).squeeze(-1) >= logits.amax(-1)).double()


def soft_margin_confidence(logits: Tensor, labels: Tensor, margin: float, order: int) -> Tensor:
    """Logit of p_y = f(z_y - margin) / (f(z_y - margin) + sum_{i != y} f(z_i)), with f as `order` says.

    Args:
        logits: shape (..., n, classes), at least two classes, divided by their temperature.
        labels: int64, shape (n,).
        margin: by which the record's own logit is held back.
        order: even degree of the Taylor polynomial of exp, which is then positive everywhere, that f
            stands for; 0 = exp itself.

    Returns:
        float64, shape (..., n); higher = more confident.
    """
    wide = logits.double()
    index = labels.expand(wide.shape[:-1]).unsqueeze(-1)
    own = wide.gather(-1, index).squeeze(-1) - margin
    rivals = _log_exp(wide, order).scatter(-1, index, -torch.inf)
    return _log_exp(own, order) - torch.logsumexp(rivals, -1)


def by_label(signals: Signals, candidates: Candidates) -> Signals:
    """The same signals with one column of the population a client and label.

    Column c * labels + y holds client c's signals of the population records that carry label y, in
    order, filled up with NaN; `clients` of a candidate is the column of its own client and label.
    So an attack that goes by these columns goes by class, and `score` is handed no labels. Neither the
    columns nor their order depend on who was a member.
    """
    labels = candidates.population.labels.cpu().numpy()
    own = candidates.records.labels.cpu().numpy()
    count = int(max(labels.max(initial=-1), own.max(initial=-1))) + 1
    of_label = [np.flatnonzero(labels == y) for y in range(count)]
    rows = max((len(at) for at in of_label), default=0)
    _, queries, clients = signals.population.shape
    population = np.full((rows, queries, clients, count), np.nan)
    for label, at in enumerate(of_label):
        population[: len(at), ..., label] = signals.population[at]
    columns = (signals.clients * count + own).astype(np.int64)
    return Signals(signals.candidates, population.reshape(rows, queries, clients * count), columns)


def grouped(signals: Signals) -> list[NDArray[np.int64]]:
    """Which candidates share a column of the population, one array of indices a column in use."""
    return [np.flatnonzero(signals.clients == g) for g in np.unique(signals.clients)]


def log_probabilities(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of p_i and of 1 - p_i, both exact where p_i is close to 0 or 1; shape as `logits`."""
    wide = logits.double()
    log_p = torch.log_softmax(wide, -1)
    top = wide.argmax(-1, keepdim=True)
    # Only the largest can round to 1: its complement is the sum of the others.
    others = torch.logsumexp(wide.scatter(-1, top, -torch.inf), -1, keepdim=True)
    log_others = others - torch.logsumexp(wide, -1, keepdim=True)
    log_p = log_p.scatter(-1, top, torch.log1p(-log_others.exp()))
    return log_p, torch.log1p(-log_p.exp()).scatter(-1, top, log_others)


def _log_exp(z: Tensor, order: int) -> Tensor:
    """Logarithm of the Taylor polynomial of exp of that degree; z itself at 0."""
    if order == 0:
        return z
    total = term = torch.ones_like(z)
    for i in range(1, order + 1):
        term = term * z / i
        total = total + term
    return total.log()
