"""The attacks of audits by a server that chooses what it sends; they read nothing where none deviated."""

from __future__ import annotations

from attacks.ascent import CalibratedSnapBack, Recovery, SnapBack
from attacks.bavaria import Bavaria
from attacks.interface import MembershipAttack
from attacks.isolation import IsolatedConfidence, IsolatedLoss
from attacks.lira import Lira
from audits.probe import MALICIOUS, Probe

ANSWERED = "what came back from a model sent to one client"


def by_malicious_servers() -> tuple[Probe, ...]:
    """All of them; in the standard suite, for arms in which no server deviates cost nothing."""
    attacks: dict[str, MembershipAttack] = {
        "gradient ascent": SnapBack(),
        "calibrated gradient ascent": CalibratedSnapBack(),
        "BaVarIA on gradient ascent": Bavaria(Recovery()),
        "isolation": IsolatedLoss(),
        "LiRA on isolation": Lira(IsolatedConfidence()),
        "BaVarIA on isolation": Bavaria(IsolatedConfidence()),
    }
    return tuple(Probe(name, attack, MALICIOUS, ANSWERED) for name, attack in attacks.items())
