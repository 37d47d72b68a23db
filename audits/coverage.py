"""Which attack is run by which observer on which artefact, and what is left out and why."""

from __future__ import annotations

from dataclasses import dataclass

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
from privfed.distillation import Matching
from privfed.release import Observer
from reports.record import Modality

SERVER = Observer("server")
CLIENT = Observer("client", client=0)
MODEL = Observer("outsider", holds=frozenset({"large"}))
SYNTHETIC = Observer("outsider", holds=frozenset({"synthetic"}))
GENERATOR = Observer("outsider", holds=frozenset({"generator"}))
OBSERVERS = (SERVER, CLIENT, MODEL, SYNTHETIC, GENERATOR)
SETS: dict[Modality, str] = {"images": "synthetic images", "text": "synthetic sentences (embeddings)"}
"""What a released synthetic set holds."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One attack by one observer.

    Attributes:
        name: of the attack in reports and policies; no two of one observer share it, for verdicts and
            controls are told apart by name and observer.
        artefact: what it reads, in words.
        baseline: whether it reads no artefact at all.
        image_only: whether it works on images alone.
    """

    name: str
    attack: MembershipAttack
    observer: Observer
    artefact: str
    baseline: bool = False
    image_only: bool = False


def probes(modality: Modality = "images") -> tuple[Probe, ...]:
    """Every attack that is run on such records, for every pipeline alike."""
    return tuple(p for p in _known(modality) if modality == "images" or not p.image_only)


def left_out(modality: Modality) -> tuple[Probe, ...]:
    """Every attack that does not work on such records."""
    run = probes(modality)
    return tuple(p for p in _known(modality) if p not in run)


def _known(modality: Modality) -> tuple[Probe, ...]:
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


UNTESTED = (
    ("gradient and update inversion", "no reconstruction attack is part of this version"),
    ("property and label inference", "no property attack is part of this version"),
    ("malicious server", "only honest-but-curious observers are played in this version"),
)
"""Classes of attack that no probe covers, and why."""


SUMS = {"votes": "clients' votes", "embedding": "clients' mean embeddings"}
"""Uploads that no probe reads, by name of the release."""


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
