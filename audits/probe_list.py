"""The attacks of audits: who reads what by which attack."""

from __future__ import annotations

from attacks._models import Artefact
from attacks.augmented import Augmented
from attacks.bavaria import Bavaria
from attacks.class_mean import ClassMean
from attacks.confidence import ModelConfidence
from attacks.difficulty import DifficultyCalibrated
from attacks.distil_and_test import DistilAndTest, DistilledNearest
from attacks.entropy import EntropyByClass, ModelEntropy
from attacks.generator_samples import GeneratorSamples
from attacks.generator_search import GeneratorSearch
from attacks.interface import MembershipAttack, Observation
from attacks.label_only import BoundaryDistance, LabelOnly
from attacks.lira import Lira
from attacks.loss import LossThreshold
from attacks.nearest import CalibratedNearest, NearestNeighbour, NearestSynthetic
from attacks.population import AttackP
from attacks.quantile import QuantileRegression, QuantileResidual
from attacks.reference import AttackR
from attacks.representation import RepresentationConfidence
from attacks.rmia import Rmia
from attacks.shadow import ShadowClassifier, SortedPosterior
from attacks.soft_margin import SoftMarginConfidence
from audits.probe import CLIENT, GENERATOR, MODEL, SERVER, SETS, SYNTHETIC, Probe
from audits.probe_list_malicious import by_malicious_servers
from audits.probe_list_sets import on_sets
from audits.probe_list_updates import on_updates
from privfed.distillation import Matching
from privfed.release import Observer
from reports.record import Modality

MODELS: tuple[tuple[Observer, Artefact, str, str], ...] = (
    (SERVER, "update", "client update", ""),
    (SERVER, "aggregate", "sum of the updates", " on the sum"),
    (CLIENT, "surrogate", "broadcast surrogate", ""),
    (SERVER, "personal", "personal model", " on personal models"),
    (MODEL, "large", "released model", ""),
)
"""Models that somebody holds: observer, name of the release, what it is called, suffix of the attack."""


def listed(modality: Modality) -> tuple[Probe, ...]:
    """All of them on such records, whatever the scope."""
    made = SETS[modality]
    on_models = [p for place in MODELS for p in (*_on_model(*place), *_more_on_model(*place))]
    on_generated = [
        probe
        for observer, source, name, artefact in (
            (SERVER, NearestSynthetic("bank"), "nearest neighbour", "generated bank"),
            (SERVER, GeneratorSearch(), "generator search", "generators of the rounds"),
            (GENERATOR, GeneratorSearch(), "generator search", "released generator"),
            (GENERATOR, GeneratorSamples(), "generator samples", "released generator"),
        )
        for probe in _on_generated(observer, source, name, artefact)
    ]
    distilled = DistilledNearest(ipc=2, matching=Matching(iterations=8))
    return (
        *on_models,
        *on_updates(),
        *on_generated,
        *on_sets(modality),
        Probe("distil-and-test", DistilAndTest(distilled), SERVER, "client update", False, True, False),
        Probe("nearest neighbour", NearestNeighbour(), SYNTHETIC, made),
        Probe("calibrated nearest", CalibratedNearest(), SYNTHETIC, made),
        Probe("class means of members", _means("class_means"), SYNTHETIC, made, baseline=True),
        Probe("class means of members", _means("client_means"), SERVER, "client update", baseline=True),
        Probe("public class means", ClassMean(), SYNTHETIC, made, baseline=True),
        *by_malicious_servers(),
    )


def _means(artefact: str) -> MembershipAttack:
    """What publishing nothing but the mean record of each class would already give away."""
    if artefact == "client_means":
        return DistilAndTest(observation=DistilledNearest(artefact=artefact))
    return CalibratedNearest(observation=NearestSynthetic(artefact=artefact))


def _on_generated(observer: Observer, source: Observation, name: str, artefact: str) -> list[Probe]:
    calibrated = "calibrated " + name.removesuffix(" neighbour")
    return [
        Probe(name, NearestNeighbour(source), observer, artefact),
        Probe(calibrated, CalibratedNearest(source), observer, artefact),
    ]


def _confidence(artefact: Artefact) -> Observation:
    """Confidence of such models; a representation that comes without its head gets one fitted."""
    return (
        ModelConfidence(artefact) if artefact in ("personal", "large") else RepresentationConfidence(artefact)
    )


def _on_model(observer: Observer, name: Artefact, artefact: str, suffix: str) -> list[Probe]:
    source = _confidence(name)
    return [
        Probe("loss threshold" + suffix, LossThreshold(observation=source), observer, artefact),
        Probe("LiRA online" + suffix, Lira(observation=source, mode="online"), observer, artefact),
        Probe("LiRA offline" + suffix, Lira(observation=source, mode="offline"), observer, artefact),
        Probe("BaVarIA" + suffix, Bavaria(observation=source), observer, artefact),
        Probe("RMIA" + suffix, Rmia(observation=source), observer, artefact),
    ]


def _more_on_model(observer: Observer, name: Artefact, artefact: str, suffix: str) -> list[Probe]:
    """What the full suite has beside."""
    source, distance = _confidence(name), BoundaryDistance(name)
    attacks: dict[str, MembershipAttack] = {
        "entropy by class": EntropyByClass(ModelEntropy(name)),
        "gap attack": EntropyByClass(ModelEntropy(name, "correctness"), "none"),
        "difficulty calibrated": DifficultyCalibrated(source),
        "Attack-P": AttackP(source),
        "Attack-R": AttackR(source),
        "quantile regression": QuantileRegression(QuantileResidual(name)),
        "RMIA on soft margins": Rmia(SoftMarginConfidence(name, order=0)),
        "shadow classifier": ShadowClassifier(SortedPosterior(name)),
        "label only": LabelOnly(distance),
        "LiRA on labels only": Lira(distance),
    }
    on_images: dict[str, MembershipAttack] = {"LiRA on moved images": Lira(Augmented(ModelConfidence(name)))}
    return [
        Probe(title + suffix, attack, observer, artefact, image_only=title in on_images, standard=False)
        for title, attack in (attacks | on_images).items()
    ]
