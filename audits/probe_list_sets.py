"""The attacks of audits on latents, synthetic sets and generators."""

from __future__ import annotations

from attacks.bavaria import Bavaria
from attacks.distillation_order import DistillationOrder, OrderedRounds
from attacks.domias import DensityRatio, Domias
from attacks.feature_nearest import FeatureNearest
from attacks.interface import MembershipAttack
from attacks.latent_displacement import LatentAttack, LatentDisplacement, LatentNearest
from attacks.lira import Lira
from attacks.logan import Logan, OwnDiscriminator
from attacks.monte_carlo import MonteCarlo, MonteCarloMass
from attacks.nearest import CalibratedNearest, NearestNeighbour
from attacks.prior_search import PriorControl
from attacks.replay import ReplayAttack, ReplayedAlignment, ReplayedConfidence
from audits.probe import SERVER, SETS, SYNTHETIC, Probe
from privfed.release import Observer
from reports.record import Modality

LATENTS = "latents of the rounds"
CLIENT_IMAGES = "distilled records of each client"
SURROGATES = "broadcast surrogates of the rounds"


def on_sets(modality: Modality) -> tuple[Probe, ...]:
    """All of them; the density ratio, and the nearest of what was distilled, belong to the standard suite."""
    made, own = SETS[modality], FeatureNearest("client_images", space="pixels")
    return (
        Probe("DOMIAS", Domias(), SYNTHETIC, made),
        *_on_set(SYNTHETIC, "synthetic", made, ""),
        Probe("DOMIAS on the bank", Domias(DensityRatio("bank")), SERVER, "generated bank", standard=False),
        *_on_set(SERVER, "bank", "generated bank", " of the bank"),
        Probe("calibrated nearest of what was distilled", CalibratedNearest(own), SERVER, CLIENT_IMAGES),
        *_on_set(SERVER, "client_images", CLIENT_IMAGES, " of what was distilled"),
        *_on_latents(),
        Probe("local discriminators", Logan(), SERVER, "client update", standard=False),
        Probe("distillation order", DistillationOrder(), SERVER, SURROGATES, standard=False),
        Probe(
            "distillation order of the bank",
            DistillationOrder(OrderedRounds("bank")),
            SERVER,
            "generated bank",
            standard=False,
        ),
        Probe("latent search in the public prior", PriorControl(), SYNTHETIC, made, True, True, False),
    )


def _on_set(observer: Observer, name: str, artefact: str, suffix: str) -> list[Probe]:
    replayed, features = ReplayedConfidence(name), FeatureNearest(name)
    attacks: dict[str, MembershipAttack] = {
        "Monte Carlo": MonteCarlo(MonteCarloMass(name)),
        "Monte Carlo on components": MonteCarlo(MonteCarloMass(name, "pca")),
        "density ratio in features": Domias(DensityRatio(name, space="net")),
        "nearest in features": NearestNeighbour(features),
        "calibrated nearest in features": CalibratedNearest(features),
        "replay": ReplayAttack(replayed),
        "LiRA on replay": Lira(replayed, mode="offline"),
        "BaVarIA on replay": Bavaria(replayed),
        "replayed gradients": ReplayAttack(ReplayedAlignment(name)),
        "own discriminator": Logan(OwnDiscriminator(name)),
    }
    return [
        Probe(title + suffix, attack, observer, artefact, standard=False) for title, attack in attacks.items()
    ]


def _on_latents() -> list[Probe]:
    displaced = LatentDisplacement()
    attacks: dict[str, MembershipAttack] = {
        "latent displacement": LatentAttack(displaced),
        "calibrated latent displacement": CalibratedNearest(displaced),
        "nearest latent": LatentAttack(LatentNearest()),
        "calibrated nearest latent": CalibratedNearest(LatentNearest()),
    }
    return [
        Probe(title, attack, SERVER, LATENTS, image_only=True, standard=False)
        for title, attack in attacks.items()
    ]
