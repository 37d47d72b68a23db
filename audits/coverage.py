"""Which attack is run by which observer on which artefact, and what is left out and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
from audits.units import Kind
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


Suite = Literal["standard", "full"]
"""Attacks that an audit runs: the strongest of each kind within minutes, or every one there is."""
IMAGE_ONLY = "image-only"
NOT_IN_SUITE = "not in the standard suite; a plan with attacks: full runs it"
KNOWN_TO_SERVER = "the server knows which clients take part"
_ASKED = ("server", "malicious_server")


@dataclass(frozen=True, slots=True)
class Probe:
    """One attack by one observer.

    Attributes:
        name: of the attack in reports and policies; no two of one observer share it, for verdicts and
            controls are told apart by name and observer.
        artefact: what it reads, in words.
        baseline: whether it reads no artefact at all.
        image_only: whether it works on images alone.
        standard: whether it belongs to the standard suite.
    """

    name: str
    attack: MembershipAttack
    observer: Observer
    artefact: str
    baseline: bool = False
    image_only: bool = False
    standard: bool = True


@dataclass(frozen=True, slots=True)
class Scope:
    """What an audit asks of whom.

    Attributes:
        modality: what the records are.
        suite: which attacks are run.
        unit: whose membership is in question.
    """

    modality: Modality = "images"
    suite: Suite = "standard"
    unit: Kind = "record"


def probes(scope: Scope = Scope()) -> tuple[Probe, ...]:
    """Every attack that is run in that scope, for every pipeline alike."""
    return tuple(p for p in every(scope.modality) if not why_left_out(p, scope))


def left_out(scope: Scope = Scope()) -> tuple[tuple[Probe, str], ...]:
    """Every attack that is not run in that scope, with the reason."""
    return tuple((p, reason) for p in every(scope.modality) if (reason := why_left_out(p, scope)))


def why_left_out(probe: Probe, scope: Scope) -> str:
    """Why an attack is not run in that scope; empty where it is."""
    if probe.image_only and scope.modality != "images":
        return IMAGE_ONLY
    if scope.unit == "client" and probe.observer.role in _ASKED:
        return KNOWN_TO_SERVER
    return "" if probe.standard or scope.suite == "full" else NOT_IN_SUITE


def every(modality: Modality) -> tuple[Probe, ...]:
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
