"""Opacus's accountants as a second opinion: RDP, and PRV of Gopi et al. (arXiv 2106.02848, Algorithm 1)."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable
from importlib.metadata import version

# PRV's grid has a few arrays of so many numbers; it grows with reach and with the root of the steps.
LARGEST_GRID = 4_000_000
_WIDTH = 0.01
_SHARE_OF_DELTA = 1e-3

Step = tuple[float, float, int]


def opacus_epsilons(steps: Iterable[Step] | None, delta: float) -> dict[str, float]:
    """Epsilon (nats) at `delta` by Opacus's accountants, by name; upper bounds, add-or-remove-one.

    Args:
        steps: (noise multiplier, sampling rate, times) of Poisson-sampled Gaussians; None for anything
            else, of which Opacus says nothing.
        delta: failure probability, in (0, 1).

    PRV is left out where its grid would fill the memory.
    """
    if steps is None:
        return {}
    from opacus.accountants import PRVAccountant, RDPAccountant

    counts: Counter[tuple[float, float]] = Counter()
    for noise, rate, times in steps:
        counts[noise, rate] += times
    history = [(*step, times) for step, times in counts.items()]
    found = {}
    with warnings.catch_warnings():
        # Opacus warns of log(0) at rate 1 and of its range of orders; the bounds hold all the same.
        warnings.simplefilter("ignore")
        for name, kind in (("RDP", RDPAccountant), ("PRV", PRVAccountant)):
            if name == "RDP" or _grid(history, delta) <= LARGEST_GRID:
                found[f"opacus {version('opacus')} {name}"] = _epsilon(kind, history, delta)
    return found


def _grid(history: list[Step], delta: float) -> float:
    """Numbers in PRV's arrays: Remark 5.6 of the paper, with the errors that Opacus allows itself."""
    from opacus.accountants import RDPAccountant

    times, slack = sum(step[2] for step in history), delta * _SHARE_OF_DELTA
    reach = _epsilon(RDPAccountant, history, slack / 4)
    for noise, rate, _ in history:
        reach = max(reach, _epsilon(RDPAccountant, [(noise, rate, 1)], slack / (8 * times)))
    mesh = _WIDTH / math.sqrt(times * math.log(12 / slack) / 2)
    return len(history) * 2 * (reach + 3) / mesh


def _epsilon(kind: type, history: list[Step], delta: float) -> float:
    accountant = kind()
    accountant.history = history
    value = float(accountant.get_epsilon(delta))
    return math.inf if math.isnan(value) else value
