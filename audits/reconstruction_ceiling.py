"""What an arm's claim leaves to reconstruction, and whether what was measured contradicts it.

A claim bounds identification if it is about a record (or a client that may be replaced, and any record with
it), holds against the observer that was asked, and leaves out nothing of what this observer saw. Whatever
the server sends, noise of a client's own holds; secure aggregation is trusted only with a server that keeps
to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from audits.examined import Examined
from audits.one_run import p_value
from audits.privacy_profile import privacy_profile
from audits.reconstruction_bound import pointing_success
from audits.verdict import covers
from defenses import dp_sgd, local_noise, secure_aggregation
from privfed.claims import Adversary, Assumption, Claim
from privfed.ledger import UNDECLARED
from privfed.release import Observer

ALPHA = 0.05
"""Chance that any claim that is true is called contradicted."""
COUNTS = "number of records of each client"
"""As pipelines name it among what no claim covers; a claim about an exchange of records holds beside it."""
CONTRADICTED = "nothing measured contradicts the claim"

_ALMOST_ALL = 1 - 1e-9
_TRUSTED = secure_aggregation.TRUSTED
_UNSEEN = frozenset((dp_sgd.SIMULATED, local_noise.SIMULATED, local_noise.TAKING_PART, UNDECLARED, _TRUSTED))
"""What claims leave out and no attack of an audit can read: caveats of deployments and of other runs."""
_AUDIENCE: dict[str, Adversary] = {
    "server": "server", "malicious_server": "server", "client": "clients", "outsider": "outsiders"
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most that could be identified under a claim.

    Attributes:
        share: of reconstructions that point at a member; None where no claim bounds it.
        reason: why none does.
        claim: that the bound is of.
        contradiction: what was measured against it; empty where the two can both be true.
    """

    share: float | None
    reason: str = ""
    claim: Claim | None = None
    contradiction: str = ""


def ceiling(examined: Examined, claims: Sequence[Claim], asked: int) -> Ceiling | None:
    """The lowest bound of any claim of the arm; None where it makes none, or nothing was rebuilt.

    Args:
        examined: an attack on the arm.
        claims: of the arm.
        asked: federations that were asked, whether or not anything was rebuilt.
    """
    pointed, observer = examined.pointed, examined.inquiry.observer
    if pointed is None or not claims:
        return None
    if pointed.silent or examined.asked < asked:
        return Ceiling(None, "in some federations nothing was rebuilt")
    obstacles = [_obstacle(c, observer) for c in claims]
    fitting = [c for c, obstacle in zip(claims, obstacles, strict=True) if not obstacle]
    if not fitting:
        return Ceiling(None, "; ".join(dict.fromkeys(obstacles)))
    # Members are drawn by fair coins, and no bound is below what luck has brought about.
    chance = min(max(0.5, examined.chance), _ALMOST_ALL)
    shares = [
        (pointing_success(privacy_profile(c, COUNTS in c.outside), chance, pointed.among), i)
        for i, c in enumerate(fitting)
    ]
    share, best = min(shares)
    return Ceiling(share, claim=fitting[best])


def held_against(rows: Sequence[tuple[Examined, Ceiling]]) -> list[Ceiling]:
    """Each bound with what contradicts it.

    Two tests of each row: whether the lower bound of the share is above the ceiling; and, as few federations
    leave that bound wide, whether so many records named rightly are too unlikely under the claim
    (`audits.one_run`). They share an error of `ALPHA` over all rows (Bonferroni).
    """
    tests = 2 * max(1, sum(c.share is not None for _, c in rows))
    return [replace(c, contradiction=_contradiction(x, c, ALPHA / tests)) for x, c in rows]


def contested(claim: Claim, ceilings: Sequence[Ceiling]) -> Claim:
    """The claim, with an assumption that did not hold where a measurement contradicts it."""
    found = [c.contradiction for c in ceilings if c.contradiction and c.claim and _same(c.claim, claim)]
    if not found:
        return claim
    broken = Assumption(CONTRADICTED, False, "; ".join(found))
    return replace(claim, assumptions=(*claim.assumptions, broken))


def _same(one: Claim, other: Claim) -> bool:
    kinds = [(c.unit, c.neighbouring, c.against) for c in (one, other)]
    return kinds[0] == kinds[1]


def _obstacle(claim: Claim, observer: Observer) -> str:
    """Why the claim does not bound what this observer identifies; empty where it does."""
    audience = _AUDIENCE[observer.role]
    if not covers(claim, "record"):
        return f"the claim protects one {claim.unit}, not one record"
    if audience not in claim.against:
        against = " and ".join(claim.against)
        return f"the claim holds against {against}, not against the {audience.removesuffix('s')}"
    if observer.role == "malicious_server" and _TRUSTED in claim.outside:
        return "the claim trusts secure aggregation, to which a malicious server need not keep"
    left = [o for o in claim.outside if o not in _UNSEEN and o != COUNTS]
    return f"the claim leaves out: {', '.join(left)}" if left else ""


def _contradiction(examined: Examined, found: Ceiling, alpha: float) -> str:
    claim, pointed = found.claim, examined.pointed
    if claim is None or found.share is None or pointed is None or examined.measure is None:
        return ""
    who = f"{examined.inquiry.name}, {examined.inquiry.observer.label}"
    allowed = f"where epsilon {claim.epsilon:.3g} at delta {claim.delta:.1g} allows"
    lower = examined.measure(1 - alpha).lower
    if lower is not None and lower > found.share:
        least, most = (f"{100 * x:.1f} %" for x in (lower, found.share))
        return f"{who}: at least {least} of what was rebuilt identifies a member, {allowed} {most}"
    # Records exchanged for others have no coins of their own.
    coins = claim.unit == "client" or claim.neighbouring == "add_or_remove_one"
    if not coins or COUNTS in claim.outside:
        return ""
    p = p_value(pointed.named, pointed.right, pointed.records, claim.epsilon, claim.delta)
    if p >= alpha:
        return ""
    named = f"{pointed.right} of {pointed.named} candidates named once each are members"
    return f"{who}: {named}, {allowed} that with a probability of at most {p:.1g}"
