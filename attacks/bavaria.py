"""BaVarIA-type attack: LiRA with a normal-inverse-gamma prior in place of a switch between variances.

Source of the idea: Braennvall, "Exponential-family membership inference: from LiRA and RMIA to BaVarIA"
(arXiv 2603.11799), abstract (conjugate prior, Student-t or stabilised Gaussian predictive). The
hyper-parameters are estimated here, not as there: the prior of the variance by the moments of log
variances as in Smyth, "Linear models and empirical Bayes methods" (Stat. Appl. Genet. Mol. Biol. 3(1),
2004), section 6.2; the prior of the mean from the record's other side (see `Bavaria`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from scipy.special import digamma, gammaln, polygamma

from attacks._references import FLOOR, Side, check, known_mean, sides
from attacks.confidence import ModelConfidence
from attacks.interface import Bools, Floats, Observation, References, Signals

Predictive = Literal["student", "gaussian"]

_MOST = 1e6
"""Largest number of pseudo-observations: a prior that is sure, without infinities."""


@dataclass(frozen=True, slots=True)
class Prior:
    """Normal-inverse-gamma prior of the mean and variance of one side (IN or OUT) of every record.

    variance ~ InverseGamma(shape, scale) and mean | variance ~ N(mean, variance / weight).

    Attributes:
        mean: shape (n, queries).
        weight: shape (n, queries), > 0: pseudo-observations behind the mean.
        shape: shape (queries,), > 0: half the pseudo-observations behind the variance.
        scale: shape (queries,), > 0.
    """

    mean: Floats
    weight: Floats
    shape: Floats
    scale: Floats


@dataclass(frozen=True, slots=True)
class Bavaria:
    r"""Score each record by a likelihood ratio that is sure of its variances only as far as references tell.

    For the K references x_1..x_K of one side of a record, with mean m and sum of squares S about it,
    and a prior (m0, k, a, b) as in `Prior`:

        k' = k + K,   m' = (k m0 + K m) / k',   a' = a + K / 2,
        b' = b + S / 2 + k K (m - m0)^2 / (2 k'),

    and the next value has Student's t distribution with 2 a' degrees of freedom, location m' and squared
    scale b' (k' + 1) / (a' k'). The score is the log-density IN less the log-density OUT, summed over
    the queries known.

    The prior is learnt from all records, each side and query on its own:

    - a and b match mean and variance of log S / (K - 1) over records, so that equal variances are pooled
      and different ones are kept apart;
    - m0 is the mean of the record's other side, plus or minus the mean gap between the sides over all
      records, and k = v / (w + v_other / K_other) with v the pooled variances of the two sides and w the
      variance over records of the true gap: where membership moves all records alike, each side's
      mean rests on the references of both. A record without any reference of the other side
      has k next to 0. With no reference on its own side, only the prior remains: the substitute
      that `attacks._references.side_means` describes, with its uncertainty.

    Assumes references that include each record independently with probability one half, the target
    not among them; `attacks.lira.Lira` says why.

    Attributes:
        observation: what is compared; any signal that rises with membership.
        predictive: "student" = as above; "gaussian" = of the same location and squared scale.
    """

    observation: Observation = field(default_factory=ModelConfidence)
    predictive: Predictive = "student"

    def __post_init__(self) -> None:
        if self.predictive not in get_args(Predictive):
            raise ValueError(
                f"expected predictive to be one of {', '.join(get_args(Predictive))}, "
                f"got predictive={self.predictive!r}"
            )

    def score(self, target: Signals, references: References) -> Floats:
        """Log-likelihood ratio in nats, shape (n,); NaN only where no query of the target is known."""
        check(target, references)
        inside, outside = learnt(references)
        student = self.predictive == "student"
        evidence = [log_density(target.candidates, prior, seen, student) for prior, seen in (inside, outside)]
        ratio = evidence[0] - evidence[1]
        known = ~np.isnan(ratio)
        return np.where(known.any(1), np.where(known, ratio, 0.0).sum(1), np.nan)


@dataclass(frozen=True, slots=True)
class Seen:
    """References of one side of every record: number, mean (0 where none) and sum of squares about it.

    All of shape (n, queries).
    """

    count: Floats
    mean: Floats
    squares: Floats


def log_density(values: Floats, prior: Prior, seen: Seen, student: bool = True) -> Floats:
    """Log-density of the posterior predictive of `Bavaria` in nats, shape (n, queries)."""
    weight = prior.weight + seen.count
    centre = (prior.weight * prior.mean + seen.count * seen.mean) / weight
    shape = prior.shape + seen.count / 2
    pull = prior.weight * seen.count * (seen.mean - prior.mean) ** 2 / (2 * weight)
    squared = (prior.scale + seen.squares / 2 + pull) * (weight + 1) / (shape * weight)
    distance = (values - centre) ** 2 / squared
    if not student:
        return -0.5 * (np.log(2 * np.pi * squared) + distance)
    constant = gammaln(shape + 0.5) - gammaln(shape) - 0.5 * np.log(2 * np.pi * shape * squared)
    density: Floats = constant - (shape + 0.5) * np.log1p(distance / (2 * shape))
    return density


def learnt(references: References) -> tuple[tuple[Prior, Seen], tuple[Prior, Seen]]:
    """Prior and references of the IN side and of the OUT side, by empirical Bayes over all records."""
    values, mask = references.candidates, references.included[..., np.newaxis]
    known = ~np.isnan(values)
    both = sides(values, references.included)
    seen = [_seen(values, known & m, s) for m, s in ((mask, both[0]), (~mask, both[1]))]
    typical = [_variance_prior(s, side.pooled) for s, side in zip(seen, both, strict=True)]
    variances = [side.pooled for side in both]
    gap, spread = _gap(seen, variances)
    inside = _prior(seen[1], gap, spread, variances, both[0].mean, typical[0])
    outside = _prior(seen[0], -gap, spread, variances[::-1], both[1].mean, typical[1])
    return (inside, seen[0]), (outside, seen[1])


def _seen(values: Floats, mask: Bools, side: Side) -> Seen:
    count = mask.sum(0, dtype=np.float64)
    residual = np.where(mask, values - side.mean, 0.0)
    return Seen(count, np.where(count > 0, side.mean, 0.0), (residual**2).sum(0))


def _prior(
    other: Seen,
    gap: Floats,
    spread: Floats,
    variances: list[Floats],
    fallback: Floats,
    typical: tuple[Floats, Floats],
) -> Prior:
    """The prior of one side's mean from the other side's references; `variances` are own, other."""
    known = other.count > 0
    doubt = spread + variances[1] / np.maximum(other.count, 1)
    weight = np.where(known, np.clip(variances[0] / np.maximum(doubt, FLOOR), 1 / _MOST, _MOST), 1 / _MOST)
    return Prior(np.where(known, other.mean + gap, fallback), weight, *typical)


def _gap(seen: list[Seen], variances: list[Floats]) -> tuple[Floats, Floats]:
    """Mean over records of IN less OUT, and the variance of it that sampling does not explain."""
    inside, outside = seen
    both = (inside.count > 0) & (outside.count > 0)
    gaps = np.where(both, inside.mean - outside.mean, np.nan)
    mean = np.nan_to_num(known_mean(gaps, 0))
    noise = sum(v / np.maximum(s.count, 1) for v, s in zip(variances, seen, strict=True))
    excess = known_mean((gaps - mean) ** 2 - np.where(both, noise, np.nan), 0)
    return mean, np.maximum(np.nan_to_num(excess), 0.0)


def _variance_prior(seen: Seen, pooled: Floats) -> tuple[Floats, Floats]:
    """Shape and scale of the inverse gamma, each (queries,), by the moments of log variances.

    With f degrees of freedom, log S / f - digamma(f / 2) + log(f / 2) has mean log(b / a) - digamma(a) +
    log a and variance trigamma(f / 2) + trigamma(a). Variances of zero are left out.
    """
    freedom = np.maximum(seen.count - 1, 0)
    usable = (freedom > 0) & (seen.squares > FLOOR)
    half = np.where(usable, freedom, 1.0) / 2
    log = np.log(np.where(usable, seen.squares, 1.0) / (2 * half)) - digamma(half) + np.log(half)
    logs = np.where(usable, log, np.nan)
    centre = known_mean(logs, 0)
    excess = known_mean((logs - centre) ** 2 - np.where(usable, polygamma(1, half), np.nan), 0)
    shape = _inverse_trigamma(np.maximum(np.nan_to_num(excess), 1 / _MOST))
    typical = np.exp(centre + digamma(shape) - np.log(shape))
    typical = np.where(np.isnan(centre), pooled, typical)
    return shape, shape * np.maximum(typical, FLOOR)


def _inverse_trigamma(y: Floats) -> Floats:
    """The x > 0 with trigamma(x) = y, by Newton's method on 1 / trigamma, which is nearly straight."""
    x = 0.5 + 1 / y
    for _ in range(50):
        value = polygamma(1, x)
        step = value * (1 - value / y) / polygamma(2, x)
        x = x + step
        if np.all(np.abs(step) <= 1e-12 * x):
            break
    return np.asarray(x, dtype=np.float64)
