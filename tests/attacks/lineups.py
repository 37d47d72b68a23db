"""Whom reconstructions of fake federations point at, as audits look it up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from attacks.interface import Bools, Candidates, Known, Reconstruction, ReconstructionAttack
from audits.identification import Identified, Lineup, identification
from audits.reconstruction_measures import l2
from privfed.randomness import Stream
from privfed.release import View
from tests.attacks.federations import CLIENT_COUNT, FEDERATIONS

LEVEL = 0.999


def coins(n: int, leaky: bool) -> tuple[Bools, Bools]:
    """Which of n records were in, and which those are that artefacts are made of: the same only if leaky."""
    rng = np.random.default_rng(5)
    included, others = rng.random((2, FEDERATIONS, n)) < 0.5
    return included, included if leaky else others


def identified(
    attack: ReconstructionAttack,
    known: Candidates,
    included: Bools,
    views: Sequence[View],
    matched: bool = False,
) -> Identified:
    """Members against decoys, of each client where the attack says whose a record is."""
    told = Known(known.public, known.population, known.prior)
    lineups = []
    for f, view in enumerate(views):
        found = attack.reconstruct(view, told, Stream(f))
        assert isinstance(found, Reconstruction)
        lineups.append(_lineups(found, known, included[f]))
    return identification(lineups, LEVEL, matched)


def _lineups(found: Reconstruction, known: Candidates, inside: Bools) -> list[Lineup]:
    distances = l2(found.records.inputs, known.records.inputs)
    if bool((found.clients < 0).any()):
        return [Lineup(distances, inside)]
    masks = [((found.clients == k).numpy(), (known.clients == k).numpy()) for k in range(CLIENT_COUNT)]
    return [Lineup(distances[mine][:, theirs], inside[theirs]) for mine, theirs in masks]


def at_chance(found: Identified) -> bool:
    """Whether the interval holds chance."""
    lower, upper = found.clustered.lower, found.clustered.upper
    assert lower is not None
    assert upper is not None
    return lower <= found.chance <= upper
