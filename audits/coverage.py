"""Which attack is run by which observer on which artefact, and what is left out and why."""

from __future__ import annotations

from dataclasses import dataclass

from attacks.class_mean import ClassMean
from attacks.confidence import ModelConfidence
from attacks.distil_and_test import DistilAndTest, DistilledNearest
from attacks.interface import MembershipAttack
from attacks.lira import Lira
from attacks.loss import LossThreshold
from attacks.nearest import CalibratedNearest, NearestNeighbour, NearestSynthetic
from attacks.rmia import Rmia
from privfed.distillation import Matching
from privfed.release import Observer

SERVER = Observer("server")
CLIENT = Observer("client", client=0)
MODEL = Observer("outsider", holds=frozenset({"large"}))
IMAGES = Observer("outsider", holds=frozenset({"synthetic"}))
OBSERVERS = (SERVER, CLIENT, MODEL, IMAGES)


@dataclass(frozen=True, slots=True)
class Probe:
    """One attack by one observer.

    Attributes:
        name: of the attack in reports.
        artefact: what it reads, in words.
        baseline: whether it reads no artefact at all.
    """

    name: str
    attack: MembershipAttack
    observer: Observer
    artefact: str
    baseline: bool = False


def probes() -> tuple[Probe, ...]:
    """Every attack that is run, for every pipeline alike."""
    on_models = [
        probe
        for observer, source, artefact in (
            (SERVER, ModelConfidence("update"), "client update"),
            (CLIENT, ModelConfidence("surrogate"), "broadcast surrogate"),
            (MODEL, ModelConfidence("large"), "released model"),
        )
        for probe in _on_model(observer, source, artefact)
    ]
    return (
        *on_models,
        Probe(
            "distil-and-test",
            DistilAndTest(DistilledNearest(ipc=2, matching=Matching(iterations=15))),
            SERVER,
            "client update",
        ),
        Probe("nearest neighbour", NearestNeighbour(), IMAGES, "synthetic images"),
        Probe("calibrated nearest", CalibratedNearest(), IMAGES, "synthetic images"),
        Probe("class means of members", _means("class_means"), IMAGES, "synthetic images", baseline=True),
        Probe("class means of members", _means("client_means"), SERVER, "client update", baseline=True),
        Probe("public class means", ClassMean(), IMAGES, "synthetic images", baseline=True),
    )


UNTESTED = (
    ("gradient and update inversion", "no reconstruction attack is part of this version"),
    ("property and label inference", "no property attack is part of this version"),
    ("malicious server", "only honest-but-curious observers are played in this version"),
)
"""Classes of attack that no probe covers, and why."""


def _means(artefact: str) -> MembershipAttack:
    """What publishing nothing but the mean image of each class would already give away."""
    if artefact == "client_means":
        return DistilAndTest(observation=DistilledNearest(artefact=artefact))
    return CalibratedNearest(observation=NearestSynthetic(artefact=artefact))


def _on_model(observer: Observer, source: ModelConfidence, artefact: str) -> list[Probe]:
    return [
        Probe("loss threshold", LossThreshold(observation=source), observer, artefact),
        Probe("LiRA online", Lira(observation=source, mode="online"), observer, artefact),
        Probe("LiRA offline", Lira(observation=source, mode="offline"), observer, artefact),
        Probe("RMIA", Rmia(observation=source), observer, artefact),
    ]
