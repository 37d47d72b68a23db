"""Attacks that ask for the data themselves, or for what is in them: who asks, and what of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from attacks.interface import AttributeAttack, Observation, PropertyAttack, ReconstructionAttack
from privfed.release import Observer

Sought = Literal["records", "labels", "source", "property", "attribute"]
FEDERATIONS = 4
"""Federations that are asked unless all are: inverting costs more than scoring, and needs no references."""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """One attack on the data themselves by one observer.

    Attributes:
        name: in reports and policies; no two of one observer share it.
        attack: gives records, a row of numbers for each client or of scores for each known record; for
            "source" signals with one query a client.
        artefact: what it reads, in words.
        sought: "records" = judged by whom they identify; "labels" = scores of each client's labels, higher
            = more likely held, judged by which labels a client holds; "source" = judged by how often the
            client that holds a record is named; "property" = numbers that follow the share of each
            client's records with a property, judged by the shares learnt from them on other federations;
            "attribute" = scores of each value of what is hidden of a known record, judged by how much
            oftener the right one is found of members than of non-members.
        image_only: whether it works on images alone.
        standard: whether it belongs to the standard suite.
        disclosed: whether the protocol itself hands this out: then it is no inference.
        everywhere: whether every federation is asked, since each is a reference of the others; if not, the
            first `FEDERATIONS` alone.
    """

    name: str
    attack: ReconstructionAttack | PropertyAttack | AttributeAttack | Observation
    observer: Observer
    artefact: str
    sought: Sought
    image_only: bool = False
    standard: bool = True
    disclosed: bool = False
    everywhere: bool = False
