"""The strongest attack pays for being chosen: no lift where nothing leaks, and bounds that hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from attacks.interface import Bools, Floats
from attacks.loss import LossThreshold
from audits.coverage import SERVER, Probe
from audits.evidence import Evidence
from audits.statistics import aucs
from audits.strongest import held_out, strongest
from privfed.randomness import Stream
from tests.audits.designs import most_misses


def evidence(scores: Floats | None, included: Bools, name: str = "a", **fields: Any) -> Evidence:
    probe = Probe(name, LossThreshold(), SERVER, "client update", **fields)
    return Evidence(probe, scores, included, np.zeros(included.shape[1], dtype=np.bool_), Stream(0))


def game(seed: int, shifts: list[float], federations: int = 10, n: int = 60) -> list[Evidence]:
    """Attacks with independent noise on the same membership."""
    rng = np.random.default_rng(seed)
    included = rng.random((federations, n)) < 0.5
    return [
        evidence(rng.normal(size=included.shape) + s * included, included, f"attack {i}")
        for i, s in enumerate(shifts)
    ]


def test_choosing_among_attacks_that_find_nothing_lifts_the_highest_but_not_the_value() -> None:
    games = [game(seed, [0.0] * 20) for seed in range(60)]
    highest = [max(e.estimate("auc", None, "all", 0.95).value or 0 for e in g) for g in games]
    values = [s.estimate.value or 0.0 for g in games if (s := strongest(g, 0.95, "all"))]
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    assert np.mean(highest) - 0.5 > 10 * error
    assert abs(np.mean(values) - 0.5) < 3.3 * error


def test_bounds_hold_for_the_truly_strongest_attack() -> None:
    shifts = [0.0, 0.1, 0.2, 0.2, 0.15]
    truth = float(norm.cdf(0.2 / 2**0.5))
    runs = 150
    found = [strongest(game(seed, shifts, 8, 80), 0.95, "all") for seed in range(runs)]
    assert sum((f.estimate.lower or 0) > truth for f in found if f) <= most_misses(runs)
    assert sum((f.estimate.upper or 1) < truth for f in found if f) <= most_misses(runs)


def test_one_attack_alone_is_what_it_is() -> None:
    (only,) = game(3, [0.7])
    found = strongest([only], 0.95, "all")
    plain = only.estimate("auc", None, "all", 0.95)
    assert found is not None
    assert (found.tried, found.evidence) == (1, only)
    assert found.estimate.value == pytest.approx(plain.value)
    assert (found.estimate.lower, found.estimate.upper) == (plain.lower, plain.upper)


def test_a_clear_leak_is_chosen_and_keeps_its_value() -> None:
    leak = game(5, [0.0, 2.0, 0.0])
    found = strongest(leak, 0.95, "all")
    assert found is not None
    assert found.evidence.probe.name == "attack 1"
    assert found.estimate.value == pytest.approx(leak[1].estimate("auc", None, "all", 0.95).value)
    assert (found.estimate.lower or 0) > 0.8
    assert "over all 3 attacks" in found.estimate.method


def test_the_held_out_value_worked_out_by_hand() -> None:
    # Even federations choose the first attack (0.9 to 0.5), odd ones the second (0.7 to 0.6).
    values = np.array([[0.9, 0.6, 0.9, 0.6], [0.5, 0.7, 0.5, 0.7]])
    assert held_out(values) == pytest.approx((0.6 + 0.6 + 0.5 + 0.5) / 4)


def test_what_was_not_measured_is_not_chosen() -> None:
    values = np.array([[np.nan, 0.6, np.nan, 0.8], [0.7, np.nan, 0.5, np.nan]])
    assert held_out(values) is None
    assert held_out(np.full((2, 1), 0.5)) is None


def test_a_single_federation_has_the_value_of_the_highest() -> None:
    alone = game(1, [0.5, 1.5], federations=1)
    found = strongest(alone, 0.95, "all")
    assert found is not None
    assert found.estimate.value == pytest.approx(
        max(float(aucs(e.scores, e.included)[0]) for e in alone if e.scores is not None)
    )


def test_baselines_and_attacks_without_scores_are_no_candidates() -> None:
    (leak,) = game(2, [3.0])
    yardstick = evidence(leak.scores, leak.included, "means", baseline=True)
    silent = evidence(None, leak.included)
    assert strongest([yardstick, silent], 0.95) is None
    assert strongest([], 0.95) is None
