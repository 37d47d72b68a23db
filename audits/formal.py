"""The formal part of the record: each claim with all that its events imply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from math import isfinite

from audits.finding import Finding
from audits.privacy_profile import ACCOUNTING
from audits.store import default_root, digest, read_json, source_digest, write_json
from privfed.accounting import Accountant, second_opinions, supports
from privfed.claims import Claim, max_tpr
from privfed.event_trees import loads
from privfed.trade_off import gdp_mu, tpr_bound
from reports.record import DpAssumption, DpCard

CLAIM_FPRS = (0.0001, 0.001, 0.01, 0.1)


def dp_cards(findings: Sequence[Finding]) -> tuple[DpCard, ...]:
    """The formal statements of every audited arm, or that it makes none."""
    return tuple(card for f in findings if f.arm.role == "audited" for card in _cards(f))


def _cards(finding: Finding) -> tuple[DpCard, ...]:
    if not finding.claims:
        return (DpCard(setting=finding.setting.id, arm=finding.arm.id, epsilon=None, delta=None),)
    return tuple(_card(finding, claim) for claim in finding.claims)


def _card(finding: Finding, claim: Claim) -> DpCard:
    implied = _implied(claim)
    return DpCard(
        setting=finding.setting.id,
        arm=finding.arm.id,
        epsilon=claim.epsilon,
        delta=claim.delta,
        unit=claim.unit,
        neighbouring=claim.neighbouring.replace("_", " "),
        against=claim.against,
        accountant=claim.accountant,
        sampling=claim.sampling,
        mechanism=claim.mechanism,
        trace=claim.trace,
        mu=implied.mu,
        epsilons=implied.epsilons,
        max_tpr=implied.max_tpr,
        outside=claim.outside,
        assumptions=tuple(
            DpAssumption(name=a.name, verified=a.verified, evidence=a.evidence) for a in claim.assumptions
        ),
    )


@dataclass(frozen=True, slots=True)
class _Implied:
    """What the events behind a claim imply beside its epsilon."""

    epsilons: dict[str, float]
    mu: float | None
    max_tpr: dict[str, float]


def _implied(claim: Claim) -> _Implied:
    """Other accountants, mu and the bound on any attack; seconds to compute, so that it is kept."""
    code = [source_digest(*ACCOUNTING), version("dp-accounting"), version("opacus")]
    made_of = [claim.trace, claim.delta, claim.epsilon, claim.neighbouring, code]
    place = default_root() / "calibrations" / f"implied-{digest(made_of)[:24]}.json"
    known = read_json(place)
    if isinstance(known, dict):
        return _Implied(**known)
    found = _computed(claim)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_json(place, asdict(found))
    return found


def _computed(claim: Claim) -> _Implied:
    events = loads(claim.trace) if claim.trace else ()

    # A random number of trainings is known to RDP alone.
    accountant: Accountant = "pld" if supports(events, "pld", claim.neighbouring) else "rdp"

    def bound(fpr: float) -> float:
        alone = max_tpr(claim.epsilon, claim.delta, fpr)
        return min(alone, tpr_bound(events, fpr, accountant, claim.neighbouring)) if events else alone

    opinions = second_opinions(events, claim.delta, claim.neighbouring) if events else {}
    mu = gdp_mu(events, claim.neighbouring) if events else None
    kept = mu if mu is not None and isfinite(mu) else None
    return _Implied(opinions, kept, {f"{f:g}": bound(f) for f in CLAIM_FPRS})
