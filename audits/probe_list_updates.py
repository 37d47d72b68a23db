"""The attacks of audits on the movement of client updates, which the server alone sees."""

from __future__ import annotations

from attacks.fedmia import FedMia, OtherClients
from attacks.gaussian_update import GaussianUpdate
from attacks.gradient_alignment import GradientAlignment, UpdateAlignment
from attacks.interface import MembershipAttack
from attacks.lira import Lira
from attacks.logits import ParrotedLogits
from attacks.loss import LossThreshold
from attacks.loss_slope import LossSlope
from attacks.part_update import PartConfidence
from attacks.white_box import WhiteBox
from audits.probe import SERVER, Probe


def on_updates() -> tuple[Probe, ...]:
    """All of them; the likelihood ratio belongs to the standard suite."""
    moved: dict[str, MembershipAttack] = {
        "Gaussian likelihood ratio": GaussianUpdate(),
        "gradient cosine": GradientAlignment(),
        "gradient difference": GradientAlignment(UpdateAlignment("difference")),
        "gradient norm": GradientAlignment(UpdateAlignment("norm")),
        "LiRA on gradient cosine": Lira(UpdateAlignment()),
        "FedMIA": FedMia(),
        "FedMIA on gradient cosine": FedMia(OtherClients("cosine")),
        "loss slope": LossSlope(),
        "white box": WhiteBox(),
        "head alone": LossThreshold(PartConfidence("head")),
        "LiRA on the head alone": Lira(PartConfidence("head")),
        "representation alone": LossThreshold(PartConfidence("representation")),
        "LiRA on the representation alone": Lira(PartConfidence("representation")),
    }
    return (
        *(Probe(name, attack, SERVER, "client update", standard=False) for name, attack in moved.items()),
        Probe("parroted logits", ParrotedLogits(), SERVER, "client logits", standard=False),
    )
