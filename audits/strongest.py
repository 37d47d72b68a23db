"""The strongest of several attacks, as a number that pays for having been chosen.

The highest of twenty AUCs leans upwards even where none of the attacks finds anything. So the value is
taken where the choice was not: one half of the federations chooses the attack that the other half
measures, and the other way round. The bounds hold for the strongest attack whichever that is: the lower
one is shared between all attacks (Bonferroni), the upper one need not be, since the highest of all upper
bounds lies above that of the truly strongest attack.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audits.evidence import Evidence
from audits.statistics import Bools, Floats, aucs
from reports.record import Estimate

METHOD = "chosen on one half of the federations, measured on the other, both ways; bounds over all {} attacks"


@dataclass(frozen=True, slots=True)
class Strongest:
    """What the strongest attack of one observer finds.

    Attributes:
        evidence: of the attack with the highest AUC over all federations.
        estimate: AUC of the strongest attack, after paying for the choice.
        tried: attacks it was chosen from.
    """

    evidence: Evidence
    estimate: Estimate
    tried: int


def strongest(evidence: Sequence[Evidence], level: float, part: str = "natural") -> Strongest | None:
    """The strongest of these attacks by AUC; None where none of them has one.

    Args:
        evidence: of attacks whose scores are of the same federations; those without scores and
            baselines are left out.
        level: confidence of each bound.
        part: records that count: "natural", "canaries" or "all".

    Assumes exchangeable federations, in any order. Halves serve each other as references, which ties
    their scores but does not choose among attacks. The interval is widened where the value that was
    measured lies outside.
    """
    usable = [e for e in evidence if e.scores is not None and not e.probe.baseline]
    known = [(e, e.estimate("auc", None, part, level)) for e in usable]
    found = [(e, x) for e, x in known if x.value is not None]
    if not found:
        return None
    shared = 1 - (1 - level) / len(found)
    best, whole = max(found, key=lambda pair: pair[1].value or 0.0)
    value = held_out(np.stack([_by_federation(e, part) for e, _ in found]))
    value = value if value is not None else whole.value
    below = [e.estimate("auc", None, part, shared).lower for e, _ in found]
    lower = max((x for x in below if x is not None), default=None)
    upper = max((x.upper for _, x in found if x.upper is not None), default=None)
    if value is not None and lower is not None and upper is not None:
        lower, upper = min(lower, value), max(upper, value)
    method = METHOD.format(len(found))
    return Strongest(
        best,
        whole.model_copy(update={"value": value, "lower": lower, "upper": upper, "method": method}),
        len(found),
    )


def held_out(values: Floats) -> float | None:
    """Mean AUC over federations, each measured by the attack that the other half of them chooses.

    Args:
        values: shape (attacks, F): AUC of each attack in each federation; NaN where unknown.

    Returns:
        None where some half leaves no attack to choose or nothing to measure.
    """
    even = np.arange(values.shape[1]) % 2 == 0
    measured = [_measured(values, chooses, ~chooses) for chooses in (even, ~even)]
    if any(m is None for m in measured):
        return None
    return float(np.mean(np.concatenate([m for m in measured if m is not None])))


def _measured(values: Floats, chooses: Bools, measures: Bools) -> Floats | None:
    """What the attack that does best where `chooses` finds where `measures`."""
    known = ~np.isnan(values[:, chooses])
    if not known.any():
        return None
    means = np.where(known, values[:, chooses], 0.0).sum(1) / np.maximum(known.sum(1), 1)
    best = int(np.where(known.any(1), means, -np.inf).argmax())
    found: Floats = values[best, measures]
    found = found[~np.isnan(found)]
    return found if len(found) else None


def _by_federation(evidence: Evidence, part: str) -> Floats:
    return aucs(*evidence.part(part))
