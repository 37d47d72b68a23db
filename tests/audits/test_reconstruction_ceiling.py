"""What a claim leaves to reconstruction: for whom it speaks, exact copies under it, and blind guesses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from audits.examination import Examined, examine
from audits.examined import Pointed
from audits.finding import Finding, with_ceilings
from audits.game import Played, members_of
from audits.inquiry import FEDERATIONS
from audits.probe import MALICIOUS, MODEL, SERVER
from audits.reconstruction_ceiling import CONTRADICTED, COUNTS, Ceiling, ceiling, held_against
from audits.setting import Setting
from audits.store import Kept
from audits.verdict import judge_claims
from defenses.dp_sgd import SIMULATED
from defenses.secure_aggregation import TRUSTED
from privfed.claims import EVERYBODY, Claim
from privfed.ledger import UNDECLARED
from privfed.pipelines.fedavg import FedAvg
from privfed.records import Records
from privfed.training import Recipe
from reports.record import Estimate, Limit
from tests.audits.test_examination import Rebuilds, asked, played, rebuilt, setting

CLAIM = Claim(0.1, 1e-5, "record", "add_or_remove_one", "pld", "none", "g", (SIMULATED, UNDECLARED))
POINTED = Pointed(among=100, records=800, named=64, right=33, silent=0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVFED_CACHE", str(tmp_path))


def share(value: float, lower: float) -> Any:
    def measure(level: float) -> Estimate:
        return Estimate(
            metric="identification_at_1", value=value, lower=lower, upper=1.0, level_lower=level,
            level_upper=level, method="made up", n_in=64, n_out=0, n_federations=4,
            scope="training algorithm",
        )  # fmt: skip

    return measure


def examined(pointed: Pointed | None = POINTED, lower: float = 0.4, **fields: Any) -> Examined:
    inquiry = replace(asked(Rebuilds()), observer=fields.pop("observer", SERVER))
    return Examined(inquiry, share(0.52, lower), 0.5, asked=FEDERATIONS, pointed=pointed, **fields)


def bound(claim: Claim, **fields: Any) -> Ceiling:
    found = ceiling(examined(**fields), [claim], FEDERATIONS)
    assert found is not None
    return found


def test_the_bound_is_that_of_the_claim_for_so_many_candidates() -> None:
    found = bound(CLAIM)
    expected = 1 - (1 - 50 * 1e-5) / (1 + np.exp(0.1))
    assert found.share == pytest.approx(expected)
    assert found.claim == CLAIM
    assert (bound(CLAIM, pointed=replace(POINTED, among=1000)).share or 0) > expected


def test_an_arm_without_a_claim_and_an_attack_without_records_have_none() -> None:
    assert ceiling(examined(), [], FEDERATIONS) is None
    assert ceiling(examined(pointed=None), [CLAIM], FEDERATIONS) is None


def test_a_bound_on_answers_given_is_none_for_answers_withheld() -> None:
    reason = "in some federations nothing was rebuilt"
    assert bound(CLAIM, pointed=replace(POINTED, silent=1)).reason == reason
    silent = ceiling(examined(), [CLAIM], FEDERATIONS + 1)
    assert silent is not None
    assert (silent.share, silent.reason) == (None, reason)


@pytest.mark.parametrize(
    ("changes", "observer", "reason"),
    [
        ({"unit": "client"}, SERVER, "the claim protects one client, not one record"),
        ({"unit": "client", "neighbouring": "replace_one"}, SERVER, ""),
        ({"against": EVERYBODY[1:]}, MODEL, ""),
        (
            {"against": EVERYBODY[1:]},
            SERVER,
            "the claim holds against clients and outsiders, not against the server",
        ),
        ({"against": EVERYBODY[2:]}, MALICIOUS, "the claim holds against outsiders, not against the server"),
        ({}, MALICIOUS, ""),
        ({"outside": (TRUSTED,)}, SERVER, ""),
        (
            {"outside": (TRUSTED,)},
            MALICIOUS,
            "the claim trusts secure aggregation, to which a malicious server need not keep",
        ),
        (
            {"outside": (SIMULATED, "set of labels of each client")},
            SERVER,
            "the claim leaves out: set of labels of each client",
        ),
        ({"outside": (COUNTS,)}, SERVER, ""),
    ],
)  # fmt: skip
def test_for_whom_a_claim_speaks(changes: dict[str, Any], observer: Any, reason: str) -> None:
    found = bound(replace(CLAIM, **changes), observer=observer)
    assert found.reason == reason
    assert (found.share is None) == bool(reason)


def test_counts_that_are_known_make_two_records_of_one() -> None:
    pipeline = FedAvg(rounds=1, local=Recipe(epochs=1, batch=8, lr=0.1))
    assert pipeline.outside_claim == (COUNTS,)
    known = bound(replace(CLAIM, outside=(COUNTS,)))
    delta = (1 + np.exp(0.1)) * 1e-5
    assert known.share == pytest.approx(1 - (1 - 50 * delta) / (1 + np.exp(0.2)))


def test_of_several_claims_the_strongest_that_speaks_for_the_observer_counts() -> None:
    weak, elsewhere = replace(CLAIM, epsilon=2.0), replace(CLAIM, epsilon=0.01, against=EVERYBODY[2:])
    found = ceiling(examined(), [weak, elsewhere, CLAIM], FEDERATIONS)
    assert found is not None
    assert found.claim == CLAIM


def test_a_lower_bound_above_the_ceiling_and_too_many_named_rightly_contradict_a_claim() -> None:
    within, above = examined(), examined(lower=0.7)
    lucky = examined(pointed=replace(POINTED, right=60))
    rows = [(x, bound(CLAIM, pointed=x.pointed)) for x in (within, above, lucky)]
    calm, high, many = (c.contradiction for c in held_against(rows))
    assert calm == ""
    assert high == (
        "attack, server: at least 70.0 % of what was rebuilt identifies a member, where epsilon 0.1 at delta "
        "1e-05 allows 52.5 %"
    )
    assert many.startswith(
        "attack, server: 60 of 64 candidates named once each are members, where epsilon 0.1"
    )
    # Records that are exchanged for others have no coins of their own to be guessed.
    counted = replace(CLAIM, outside=(COUNTS,))
    (quiet,) = held_against([(lucky, bound(counted, pointed=lucky.pointed))])
    assert quiet.contradiction == ""


def arm(where: Setting, claim: Claim | None, copies: bool) -> Finding:
    """An arm in whose federations exact copies of members, or noise, were rebuilt."""
    inquiry = asked(Rebuilds())

    def made(f: int) -> dict[str, Any]:
        held = [r.take(torch.arange(8)) for r in members_of(where, f)]
        if not copies:
            noise = torch.Generator().manual_seed(f)
            held = [Records(torch.rand(r.inputs.shape, generator=noise) * 2 - 1, r.labels) for r in held]
        return rebuilt(held, [0, 1])

    whole = played(where, inquiry, made)
    found = {k: v[:FEDERATIONS] for k, v in whole.found.items()}
    kept = tuple(Kept({}, () if claim is None else (claim,), 1.0) for _ in range(FEDERATIONS))
    game = Played(whole.included[:FEDERATIONS], {}, {}, kept, found)
    looked = examine(inquiry, game, where)
    return Finding(where, cast(Any, SimpleNamespace(id="arm")), (), game, (), (), (looked,))


def test_exact_copies_under_a_small_epsilon_are_reported_as_a_contradiction() -> None:
    where = setting()
    copies, noise, free = with_ceilings(
        [arm(where, CLAIM, True), arm(where, CLAIM, False), arm(where, None, True)]
    )
    (looked,) = copies.examined
    bound = copies.ceiling(looked.inquiry)
    assert bound is not None
    assert looked.measure is not None
    assert looked.measure(0.95).value == 1.0
    assert 0.52 < (bound.share or 0) < 0.55
    assert bound.contradiction.startswith("attack, server: 64 of 64 candidates named once each are members")
    # The claim says so wherever it is shown, and no policy passes on it.
    (claim,) = copies.claims
    assert (claim.assumptions[-1].name, claim.assumptions[-1].verified) == (CONTRADICTED, False)
    assert claim.assumptions[-1].evidence == bound.contradiction
    ruling = judge_claims(copies.claims, 1e-5, Limit(op="<=", value=8.0), "record")
    assert (ruling.verdict, ruling.reason_code) == ("INCONCLUSIVE", "assumption_unverified")
    blind = noise.ceiling(looked.inquiry)
    assert blind is not None
    assert (blind.share, blind.contradiction) == (bound.share, "")
    assert noise.claims == (CLAIM,)
    assert (free.ceiling(looked.inquiry), free.claims) == (None, ())


def test_what_was_pointed_at_is_counted_as_a_claim_is_held_against_it() -> None:
    where = setting()
    (looked,) = arm(where, CLAIM, True).examined
    pointed = looked.pointed
    assert pointed is not None
    longest = max(int((where.candidates.clients == k).sum()) for k in range(2))
    assert pointed == Pointed(longest, 80 * FEDERATIONS, 16 * FEDERATIONS, 16 * FEDERATIONS, 0)


def test_federations_that_rebuilt_differently_many_are_pooled_over_clients() -> None:
    where, inquiry = setting(), asked(Rebuilds())

    def made(f: int) -> dict[str, Any]:
        held = members_of(where, f)[0]
        return rebuilt([held.take(torch.arange(f % 3))], [0])

    pointed = examine(inquiry, played(where, inquiry, made), where).pointed
    assert pointed is not None
    assert (pointed.among, pointed.silent) == (80, 2)
    assert (pointed.named, pointed.right) == (2 * 6, 2 + 4)
