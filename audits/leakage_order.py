"""The order of leakage: what is computed from a message cannot say more than the message.

Updates are made into latents, latents into images, and models are trained on the images; by the data
processing inequality the best attack on each is no stronger than the best one on what it was made from.
Where the attacks that were run find more in the later artefact, the earlier one is not the more private
one: the attacks on it are too weak, and its figures are too low.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from audits.evidence import Evidence
from audits.finding import Finding
from audits.plan import Arm
from audits.statistics import auc_spread
from reports.record import Estimate, LeakageOrder

ALPHA = 0.05
STAGES = {
    "client updates": ("client update", "client logits"),
    "latents": ("latents of the rounds",),
    "generated data": (
        "distilled records of each client",
        "generated bank",
        "generators of the rounds",
        "released generator",
        "synthetic images",
        "synthetic sentences (embeddings)",
    ),
    "released model": ("released model",),
}
"""Artefacts, as probes name them, in the order in which each is computed from those before it."""
LEARNS_FROM_SET = ("feddgm", "latent_voting", "mean_embedding")
"""Pipelines whose released model sees nothing of the clients but the released set."""

_METHOD = "paired difference of two AUCs; two-way cluster-robust variance, Student t, each bound shared by {}"


@dataclass(frozen=True, slots=True)
class _Edge:
    """Two stages of one arm in one setting, each with its strongest attack."""

    finding: Finding
    names: tuple[str, str]
    stronger: Evidence
    weaker: Evidence


def leakage_order(findings: Sequence[Finding], level: float) -> tuple[LeakageOrder, ...]:
    """Every pair of artefacts, one computed from the other, on every arm that is no control.

    Args:
        findings: of all arms.
        level: confidence of the bounds on each AUC that is shown.

    Returns:
        Rows in the order of the findings. A violation has the whole interval of the difference above 0,
        at a level shared by all rows: sound attacks bring any violation in at most 5 % of audits.
    """
    edges = [e for f in findings if f.arm.role != "control" for e in _edges(f)]
    return tuple(_row(e, len(edges), level) for e in edges)


def auc_difference(weaker: Evidence, stronger: Evidence, part: str, family: int) -> Estimate:
    """AUC of `weaker` less that of `stronger` on the same records of the same federations.

    Placements give each record's influence on both AUCs; the variance of their difference is that of
    `audits.intervals.Spread`, and no smaller than the sum of what federations share as references.

    Args:
        weaker: attack with scores on the later artefact.
        stronger: attack with scores on the earlier one.
        part: records that count.
        family: differences that share the error of each bound, 5 %.
    """
    (first, included), (second, _) = (e.part(part) for e in (weaker, stronger))
    both = ~(np.isnan(first) | np.isnan(second))
    a, b = (auc_spread(np.where(both, s, np.nan), included) for s in (first, second))
    method, level = _METHOD.format(family), 1 - ALPHA / max(1, family)
    value = lower = upper = None
    n_in, n_out = (int((both & side).any(axis=0).sum()) for side in (included, ~included))
    count = 0 if a is None else len(a.values)
    if a is not None and b is not None:
        value = float((a.values - b.values).mean())
        if count > 1:
            shared = weaker.shared.get(part, 0.0) + stronger.shared.get(part, 0.0)
            variance = max(a.difference(b).variance, shared)
            away = float(t.ppf(level, count - 1)) * math.sqrt(variance)
            lower, upper = max(-1.0, value - away), min(1.0, value + away)
    return Estimate(
        metric="auc_difference", value=value, lower=lower, upper=upper, level_lower=level,
        level_upper=level, method=method, n_in=n_in, n_out=n_out, n_federations=count,
        scope="training algorithm", reason="" if lower is not None else "needs at least 2 federations",
    )  # fmt: skip


def _edges(finding: Finding) -> list[_Edge]:
    best = {name: _best(finding, artefacts) for name, artefacts in STAGES.items()}
    known = [(name, e) for name, e in best.items() if e is not None]
    return [
        _Edge(finding, (earlier, later), a, b)
        for i, (earlier, a) in enumerate(known)
        for later, b in known[i + 1 :]
        if _made_from(finding.arm, earlier, later)
    ]


def _made_from(arm: Arm, earlier: str, later: str) -> bool:
    """Whether all that `later` knows of the clients came through `earlier`, on this pipeline."""
    if earlier == "client updates" or later == "generated data":
        return True
    whole = getattr(arm.pipeline, "accumulate", True) or arm.pipeline.rounds == 1
    return arm.pipeline_name in LEARNS_FROM_SET and bool(whole)


def _best(finding: Finding, artefacts: Sequence[str]) -> Evidence | None:
    """The attack with the highest AUC among those that read any of these."""
    usable = [
        (e, e.estimate("auc", None, "natural", 0.95).value)
        for e in finding.evidence
        if e.probe.artefact in artefacts and e.scores is not None and not e.probe.baseline
    ]
    known = [(e, value) for e, value in usable if value is not None]
    return max(known, key=lambda pair: pair[1])[0] if known else None


def _row(edge: _Edge, family: int, level: float) -> LeakageOrder:
    difference = auc_difference(edge.weaker, edge.stronger, "natural", family)
    violated = difference.lower is not None and difference.lower > 0
    earlier, later = edge.names
    return LeakageOrder(
        setting=edge.finding.setting.id,
        arm=edge.finding.arm.id,
        stronger=earlier,
        weaker=later,
        stronger_attack=f"{edge.stronger.probe.name} ({edge.stronger.probe.observer.label})",
        weaker_attack=f"{edge.weaker.probe.name} ({edge.weaker.probe.observer.label})",
        stronger_auc=edge.stronger.estimate("auc", None, "natural", level),
        weaker_auc=edge.weaker.estimate("auc", None, "natural", level),
        difference=difference,
        violated=violated,
        message=_message(earlier, later) if violated else "",
    )


def _message(earlier: str, later: str) -> str:
    return (
        f"the stronger view's attack is too weak: the attacks run on {earlier} find less than those on "
        f"{later}, which are computed from them, so the figures for {earlier} are too low"
    )
