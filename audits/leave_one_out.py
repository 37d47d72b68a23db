"""What the federations' AUCs share because each is a reference of all others: a jackknife over federations.

An attack with references scores every federation against the rest of the same few. One odd federation
then moves all AUCs at once, which neither the spread between them nor the one between records shows.
Leaving out each in turn, as target and as reference, does (Efron and Stein, 1981, "The jackknife
estimate of variance": on average no smaller than the variance it estimates, with one federation fewer).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from attacks.interface import Bools, Floats, Signals
from audits.coverage import Probe
from audits.game import score_all
from audits.statistics import aucs
from audits.store import digest, read_json, source_digest, write_json

FEWEST = 3
_LOOKED_AT = 2


def shared_variances(
    probe: Probe, signals: Sequence[Signals], included: Bools, scores: Floats, parts: Mapping[str, Bools]
) -> dict[str, float]:
    """Variance of the mean AUC over federations that are each other's references, by part.

    Args:
        probe: the attack.
        signals: one entry per federation.
        included: shape (F, n).
        scores: shape (F, n), of all federations together; NaN is left out here too.
        parts: records counted in each part, bool, shape (n,).

    Returns:
        By part; empty for fewer than three federations, and for an attack that uses no references: the
        jackknife would give the spread between federations again. Costs F times the scoring.
    """
    count, hidden = len(scores), np.isnan(scores)
    if count < FEWEST:
        return {}
    means: dict[str, list[float]] = {part: [] for part in parts}
    changed = False
    for out in range(count):
        rest = [f for f in range(count) if f != out]
        again = np.where(hidden[rest], np.nan, score_all(probe, [signals[f] for f in rest], included[rest]))
        changed = changed or not np.array_equal(again, scores[rest], equal_nan=True)
        if out + 1 == _LOOKED_AT and not changed:
            return {}
        for part, chosen in parts.items():
            means[part].append(_mean_auc(again[:, chosen], included[rest][:, chosen]))
    return {part: _jackknife(np.array(values)) for part, values in means.items()}


def remembered(
    root: Path,
    probe: Probe,
    signals: Sequence[Signals],
    included: Bools,
    scores: Floats,
    parts: Mapping[str, Bools],
) -> dict[str, float]:
    """`shared_variances`, kept below `root` by all that it is made of: most of an audit's arithmetic."""
    place = root / "shared" / f"{_key(probe, signals, included, scores, parts)}.json"
    known = read_json(place)
    if isinstance(known, dict):
        return known
    found = shared_variances(probe, signals, included, scores, parts)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_json(place, found)
    return found


def _key(
    probe: Probe, signals: Sequence[Signals], included: Bools, scores: Floats, parts: Mapping[str, Bools]
) -> str:
    content = hashlib.sha256()
    read = [a for s in signals for a in (s.candidates, s.population, s.clients)]
    for array in (included, scores, *parts.values(), *read):
        content.update(repr((array.shape, array.dtype.str)).encode() + np.ascontiguousarray(array).tobytes())
    code = source_digest(
        "attacks", *(f"audits/{name}.py" for name in ("game", "leave_one_out", "statistics"))
    )
    return digest([repr(probe.attack), sorted(parts), content.hexdigest(), code, np.__version__])[:24]


def _mean_auc(scores: Floats, included: Bools) -> float:
    values = aucs(scores, included)
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan


def _jackknife(left_out: Floats) -> float:
    """(F - 1) / F times the squares about the mean; 0 where any federation's absence leaves nothing."""
    if np.isnan(left_out).any():
        return 0.0
    return float((len(left_out) - 1) * left_out.var())
