"""The attacks of audits on the movement of client updates, which the server alone sees."""

from __future__ import annotations

from attacks.fedmia import FedMia, OtherClients
from attacks.gaussian_update import GaussianUpdate, UpdateLikelihood
from attacks.gradient_alignment import GradientAlignment, UpdateAlignment
from attacks.interface import MembershipAttack
from attacks.lira import Lira
from attacks.logits import ParrotedLogits
from attacks.loss import LossThreshold
from attacks.loss_slope import LossSlope
from attacks.part_update import PartConfidence
from attacks.white_box import WhiteBox, WhiteBoxFeatures
from audits.probe import SERVER, Probe


def on_updates() -> tuple[Probe, ...]:
    """All of them; white-box features without their costly part belong to the standard suite."""
    moved: dict[str, MembershipAttack] = {
        "likelihood ratio of gradients": GaussianUpdate(),
        "likelihood ratio of the head's gradients": GaussianUpdate(UpdateLikelihood("head")),
        "gradient cosine": GradientAlignment(),
        "gradient cosine half-way": GradientAlignment(UpdateAlignment(part="representation", at=0.5)),
        "gradient difference": GradientAlignment(UpdateAlignment("difference")),
        "gradient norm": GradientAlignment(UpdateAlignment("norm")),
        "LiRA on gradient cosine": Lira(UpdateAlignment()),
        "FedMIA": FedMia(),
        "FedMIA on gradient cosine": FedMia(OtherClients("cosine")),
        "loss slope": LossSlope(),
        "white box with likelihoods": WhiteBox(),
        "head alone": LossThreshold(PartConfidence("head")),
        "LiRA on the head alone": Lira(PartConfidence("head")),
        "representation alone": LossThreshold(PartConfidence("representation")),
        "LiRA on the representation alone": Lira(PartConfidence("representation")),
    }
    features = WhiteBox(WhiteBoxFeatures(likelihoods=()), most=5)
    return (
        Probe("white box", features, SERVER, "client update"),
        *(Probe(name, attack, SERVER, "client update", standard=False) for name, attack in moved.items()),
        Probe("parroted logits", ParrotedLogits(), SERVER, "client logits", standard=False),
    )
