"""What reconstructions must beat: pictures that anybody could have handed in without reading a client.

The class mean and the best public record need no federation; the prior alone needs no update. A
figure that does not exceed theirs is no leak (compare the reporting of Carlini, Feldman and Nasr,
"No free lunch in 'Privacy for free'", 2022).
"""

from __future__ import annotations

import torch
from torch import Tensor

from audits.reconstruction_measures import Features, l2, perceptual_distance
from privfed.prior import Prior
from privfed.randomness import Stream
from privfed.records import Records, concatenate


def class_means(records: Records, labels: Tensor) -> Records:
    """For each label the mean of the records that carry it.

    Of public records this is what anybody knows; of a client's members it is what a set distilled from
    many of them gives away without giving any single one away.

    Args:
        records: what is averaged.
        labels: int64, shape (m,): labels wanted.

    Returns:
        At most m records: labels that no record carries are left out.
    """
    held = [c for c in labels.tolist() if bool((records.labels == c).any())]
    if not held:
        return records.take(torch.zeros(0, dtype=torch.int64))
    means = torch.stack([records.inputs[records.labels == c].mean(0) for c in held])
    return Records(means, torch.tensor(held, dtype=torch.int64))


def public_neighbours(queries: Records, public: Records, features: Features | None = None) -> Records:
    """The nearest public record of each query, with the query's label.

    Asked of reconstructions, it shows whether looking the result up in public data serves as well. Asked
    of the members themselves, it shows how alike public data are to them without any attack; that
    knows the truth, so it bounds likeness and must not be read as identification.

    Args:
        queries: m records.
        public: at least one.
        features: of an independent network; pixels when None.

    Raises:
        ValueError: without public records.
    """
    if not len(public):
        raise ValueError("expected at least one public record, got public=0")
    if features is None:
        distances = l2(queries.inputs, public.inputs)
    else:
        distances = perceptual_distance(queries.inputs, public.inputs, features)
    nearest = torch.from_numpy(distances).nan_to_num(torch.inf).argmin(1)
    return Records(public.inputs[nearest], queries.labels)


def prior_only(prior: Prior, labels: Tensor, stream: Stream) -> Records:
    """What the generative prior draws for those labels before it saw any update, shape (m, ...)."""
    with torch.no_grad():
        return Records(prior.decode(prior.sample(labels, stream.torch())), labels)


def copies(members: Records, count: int) -> Records:
    """The first `count` members themselves, over and over: the control with the leak planted."""
    rounds = -(-count // max(len(members), 1))
    return concatenate([members] * rounds).take(torch.arange(count)) if len(members) else members
