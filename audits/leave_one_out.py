"""What the federations' AUCs share because each is a reference of all others: a jackknife over federations.

An attack with references scores every federation against the rest of the same few. One odd federation
then moves all AUCs at once, which neither the spread between them nor the one between records shows.
Leaving out each in turn, as target and as reference, does (Efron and Stein, 1981, "The jackknife
estimate of variance": on average no smaller than the variance it estimates, with one federation fewer).
Several odd federations can hide each other from it: see `shared_variances`.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attacks.interface import Bools, Floats, MembershipAttack, Signals
from audits.statistics import aucs
from audits.store import digest, read_json, source_digest, write_json

MOST = 16
"""Groups of federations that are left out in turn; half as many beyond twice as many federations."""
FEWEST = 3
"""Federations of which one can be left out so that the others still have a reference each."""

Score = Callable[[Sequence[Signals], Bools], Floats]
"""Signals and membership of some federations to their scores, shape (F, n)."""

_LOOKED_AT = 2
_CODE = ("attacks", "audits/game.py", "audits/leave_one_out.py", "audits/statistics.py")


def shared_variances(
    score: Score, signals: Sequence[Signals], included: Bools, scores: Floats, parts: Mapping[str, Bools]
) -> dict[str, float]:
    """Variance of the mean AUC over federations that are each other's references, by part.

    Args:
        score: the attack, each federation in turn the target and all others given its references.
        signals: one entry per federation.
        included: shape (F, n).
        scores: shape (F, n), of all federations together; NaN is left out here too.
        parts: records counted in each part, bool, shape (n,).

    Returns:
        By part; empty for fewer than three federations, and for an attack that uses no references: the
        jackknife would give the spread between federations again. Costs the scoring as many times as there
        are `groups`.

    Raises:
        ValueError: where some federation has no score left once another one is missing.

    Assumes exchangeable federations. Where they differ very strongly it is too small in audits in which
    several odd ones lower every AUC together, since none of them alone makes the difference.
    """
    count, hidden = len(scores), np.isnan(scores)
    if count < FEWEST:
        return {}
    means: dict[str, list[float]] = {part: [] for part in parts}
    changed = False
    for number, out in enumerate(groups(count)):
        rest = [f for f in range(count) if f not in out]
        again = np.where(hidden[rest], np.nan, score([signals[f] for f in rest], included[rest]))
        _expect_scores(again, hidden[rest], out)
        changed = changed or not np.array_equal(again, scores[rest], equal_nan=True)
        if number + 1 == _LOOKED_AT and not changed:
            return {}
        for part, chosen in parts.items():
            means[part].append(_mean_auc(again[:, chosen], included[rest][:, chosen]))
    return {part: _jackknife(np.array(values)) for part, values in means.items()}


def groups(count: int) -> tuple[range, ...]:
    """Federations that are left out together: each alone up to `MOST`, then that many groups, then half.

    Groups of equal size, or nearly, give the same variance from fewer scorings, a little less exactly (Kott,
    2001, "The delete-a-group jackknife").

    >>> groups(3)
    (range(0, 1), range(1, 2), range(2, 3))
    >>> [len(g) for g in groups(32)] == [2] * MOST
    True
    >>> [len(g) for g in groups(64)] == [8] * (MOST // 2)
    True
    """
    number = min(count, MOST if count <= 2 * MOST else MOST // 2)
    edges = [round(i * count / number) for i in range(number + 1)]
    return tuple(range(a, b) for a, b in itertools.pairwise(edges))


def remembered(
    root: Path,
    attack: MembershipAttack,
    score: Score,
    signals: Sequence[Signals],
    included: Bools,
    scores: Floats,
    parts: Mapping[str, Bools],
) -> dict[str, float]:
    """`shared_variances`, kept below `root` by all that it is made of: most of an audit's arithmetic.

    What cannot be read is worked out anew, and what cannot be written is not kept.
    """
    place = root / "shared" / f"{_key(attack, signals, included, scores, parts)}.json"
    known = _known(place, parts)
    if known is not None:
        return known
    found = shared_variances(score, signals, included, scores, parts)
    with contextlib.suppress(OSError):  # a full disk costs time in the next run, not this result
        place.parent.mkdir(parents=True, exist_ok=True)
        write_json(place, found)
    return found


def _known(place: Path, parts: Mapping[str, Bools]) -> dict[str, float] | None:
    """What is kept there, if it is what was written: nothing, or a variance for each part."""
    found: Any = None
    with contextlib.suppress(RecursionError):
        found = read_json(place)
    if not isinstance(found, dict) or set(found) not in (set(), set(parts)):
        return None
    sound = all(isinstance(v, float) and math.isfinite(v) and v >= 0 for v in found.values())
    return found if sound else None


def _key(
    attack: MembershipAttack,
    signals: Sequence[Signals],
    included: Bools,
    scores: Floats,
    parts: Mapping[str, Bools],
) -> str:
    content = hashlib.sha256()
    read = [a for s in signals for a in (s.candidates, s.population, s.clients)]
    for array in (included, scores, *(parts[name] for name in sorted(parts)), *read):
        content.update(repr((array.shape, array.dtype.str)).encode() + np.ascontiguousarray(array).tobytes())
    kind = type(attack)
    name = [kind.__module__, kind.__qualname__, repr(attack)]
    return digest([name, sorted(parts), content.hexdigest(), source_digest(*_CODE), np.__version__])[:24]


def _expect_scores(again: Floats, hidden: Bools, out: range) -> None:
    """An attack that fails where a reference is missing would look as if nothing depended on it."""
    silent = int((np.isnan(again).all(axis=1) & ~hidden.all(axis=1)).sum())
    if silent:
        raise ValueError(
            f"expected a score in each federation when {_named(out)} left out, "
            f"got none in {silent} of {len(again)}"
        )


def _mean_auc(scores: Floats, included: Bools) -> float:
    values = aucs(scores, included)
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan


def _jackknife(left_out: Floats) -> float:
    """(F - 1) / F times the squares about the mean.

    0 where some federation's absence leaves no AUC: then at most that one has any, and the interval
    speaks of it alone.
    """
    if np.isnan(left_out).any():
        return 0.0
    return float((len(left_out) - 1) * left_out.var())


def _named(out: range) -> str:
    return f"federation {out[0]} is" if len(out) == 1 else f"federations {out[0]} to {out[-1]} are"
