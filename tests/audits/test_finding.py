"""What an arm promises is what each of its federations does: the weakest of all, in every part."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from audits.finding import Finding
from audits.game import Played
from audits.store import Kept
from audits.verdict import judge_claim
from privfed.claims import Assumption, Claim
from reports.record import Limit


def promise(epsilon: float, verified: bool = True, outside: tuple[str, ...] = ()) -> Claim:
    evidence = "watched" if verified else f"not at epsilon {epsilon:g}"
    assumptions = (
        Assumption("Poisson sampling", verified, evidence),
        Assumption("clipping", True, "watched"),
    )
    return Claim(epsilon, 1e-5, "record", "add_or_remove_one", "pld", "poisson", "m", outside, assumptions)


def finding(*claims: Claim | None) -> Finding:
    kept = tuple(Kept({}, () if claim is None else (claim,), 1.0) for claim in claims)
    played = Played(np.zeros((len(kept), 0), dtype=bool), {}, {}, kept)
    return Finding(cast(Any, SimpleNamespace()), cast(Any, SimpleNamespace()), (), played, (), ())


@pytest.mark.parametrize("turn", [1, -1])
def test_the_largest_epsilon_counts_whoever_verified_it(turn: int) -> None:
    """An unverified 7 beside a verified 9: over a limit of 8, where the 7 alone would be undecided."""
    (found,) = finding(*[promise(9.0), promise(7.0, verified=False)][::turn]).claims
    assert found is not None
    assert found.epsilon == 9.0
    assert judge_claim(found, 1e-5, Limit(op="<=", value=8.0), "record").verdict == "FAIL"
    assert (
        judge_claim(found, 1e-5, Limit(op="<=", value=10.0), "record").reason_code == "assumption_unverified"
    )


@pytest.mark.parametrize("turn", [1, -1])
def test_an_assumption_is_verified_only_where_every_federation_did(turn: int) -> None:
    (found,) = finding(*[promise(3.0), promise(2.0, verified=False), promise(2.5)][::turn]).claims
    assert found is not None
    assert found.assumptions == (
        Assumption("Poisson sampling", False, "not at epsilon 2"),
        Assumption("clipping", True, "watched"),
    )


def test_an_assumption_of_one_federation_is_one_of_the_arm() -> None:
    extra = Claim(
        1.0,
        1e-5,
        "record",
        "add_or_remove_one",
        "pld",
        "none",
        "m",
        (),
        (Assumption("fresh noise", False, "twice"),),
    )
    (found,) = finding(promise(3.0), extra).claims
    assert found is not None
    assert [a.name for a in found.assumptions if not a.verified] == ["fresh noise"]


def test_what_any_federation_leaves_out_is_left_out() -> None:
    (found,) = finding(promise(3.0, outside=("counts",)), promise(2.0, outside=("labels", "counts"))).claims
    assert found is not None
    assert found.outside == ("counts", "labels")


def test_one_federation_without_a_claim_leaves_none() -> None:
    assert finding(promise(3.0), None).claims == ()
    assert finding(promise(3.0), promise(3.0)).claims == (promise(3.0),)
