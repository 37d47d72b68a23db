"""The attacks of audits: who reads what by which attack."""

from __future__ import annotations

from attacks.class_mean import ClassMean
from attacks.confidence import ModelConfidence
from attacks.distil_and_test import DistilAndTest, DistilledNearest
from attacks.generator_samples import GeneratorSamples
from attacks.generator_search import GeneratorSearch
from attacks.interface import MembershipAttack, Observation
from attacks.lira import Lira
from attacks.loss import LossThreshold
from attacks.nearest import CalibratedNearest, NearestNeighbour, NearestSynthetic
from attacks.representation import RepresentationConfidence
from attacks.rmia import Rmia
from audits.probe import CLIENT, GENERATOR, MODEL, SERVER, SETS, SYNTHETIC, Probe
from privfed.distillation import Matching
from privfed.release import Observer
from reports.record import Modality


def listed(modality: Modality) -> tuple[Probe, ...]:
    """All attacks on such records, whatever the scope."""
    on_models = [
        probe
        for observer, source, artefact, suffix in (
            (SERVER, RepresentationConfidence("update"), "client update", ""),
            (SERVER, RepresentationConfidence("aggregate"), "sum of the updates", " on the sum"),
            (CLIENT, RepresentationConfidence("surrogate"), "broadcast surrogate", ""),
            (SERVER, ModelConfidence("personal"), "personal model", " on personal models"),
            (MODEL, ModelConfidence("large"), "released model", ""),
        )
        for probe in _on_model(observer, source, artefact, suffix)
    ]
    made = SETS[modality]
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
        *on_generated,
        Probe("distil-and-test", DistilAndTest(distilled), SERVER, "client update", image_only=True),
        Probe("nearest neighbour", NearestNeighbour(), SYNTHETIC, made),
        Probe("calibrated nearest", CalibratedNearest(), SYNTHETIC, made),
        Probe("class means of members", _means("class_means"), SYNTHETIC, made, baseline=True),
        Probe("class means of members", _means("client_means"), SERVER, "client update", baseline=True),
        Probe("public class means", ClassMean(), SYNTHETIC, made, baseline=True),
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


def _on_model(observer: Observer, source: Observation, artefact: str, suffix: str) -> list[Probe]:
    return [
        Probe("loss threshold" + suffix, LossThreshold(observation=source), observer, artefact),
        Probe("LiRA online" + suffix, Lira(observation=source, mode="online"), observer, artefact),
        Probe("LiRA offline" + suffix, Lira(observation=source, mode="offline"), observer, artefact),
        Probe("RMIA" + suffix, Rmia(observation=source), observer, artefact),
    ]
