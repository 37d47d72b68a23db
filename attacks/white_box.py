"""White box: a classifier trained on what models and gradients say of records known to be in or out.

Source: Nasr, Shokri and Houmansadr, "Comprehensive privacy analysis of deep learning" (2019, arXiv
1812.00910), sections III.B and IV (passive attack of the server, over several rounds). Their encoders of
whole gradients are replaced by lengths and alignments, their network by logistic regression, so that
it fits within a second; the ratio of Leemann et al. (2023) is added.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from attacks._gradients import (
    Columns,
    Part,
    Site,
    align,
    check_part,
    check_place,
    cosines,
    gradients,
    laid_out,
    sites,
)
from attacks._references import check
from attacks._signals import logit_confidence
from attacks.gaussian_update import UpdateLikelihood
from attacks.interface import Bools, Candidates, Floats, Observation, References, Signals
from privfed.nets import NetSpec, parameter_shapes
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View
from privfed.training import predict


@dataclass(frozen=True, slots=True)
class WhiteBoxFeatures:
    """What the server can compute of each record at each client's models; several queries a round.

    No direction of its own: a classifier learns one. In every round, at the model that the record's
    client sent back: loss, logit-scaled confidence, whether the label is right, logits from largest to
    smallest, logarithm of the gradient's length in each layer; and the cosine of the gradient with the
    client's movement, at each of `places`. Beside them stands the log-likelihood ratio of
    `gaussian_update`, which weighs directions and interference as no feature here does. NaN where the
    client sat out.

    Attributes:
        places: where on the line from what was sent (0) to what came back (1) cosines are taken.
        likelihoods: parts of the net whose log-likelihood ratio is taken; they cost as much as all else.
    """

    places: tuple[float, ...] = (0.0, 0.5)
    likelihoods: tuple[Part, ...] = ("head", "representation")

    def __post_init__(self) -> None:
        for place in self.places:
            check_place(place)
        for part in self.likelihoods:
            check_part(part)

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Features of candidates and population; None without updates whose start and head are known."""
        ends = sites(view, "all", 1.0)
        if ends is None:
            return None
        spec, models = ends

        def at_model(site: Site, records: Records, columns: Columns) -> Floats:
            return features(spec, site, records)

        def cosine(site: Site, records: Records, columns: Columns) -> Floats:
            return cosines(align(spec, site, records))

        read = [laid_out(models, candidates, at_model, 3 + spec.classes + len(_layers(spec)))]
        for place in self.places:
            found = sites(view, "all", place)
            read += [laid_out(found[1], candidates, cosine)] if found else []
        evidence = (UpdateLikelihood(p).extract(view, candidates, stream) for p in self.likelihoods)
        read += [e for e in evidence if e is not None]
        return Signals(
            np.concatenate([r.candidates for r in read], 1),
            np.concatenate([r.population for r in read], 1),
            read[0].clients,
        )


@dataclass(frozen=True, slots=True)
class WhiteBox:
    """Score each record by a classifier of white-box features, trained on the reference federations.

    Logistic regression on standardised features of every record in every reference, whose membership the
    attacker chose; a feature that is not known counts as average.

    Attributes:
        observation: the features that are read.
        calibrated: whether each feature is taken less its mean over the references without the record,
            the one at hand not among them: difficulty then no longer hides membership.
        most: references that are trained on, at most, evenly spread over all there are.
        strength: inverse weight of the squared norm of the coefficients (C of scikit-learn).
    """

    observation: Observation = field(default_factory=WhiteBoxFeatures)
    calibrated: bool = True
    most: int = 16
    strength: float = 0.1

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ValueError(f"expected most >= 1, got most={self.most}")
        if not self.strength > 0:
            raise ValueError(f"expected strength > 0, got strength={self.strength}")

    def score(self, target: Signals, references: References) -> Floats:
        """Log-odds of membership, shape (n,); NaN where nothing is known, or all references agree on all."""
        check(target, references)
        chosen = np.unique(np.linspace(0, len(references.included) - 1, self.most).round().astype(int))
        lessons, question = references.candidates[chosen], target.candidates
        if self.calibrated:
            total, count = _outside(references)
            lessons = lessons - _less_own(references, chosen, total, count)
            question = question - _mean(total, count)
        rows = lessons.reshape(-1, lessons.shape[-1])
        return _log_odds(rows, references.included[chosen].ravel(), question, self.strength)


def features(spec: NetSpec, site: Site, records: Records) -> Floats:
    """Features of n records at the model of a site, shape (n, 3 + classes + layers).

    Loss in nats, logit-scaled confidence, 1 where the label is right, logits from largest to smallest,
    natural logarithm of the gradient's length in each layer.
    """
    logits = predict(spec, site.model, records.inputs.to(site.moved.device)).cpu()
    phi = logit_confidence(logits, records.labels)
    right = logits.argmax(1) == records.labels
    columns = [
        torch.nn.functional.softplus(-phi),
        phi,
        right.double(),
        *logits.double().sort(1, True).values.T,
    ]
    read = [torch.stack(columns, 1).numpy(), _lengths(spec, site, records)]
    return np.concatenate(read, 1)


def _lengths(spec: NetSpec, site: Site, records: Records) -> Floats:
    names = tuple(parameter_shapes(spec))
    sizes = [sum(site.model[n].numel() for n in layer) for layer in _layers(spec)]
    parts = [
        torch.stack([g.norm(dim=1) for g in part.split(sizes, 1)], 1)
        for part in gradients(spec, site.model, names, records)
    ]
    smallest = torch.finfo(torch.float32).tiny
    found: Floats = torch.cat(parts).double().clamp_min(smallest).log().numpy()
    return found


def _layers(spec: NetSpec) -> list[tuple[str, ...]]:
    """Parameters of one module each, in order."""
    names = list(parameter_shapes(spec))
    modules = dict.fromkeys(n.rpartition(".")[0] for n in names)
    return [tuple(n for n in names if n.rpartition(".")[0] == m) for m in modules]


def _outside(references: References) -> tuple[Floats, Floats]:
    """Sum and number of known values of references without the record, each of shape (n, queries)."""
    known = ~references.included[..., np.newaxis] & ~np.isnan(references.candidates)
    return np.where(known, references.candidates, 0.0).sum(0), known.sum(0).astype(np.float64)


def _less_own(references: References, chosen: Columns, total: Floats, count: Floats) -> Floats:
    """Mean over references without the record, the one at hand left out, shape (chosen, n, queries)."""
    own = references.candidates[chosen]
    known = ~references.included[chosen][..., np.newaxis] & ~np.isnan(own)
    return _mean(total - np.where(known, own, 0.0), count - known)


def _mean(total: Floats, count: Floats) -> Floats:
    """Quotient; where nothing is known, the mean of the same query over the records of which it is."""
    mean = np.full(total.shape, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    known = ~np.isnan(mean)
    average = np.where(known, mean, 0.0).sum(-2) / np.maximum(known.sum(-2), 1)
    return np.where(known, mean, average[..., np.newaxis, :])


def _log_odds(rows: Floats, included: Bools, question: Floats, strength: float) -> Floats:
    known = ~np.isnan(rows)
    used = known.any(1)
    scores = np.full(len(question), np.nan)
    if len(np.unique(included[used])) < 2:
        return scores
    rows, included, known = rows[used], included[used], known[used]
    centre = np.where(known, rows, 0.0).sum(0) / np.maximum(known.sum(0), 1)
    scale = np.sqrt(np.where(known, (rows - centre) ** 2, 0.0).sum(0) / np.maximum(known.sum(0), 1))
    scale[~(scale > 0)] = 1.0
    model = LogisticRegression(C=strength, solver="newton-cholesky", tol=1e-8)
    with threadpool_limits(1):
        model.fit(np.nan_to_num((rows - centre) / scale), included)
        asked = ~np.isnan(question).all(1)
        if asked.any():
            scores[asked] = model.decision_function(np.nan_to_num((question[asked] - centre) / scale))
    return scores
