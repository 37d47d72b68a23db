"""Which attack is run by which observer on which artefact, and what is left out and why."""

from __future__ import annotations

from functools import cache

from audits import catalogue
from audits.inquiry import Inquiry
from audits.inquiry_list import inquiries_listed
from audits.probe import (
    CLIENT,
    GENERATOR,
    IMAGE_ONLY,
    KNOWN_TO_SERVER,
    LEFT_OUT,
    MALICIOUS,
    MODEL,
    NOT_IN_SUITE,
    OBSERVERS,
    SERVER,
    SETS,
    SYNTHETIC,
    Probe,
    Scope,
)
from audits.probe_list import listed
from reports.record import Modality

UNTESTED = (("collusion", "no two observers share what they see in this version"),)
"""Classes of attack that nothing covers, and why."""


SUMS = {"votes": "clients' votes", "embedding": "clients' mean embeddings"}
"""Uploads that no probe reads, by name of the release."""


_ASKED = ("server", "malicious_server")
STANDARD = Scope()


@cache
def every(modality: Modality) -> tuple[Probe, ...]:
    """All attacks on such records, whatever the scope: those of the list, then any other in the folder.

    An attack that somebody has put into the folder and nobody into the list is run, as it is by default, by
    every observer, in the full suite; where an observer holds nothing that it reads, it says so.
    """
    known = listed(modality)
    kinds = {type(p.attack) for p in known}
    others = [cls for _, cls in sorted(catalogue.names("attacks").items()) if cls not in kinds]
    found = tuple(
        Probe(
            catalogue.snake(cls.__name__).replace("_", " "), cls(), o, f"what {o.label} sees", standard=False
        )
        for cls in others
        for o in OBSERVERS
    )
    return (*known, *found)


def probes(scope: Scope = STANDARD) -> tuple[Probe, ...]:
    """Every attack that is run in that scope, for every pipeline alike."""
    return tuple(p for p in every(scope.modality) if not why_left_out(p, scope))


def inquiries(scope: Scope = STANDARD) -> tuple[Inquiry, ...]:
    """Every attack on the data themselves that is run in that scope; of records only."""
    return tuple(q for q in inquiries_listed() if not why_not_asked(q, scope))


def why_not_asked(inquiry: Inquiry, scope: Scope) -> str:
    """Why an inquiry is not made in that scope; empty where it is."""
    if inquiry.image_only and scope.modality != "images":
        return IMAGE_ONLY
    if scope.unit != "record":
        return "asked where records are in question"
    if inquiry.name in scope.leave_out:
        return LEFT_OUT
    return "" if inquiry.standard or scope.suite == "full" else NOT_IN_SUITE


def left_out(scope: Scope = STANDARD) -> tuple[tuple[Probe, str], ...]:
    """Every attack that is not run in that scope, with the reason."""
    return tuple((p, reason) for p in every(scope.modality) if (reason := why_left_out(p, scope)))


def why_left_out(probe: Probe, scope: Scope) -> str:
    """Why an attack is not run in that scope; empty where it is."""
    if probe.image_only and scope.modality != "images":
        return IMAGE_ONLY
    if scope.unit == "client" and probe.observer.role in _ASKED:
        return KNOWN_TO_SERVER
    if probe.name in scope.leave_out:
        return LEFT_OUT
    return "" if probe.standard or scope.suite == "full" else NOT_IN_SUITE


__all__ = [
    "CLIENT",
    "GENERATOR",
    "IMAGE_ONLY",
    "KNOWN_TO_SERVER",
    "LEFT_OUT",
    "MALICIOUS",
    "MODEL",
    "NOT_IN_SUITE",
    "OBSERVERS",
    "SERVER",
    "SETS",
    "SUMS",
    "SYNTHETIC",
    "UNTESTED",
    "Probe",
    "Scope",
    "every",
    "inquiries",
    "left_out",
    "probes",
    "why_not_asked",
]
