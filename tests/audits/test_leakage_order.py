"""The order of leakage: a later artefact that leaks more convicts the attack on the earlier one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from attacks.interface import Bools, Floats
from attacks.loss import LossThreshold
from audits.coverage import MODEL, SERVER, SYNTHETIC, Probe
from audits.evidence import Evidence
from audits.leakage_order import STAGES, auc_difference, leakage_order
from privfed.randomness import Stream
from tests.audits.designs import most_misses

ARTEFACTS = {
    "client update": SERVER,
    "latents of the rounds": SERVER,
    "synthetic images": SYNTHETIC,
    "released model": MODEL,
}


def membership(seed: int, federations: int = 10, n: int = 80) -> Bools:
    return np.random.default_rng(seed).random((federations, n)) < 0.5


def evidence(
    scores: Floats, included: Bools, artefact: str = "client update", name: str = "loss"
) -> Evidence:
    probe = Probe(name, LossThreshold(), ARTEFACTS[artefact], artefact)
    return Evidence(probe, scores, included, np.zeros(included.shape[1], dtype=np.bool_), Stream(0))


def drawn(seed: int, included: Bools, shift: float) -> Floats:
    return np.random.default_rng(seed).normal(size=included.shape) + shift * included


def finding(shifts: dict[str, float], pipeline: str = "feddgm", **options: Any) -> Any:
    included = membership(7)
    found = tuple(
        evidence(drawn(i, included, s), included, artefact) for i, (artefact, s) in enumerate(shifts.items())
    )
    knobs = SimpleNamespace(**{"rounds": 1, "accumulate": False} | options)
    arm = SimpleNamespace(id="arm", role="audited", pipeline_name=pipeline, pipeline=knobs)
    return SimpleNamespace(setting=SimpleNamespace(id="s"), arm=arm, evidence=found)


def pairs(found: Any) -> list[tuple[str, str]]:
    return [(row.stronger, row.weaker) for row in leakage_order([found], 0.95)]


def test_what_is_known_of_a_difference_is_right() -> None:
    """Interval of the difference of two attacks with common noise, against the closed form."""
    truth = float(norm.cdf(0.6 / 2**0.5) - norm.cdf(0.3 / 2**0.5))
    misses = {"lower": 0, "upper": 0}
    runs = 200
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        included = rng.random((8, 60)) < 0.5
        common, apart = (
            rng.normal(size=(8, 60)) * 0.6**0.5,
            [rng.normal(size=(8, 60)) * 0.4**0.5 for _ in "ab"],
        )
        scores = [common + noise + s * included for noise, s in zip(apart, (0.6, 0.3), strict=True)]
        found = auc_difference(evidence(scores[0], included), evidence(scores[1], included), "all", 1)
        assert found.lower is not None
        assert found.upper is not None
        misses["lower"] += found.lower > truth
        misses["upper"] += found.upper < truth
    assert max(misses.values()) <= most_misses(runs)


def test_a_pair_narrows_what_two_intervals_would_leave_open() -> None:
    included = membership(1)
    common = drawn(1, included, 0.3)
    first, second = evidence(common + 0.2 * included, included), evidence(common, included)
    found = auc_difference(first, second, "all", 1)
    assert (found.lower or 0) > 0
    bounds = [e.estimate("auc", None, "all", 0.95) for e in (first, second)]
    assert (bounds[0].lower or 0) < (bounds[1].upper or 0)


def test_only_records_that_both_score_count() -> None:
    included = membership(2)
    scores = drawn(2, included, 1.0)
    hidden = scores.copy()
    hidden[:, ::2] = np.nan
    found = auc_difference(evidence(hidden, included), evidence(scores, included), "all", 1)
    assert found.value == 0.0
    assert found.n_in <= scores.shape[1] // 2


def test_one_federation_has_a_value_and_no_bounds() -> None:
    included = membership(3, 1)
    one = evidence(drawn(3, included, 1.0), included)
    found = auc_difference(one, one, "all", 1)
    assert (found.value, found.lower, found.upper) == (0.0, None, None)
    assert found.reason == "needs at least 2 federations"


def test_a_violation_is_reported_with_its_numbers_and_its_meaning() -> None:
    rows = leakage_order([finding({"client update": 0.1, "synthetic images": 1.5})], 0.95)
    (row,) = rows
    assert row.violated
    assert (row.difference.lower or 0) > 0
    assert row.difference.value == pytest.approx((row.weaker_auc.value or 0) - (row.stronger_auc.value or 0))
    assert row.message.startswith("the stronger view's attack is too weak")
    assert (row.stronger_attack, row.weaker_attack) == ("loss (server)", "loss (outsider with synthetic)")


def test_the_order_that_theory_demands_is_no_violation() -> None:
    shifts = {
        "client update": 1.5,
        "latents of the rounds": 1.0,
        "synthetic images": 0.5,
        "released model": 0.1,
    }
    rows = leakage_order([finding(shifts)], 0.95)
    assert [(r.stronger, r.weaker) for r in rows] == [
        ("client updates", "latents"),
        ("client updates", "generated data"),
        ("client updates", "released model"),
        ("latents", "generated data"),
        ("latents", "released model"),
        ("generated data", "released model"),
    ]
    assert not any(r.violated or r.message for r in rows)


def test_a_model_is_held_against_the_set_only_where_it_learnt_from_nothing_else() -> None:
    shifts = {"synthetic images": 0.5, "released model": 0.5}
    pair = [("generated data", "released model")]
    assert pairs(finding(shifts)) == pair
    assert pairs(finding(shifts, rounds=2)) == []
    assert pairs(finding(shifts, rounds=2, accumulate=True)) == pair
    assert pairs(finding(shifts, "fedbkd")) == []


def test_controls_and_baselines_that_read_no_artefact_have_no_place_in_the_order() -> None:
    control = finding({"client update": 0.1, "synthetic images": 1.5})
    control.arm.role = "control"
    assert leakage_order([control], 0.95) == ()


def test_every_artefact_of_the_order_is_one_that_probes_read_in_one_place() -> None:
    named = [a for artefacts in STAGES.values() for a in artefacts]
    assert len(named) == len(set(named))
