"""Attacks that ask for the data themselves, or for what is in them: who asks, and what of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from attacks.interface import Observation, PropertyAttack, ReconstructionAttack
from privfed.release import Observer

Sought = Literal["records", "labels", "source"]
FEDERATIONS = 4
"""Federations that are asked: inverting costs far more than scoring, and needs no references."""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """One attack on the data themselves by one observer.

    Attributes:
        name: in reports and policies; no two of one observer share it.
        attack: gives records, or one row of numbers a client; for "source" signals with one query a client.
        artefact: what it reads, in words.
        sought: "records" = judged by whom they identify; "labels" = scores of each client's labels, higher
            = more likely held, judged by which labels a client holds; "source" = judged by how often the
            client that holds a record is named.
        image_only: whether it works on images alone.
        standard: whether it belongs to the standard suite.
        disclosed: whether the protocol itself hands this out: then it is no inference.
    """

    name: str
    attack: ReconstructionAttack | PropertyAttack | Observation
    observer: Observer
    artefact: str
    sought: Sought
    image_only: bool = False
    standard: bool = True
    disclosed: bool = False
