"""Released records: what was shared, taken for the private records themselves.

The simplest question to ask of generated knowledge is whether it shows somebody as it stands. Compare Chen et
al., "GAN-Leaks" (2020), section 4.2, and Carlini et al., "Extracting training data from diffusion models"
(2023), section 4. That records look like private ones is no evidence of a leak, nor that they do not of
privacy: what is handed out here is judged by whom it points at among others of the same distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attacks._generators import check_records, generators
from attacks._inversion import check_positive
from attacks._releases import labelled_inputs, received
from attacks._sets import Owned
from attacks.interface import Known, Reconstruction
from privfed.generator import NOISE
from privfed.randomness import Stream
from privfed.records import Records, concatenate
from privfed.release import View


@dataclass(frozen=True, slots=True)
class ReleasedRecords:
    """Hand out released records as they are, or what a released generator makes, some of every label.

    The sets of all rounds count as one; of each label those handed out stand evenly over the rounds. Where
    every set belongs to a client, so do its records; otherwise nobody knows whose they are. Of
    generators the newest is sampled, with noise uniform in [0, 1) as its bank's was. Images and embedded
    sentences alike. Objective: 0, for a released record fits what was released exactly; nothing that the
    attacker holds says which of them show somebody.

    Attributes:
        artefact: name of the synthetic releases, or else of the generators.
        most: records handed out of each client, or of all where nobody knows whose they are; labels get the
            same number each, and those that get one more are drawn. A one-to-one matching of as many as there
            are candidates names everybody.
        draws: samples of each label, of a generator.
    """

    artefact: str = "synthetic"
    most: int = 20
    draws: int = 2

    def __post_init__(self) -> None:
        check_positive(self, "most", "draws")

    def reconstruct(self, view: View, known: Known, stream: Stream) -> Reconstruction | None:
        """At most `most` records an owner, clients -1 where unknown; None where nothing was released.

        Raises:
            ValueError: for a release that is malformed, or a generator of records of another size.
        """
        sets: list[Owned] = [
            (r.about, labelled_inputs(r)) for r in received(view, "synthetic", self.artefact)
        ]
        made = None if sets else self._sampled(view, known, stream.child("samples"))
        by_owner = pooled([(None, made)] if made is not None else sets)
        if not by_owner:
            return None
        kept = [r.take(spread(r.labels, self.most, stream.child("most", k))) for k, r in by_owner.items()]
        sizes = torch.tensor([len(r) for r in kept])
        return Reconstruction(
            concatenate(kept),
            torch.tensor(list(by_owner)).repeat_interleave(sizes),
            np.zeros(int(sizes.sum())),
            0 if made is None else len(made),
            False,
        )

    @torch.no_grad()
    def _sampled(self, view: View, known: Known, stream: Stream) -> Records | None:
        found = generators(view, self.artefact, 1)
        if not found:
            return None
        check_records(found[0], known.population)
        labels = torch.arange(found[0].classes).repeat_interleave(self.draws).to(found[0].noise.device)
        noise = torch.rand(len(labels), NOISE, generator=stream.torch()).to(found[0].noise)
        made = found[0].make(noise, labels)
        return Records(made.view(-1, *known.population.inputs.shape[1:]), labels)


def pooled(sets: list[Owned]) -> dict[int, Records]:
    """All sets by owner; under -1 together as soon as one of them is of nobody in particular."""
    sets = [(about, made) for about, made in sets if len(made)]
    owners = {-1 if about is None else about for about, _ in sets}
    if -1 in owners:
        return {-1: concatenate([made for _, made in sets])}
    return {k: concatenate([made for about, made in sets if about == k]) for k in sorted(owners)}


def spread(labels: Tensor, most: int, stream: Stream) -> Tensor:
    """Where to find at most `most` records: as many of each label as there are, evenly over each, ascending.

    Args:
        labels: int64, shape (n,).
        most: at least 1.
        stream: which labels get one more where they cannot all have the same number.

    Returns:
        int64, shape (min(most, n),).
    """
    turn = torch.randperm(int(labels.max()) + 1, generator=stream.torch())
    at = [(labels == c).nonzero()[:, 0] for c in turn.to(labels.device)]
    rounds = sorted((place, k) for k, own in enumerate(at) for place in range(len(own)))[:most]
    quota = np.bincount([k for _, k in rounds], minlength=len(at))
    kept = [own[(torch.arange(q) * len(own)) // q] for own, q in zip(at, quota.tolist(), strict=True) if q]
    return torch.cat(kept).sort().values
