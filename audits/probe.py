"""One attack by one observer, and what an audit asks of whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from attacks.interface import MembershipAttack
from audits.units import Kind
from privfed.release import Observer
from reports.record import Modality

SERVER = Observer("server")
CLIENT = Observer("client", client=0)
MODEL = Observer("outsider", holds=frozenset({"large"}))
SYNTHETIC = Observer("outsider", holds=frozenset({"synthetic"}))
GENERATOR = Observer("outsider", holds=frozenset({"generator"}))
MALICIOUS = Observer("malicious_server")
OBSERVERS = (SERVER, CLIENT, MODEL, SYNTHETIC, GENERATOR, MALICIOUS)
SETS: dict[Modality, str] = {"images": "synthetic images", "text": "synthetic sentences (embeddings)"}
"""What a released synthetic set holds."""

Suite = Literal["standard", "full"]
"""Attacks that an audit runs: the strongest of each kind within minutes, or every one there is."""
IMAGE_ONLY = "image-only"
NOT_IN_SUITE = "not in the standard suite; a plan with attacks: full runs it"
LEFT_OUT = "left out by the plan"
KNOWN_TO_SERVER = "the server knows which clients take part"


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
        leave_out: attacks that the plan leaves out, by name.
    """

    modality: Modality = "images"
    suite: Suite = "standard"
    unit: Kind = "record"
    leave_out: frozenset[str] = frozenset()
